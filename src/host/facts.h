/*
 * host/facts.h - what the scout learnt of each origin's catalog, in shared memory.  floor 4
 *
 * Answers: what stands behind the names of this text at that origin, may its answer be kept, and what does it write? Owns the shared area (hyperpool.facts_size),
 * one published blob an origin slot: names of relations, functions, operators, types with what the scout has found out about them (origin/catalog).
 * Readers take a private copy when the generation moves, as with host/directory. Names are not resolved: a name stands for everything of that name.
 * Never: asks an origin.
 */
#ifndef HYPERPOOL_HOST_FACTS_H
#define HYPERPOOL_HOST_FACTS_H

#include "postgres.h"
#include "core/proof.h"

extern Size facts_shmem_size(void);
extern void facts_shmem_init(void);

/* ---- state of an origin slot: atomics ---- */

typedef enum FactsState
{
	FACTS_UNKNOWN,				/* never read, or the origin in this slot has changed */
	FACTS_FRESH,				/* the last look is not older than FACTS_FRESH_FOR */
	FACTS_SUSPECT,				/* fresh but for DDL that may have been made through us since: the scout is about to look */
	FACTS_ASLEEP,				/* older: nobody has wanted them (see facts_want) */
	FACTS_DOWN					/* older, and the scout has tried in vain since: the origin is down */
} FactsState;

#define FACTS_FRESH_FOR		INT64CONST(10000000)	/* microseconds */
#define FACTS_WANTED_FOR	INT64CONST(60000000)	/* the scout looks as long as somebody has wanted them this lately */

extern FactsState facts_state(int slot, Oid origin, int64 now);	/* now: CLOCK_MONOTONIC, microseconds */
extern void facts_want(int slot, int64 now);	/* cheap: writes at most once a second. True work is the scout's; the caller wakes it when the state was not FRESH */
extern int64 facts_wanted_at(int slot);

typedef struct FactsBefore		/* as it was before a look */
{
	uint64		generation;
	uint64		suspicions;
	uint64		unproven;
} FactsBefore;

/*
 * The scout: a look has ended well that was begun then, when it was like this (facts_before). True: what was not known, or counted no more, or was something else before, may be gone by
 * again, and facts_renewals has moved. The caller wakes the workers.
 */
extern bool facts_looked(int slot, Oid origin, int64 began, int64 now, const FactsBefore *before);
extern void facts_failed(int slot, Oid origin, int64 now, const char *failure); /* it has not, and why */
/*
 * Something was committed that may have been DDL: what is known of that database, by whatever origin, counts no more until the scout has looked again. Called before
 * its versions are settled. The caller wakes the scout.
 */
extern void facts_suspect(int slot);
/*
 * Something was committed that made no DDL if what was known at that generation, but counted no more, was true. A look that finds it so takes such writes for what they
 * are, however many come all the time; one that finds it otherwise counts them, and is followed by another. So do the looks of other origins of that database that know the
 * same of it; those that know something else become suspect at once. False: more is known by now, so it is to be suspected. (test/model/facts.pml)
 */
extern bool facts_rely(int slot, uint64 generation);
extern void facts_adopt(int slot, Oid origin);	/* the scout, before it looks: from here on the slot is this origin's, and what comes in suspicion meanwhile is counted */
extern void facts_before(int slot, FactsBefore *out);	/* the scout: read before it looks */
extern uint64 facts_suspicions(int slot);	/* how often it was suspected */
/* refresh_catalog(origin): a ticket; the scout serves tickets. */
extern uint64 facts_ask_refresh(int slot);
extern uint64 facts_refresh_asked(int slot);
extern void facts_refresh_done(int slot, uint64 ticket);
extern bool facts_refresh_is_done(int slot, uint64 ticket);
/* Why the last look failed ("" = it went well); for views. */
extern void facts_get_failure(int slot, char *text, Size size);

/* Which database it is: known even where nothing else is. False: not known. The five fixed slots of host/versions. */
typedef struct FactsIdentity
{
	uint64		system;
	Oid			database;
	uint32		cluster_slot;
	uint32		catalog_slot;
	uint32		catalog_rows_slot;
	uint32		any_slot;
} FactsIdentity;

extern bool facts_identity(int slot, Oid origin, FactsIdentity *out);
extern void facts_set_identity(int slot, Oid origin, const FactsIdentity *identity);	/* the scout; NULL = no longer known. Another than before forgets the facts */

/* ---- readers: workers, SQL functions ---- */

/* The newest published facts of the slot, copied into this process when they have changed; NULL: none. Valid until the next facts_of or facts_identity for that slot. */
extern const Facts *facts_of(int slot, Oid origin);
extern uint64 facts_renewals(void); /* moves when any slot's facts have been renewed (see facts_looked); one atomic read */
extern uint64 facts_renewals_of(int slot);
extern uint64 facts_generation(int slot);	/* moves with each publication, identity and forgetting, never 0; one atomic read */

/* Draws the proof (core/proof). generation, origin_slot are the caller's to set. culprit (may be NULL): the name at fault, or "". */
static inline void
facts_prove(const Facts *facts, const StatementFacts *statement, const CacheRule *rules, int nrules, Proof *proof, char culprit[CULPRIT_SIZE])
{
	proof_draw(facts, statement, rules, nrules, proof, culprit);
}

/* The relations that a text may mean, one by one: for explain_query. *at starts at 0; false: no more. */
static inline bool
facts_next_relation(const Facts *facts, const StatementFacts *statement, uint32 *at, FactsRelation *out)
{
	return proof_next_relation(facts, statement, at, out);
}

/* The slots to be moved for everything read from relations of this name (schema NULL = any); for invalidate(). How many of them were put into slots. */
static inline int
facts_slots_of_relation(const Facts *facts, const char *schema, const char *name, uint32 *slots, int max)
{
	return proof_slots_of_relation(facts, schema, name, slots, max);
}

/* ---- the writer: the scout, by way of origin/catalog ---- */

typedef struct FactsDraft FactsDraft;

extern FactsDraft *facts_draft(void);	/* lives as long as CurrentMemoryContext, unless it is published before */
extern void facts_draft_relation(FactsDraft *draft, const RelationFacts *relation);	/* schema and name may repeat in any order */
extern void facts_draft_function(FactsDraft *draft, const char *schema, const char *name, NameClass c);
extern void facts_draft_operator(FactsDraft *draft, const char *schema, const char *name, NameClass c);
extern void facts_draft_type(FactsDraft *draft, const char *schema, const char *name, NameClass c);	/* user types whose I/O, checks or casts are worse than deterministic, or that have any */
extern void facts_draft_field(FactsDraft *draft, const char *name, NameClass c);	/* functions that can be written as a column: one argument of a composite type */
extern void facts_draft_builtin(FactsDraft *draft, const char *name);	/* there is a function of pg_catalog, or a type f of it to be called like one, of this name, not made by a user: all of them */
/*
 * Publishes for the slot, whose identity has been set; frees the draft. print: the fingerprint of the catalog that it tells of. False: no room (hyperpool.facts_size): the origin's
 * facts are then unknown, and the failure says so.
 */
extern bool facts_publish(FactsDraft *draft, int slot, Oid origin, uint64 print);
extern void facts_forget(int slot);		/* another origin is in this slot now, or its catalog has moved and is being read anew */

#endif
