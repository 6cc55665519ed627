/*
 * host/analyze.h - SQL text -> facts, by PostgreSQL's own raw parser.               floor 5
 *
 * Answers: what does this query string do to a session, a link, the data? Pure function of the text
 * (no catalog: what needs the origin's catalog is the cache's business). Owns the
 * table of built-in function names and their effect. Never: runs SQL, raises an error, keeps the text.
 */
#ifndef HYPERPOOL_HOST_ANALYZE_H
#define HYPERPOOL_HOST_ANALYZE_H

#include "core/statement.h"

#define ANALYZE_MAX_TEXT	65536	/* longer texts are EFFECT_UNKNOWN */

/*
 * Fills statement->facts once (facts.known). safe_encoding: the session's client_encoding has no multi-byte character
 * with an ASCII trail byte, and standard_conforming_strings is on; otherwise only a text that reads alike everywhere
 * (ASCII without a backslash) is parsed, and of another nothing is remembered: facts.known stays false, and effects
 * say EFFECT_UNKNOWN unless a safe session has filled them in.
 */
extern void analyze_statement(Statement *statement, bool safe_encoding);

/*
 * The facts of the statement as they hold for a session: the remembered ones, filled in if need be, or unknown facts
 * when this session may not rely on them. Valid as long as the statement. What a session asks before acting.
 */
extern const StatementFacts *analyze_facts(Statement *statement, bool safe_encoding);

/* The same for a text that is not interned (a long simple query): fills *facts; facts->target is the caller's. */
extern void analyze_text(Bytes text, bool safe_encoding, StatementFacts *facts);

/*
 * For DEALLOCATE x and EXECUTE x (a protocol-level statement of the client, known at the origin by another name): the
 * text with the name replaced, put into `out` (no NUL). False: the name was not found in the text.
 */
extern bool analyze_rename(Bytes text, const char *target, Bytes link_name, ByteBuffer *out);

/* Is this client_encoding (PostgreSQL's spelling, any case) safe in the sense above? */
extern bool analyze_encoding_is_safe(const char *client_encoding);

#endif
