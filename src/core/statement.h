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
	EFFECT_UNKNOWN = 1 << 10,	/* not parsed (too long, other grammar, unsafe encoding): assume all that cannot be seen */
	EFFECT_RESETS = 1 << 11,	/* beside SETTINGS or UNBIND: RESET, SET TO DEFAULT, DISCARD ALL: a setting becomes what it was at login */
	EFFECT_PERHAPS = 1 << 12,	/* may change data, for all that is known of what stands behind its names; not a matter of the text */
	EFFECT_SETS_NAMED = 1 << 13,	/* beside SETTINGS: the first parameter names the setting, so its Bind tells whether that binds */
	EFFECT_REREADS = 1 << 14	/* sets, for the transaction or longer, what decides how texts behind it are read */
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

/* Of a BEGIN that is all of its text. */
typedef enum BeginTrait
{
	BEGIN_ALONE = 1 << 0,		/* it is one */
	BEGIN_BY_START = 1 << 1,	/* START TRANSACTION, which is its tag then */
	BEGIN_NOT_ON_STANDBY = 1 << 2	/* SERIALIZABLE or READ WRITE: a standby refuses it */
} BeginTrait;

/* ---- what a text speaks of: names as they stand there, not resolved ---- */

typedef enum MentionKind
{
	MENTION_READS = 'r',		/* a relation that is read */
	MENTION_WRITES = 'w',		/* a relation that INSERT, UPDATE, DELETE, MERGE or COPY FROM changes (it is read too) */
	MENTION_FUNCTION = 'f',		/* a function or aggregate called by name */
	MENTION_OPERATOR = 'o',
	MENTION_TYPE = 't',			/* of a cast or a column list; without array brackets */
	MENTION_FIELD = 'a',		/* the last part of a.b or (…).b: a column, or a function called like one */
	MENTION_TEMP = 'p'			/* made in pg_temp, where it stands before all others of its name; and what it will be a child of */
} MentionKind;

typedef enum TextFlag
{
	TEXT_TIME = 1 << 0,			/* CURRENT_TIMESTAMP and its kin, or a literal with now, today, tomorrow or yesterday as a word */
	TEXT_LOCKING = 1 << 1,		/* FOR UPDATE and its kin */
	TEXT_WRITES_ANYTHING = 1 << 2,	/* DDL, DO, CALL, TRUNCATE, EXECUTE, COMMIT PREPARED …: what it changes cannot be told from names */
	TEXT_WRITES_CATALOG = 1 << 3,	/* rows of the system catalogs alone: temporary tables */
	TEXT_TOO_MUCH = 1 << 4,		/* more names than are kept (MENTIONS_MAX), or one too long: count on nothing */
	TEXT_INTO = 1 << 5,			/* SELECT INTO */
	TEXT_TEMPORARY = 1 << 6		/* a DO that speaks of temporary things */
} TextFlag;

#define MENTIONS_MAX	512

typedef struct Mentions
{
	uint32_t	size;			/* of this allocation (mem_alloc) */
	uint32_t	count;
	uint32_t	flags;			/* TextFlag bits */
	uint8_t		bytes[];		/* count times: MentionKind, length of schema (0 = unqualified), length of name, schema, name; no duplicates */
} Mentions;

typedef struct Mention
{
	MentionKind kind;
	Bytes		schema;			/* len 0: none was written */
	Bytes		name;
} Mention;

/* Goes through the mentions: *at starts at 0. False: no more. */
extern bool mentions_next(const Mentions *m, uint32_t *at, Mention *out);
extern void mentions_free(Mentions *m);	/* NULL is fine */

/* Hints of a leading comment: hyperpool: cache=off, max_age=5s */
typedef struct TextHints
{
	bool		cache_off;
	int64_t		max_age;		/* microseconds; -1 = not said */
} TextHints;

typedef struct StatementFacts
{
	bool		known;			/* analysis has been done */
	uint8_t		kind;			/* StatementKind */
	uint8_t		begin;			/* BeginTrait bits; 0: it is none, or not alone */
	uint16_t	effects;		/* StatementEffect bits */
	char	   *target;			/* DEALLOCATE / EXECUTE: the name, folded as SQL folds it; SET, RESET, SHOW of hyperpool.*: the setting's name; owned (mem_free_str) */
	Mentions   *mentions;		/* what it speaks of, or NULL (nothing, or not analysed); owned (mentions_free) */
} StatementFacts;

/* ---- what the facts of a database make of it ---- */

/* Why an answer does not come from the cache, or does. Each has a status of Hyperdrive's taxonomy and words; see statement.c. */
typedef enum CacheReason
{
	REASON_CACHEABLE,
	REASON_DISABLED,			/* the origin's option cache is off */
	REASON_DISABLED_SESSION,	/* SET hyperpool.cache = off */
	REASON_DISABLED_HINT,
	REASON_DISABLED_RULE,		/* set_rule(relation, cache => false) */
	REASON_NO_MEMORY,			/* hyperpool.cache_size = 0 */
	REASON_NOT_A_READ,			/* notaquery: a write or utility statement */
	REASON_SEVERAL,				/* multiplestatements */
	REASON_NOT_PARSED,			/* parseerror: other grammar, unsafe encoding, too many names */
	REASON_OVERSIZED_QUERY,		/* text or parameters too long */
	REASON_OVERSIZED_RESULT,	/* known to exceed max_result_size */
	REASON_TRANSACTION,			/* inside a transaction block */
	REASON_BOUND,				/* session state (temp tables …) is bound to the client */
	REASON_PIPELINE,			/* behind an exchange that is not answered yet, or of a form that is not kept */
	REASON_LOCKING,
	REASON_TIME,				/* volatile: the clock */
	REASON_FUNCTION,			/* volatile: a function not immutable; the culprit says which */
	REASON_OPERATOR,			/* volatile */
	REASON_TYPE,				/* volatile: a type, domain or cast with functions that are not immutable */
	REASON_RELATION_KIND,		/* uncacheable: foreign, temporary, sequence, statistics, large objects */
	REASON_UNKNOWN_RELATION,	/* uncacheable: no such name at the origin */
	REASON_UNKNOWN_FUNCTION,
	REASON_FACTS_UNKNOWN,		/* the origin's catalog has not been read (yet), or its last look is too old */
	REASON_STANDBY,				/* the answer came from a standby */
	REASON_WRITES_IN_FLIGHT,	/* miss: a write to what it reads is under way or in doubt */
	REASON_ANSWER,				/* the answer held an error, a notice or something else that is not kept */
	REASON_LIMIT
} CacheReason;

/* Hyperdrive's statuses, under their names. */
typedef enum CacheStatus
{
	CACHE_DISABLED, CACHE_HIT, CACHE_MISS, CACHE_UNCACHEABLE, CACHE_MULTIPLE_STATEMENTS, CACHE_NOT_A_QUERY, CACHE_OVERSIZED_QUERY,
	CACHE_OVERSIZED_RESULT, CACHE_PARSE_ERROR, CACHE_TRANSACTION, CACHE_VOLATILE, CACHE_STATUS_LIMIT
} CacheStatus;

extern CacheStatus reason_status(CacheReason reason);
extern const char *reason_words(CacheReason reason);	/* an English half sentence */
extern const char *cache_status_name(CacheStatus status);

typedef enum WritesWhat
{
	WRITES_NOTHING,
	WRITES_RELATIONS,			/* the slots in `written` */
	WRITES_ANYTHING				/* of the whole cluster */
} WritesWhat;

#define PROOF_SLOTS	20			/* 16 relations and the fixed ones */

/* A slot is a place in the table of versions (host/versions). */
typedef struct Proof
{
	uint64_t	generation;		/* of the facts and rules it was drawn from; 0 = none drawn yet */
	int16_t		origin_slot;
	uint8_t		reason;			/* CacheReason: REASON_CACHEABLE, or why not */
	uint8_t		writes;			/* WritesWhat */
	bool		clean;			/* what it writes has no trigger, rule or function that could leave session state behind */
	bool		makes_temp;		/* a temporary table, view or type */
	bool		shadows;		/* it has the name of something permanent, which stands for the temporary one in what this session says from now on */
	bool		makes_unseen;	/* it may make something temporary of which its text does not tell … */
	bool		makes_unseen_view;	/* … and which runs functions when it is read: a view, a domain */
	bool		dirties;		/* it may run what does, though that does not stand in its text: behind a view, a policy, an operator, a cast */
	uint8_t		nreads;
	uint8_t		nwritten;
	int64_t		max_age;		/* microseconds, from rules; -1 = the origin's */
	uint32_t	reads[PROOF_SLOTS];
	uint32_t	written[PROOF_SLOTS];
} Proof;

/* What a user has said about a relation or a function of an origin (set_rule). */
typedef struct CacheRule
{
	bool		function;		/* else a relation */
	const char *schema;			/* "" = any */
	const char *name;
	bool		quiet;			/* function: it writes nothing */
	bool		cache_off;		/* relation */
	int64_t		max_age;		/* relation; microseconds, -1 = not said */
} CacheRule;

typedef struct Statement
{
	Digest128	digest;			/* of types and text */
	uint32_t	refs;
	uint32_t	text_len;
	uint32_t	types_len;		/* 4 bytes a type OID, network order; at most 65535 types */
	StatementFacts facts;
	Proof	   *proof;			/* what the facts of the origin used last make of it; owned; NULL = not asked */
	int32_t		stats_row;		/* host/querystats' row + 1, for the role and origin used last; 0 = none */
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
