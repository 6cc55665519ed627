/*
 * origin/catalog.c - a watch of one origin's catalog: when is it time for what?
 *
 * Answers: is the control connection to be opened, asked or closed now, and when is the next step due? It looks every LOOK_EVERY while somebody wants to
 * know, sooner when the catalog is suspect, at once for a ticket; and it asks about writes in doubt. The connection is closed when nobody wants anything: an
 * origin may be one that sleeps. Another target, other addresses, other rules: what was known by the former goes.
 *
 * Owns a watch from birth to end. How it connects is catalog_connect.c, what it asks and concludes catalog_look.c. Never: blocks, writes at the origin.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "host/gucs.h"
#include "origin/catalog_watch.h"

#define LOOK_EVERY		(2 * SECOND)
#define WISHES_EVERY	SECOND
#define IDLE_FOR		(30 * SECOND)	/* after the last wish has lapsed */
#define SUSPECT_MIN		(50 * MS)	/* between looks for the sake of suspicions, … */
#define SUSPECT_SHARE	10			/* … which take no more than a tenth of the time */

/* ---- life ---- */

CatalogWatch *
catalog_watch_create(int slot, int64 born)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "hyperpool catalog watch", ALLOCSET_SMALL_SIZES);
	CatalogWatch *w = MemoryContextAllocZero(context, sizeof(CatalogWatch));

	w->context = context;
	w->slot = slot;
	w->born = born;
	w->ended = PG_INT64_MAX;
	return w;
}

void
catalog_watch_free(CatalogWatch *w)
{
	if (w == NULL)
		return;
	watch_close(w);
	MemoryContextDelete(w->context);
}

int
catalog_watch_socket(const CatalogWatch *w, bool *for_write)
{
	*for_write = w->for_write;
	return w->conn == NULL ? -1 : PQsocket(w->conn);
}

bool
catalog_watch_is_open(const CatalogWatch *w)
{
	return w->conn != NULL;
}

bool
catalog_watch_minds(const CatalogWatch *w, int64 since)
{
	return since >= w->born && since < w->ended;
}

int64
catalog_watch_due(const CatalogWatch *w)
{
	return w->due;
}

/* ---- what is wanted of it ---- */

/* What is known of the catalog decides what may be kept, and what may share a link. */
bool
watch_serves(const DirectoryOrigin *origin)
{
	return (origin->cache && hyperpool_cache_size > 0) || (origin->share && !origin->pooled);
}

bool
watch_is_wanted(const CatalogWatch *w, int64 now)
{
	int64		wanted = facts_wanted_at(w->slot);

	return wanted != 0 && now - wanted < FACTS_WANTED_FOR;
}

bool
watch_has_doubts(const CatalogWatch *w)
{
	Doubt		one;

	return catalog_doubts_of(w->slot, w->born, w->ended, &one, 1) > 0;
}

/* A ticket is served by a look that failed, too: who holds it reads the failure. */
void
watch_finish_ticket(CatalogWatch *w)
{
	if (w->ticket > w->tickets_done)
	{
		w->tickets_done = w->ticket;
		facts_refresh_done(w->slot, w->ticket);
	}
}

/* ---- what to do next ---- */

/*
 * After DDL through us the next look need not wait its turn; but where that may be all the time (volatile functions, triggers) looking shall not keep
 * the origin busy.
 */
static int64
look_every(const CatalogWatch *w)
{
	if (facts_suspicions(w->slot) == w->cleared)
		return LOOK_EVERY;
	return Min(LOOK_EVERY, Max(SUSPECT_MIN, w->print_cost * SUSPECT_SHARE));
}

static bool
look_is_due(const CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	if (facts_refresh_asked(w->slot) > w->tickets_done)
		return true;
	if (!watch_serves(origin))
		return !w->known.answered || w->looked_at == 0;
	return watch_is_wanted(w, now) && (w->looked_at == 0 || now - w->looked_at >= look_every(w) || w->read_again);
}

/* When its look will be due, should nothing happen before. */
static int64
next_due(const CatalogWatch *w, int64 now)
{
	int64		due = now + WISHES_EVERY;

	if (w->state == WATCH_CONNECTING || w->state == WATCH_ASKING)
		return Min(due, Min(w->deadline, w->last_deadline));
	if (w->retry_at > now)
		due = Min(due, w->retry_at);
	if (watch_has_doubts(w))
		due = Min(due, Max(w->doubts_at, w->retry_at));
	if (w->looked_at != 0 && w->looked_at + look_every(w) > now)
		due = Min(due, w->looked_at + look_every(w));
	return Max(due, now + MS);
}

static bool
wants_whole(const CatalogWatch *w, const DirectoryOrigin *origin)
{
	return watch_serves(origin) || facts_refresh_asked(w->slot) > w->tickets_done;
}

static void
close_if_idle(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	if (origin == NULL || !watch_serves(origin) || (!watch_is_wanted(w, now) && now - w->used_at >= IDLE_FOR))
		watch_close(w);
}

static void
idle_step(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	bool		look = origin != NULL && look_is_due(w, origin, now);
	bool		doubts = watch_has_doubts(w);

	/* bytes that nobody asked for: a notice, or the end. The origin may go to sleep: no failure before it is wanted again. */
	if (!PQconsumeInput(w->conn))
		watch_close(w);
	else if (doubts && w->denied && now >= w->doubts_at)
		watch_ask_doubts(w, now);
	else if (origin != NULL && (look || (doubts && !w->introduced && !w->denied)))
		watch_ask_look(w, wants_whole(w, origin), now);
	else if (doubts && now >= w->doubts_at)
		watch_ask_doubts(w, now);
	else if (!doubts)
		close_if_idle(w, origin, now);
}

static void
closed_step(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now)
{
	bool		asked = facts_refresh_asked(w->slot) > w->tickets_done;

	if (origin == NULL || (now < w->retry_at && !(asked && w->backoff > 0)))
		return;
	if (look_is_due(w, origin, now) || watch_has_doubts(w))
		watch_open(w, origin, credential, now);
}

/* ---- the directory's news ---- */

static Digest128
digest_of_target(const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	ByteBuffer	all = {0};
	Digest128	digest;
	int			i;

	for (i = 0; i < origin->noptions; i++)
	{
		buffer_put_cstr(&all, bytes_str(origin->options[i].name));
		buffer_put_cstr(&all, bytes_str(origin->options[i].value));
	}
	if (credential != NULL)
	{
		buffer_put_cstr(&all, bytes_str(credential->user));
		buffer_put_cstr(&all, bytes_str(credential->password != NULL ? credential->password : ""));
		buffer_put_cstr(&all, bytes_str(credential->sslpassword != NULL ? credential->sslpassword : ""));
		buffer_put_u8(&all, credential->require_password);
	}
	digest = digest_of(buffer_view(&all));
	buffer_wipe_free(&all);
	return digest;
}

/* Only what is said of functions changes what can be reached. */
static Digest128
digest_of_quiet(const DirectoryOrigin *origin)
{
	ByteBuffer	all = {0};
	Digest128	digest;

	buffer_put_u8(&all, watch_serves(origin));
	for (int i = 0; i < origin->nrules; i++)
	{
		const CacheRule *r = &origin->rules[i];

		if (!r->function || !r->quiet)
			continue;
		buffer_put_cstr(&all, bytes_str(r->schema ? r->schema : ""));
		buffer_put_cstr(&all, bytes_str(r->name));
	}
	digest = digest_of(buffer_view(&all));
	buffer_free(&all);
	return digest;
}

/* It may be another database now: nothing is known of it until it has been asked. */
static void
forget_target(CatalogWatch *w)
{
	watch_close(w);
	facts_set_identity(w->slot, w->oid, NULL);
	w->has_print = false;
	w->looked_at = 0;
	w->retry_at = 0;
	w->backoff = 0;
}

static void
see_origin(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	Digest128	target;
	Digest128	quiet;

	strlcpy(w->name, origin->name, sizeof(w->name));
	if (w->oid == origin->oid && w->generation == origin->generation)
		return;
	target = digest_of_target(origin, credential);
	if (w->oid != InvalidOid && !digest_equal(target, w->target))
		forget_target(w);
	quiet = digest_of_quiet(origin);
	if (w->oid != origin->oid || !digest_equal(target, w->target) || !digest_equal(quiet, w->quiet))
		w->read_again = true;
	w->oid = origin->oid;
	w->generation = origin->generation;
	w->target = target;
	w->quiet = quiet;
}

/* Its name leads elsewhere now: perhaps to another server. What is there is asked at once. */
static void
see_addresses(CatalogWatch *w)
{
	DirectoryAddresses addresses;

	directory_get_addresses(w->slot, &addresses);
	if (addresses.generation == w->addresses)
		return;
	if (w->addresses != 0)
	{
		watch_close(w);
		w->looked_at = 0;
		w->retry_at = 0;
	}
	w->addresses = addresses.generation;
}

void
catalog_watch_step(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now)
{
	MemoryContext former = MemoryContextSwitchTo(w->context);

	if (origin == NULL)
		w->ended = Min(w->ended, now);
	else
	{
		see_origin(w, origin, credential);
		see_addresses(w);
	}
	if (w->state == WATCH_CLOSED)
		closed_step(w, origin, credential, now);
	else if (w->state == WATCH_CONNECTING)
		watch_connect_step(w, credential, now);
	else if (w->state == WATCH_ASKING)
		watch_answer_step(w, origin, now);
	if (w->state == WATCH_IDLE)
		idle_step(w, origin, now);
	w->due = next_due(w, now);
	MemoryContextSwitchTo(former);
}
