/*
 * host/facts.c - what the scout learnt of each origin's catalog, in shared memory.
 *
 * Answers: what is known of the database behind this origin slot, and how fresh is it? The scout publishes an image (core/proof) a slot; each process
 * keeps a private copy, checked when it is taken, and takes another when the slot's generation has moved.
 *
 * Owns: the area "hyperpool facts" in shared memory: the slots with their times, tickets and identities, and one space in which the images lie; the
 * private copies of this process. Never: asks an origin, knows what an image says.
 *
 * The scout is the only writer of images and identities. It fills the unused end of the space without a lock and makes an image valid under `lock`,
 * exclusively; where the end is too short the images are first moved together, under the lock. Readers copy under the lock, shared.
 */
#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "host/facts.h"
#include "host/gucs.h"

#define FAILURE_SIZE	256
#define WANT_EVERY		INT64CONST(1000000)	/* microseconds */
#define IMAGE_ALIGN(size)	TYPEALIGN(8, size)

typedef struct FactsSlot
{
	pg_atomic_uint64 generation;
	pg_atomic_uint32 origin;	/* whose times, identity and image these are; InvalidOid = nobody's */
	pg_atomic_uint32 published; /* there is an image */
	pg_atomic_uint64 looked_at; /* the last look that went well; 0 = none */
	pg_atomic_uint64 failed_at; /* the last that did not */
	pg_atomic_uint64 wanted_at; /* by anybody, of whatever origin is in the slot */
	pg_atomic_uint64 refresh_asked;
	pg_atomic_uint64 refresh_done;
	pg_atomic_uint64 suspicions;
	pg_atomic_uint64 cleared;	/* of them */
	pg_atomic_uint64 unproven;	/* writes that were no DDL if what was known of the catalog was true */
	pg_atomic_uint64 renewals;
	uint64		renewed;		/* the generation of the last renewal; the scout alone */
	/* the rest: lock */
	bool		identified;
	FactsIdentity identity;
	Size		image_at;		/* offset in the space */
	Size		image_size;		/* 0 = none */
	uint64		print;			/* fingerprint of the catalog that the image tells of */
	char		failure[FAILURE_SIZE];
} FactsSlot;

typedef struct FactsShared
{
	int			tranche;
	LWLock		lock;
	pg_atomic_uint64 changes;	/* gives the slots their generations: one never comes twice */
	pg_atomic_uint64 renewals;	/* of all slots */
	Size		space_size;
	Size		used;			/* end of the last image; the scout alone */
	uint8	   *space;
	int			nslots;
	FactsSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} FactsShared;

/* What this process holds of a slot. */
typedef struct FactsCopy
{
	uint64		generation;		/* 0 = nothing copied yet */
	Oid			origin;
	bool		identified;
	FactsIdentity identity;
	void	   *image;			/* mem_alloc, or NULL */
	Size		image_size;
	const Facts *facts;			/* in image, or NULL */
} FactsCopy;

struct FactsDraft
{
	ProofDraft *draft;			/* NULL: there was no memory for it, or it has been published */
	MemoryContextCallback callback;
};

static FactsShared *facts_shared = NULL;	/* NULL where the library was not preloaded */
static FactsCopy *copies = NULL;	/* one a slot */

/* ---- shared memory ---- */

static Size
head_size(void)
{
	return MAXALIGN(add_size(offsetof(FactsShared, slots), mul_size(sizeof(FactsSlot), hyperpool_max_origins)));
}

static Size
space_size(void)
{
	return mul_size(hyperpool_facts_size, 1024);
}

Size
facts_shmem_size(void)
{
	return add_size(head_size(), space_size());
}

static void
init_slot(FactsSlot *slot)
{
	pg_atomic_init_u64(&slot->generation, 1);
	pg_atomic_init_u32(&slot->origin, InvalidOid);
	pg_atomic_init_u32(&slot->published, 0);
	pg_atomic_init_u64(&slot->looked_at, 0);
	pg_atomic_init_u64(&slot->failed_at, 0);
	pg_atomic_init_u64(&slot->wanted_at, 0);
	pg_atomic_init_u64(&slot->refresh_asked, 0);
	pg_atomic_init_u64(&slot->refresh_done, 0);
	pg_atomic_init_u64(&slot->suspicions, 0);
	pg_atomic_init_u64(&slot->cleared, 0);
	pg_atomic_init_u64(&slot->unproven, 0);
	pg_atomic_init_u64(&slot->renewals, 0);
}

void
facts_shmem_init(void)
{
	bool		found;
	int			i;

	facts_shared = ShmemInitStruct("hyperpool facts", facts_shmem_size(), &found);
	if (!found)
	{
		memset(facts_shared, 0, head_size());
		facts_shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&facts_shared->lock, facts_shared->tranche);
		pg_atomic_init_u64(&facts_shared->changes, 1);
		pg_atomic_init_u64(&facts_shared->renewals, 0);
		facts_shared->space_size = space_size();
		facts_shared->space = (uint8 *) facts_shared + head_size();
		facts_shared->nslots = hyperpool_max_origins;
		for (i = 0; i < facts_shared->nslots; i++)
			init_slot(&facts_shared->slots[i]);
	}
	LWLockRegisterTranche(facts_shared->tranche, "hyperpool_facts");
}

static FactsSlot *
slot_at(int slot)
{
	if (facts_shared == NULL || slot < 0 || slot >= facts_shared->nslots)
		return NULL;
	return &facts_shared->slots[slot];
}

/* ---- the scout: changes of a slot, all under the lock, exclusively ---- */

static void
move_generation(FactsSlot *slot)
{
	pg_atomic_write_u64(&slot->generation, pg_atomic_fetch_add_u64(&facts_shared->changes, 1) + 1);
}

static void
drop_image(FactsSlot *slot)
{
	slot->image_at = slot->image_size = 0;
	pg_atomic_write_u32(&slot->published, 0);
}

/* From here on the slot is this origin's; what is known of another goes. */
static void
adopt(FactsSlot *slot, Oid origin)
{
	if (pg_atomic_read_u32(&slot->origin) == origin)
		return;
	drop_image(slot);
	slot->identified = false;
	slot->failure[0] = '\0';
	pg_atomic_write_u64(&slot->looked_at, 0);
	pg_atomic_write_u64(&slot->failed_at, 0);
	pg_atomic_write_u32(&slot->origin, origin);
	move_generation(slot);
}

/* ---- state ---- */

FactsState
facts_state(int slot, Oid origin, int64 now)
{
	FactsSlot  *s = slot_at(slot);
	int64		looked;

	if (s == NULL || pg_atomic_read_u32(&s->origin) != origin || pg_atomic_read_u32(&s->published) == 0)
		return FACTS_UNKNOWN;
	looked = (int64) pg_atomic_read_u64(&s->looked_at);
	if (looked == 0)
		return FACTS_UNKNOWN;
	if (now - looked <= FACTS_FRESH_FOR)
		return pg_atomic_read_u64(&s->suspicions) == pg_atomic_read_u64(&s->cleared) ? FACTS_FRESH : FACTS_SUSPECT;
	return (int64) pg_atomic_read_u64(&s->failed_at) > looked ? FACTS_DOWN : FACTS_ASLEEP;
}

void
facts_want(int slot, int64 now)
{
	FactsSlot  *s = slot_at(slot);

	if (s != NULL && now - (int64) pg_atomic_read_u64(&s->wanted_at) >= WANT_EVERY)
		pg_atomic_write_u64(&s->wanted_at, (uint64) now);
}

int64
facts_wanted_at(int slot)
{
	FactsSlot  *s = slot_at(slot);

	return s != NULL ? (int64) pg_atomic_read_u64(&s->wanted_at) : 0;
}

/* Under one lock: a slot that is adopted only now must not lose why the first look at its origin failed. */
static void
end_look(FactsSlot *s, Oid origin, const char *failure)
{
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	adopt(s, origin);
	strlcpy(s->failure, failure, FAILURE_SIZE);
	LWLockRelease(&facts_shared->lock);
}

/* What has been renewed comes before the counts that say so. */
static void
renew(FactsSlot *s)
{
	s->renewed = pg_atomic_read_u64(&s->generation);
	pg_atomic_fetch_add_u64(&s->renewals, 1);
	pg_atomic_fetch_add_u64(&facts_shared->renewals, 1);
}

/* What is known now is not what was known when the look began. Who has relied on that meanwhile may have made DDL after all. */
static bool
relied_on_another(FactsSlot *s, const FactsBefore *before)
{
	return pg_atomic_read_u64(&s->generation) != before->generation && pg_atomic_fetch_add_u64(&s->unproven, 0) != before->unproven;
}

bool
facts_looked(int slot, Oid origin, int64 began, int64 now, const FactsBefore *before)
{
	FactsSlot  *s = slot_at(slot);
	bool		fresh = facts_state(slot, origin, now) == FACTS_FRESH;

	if (s == NULL)
		return false;
	end_look(s, origin, "");
	if (relied_on_another(s, before))
		pg_atomic_fetch_add_u64(&s->suspicions, 1);
	/* as of when it was asked, not of when the answer came */
	pg_atomic_write_u64(&s->looked_at, (uint64) began);
	/* what was published comes before */
	pg_write_barrier();
	pg_atomic_write_u64(&s->cleared, before->suspicions);
	if (fresh && s->renewed == pg_atomic_read_u64(&s->generation))
		return false;
	renew(s);
	return true;
}

void
facts_failed(int slot, Oid origin, int64 now, const char *failure)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return;
	end_look(s, origin, failure);
	pg_atomic_write_u64(&s->failed_at, (uint64) now);
}

uint64
facts_ask_refresh(int slot)
{
	FactsSlot  *s = slot_at(slot);

	return s != NULL ? pg_atomic_fetch_add_u64(&s->refresh_asked, 1) + 1 : 0;
}

uint64
facts_refresh_asked(int slot)
{
	FactsSlot  *s = slot_at(slot);

	/* a full barrier: the catalog is looked at after the ticket has been read */
	return s != NULL ? pg_atomic_fetch_add_u64(&s->refresh_asked, 0) : 0;
}

void
facts_refresh_done(int slot, uint64 ticket)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return;
	/* what was published comes before the ticket that says so */
	pg_write_barrier();
	pg_atomic_write_u64(&s->refresh_done, ticket);
}

bool
facts_refresh_is_done(int slot, uint64 ticket)
{
	FactsSlot  *s = slot_at(slot);

	return s != NULL && pg_atomic_read_u64(&s->refresh_done) >= ticket;
}

void
facts_get_failure(int slot, char *text, Size size)
{
	FactsSlot  *s = slot_at(slot);

	text[0] = '\0';
	if (s == NULL)
		return;
	LWLockAcquire(&facts_shared->lock, LW_SHARED);
	strlcpy(text, s->failure, size);
	LWLockRelease(&facts_shared->lock);
}

/* ---- identity ---- */

static bool
same_identity(const FactsIdentity *a, const FactsIdentity *b)
{
	return a->system == b->system && a->database == b->database && a->cluster_slot == b->cluster_slot && a->catalog_slot == b->catalog_slot &&
		a->catalog_rows_slot == b->catalog_rows_slot && a->any_slot == b->any_slot;
}

void
facts_set_identity(int slot, Oid origin, const FactsIdentity *identity)
{
	FactsSlot  *s = slot_at(slot);
	bool		same;

	if (s == NULL)
		return;
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	adopt(s, origin);
	if (identity == NULL)
		same = !s->identified;
	else
		same = s->identified && same_identity(&s->identity, identity);
	if (!same)
	{
		/* the image speaks of another database */
		drop_image(s);
		s->identified = identity != NULL;
		if (identity != NULL)
			s->identity = *identity;
		move_generation(s);
	}
	LWLockRelease(&facts_shared->lock);
}

/* ---- suspicions ---- */

/* Of a database that is not known it may be any. */
static bool
may_be_same_database(const FactsSlot *a, const FactsSlot *b)
{
	return a == b || !a->identified || !b->identified ||
		(a->identity.system == b->identity.system && a->identity.database == b->identity.database);
}

static bool
knows_the_same(const FactsSlot *a, const FactsSlot *b)
{
	return a == b || (a->identified && b->identified && a->image_size > 0 && b->image_size > 0 && a->print == b->print);
}

/* All of its database. Under the lock; relied: on what is known by this slot. */
static void
count_write(FactsSlot *s, bool relied)
{
	for (int i = 0; i < facts_shared->nslots; i++)
	{
		FactsSlot  *other = &facts_shared->slots[i];

		/* published or not: its catalog may have been read already, and be published in a moment */
		if (OidIsValid(pg_atomic_read_u32(&other->origin)) && may_be_same_database(s, other))
			pg_atomic_fetch_add_u64(relied && knows_the_same(s, other) ? &other->unproven : &other->suspicions, 1);
	}
}

void
facts_suspect(int slot)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return;
	LWLockAcquire(&facts_shared->lock, LW_SHARED);
	count_write(s, false);
	LWLockRelease(&facts_shared->lock);
}

/* What is published is published under the lock: either this is counted before, and the look that publishes sees it, or it is of another generation. */
bool
facts_rely(int slot, uint64 generation)
{
	FactsSlot  *s = slot_at(slot);
	bool		holds;

	if (s == NULL)
		return true;
	LWLockAcquire(&facts_shared->lock, LW_SHARED);
	holds = pg_atomic_read_u64(&s->generation) == generation;
	if (holds)
		count_write(s, true);
	LWLockRelease(&facts_shared->lock);
	return holds;
}

void
facts_adopt(int slot, Oid origin)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return;
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	adopt(s, origin);
	LWLockRelease(&facts_shared->lock);
}

void
facts_before(int slot, FactsBefore *out)
{
	FactsSlot  *s = slot_at(slot);

	memset(out, 0, sizeof(*out));
	if (s == NULL)
		return;
	out->generation = pg_atomic_read_u64(&s->generation);
	out->unproven = pg_atomic_fetch_add_u64(&s->unproven, 0);
	out->suspicions = facts_suspicions(slot);
}

uint64
facts_suspicions(int slot)
{
	FactsSlot  *s = slot_at(slot);

	/* a full barrier: the catalog is looked at after it has been read */
	return s != NULL ? pg_atomic_fetch_add_u64(&s->suspicions, 0) : 0;
}

/* ---- readers ---- */

uint64
facts_renewals(void)
{
	return facts_shared != NULL ? pg_atomic_read_u64(&facts_shared->renewals) : 0;
}

uint64
facts_renewals_of(int slot)
{
	FactsSlot  *s = slot_at(slot);

	/* a full barrier: what was renewed is read after it */
	return s != NULL ? pg_atomic_fetch_add_u64(&s->renewals, 0) : 0;
}

uint64
facts_generation(int slot)
{
	FactsSlot  *s = slot_at(slot);

	return s != NULL ? pg_atomic_read_u64(&s->generation) : 1;
}

static void
forget_copy(FactsCopy *copy)
{
	if (copy->image != NULL)
		mem_free(copy->image, copy->image_size);
	memset(copy, 0, sizeof(*copy));
}

/* Under the lock. False: no memory for the image. */
static bool
copy_image(FactsCopy *copy, const FactsSlot *slot)
{
	if (slot->image_size == 0)
		return true;
	copy->image = mem_alloc(slot->image_size);
	if (copy->image == NULL)
		return false;
	copy->image_size = slot->image_size;
	memcpy(copy->image, facts_shared->space + slot->image_at, slot->image_size);
	return true;
}

/* Without memory there are no facts, and the next one who asks tries again. */
static void
take_copy(FactsCopy *copy, FactsSlot *slot)
{
	bool		complete;

	forget_copy(copy);
	LWLockAcquire(&facts_shared->lock, LW_SHARED);
	copy->origin = pg_atomic_read_u32(&slot->origin);
	copy->identified = slot->identified;
	copy->identity = slot->identity;
	complete = copy_image(copy, slot);
	if (complete)
		copy->generation = pg_atomic_read_u64(&slot->generation);
	LWLockRelease(&facts_shared->lock);
	copy->facts = proof_facts(copy->image, copy->image_size);
}

static FactsCopy *
copy_of(int slot)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return NULL;
	if (copies == NULL)
		copies = mem_zalloc(sizeof(FactsCopy) * facts_shared->nslots);
	if (copies == NULL)
		return NULL;
	if (copies[slot].generation != pg_atomic_read_u64(&s->generation))
		take_copy(&copies[slot], s);
	return &copies[slot];
}

const Facts *
facts_of(int slot, Oid origin)
{
	FactsCopy  *copy = copy_of(slot);

	return copy != NULL && copy->origin == origin ? copy->facts : NULL;
}

bool
facts_identity(int slot, Oid origin, FactsIdentity *out)
{
	FactsCopy  *copy = copy_of(slot);

	if (copy == NULL || copy->origin != origin || !copy->identified)
		return false;
	*out = copy->identity;
	return true;
}

/* ---- the scout: the draft ---- */

static void
end_draft(void *arg)
{
	FactsDraft *draft = arg;

	proof_draft_destroy(draft->draft);
	draft->draft = NULL;
}

FactsDraft *
facts_draft(void)
{
	FactsDraft *draft = palloc0(sizeof(FactsDraft));

	draft->callback.func = end_draft;
	draft->callback.arg = draft;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &draft->callback);
	draft->draft = proof_draft_create();
	return draft;
}

void
facts_draft_relation(FactsDraft *draft, const RelationFacts *relation)
{
	if (draft->draft != NULL)
		proof_draft_relation(draft->draft, relation);
}

void
facts_draft_function(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	if (draft->draft != NULL)
		proof_draft_function(draft->draft, schema, name, c);
}

void
facts_draft_operator(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	if (draft->draft != NULL)
		proof_draft_operator(draft->draft, schema, name, c);
}

void
facts_draft_type(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	if (draft->draft != NULL)
		proof_draft_type(draft->draft, schema, name, c);
}

void
facts_draft_field(FactsDraft *draft, const char *name, NameClass c)
{
	if (draft->draft != NULL)
		proof_draft_field(draft->draft, name, c);
}

void
facts_draft_builtin(FactsDraft *draft, const char *name)
{
	if (draft->draft != NULL)
		proof_draft_builtin(draft->draft, name);
}

/* ---- the scout: publication ---- */

/* The published slot whose image is the first behind `at`; NULL: none. */
static FactsSlot *
next_image(Size at)
{
	FactsSlot  *next = NULL;
	int			i;

	for (i = 0; i < facts_shared->nslots; i++)
	{
		FactsSlot  *slot = &facts_shared->slots[i];

		if (slot->image_size > 0 && slot->image_at >= at && (next == NULL || slot->image_at < next->image_at))
			next = slot;
	}
	return next;
}

/* Moves the images together, exclusively locked: readers have none of them in use but while they copy. */
static void
compact(void)
{
	FactsSlot  *slot;
	Size		end = 0;
	Size		from = 0;

	while ((slot = next_image(from)) != NULL)
	{
		from = slot->image_at + IMAGE_ALIGN(slot->image_size);
		if (slot->image_at != end)
			memmove(facts_shared->space + end, facts_shared->space + slot->image_at, slot->image_size);
		slot->image_at = end;
		end += IMAGE_ALIGN(slot->image_size);
	}
	facts_shared->used = end;
}

/* Bytes that all the other slots' images take. */
static Size
used_by_others(const FactsSlot *slot)
{
	Size		used = 0;
	int			i;

	for (i = 0; i < facts_shared->nslots; i++)
	{
		if (&facts_shared->slots[i] != slot)
			used += IMAGE_ALIGN(facts_shared->slots[i].image_size);
	}
	return used;
}

static void
make_valid(FactsSlot *slot, Size at, Size size, uint64 print)
{
	slot->image_at = at;
	slot->image_size = size;
	slot->print = print;
	slot->failure[0] = '\0';
	facts_shared->used = at + IMAGE_ALIGN(size);
	pg_atomic_write_u32(&slot->published, 1);
	move_generation(slot);
}

static void
store_at_end(FactsSlot *slot, Bytes image, uint64 print)
{
	Size		at = facts_shared->used;

	/* nobody looks there. An image has a head: NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
	memcpy(facts_shared->space + at, image.data, image.len);
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	make_valid(slot, at, image.len, print);
	LWLockRelease(&facts_shared->lock);
}

static void
store_compacted(FactsSlot *slot, Bytes image, uint64 print)
{
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	drop_image(slot);
	compact();
	memcpy(facts_shared->space + facts_shared->used, image.data, image.len);
	make_valid(slot, facts_shared->used, image.len, print);
	LWLockRelease(&facts_shared->lock);
}

/* The old image goes too: it speaks of a catalog that is no more. */
static void
fail_publication(FactsSlot *slot, const char *failure)
{
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	drop_image(slot);
	strlcpy(slot->failure, failure, FAILURE_SIZE);
	move_generation(slot);
	LWLockRelease(&facts_shared->lock);
}

static bool
store(FactsSlot *slot, Bytes image, uint64 print)
{
	Size		room = facts_shared->space_size - used_by_others(slot);
	char		failure[FAILURE_SIZE];

	if (IMAGE_ALIGN(image.len) <= facts_shared->space_size - facts_shared->used)
		store_at_end(slot, image, print);
	else if (IMAGE_ALIGN(image.len) <= room)
		store_compacted(slot, image, print);
	else
	{
		snprintf(failure, sizeof(failure), "the facts of this origin need %zu kB, and %zu kB of hyperpool.facts_size are left; raise it (now %d kB) and restart the server",
				 (image.len + 1023) / 1024, room / 1024, hyperpool_facts_size);
		fail_publication(slot, failure);
		return false;
	}
	return true;
}

/* The slots of the database as the image has them; false: not known. */
static bool
database_slots(FactsSlot *slot, Oid origin, DatabaseSlots *out)
{
	bool		known;

	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	adopt(slot, origin);
	known = slot->identified;
	out->cluster = slot->identity.cluster_slot;
	out->catalog = slot->identity.catalog_slot;
	out->catalog_rows = slot->identity.catalog_rows_slot;
	out->any = slot->identity.any_slot;
	LWLockRelease(&facts_shared->lock);
	return known;
}

bool
facts_publish(FactsDraft *draft, int slot, Oid origin, uint64 print)
{
	FactsSlot  *s = slot_at(slot);
	DatabaseSlots slots;
	ByteBuffer	image = {0};
	bool		published = false;

	if (s == NULL)
		return false;
	if (!database_slots(s, origin, &slots))
		fail_publication(s, "it is not known which database this is");
	else if (draft->draft == NULL || !proof_draft_image(draft->draft, &slots, &image))
		fail_publication(s, "out of memory for the facts of this origin");
	else
		published = store(s, buffer_view(&image), print);
	buffer_free(&image);
	end_draft(draft);
	return published;
}

void
facts_forget(int slot)
{
	FactsSlot  *s = slot_at(slot);

	if (s == NULL)
		return;
	LWLockAcquire(&facts_shared->lock, LW_EXCLUSIVE);
	drop_image(s);
	move_generation(s);
	LWLockRelease(&facts_shared->lock);
}
