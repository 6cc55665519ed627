/*
 * core/statement.h - a statement and its facts, as plain data.                    floor 1
 *
 * Answers: what is known of this text, and what does that permit? Owns the worker's table
 * of interned statements (text and parameter types, reference counted). Never: parses SQL
 * (host/analyze does, and fills in the facts), knows names clients gave.
 */
#ifndef HYPERPOOL_CORE_STATEMENT_H
#define HYPERPOOL_CORE_STATEMENT_H

#include "core/bytes.h"

/* What a query string does to the session it runs in. Bits; a string of several statements has the union. */
typedef enum StatementEffect
{
	EFFECT_NONE = 0,			/* a plain read or transaction control: the link stays as it was */
	EFFECT_WRITES = 1 << 0,		/* may change data; its outcome matters when the link is lost */
	EFFECT_DIRTY = 1 << 1,		/* may leave session state behind unseen: reset the link on return */
	EFFECT_SETTINGS = 1 << 2,	/* SET, RESET or set_config at session level: settings to be read back (replay) */
	EFFECT_BIND = 1 << 3,		/* LISTEN, PREPARE, temp objects, WITH HOLD, session advisory lock: link bound to the client */
	EFFECT_UNBIND = 1 << 4,		/* DISCARD ALL: whatever bound the link is gone */
	EFFECT_RETIRE = 1 << 5,		/* LOAD and what no reset undoes: retire the link on return */
	EFFECT_BEGIN = 1 << 6,		/* BEGIN / START TRANSACTION */
	EFFECT_END = 1 << 7,		/* COMMIT, ROLLBACK, PREPARE TRANSACTION … */
	EFFECT_COPY = 1 << 8,		/* COPY … FROM STDIN or TO STDOUT */
	EFFECT_LOCKS = 1 << 9,		/* may wait for another session: locking clauses, LOCK, advisory locks, DDL */
	EFFECT_UNKNOWN = 1 << 10	/* not parsed (too long, other grammar, unsafe encoding): assume all that cannot be seen */
} StatementEffect;

typedef enum StatementKind
{
	STATEMENT_UNKNOWN,			/* not analysed, or the parser refused it */
	STATEMENT_EMPTY,
	STATEMENT_READ,				/* one SELECT, VALUES or TABLE, plain (effects say how plain) */
	STATEMENT_WRITE,			/* one INSERT, UPDATE, DELETE, MERGE, or SELECT with a writing CTE */
	STATEMENT_TRANSACTION,
	STATEMENT_SET,				/* SET, RESET (not LOCAL) */
	STATEMENT_SHOW,
	STATEMENT_DEALLOCATE,		/* name in `target`, or all when target is NULL */
	STATEMENT_EXECUTE,			/* SQL EXECUTE; name in `target` */
	STATEMENT_DISCARD_ALL,
	STATEMENT_COPY,
	STATEMENT_OTHER,			/* another utility statement */
	STATEMENT_SEVERAL			/* more than one statement in the string */
} StatementKind;

typedef struct StatementFacts
{
	bool		known;			/* analysis has been done */
	uint8_t		kind;			/* StatementKind */
	uint16_t	effects;		/* StatementEffect bits */
	char	   *target;			/* DEALLOCATE / EXECUTE: the name, folded as SQL folds it; owned (mem_free_str) */
} StatementFacts;

typedef struct Statement
{
	Digest128	digest;			/* of types and text */
	uint32_t	refs;
	uint32_t	text_len;
	uint32_t	types_len;		/* 4 bytes a type OID, network order; at most 65535 types */
	StatementFacts facts;
	struct Statement *next_in_bucket;
	struct Statement *older;	/* list of the unreferenced, while refs is 0 */
	struct Statement *newer;
	uint8_t		bytes[];		/* types, then text, then a NUL */
} Statement;

static inline Bytes
statement_text(const Statement *s)
{
	return bytes_of(s->bytes + s->types_len, s->text_len);
}

static inline Bytes
statement_types(const Statement *s)
{
	return bytes_of(s->bytes, s->types_len);
}

typedef struct StatementTable StatementTable;

/*
 * Unreferenced statements are kept (their facts are worth something) until
 * the table holds more than max_idle_bytes of them; then the oldest go.
 */
extern StatementTable *statement_table_create(size_t max_idle_bytes);
extern void statement_table_destroy(StatementTable *table);
/* The interned statement with one reference for the caller; NULL = out of memory. *fresh: it was not known. */
extern Statement *statement_intern(StatementTable *table, Bytes text, Bytes types, bool *fresh);
extern void statement_ref(Statement *s);
extern void statement_unref(StatementTable *table, Statement *s);
extern size_t statement_table_count(const StatementTable *table);

/* What the link must undergo once an exchange with these effects has ended outside a transaction. */
typedef enum LinkAfter
{
	LINK_AFTER_CLEAN,			/* back to the pool as it is */
	LINK_AFTER_RESET,			/* the reset first */
	LINK_AFTER_BOUND,			/* stays with this client */
	LINK_AFTER_RETIRE			/* closed */
} LinkAfter;

extern LinkAfter effects_link_after(uint32_t effects);
/* True if an exchange of these effects may be sent again after its link died without any answer. */
extern bool effects_may_repeat(uint32_t effects);
extern const char *statement_kind_name(StatementKind kind);

#endif
