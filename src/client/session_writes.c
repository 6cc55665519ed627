/*
 * client/session_writes.c - what a session writes, and until when nobody may rely on what was read before.
 *
 * Owns the session's write set: the version slots of all that its transaction has written so far. They are raised (host/versions, W1) before anything
 * is sent that may commit, and settled (W2, W3) when the ReadyForQuery has come that ends the transaction, before the client is told. A CommandComplete proves nothing: in
 * the extended protocol the commit happens at Sync. What is on its way when the link is lost is in doubt (W4).
 *
 * Whether something may commit is decided for the worse: outside a transaction block, behind an exchange whose end is not known yet, at COMMIT in whatever form,
 * and in every exchange from then on. Inside a block nothing else does, and nobody sees what it writes.
 */
#include "postgres.h"

#include "host/cancel.h"

#include "client/session_internal.h"

typedef struct SessionWrites
{
	WriteRecord record;			/* raised; 0: nothing is */
	bool		anything;		/* functions nobody has looked into: they may even commit elsewhere on their own. Or too little is known of the catalog */
	bool		ddl;			/* perhaps, even if what is known of the catalog is true */
	uint8		nslots;
	uint64		generation;		/* of the facts that the first of them was told by */
	uint32		slots[WRITE_SLOTS_MAX];
} SessionWrites;

#define WHOLE_SLOTS		3		/* set aside for what may write anything: cluster and database, or what stands for all while they are not known */

/* ---- the set ---- */

static bool
holds(const SessionWrites *w, uint32 slot)
{
	for (int i = 0; i < w->nslots; i++)
	{
		if (w->slots[i] == slot)
			return true;
	}
	return false;
}

static void
add_slots(SessionWrites *w, const uint32 *slots, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!holds(w, slots[i]) && w->nslots < WRITE_SLOTS_MAX)
			w->slots[w->nslots++] = slots[i];
	}
}

/* All that can be reached: the cluster, and the database's own slot for those who hang on all of it. */
static void
add_anything(ClientSession *s, SessionWrites *w)
{
	FactsIdentity id;

	if (!w->anything)
		counter_add(s->counters, COUNT_CACHE_FLUSHES, 1);
	w->anything = true;
	if (facts_identity(pool_origin_slot(s->pool), pool_origin_oid(s->pool), &id))
		add_slots(w, (uint32[]) {id.cluster_slot, id.any_slot}, 2);
	else
		add_slots(w, (uint32[]) {SLOT_GLOBAL}, 1);
}

static void
add(ClientSession *s, const Proof *proof, WritesWhat what)
{
	SessionWrites *w = s->writes;

	if (what == WRITES_RELATIONS)
	{
		int			fresh = 0;

		for (int i = 0; i < proof->nwritten; i++)
			fresh += !holds(w, proof->written[i]);
		if (w->nslots + fresh <= WRITE_SLOTS_MAX - WHOLE_SLOTS)
			add_slots(w, proof->written, proof->nwritten);
		else
			what = WRITES_ANYTHING;
	}
	if (what == WRITES_ANYTHING)
		add_anything(s, w);
}

static void
forget(ClientSession *s)
{
	mem_free(s->writes, sizeof(SessionWrites));
	s->writes = NULL;
}

/* ---- asked ---- */

/* From now on its names may mean temporary objects of its own, with triggers, views and defaults that no catalog shows. */
static void
note_temporary(ClientSession *s, const Proof *proof)
{
	if (proof == NULL || !proof->makes_temp)
		return;
	if (s->temp_since == 0)
		s->temp_since = facts_generation(pool_origin_slot(s->pool));
	if (proof->shadows || session_facts_state(s) != FACTS_FRESH)
		s->shadowed = true;
}

/* Without its text saying so, on a link that stays. (Of any other it is gone before the next transaction.) */
static bool
may_have_made(const ClientSession *s, bool unseen)
{
	return s->bound && (unseen || s->judged_by != 0);
}

/*
 * What it had made may have been given such a name since (ALTER TABLE RENAME or INHERIT, a view of it), or something permanent that name; or a function has made a view, and whoever
 * reads that runs what it is made of.
 */
static bool
may_be_shadowed(const ClientSession *s)
{
	return s->shadowed || may_have_made(s, s->made_unseen_view) || (s->temp_since != 0 && (s->unseen || s->temp_since != facts_generation(pool_origin_slot(s->pool))));
}

/* It writes certain relations, if what is known of the catalog is true: no function can have put something temporary before them. */
static bool
is_told(const ClientSession *s, const Proof *proof)
{
	return proof != NULL && proof->writes == WRITES_RELATIONS && !may_be_shadowed(s) && !may_have_made(s, s->made_unseen) && session_proof_is_current(s, proof);
}

/* What is known of the catalog counts only while the scout looks after it. */
static WritesWhat
writes_what(const ClientSession *s, const Proof *proof, uint32 effects)
{
	if (proof == NULL)
		return effects & (EFFECT_WRITES | EFFECT_UNKNOWN) ? WRITES_ANYTHING : WRITES_NOTHING;
	if (may_be_shadowed(s) && !(proof->writes == WRITES_NOTHING && (effects & (EFFECT_BEGIN | EFFECT_END | EFFECT_SETTINGS))))
		return WRITES_ANYTHING;
	if (proof->writes == WRITES_RELATIONS && (session_facts_state(s) != FACTS_FRESH || !is_told(s, proof)))
		return WRITES_ANYTHING;
	return proof->writes;
}

void
session_writes_leave_link(ClientSession *s)
{
	s->shadowed = s->unseen = s->made_unseen = s->made_unseen_view = false;
	s->temp_since = s->judged_by = 0;
}

/* What is made without a schema is made there. */
static bool
makes_in_temp(const ClientSession *s)
{
	const char *path = settings_get(s->settings, "search_path");

	return path != NULL && strstr(path, "pg_temp") != NULL;
}

/* It may have done anything, in functions that may have been made since the catalog was looked at. */
static void
note_unseen(ClientSession *s, const Proof *proof)
{
	bool		in_temp = makes_in_temp(s);

	s->unseen = true;
	s->made_unseen |= proof == NULL || proof->makes_unseen || in_temp;
	s->made_unseen_view |= proof == NULL || proof->makes_unseen_view || in_temp;
	if (s->judged_by == 0 && session_facts_state(s) != FACTS_FRESH)
		s->judged_by = facts_generation(pool_origin_slot(s->pool));
}

/* The catalog has been looked at. If it was not what it was judged by, what is there now may have been there then. */
static void
judge_unseen(ClientSession *s)
{
	int			slot = pool_origin_slot(s->pool);

	if (s->judged_by == 0 || session_facts_state(s) != FACTS_FRESH)
		return;
	if (s->judged_by != facts_generation(slot))
	{
		const Facts *facts = facts_of(slot, pool_origin_oid(s->pool));

		s->made_unseen |= proof_knows_maker(facts, PROOF_TEMP_FUNCTION);
		s->made_unseen_view |= proof_knows_maker(facts, PROOF_TEMP_VIEW_FUNCTION);
	}
	s->judged_by = 0;
}

static bool
may_commit(const ClientSession *s, uint32 effects, WritesWhat what)
{
	bool		in_block = s->inflight == 1 && link_status(s->link) == TX_OPEN;

	return !in_block || what == WRITES_ANYTHING || ((effects | s->effects) & (EFFECT_END | EFFECT_UNKNOWN));
}

static void
raise_set(ClientSession *s)
{
	SessionWrites *w = s->writes;

	w->record = versions_raise(session_worker, pool_origin_slot(s->pool), link_origin_pid(s->link), w->slots, w->nslots);
}

void
session_writes_asked(ClientSession *s, const Proof *proof, uint32 effects)
{
	WritesWhat	what;
	int			before;

	judge_unseen(s);
	note_temporary(s, proof);
	what = writes_what(s, proof, effects);
	if (what == WRITES_ANYTHING)
		note_unseen(s, proof);
	if (what != WRITES_NOTHING && s->writes == NULL && (s->writes = mem_zalloc(sizeof(SessionWrites))) == NULL)
	{
		/* nothing may be sent that is not accounted for */
		link_break_now(s->link);
		return;
	}
	if (s->writes == NULL)
		return;
	if (s->writes->generation == 0)
		s->writes->generation = facts_generation(pool_origin_slot(s->pool));
	if (what == WRITES_ANYTHING && (session_facts_state(s) == FACTS_UNKNOWN || !is_told(s, proof)))
		s->writes->ddl = true;
	before = s->writes->nslots;
	add(s, proof, what);
	if (s->writes->record == 0)
	{
		if (may_commit(s, effects, what))
			raise_set(s);
	}
	else if (s->writes->nslots > before &&
			 !versions_raise_more(s->writes->record, s->writes->slots + before, s->writes->nslots - before))
	{
		/* cannot be: a record has as much room as the set */
		link_break_now(s->link);
	}
}

void
session_writes_executed(ClientSession *s, bool named)
{
	if (s->writes && s->writes->record == 0 && may_commit(s, EFFECT_NONE, named && s->writes->anything ? WRITES_ANYTHING : WRITES_NOTHING))
		raise_set(s);
}

bool
session_writes_under_way(const ClientSession *s)
{
	return s->writes && s->writes->record != 0;
}

bool
session_writes_flush(const ClientSession *s)
{
	return s->writes && s->writes->anything;
}

/* ---- ended ---- */

/* DDL, perhaps: what is known of the catalog is of before. Functions and triggers can do that too, and such as it has got since the write was asked. */
static void
suspect_catalog(ClientSession *s, const SessionWrites *w)
{
	int			slot = pool_origin_slot(s->pool);

	if (!w->ddl && facts_rely(slot, w->generation))
		return;
	facts_suspect(slot);
	cancel_wake_scout();
}

/*
 * A gateway behind the link has lost its own, and what was on its way may be committed yet. Outside of a transaction's end nothing is up, and
 * nothing will be. What is in flight behind it writes the same, for all that is known.
 */
static void
leave_in_doubt(ClientSession *s, SessionWrites *w)
{
	if (w->record == 0)
		return;
	versions_doubt(w->record);
	cancel_wake_scout();
	w->record = 0;
	if (s->inflight > 0)
		raise_set(s);
}

void
session_writes_ended(ClientSession *s, const LinkExchange *e)
{
	SessionWrites *w = s->writes;
	uint8		status = e->x.status;
	bool		may_have_committed = ((e->effects | s->effects) & (EFFECT_END | EFFECT_UNKNOWN)) != 0;

	if (w == NULL)
		return;
	if (e->doubtful)
		leave_in_doubt(s, w);
	if (e->unrun && status == TX_IDLE && s->inflight == 0 && w->record != 0)
	{
		/* a slip of the pen: what was written by those before it has been moved when they ended */
		versions_drop(w->record);
		forget(s);
		return;
	}
	if (w->anything && (status == TX_IDLE || may_have_committed))
		suspect_catalog(s, w);
	if (status == TX_IDLE)
	{
		/* DDL may have made it reach further than was known when it was asked, and be DDL itself */
		if (!w->anything && (w->generation != facts_generation(pool_origin_slot(s->pool)) || session_facts_state(s) != FACTS_FRESH))
		{
			suspect_catalog(s, w);
			session_catalog_moved(s);
		}
		if (w->record == 0)
			raise_set(s);
		if (s->inflight > 0)
			versions_moved(w->record);
		else
		{
			versions_settle(w->record);
			forget(s);
		}
		return;
	}
	/* in a block: nothing of it is to be seen, unless it is another one (COMMIT AND CHAIN), or a function has committed by itself */
	if (may_have_committed && w->record == 0)
		raise_set(s);
	if (w->record != 0 && (w->anything || may_have_committed))
		versions_moved(w->record);
	if (w->record != 0 && s->inflight == 0)
	{
		versions_drop(w->record);
		w->record = 0;
	}
}

void
session_writes_answered(ClientSession *s)
{
	if (s->writes && s->writes->record != 0)
	{
		versions_settle(s->writes->record);
		forget(s);
	}
}

void
session_writes_unsent(ClientSession *s)
{
	if (s->writes == NULL)
		return;
	if (s->writes->record != 0)
		versions_drop(s->writes->record);
	forget(s);
}

void
session_writes_lost(ClientSession *s)
{
	if (s->writes == NULL)
		return;
	if (s->writes->record != 0)
	{
		versions_doubt(s->writes->record);
		cancel_wake_scout();
	}
	forget(s);
}

void
session_catalog_moved(ClientSession *s)
{
	FactsIdentity id;

	if (facts_identity(pool_origin_slot(s->pool), pool_origin_oid(s->pool), &id))
	{
		versions_move(id.catalog_slot);
		cancel_wake_scout();
	}
}
