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
 * The facts of the statement as they hold for a session: the remembered ones, filled in once (facts.known), or unknown facts when this session may not rely on
 * them. safe_encoding: its client_encoding has no multi-byte character with an ASCII trail byte, and standard_conforming_strings is on; otherwise only a text
 * that reads alike everywhere (ASCII without a backslash) is parsed, and of another nothing is remembered. Valid as long as the statement.
 */
extern const StatementFacts *analyze_facts(Statement *statement, bool safe_encoding);

/* The same for a text that is not interned (a long simple query): fills *facts; target and mentions are the caller's (analyze_forget). */
extern void analyze_text(Bytes text, bool safe_encoding, StatementFacts *facts);
/* Frees what analyze_text has put into it, and zeroes it. */
extern void analyze_forget(StatementFacts *facts);

/*
 * For DEALLOCATE x and EXECUTE x (a protocol-level statement of the client, known at the origin by another name): the
 * text with the name replaced, put into `out` (no NUL). False: the name was not found in the text.
 */
extern bool analyze_rename(Bytes text, const char *target, Bytes link_name, ByteBuffer *out);

/* SET, RESET and SHOW of hyperpool.*, which the gateway answers itself (facts: kind SET or SHOW, and a target). */
typedef enum GatewayVerb
{
	GATEWAY_SET,
	GATEWAY_RESET,				/* SET … TO DEFAULT too */
	GATEWAY_SHOW
} GatewayVerb;

#define GATEWAY_VALUE_SIZE	128

typedef struct GatewaySetting
{
	GatewayVerb what;
	bool		is_local;
	char		name[64];		/* lower case */
	char		value[GATEWAY_VALUE_SIZE];	/* as written, several joined by ", "; what is longer is cut */
} GatewaySetting;

/* False: the text is no such statement, or not one alone. */
extern bool analyze_gateway_setting(Bytes text, GatewaySetting *out);

/*
 * What the comments before the first token say to us: hyperpool: cache=on|off, max_age=<number>[ms|s|min|h|d]. All else is
 * passed over. Cheap for a text that begins with something else.
 */
extern void analyze_hints(Bytes text, TextHints *out);

/* Does it hold now, today, tomorrow or yesterday, not within a longer run of letters? For values too: date and time input reads them. */
extern bool analyze_has_date_word(Bytes text);

/* Is this client_encoding (PostgreSQL's spelling, any case) safe in the sense above? */
extern bool analyze_encoding_is_safe(const char *client_encoding);

#endif
