/*
 * core/portal.h - which statements has this client named, and on which
 * link are they prepared?                                                         floor 3
 *
 * Two maps. StatementNames: a client's names -> statements (portals need no
 * map: they never outlive the exchange or transaction that holds the link, so their
 * names pass unchanged). LinkStatements: what is prepared on one link -> the number
 * in its link name, least recently used first out. Both own references.
 * Never: sends anything.
 */
#ifndef HYPERPOOL_CORE_PORTAL_H
#define HYPERPOOL_CORE_PORTAL_H

#include "core/bytes.h"
#include "core/message.h"
#include "core/settings.h"
#include "core/statement.h"

/* What a statement's parameters and rows look like: a client decodes by what it was told, a link has what the tables were when it parsed. */
typedef struct Shape
{
	bool		known;
	bool		unconfirmed;	/* its Parse was answered from memory: the origin has not parsed it for this client yet */
	Digest128	digest;			/* of both */
	uint64_t	rows;			/* of the rows alone: message_row_shape().lo, or 0 for none */
} Shape;

static inline bool
shapes_differ(const Shape *a, const Shape *b)
{
	return a && b && a->known && b->known && !digest_equal(a->digest, b->digest);
}

/* PostgreSQL looks at no more of a statement's name, in a message neither: longer ones that begin alike are one. */
#define NAME_THAT_COUNTS	63

static inline Bytes
name_that_counts(Bytes name)
{
	return bytes_of(name.data, name.len < NAME_THAT_COUNTS ? name.len : NAME_THAT_COUNTS);
}

/* ---- a client's named statements; zeroed memory is an empty map and holds no memory ---- */

typedef struct StatementNames
{
	struct StatementName *names;	/* open addressing, power of two, or NULL */
	uint32_t	count;
	uint32_t	size;
} StatementNames;

/* The statement of a name, borrowed, or NULL. */
extern Statement *names_get(const StatementNames *map, Bytes name);
/* Takes over one reference to s. False: no memory (the reference stays with the caller). The name must be absent. */
extern bool names_put(StatementNames *map, Bytes name, Statement *s);
/* Removes the name and hands its reference to the caller; NULL if absent. */
extern Statement *names_take(StatementNames *map, Bytes name);
/* The shape the client was told of this name; NULL: no such name. Valid until the map changes. */
extern Shape *names_shape(const StatementNames *map, Bytes name);
/* The first name that is it, or len 0. A walk over all: for error texts. */
extern Bytes names_find(const StatementNames *map, bool (*is_it) (void *arg, Bytes name, const Statement *s), void *arg);
/* Moves all that `from` holds back to `to`, but for names that are there. */
extern void names_put_back(StatementNames *to, StatementNames *from, StatementTable *table);
extern void names_clear(StatementNames *map, StatementTable *table);	/* releases everything */

/* ---- what one link has prepared ---- */

#define LINK_NAME_MAX	48		/* longest link name with its NUL */

typedef struct LinkStatements LinkStatements;

/* capacity: how many a link keeps (hyperpool.max_prepared_statements), >= 1. Both tables must outlive the map. */
extern LinkStatements *link_statements_create(StatementTable *statements, SettingsTable *settings, uint32_t capacity);
extern void link_statements_destroy(LinkStatements *map);
extern uint32_t link_statements_count(const LinkStatements *map);
/*
 * The number of the link name under which s (with these settings) is prepared, and marks it used; 0 = not prepared.
 * An entry counts from link_statements_add on, so that later messages of a pipeline find it.
 */
extern uint32_t link_statements_find(LinkStatements *map, const Statement *s, const SettingsVector *settings);
/*
 * Enters s and returns its new number (> 0; numbers are never used twice on a link), or 0 for no memory. If the map
 * was full, *evicted is the number that must be closed on the link, else 0. Entries used since
 * the last link_statements_settle() are never evicted: a map full of those grows by one instead.
 */
extern uint32_t link_statements_add(LinkStatements *map, Statement *s, const SettingsVector *settings, uint32_t *evicted);
/* The shape of what is prepared under this number; NULL: nothing is. Valid until the map changes. */
extern Shape *link_statements_shape(LinkStatements *map, uint32_t number);
extern void link_statements_remove(LinkStatements *map, uint32_t number);	/* it was deallocated */
/* A Parse under this number is sent, and later: it has been answered (well), or has failed or was skipped: then the entry goes, unless another Parse of it is under way. */
extern void link_statements_asked(LinkStatements *map, uint32_t number);
extern void link_statements_answered(LinkStatements *map, uint32_t number, bool well);
/*
 * Its Parse was sent before the last settle and is not answered: whoever does not know how that will end must not count on it. Or it was sent astray, in another
 * stay: then it may mean something else.
 */
extern bool link_statements_pending(LinkStatements *map, uint32_t number);
/* What is parsed from now on is read under other settings than it is entered with, until the client that has set them leaves the link (true: it had). */
extern void link_statements_stray(LinkStatements *map);
extern bool link_statements_part(LinkStatements *map);
/* What is asked from now on is another client's, or nothing is in flight. */
extern void link_statements_settle(LinkStatements *map);
extern void link_statements_clear(LinkStatements *map);	/* DEALLOCATE ALL, DISCARD ALL */
/* The link name of a number, e.g. "hyperpool_5f0c2a91_12"; the middle is random per process (link_names_seed). */
extern Bytes link_statement_name(uint32_t number, char buf[LINK_NAME_MAX]);
extern void link_names_seed(uint32_t random);
/* True if a client's name is one of this process's for its links. */
extern bool link_name_is_ours(Bytes name);

#endif
