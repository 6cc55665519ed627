/*
 * origin/catalog.c - the control connection of an origin, and when what is asked over it.
 *
 * Answers: is it time to look, and what follows from an answer? One connection, libpq non-blocking throughout; at most one question is out, each with
 * a deadline. A look asks for the identity of the database and a cheap sum over its catalogs' write counters; if that has moved, for a fingerprint of
 * the catalogs; if that has moved, for everything. Where nothing is known yet all is asked at once. It is closed when nobody wants anything: an origin may be one that sleeps.
 *
 * The counters may be late (a backend keeps its own for up to ten seconds, before 15 until its next command), absent (track_counts) or not
 * replicated (a standby): so the fingerprint is taken without them now and then, always where they tell nothing, and when somebody asks for a refresh.
 *
 * Owns the connection, the back-off, and what the last answers were. Never: blocks, writes at the origin.
 */
#include "postgres.h"

#include <poll.h>
#include <sys/socket.h>

#include "utils/memutils.h"

#include "host/cancel.h"
#include "host/gucs.h"
#include "origin/catalog_internal.h"
#include "origin/guard.h"

#define MS				INT64CONST(1000)
#define SECOND			INT64CONST(1000000)
#define LOOK_EVERY		(2 * SECOND)
#define DOUBTS_EVERY	(200 * MS)
#define WISHES_EVERY	SECOND
#define IDLE_FOR		(30 * SECOND)	/* after the last wish has lapsed */
#define QUESTION_FOR	(10 * SECOND)	/* without a byte of an answer; of a read as many times what the last one took, if that is more, … */
#define READ_TIMES		4
#define SILENCE_MAX		(70 * SECOND)	/* … or twice as long after each that was given up: to what the origin has for a statement of it, and the way */
#define READ_FOR		(120 * SECOND)	/* a whole answer, though bytes keep coming */
#define CONNECT_FOR		(10 * SECOND)	/* unless the origin has a connect_timeout */
#define BACKOFF_MIN		SECOND
#define BACKOFF_MAX		(10 * SECOND)
#define BACKOFF_UNWANTED (60 * SECOND)
#define SUSPECT_MIN		(50 * MS)	/* between looks for the sake of suspicions, … */
#define SUSPECT_SHARE	10			/* … which take no more than a tenth of the time */
#define PRINT_MIN		(10 * SECOND)	/* a fingerprint without the sum's asking: this often … */
#define PRINT_SHARE		50				/* … but for no more than a fiftieth of the time … */
#define PRINT_MAX		(60 * SECOND)	/* … and this often whatever it costs */

typedef enum WatchState
{
	WATCH_CLOSED,
	WATCH_CONNECTING,
	WATCH_IDLE,
	WATCH_ASKING
} WatchState;

struct CatalogWatch
{
	int			slot;
	int64		born;			/* doubts that are older are not its own … */
	int64		ended;			/* … nor those since it was dropped */
	MemoryContext context;
	Oid			oid;			/* of the origin; 0 = not seen yet */
	char		name[NAMEDATALEN];	/* for the log */
	Digest128	target;			/* of all that the connection is made with */
	Digest128	quiet;			/* of the rules that closures depend on */
	uint32		generation;		/* of the origin's options */
	uint32		addresses;		/* generation of those connected to */

	WatchState	state;
	PGconn	   *conn;
	LoginGuard	guard;			/* of its login */
	bool		for_write;
	int64		deadline;		/* of what is under way */
	int64		last_deadline;	/* which no progress moves */
	int64		due;			/* when to step again */
	int64		used_at;		/* the connection served something last */

	CatalogQuestion question;
	int64		asked_at;
	int			results;		/* that have ended */
	const char *wrong;			/* with a row of the answer */
	CatalogLook fresh;			/* being answered */
	CatalogPrint fresh_print;
	CatalogRead *read;
	CatalogDoubts doubts;

	/* the present look: began, and for which ticket */
	bool		looking;
	int64		look_began;
	uint64		ticket;
	FactsBefore before;			/* the look */
	uint64		cleared;		/* of the suspicions, by looks before */

	CatalogLook known;			/* answered: who it was last time */
	FactsIdentity identity;
	bool		has_print;
	CatalogPrint print;
	char		sum[64];		/* that of `print`, or "" */
	int64		printed_at;
	int64		print_cost;
	int64		read_cost;
	int64		silence;		/* that is borne during a read */
	bool		read_again;		/* whatever the fingerprint says */

	uint64		tickets_done;
	int64		looked_at;		/* well; 0 = never */
	int64		retry_at;
	int64		backoff;
	int64		doubts_at;
	bool		failing;		/* said so */
	bool		introduced;		/* this connection has been asked whose it is */
	bool		denied;			/* it will not say: then doubts are watched all the same */
};

/* ---- life ---- */

static void
ignore_notice(void *arg, const char *message)
{
}

static void
watch_close(CatalogWatch *w)
{
	catalog_read_free(w->read);
	w->read = NULL;
	if (w->conn != NULL)
	{
		/* unfinished business: libpq's goodbye must not wait for a socket that is full */
		if (w->state != WATCH_IDLE && PQsocket(w->conn) >= 0)
			(void) shutdown(PQsocket(w->conn), SHUT_RDWR);
		PQfinish(w->conn);
	}
	w->conn = NULL;
	w->state = WATCH_CLOSED;
	w->looking = false;
}

CatalogWatch *
catalog_watch_create(int slot, int64 born)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "hyperpool catalog watch", ALLOCSET_SMALL_SIZES);
	CatalogWatch *w = MemoryContextAllocZero(context, sizeof(CatalogWatch));

	w->context = context;
	w->slot = slot;
	w->born = born;
	w->ended = PG_INT64_MAX;
	w->silence = QUESTION_FOR;
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

/* ---- failure ---- */

static void
say_failure(CatalogWatch *w, const char *text, const char *hint)
{
	if (!w->failing)
		ereport(LOG, (errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					  errmsg("hyperpool: the catalog of origin \"%s\" cannot be read: %s", w->name, text),
					  hint != NULL ? errhint("%s", hint) : 0));
	w->failing = true;
}

/* A ticket is served by a look that failed, too: who holds it reads the failure. */
static void
finish_ticket(CatalogWatch *w)
{
	if (w->ticket > w->tickets_done)
	{
		w->tickets_done = w->ticket;
		facts_refresh_done(w->slot, w->ticket);
	}
}

static bool
is_wanted(const CatalogWatch *w, int64 now)
{
	int64		wanted = facts_wanted_at(w->slot);

	return wanted != 0 && now - wanted < FACTS_WANTED_FOR;
}

static bool
has_doubts(const CatalogWatch *w)
{
	Doubt		one;

	return catalog_doubts_of(w->slot, w->born, w->ended, &one, 1) > 0;
}

/* The catalog has changed and could not be read: the published facts are known to be wrong, and so may be what was kept by them. */
static void
forget_facts(CatalogWatch *w)
{
	facts_forget(w->slot);
	w->has_print = false;
	versions_move(w->identity.catalog_slot);
	versions_move(w->identity.catalog_rows_slot);
	facts_set_identity(w->slot, w->oid, &w->identity);
}

static void
watch_fail(CatalogWatch *w, int64 now, const char *text, const char *hint)
{
	char		line[512];
	int64		most = is_wanted(w, now) || has_doubts(w) ? BACKOFF_MAX : BACKOFF_UNWANTED;

	/* of an origin that has been dropped: the slot, and who asks for a look, may be another's */
	if (w->ended != PG_INT64_MAX)
	{
		watch_close(w);
		return;
	}
	/* the text is libpq's own, in memory that closing frees */
	strlcpy(line, text, sizeof(line));
	line[strcspn(line, "\n")] = '\0';
	w->ticket = facts_refresh_asked(w->slot);
	if (w->read != NULL)
		forget_facts(w);
	watch_close(w);
	say_failure(w, line, hint);
	facts_failed(w->slot, w->oid, now, line);
	finish_ticket(w);
	w->backoff = w->backoff == 0 ? BACKOFF_MIN : Min(w->backoff * 2, most);
	w->retry_at = now + w->backoff;
}

/* ---- connecting ---- */

typedef struct Keywords
{
	const char **names;
	const char **values;
	int			n;
} Keywords;

static void
keyword(Keywords *k, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	k->names[k->n] = name;
	k->values[k->n++] = value;
}

/* Replaced by the addresses and the credential, or chosen here. */
static bool
is_ours(const char *name)
{
	static const char *const ours[] = {"host", "hostaddr", "port", "user", "password", "sslpassword", "connect_timeout",
	"application_name", "client_encoding", "gssencmode", "options", "replication"};
	size_t		i;

	for (i = 0; i < lengthof(ours); i++)
	{
		if (strcmp(name, ours[i]) == 0)
			return true;
	}
	return false;
}

static const char *
option_of(const DirectoryOrigin *origin, const char *name)
{
	int			i;

	for (i = 0; i < origin->noptions; i++)
	{
		if (strcmp(origin->options[i].name, name) == 0)
			return origin->options[i].value;
	}
	return NULL;
}

static void
keyword_unless_given(Keywords *k, const DirectoryOrigin *origin, const char *name, const char *value)
{
	if (option_of(origin, name) == NULL)
		keyword(k, name, value);
}

static void
fill_keywords(Keywords *k, const DirectoryOrigin *origin, const DirectoryCredential *credential, const DirectoryAddresses *addresses)
{
	int			i;

	keyword(k, "host", addresses->hosts);
	keyword(k, "hostaddr", addresses->hostaddrs);
	keyword(k, "port", addresses->ports);
	keyword(k, "user", credential->user);
	keyword(k, "password", credential->password);
	keyword(k, "sslpassword", credential->sslpassword);
	keyword(k, "application_name", "hyperpool scout");
	keyword(k, "client_encoding", "UTF8");	/* names are compared with those of texts */
	keyword(k, "gssencmode", "disable");
	for (i = 0; i < origin->noptions; i++)
	{
		if (!is_ours(origin->options[i].name))
			keyword(k, origin->options[i].name, origin->options[i].value);
	}
	/* a place such as an endpoint's name may travel in the options */
	keyword(k, "options", option_of(origin, "options"));
	keyword_unless_given(k, origin, "passfile", "/dev/null/none");
	keyword_unless_given(k, origin, "keepalives_idle", "60");
	keyword_unless_given(k, origin, "keepalives_interval", "15");
	keyword_unless_given(k, origin, "keepalives_count", "4");
}

static PGconn *
start_connection(const DirectoryOrigin *origin, const DirectoryCredential *credential, const DirectoryAddresses *addresses)
{
	Keywords	k = {NULL, NULL, 0};
	PGconn	   *conn;

	k.names = palloc0(sizeof(char *) * (origin->noptions + 16));	/* what is not the origin's, and the final NULL */
	k.values = palloc0(sizeof(char *) * (origin->noptions + 16));
	fill_keywords(&k, origin, credential, addresses);
	conn = PQconnectStartParams(k.names, k.values, 0);
	pfree(k.names);
	pfree(k.values);
	return conn;
}

/* The addresses are not there yet: the scout itself looks them up. */
static bool
have_addresses(CatalogWatch *w, int64 now, DirectoryAddresses *addresses, int *places)
{
	*places = directory_places_to_try(w->slot, addresses);
	if (addresses->hosts[0] != '\0' || addresses->hostaddrs[0] != '\0')
		return true;
	if (addresses->failed)
		watch_fail(w, now, addresses->error, NULL);
	else
		w->retry_at = now + 100 * MS;
	return false;
}

static void
watch_open(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now)
{
	DirectoryAddresses addresses;
	int			places;

	if (credential == NULL)
	{
		watch_fail(w, now, "it has no credential", "Give it one with hyperpool.set_credential().");
		return;
	}
	if (!have_addresses(w, now, &addresses, &places))
		return;
	w->addresses = addresses.generation;
	w->conn = start_connection(origin, credential, &addresses);
	if (w->conn == NULL || PQstatus(w->conn) == CONNECTION_BAD)
	{
		watch_fail(w, now, w->conn == NULL ? "out of memory" : PQerrorMessage(w->conn), NULL);
		return;
	}
	PQsetNoticeProcessor(w->conn, ignore_notice, NULL);
	w->state = WATCH_CONNECTING;
	w->for_write = true;
	/* libpq stays with a place that does not answer: each gets its part of the time */
	w->deadline = w->last_deadline = now + (origin->connect_timeout > 0 ? origin->connect_timeout : CONNECT_FOR) / places;
}

static void
connected(CatalogWatch *w, const DirectoryCredential *credential, int64 now)
{
	if (credential == NULL || (credential->require_password && !PQconnectionUsedPassword(w->conn)))
	{
		watch_fail(w, now, "it did not ask for the password of a credential that was not set by a superuser", NULL);
		return;
	}
	(void) PQsetnonblocking(w->conn, 1);
	w->state = WATCH_IDLE;
	w->for_write = false;
	w->introduced = false;
	w->used_at = now;
}

static void
could_not_connect(CatalogWatch *w, int64 now, const char *why)
{
	directory_avoid_place(w->slot, PQhostaddr(w->conn), PQport(w->conn));
	watch_fail(w, now, why, NULL);
}

/*
 * Steps are taken for many reasons. Asked before it can write, libpq takes the connection for made and waits; asked before there is something to read it sees
 * that by itself, and what TLS has read already no poll would tell of.
 */
static bool
is_ready(const CatalogWatch *w)
{
	struct pollfd what = {.fd = PQsocket(w->conn), .events = POLLOUT};

	return !w->for_write || poll(&what, 1, 0) > 0;
}

static void
poll_libpq(CatalogWatch *w, const DirectoryCredential *credential, int64 now)
{
	switch (PQconnectPoll(w->conn))
	{
		case PGRES_POLLING_READING:
			w->for_write = false;
			break;
		case PGRES_POLLING_WRITING:
			w->for_write = true;
			break;
		case PGRES_POLLING_OK:
			connected(w, credential, now);
			break;
		default:
			could_not_connect(w, now, PQerrorMessage(w->conn));
	}
}

static void
connect_step(CatalogWatch *w, const DirectoryCredential *credential, int64 now)
{
	/* before the look, which may take a record of TLS out of the socket */
	if (!is_ready(w))
		return;
	switch (guard_look(&w->guard, w->conn))
	{
		case GUARD_GO:
			poll_libpq(w, credential, now);
			break;
		case GUARD_WAIT:
			break;
		case GUARD_REFUSE:
			watch_fail(w, now, w->guard.refusal, NULL);
			break;
	}
}

/* ---- asking ---- */

/* Whatever a look finds, everything has to be read. */
static bool
knows_nothing(const CatalogWatch *w)
{
	return !w->has_print || w->read_again;
}

static bool
is_quick(CatalogQuestion question)
{
	return question == ASK_LOOK || question == ASK_DOUBTS;
}

/* Who says nothing for longer is gone, or so slow that he must be given more the next time. */
static void
wait_for_bytes(CatalogWatch *w, int64 now)
{
	w->deadline = now + (is_quick(w->question) ? QUESTION_FOR : w->silence);
}

static void
give_up_waiting(CatalogWatch *w, int64 now)
{
	if (!is_quick(w->question))
		w->silence = Min(w->silence * 2, SILENCE_MAX);
	watch_fail(w, now, "it did not answer in time", NULL);
}

static void
ask(CatalogWatch *w, CatalogQuestion question, char *text, int64 now)
{
	w->question = question;
	w->asked_at = now;
	w->results = 0;
	w->wrong = NULL;
	wait_for_bytes(w, now);
	w->last_deadline = now + (is_quick(question) ? QUESTION_FOR : READ_FOR);
	w->state = WATCH_ASKING;
	w->used_at = now;
	if (!PQsendQuery(w->conn, text) || !PQsetSingleRowMode(w->conn))
		watch_fail(w, now, PQerrorMessage(w->conn), NULL);
	else
		w->for_write = PQflush(w->conn) == 1;
	pfree(text);
}

/* Of a first look all is certain to be read; over a long way that is asked in the same trip. What the server says of its version on connecting chooses the text. */
static char *
look_and_read_text(int version)
{
	char	   *look = catalog_look_text(true);
	char	   *read = catalog_read_text(version);
	char	   *both = psprintf("%s; %s", look, read);

	pfree(look);
	pfree(read);
	return both;
}

static void
ask_look(CatalogWatch *w, bool whole, int64 now)
{
	int			version = PQserverVersion(w->conn);

	w->looking = true;
	w->look_began = now;
	w->ticket = facts_refresh_asked(w->slot);
	facts_adopt(w->slot, w->oid);
	facts_before(w->slot, &w->before);
	memset(&w->fresh, 0, sizeof(w->fresh));
	if (whole && knows_nothing(w) && version >= 120000)
		ask(w, ASK_LOOK_AND_READ, look_and_read_text(version), now);
	else
		ask(w, ASK_LOOK, catalog_look_text(whole), now);
}

static void
ask_print(CatalogWatch *w, int64 now)
{
	memset(&w->fresh_print, 0, sizeof(w->fresh_print));
	ask(w, ASK_PRINT, catalog_print_text(w->known.version), now);
}

static void
ask_read(CatalogWatch *w, int64 now)
{
	w->read = catalog_read_begin(w->context);
	ask(w, ASK_READ, catalog_read_text(w->known.version), now);
}

static void
ask_doubts(CatalogWatch *w, int64 now)
{
	w->doubts_at = now + DOUBTS_EVERY;
	ask(w, ASK_DOUBTS, catalog_doubts_text(&w->doubts, w->slot, w->born, w->ended, now), now);
}

/* ---- what the answers mean: a look ---- */

static void
look_well(CatalogWatch *w, int64 now)
{
	w->looking = false;
	w->backoff = 0;
	w->retry_at = 0;
	w->silence = Max(QUESTION_FOR, Min(w->read_cost * READ_TIMES, SILENCE_MAX));
	w->looked_at = w->look_began;
	if (w->failing)
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION), errmsg("hyperpool: the catalog of origin \"%s\" can be read again", w->name)));
	w->failing = false;
	w->cleared = w->before.suspicions;
	if (facts_looked(w->slot, w->oid, w->look_began, now, &w->before))
		cancel_wake_workers();
	finish_ticket(w);
}

/* Another cluster, or another life of it: what was kept of both is not to be trusted, and what was in flight at the former has ended with it. */
static void
see_other_cluster(CatalogWatch *w, int64 now)
{
	DatabaseId	before = {w->known.system, w->known.database};
	DatabaseId	after = {w->fresh.system, w->fresh.database};

	versions_move(version_slot_cluster(before));
	versions_move(version_slot_cluster(after));
	/* of a cluster that is not this one nothing can be learnt here: its doubts are no longer this watch's */
	facts_suspect(w->slot);
	if (before.system == after.system)
		catalog_doubts_settle_all(&w->doubts, w->slot, w->born, w->asked_at);
	else
		w->born = now;
	w->has_print = false;
}

static void
take_identity(CatalogWatch *w, int64 now)
{
	DatabaseId	id = {w->fresh.system, w->fresh.database};

	if (w->known.answered && (w->known.system != id.system || w->known.database != id.database || w->known.started != w->fresh.started ||
							  w->known.timeline != w->fresh.timeline || w->known.recovering != w->fresh.recovering))
		see_other_cluster(w, now);
	w->known = w->fresh;
	w->introduced = true;
	w->denied = false;
	memset(&w->identity, 0, sizeof(w->identity));
	w->identity.system = id.system;
	w->identity.database = id.database;
	w->identity.cluster_slot = version_slot_cluster(id);
	w->identity.catalog_slot = version_slot_catalog(id);
	w->identity.catalog_rows_slot = version_slot_catalog_rows(id);
	w->identity.any_slot = version_slot_any(id);
	facts_set_identity(w->slot, w->oid, &w->identity);
}

/* The sum tells of every change, sooner or later. */
static bool
sum_can_tell(const CatalogWatch *w)
{
	return w->known.counts && !w->known.recovering;
}

static bool
print_is_due(const CatalogWatch *w, int64 now)
{
	int64		every = Min(Max(PRINT_MIN, w->print_cost * PRINT_SHARE), PRINT_MAX);

	return knows_nothing(w) || !sum_can_tell(w) || strcmp(w->sum, w->known.sum) != 0 ||
		w->ticket > w->tickets_done || w->before.suspicions != w->cleared || now - w->printed_at >= every;
}

/* What is known of the catalog decides what may be kept, and what may share a link. */
static bool
is_used(const DirectoryOrigin *origin)
{
	return (origin->cache && hyperpool_cache_size > 0) || (origin->share && !origin->pooled);
}

static bool
wants_whole(const CatalogWatch *w, const DirectoryOrigin *origin)
{
	return is_used(origin) || facts_refresh_asked(w->slot) > w->tickets_done;
}

static const char *const not_found = "its database was not found";

static void
look_answered(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	if (!w->fresh.answered)
	{
		watch_fail(w, now, not_found, NULL);
		return;
	}
	take_identity(w, now);
	if (!(is_used(origin) || w->ticket > w->tickets_done) || !print_is_due(w, now))
		look_well(w, now);
	else if (knows_nothing(w))
		ask_read(w, now);
	else
		ask_print(w, now);
}

/* The rows of the catalogs have changed, perhaps only such as the facts are not made of (comments, indexes, statistics objects). */
static void
note_sum(CatalogWatch *w)
{
	/* who asks for a refresh has changed something, and its session may not have counted it yet */
	if (!sum_can_tell(w) || strcmp(w->sum, w->known.sum) != 0 || w->ticket > w->tickets_done)
		versions_move(w->identity.catalog_rows_slot);
	strlcpy(w->sum, w->known.sum, sizeof(w->sum));
	w->printed_at = w->asked_at;
}

static void
print_answered(CatalogWatch *w, int64 now)
{
	w->print_cost = now - w->asked_at;
	if (w->fresh_print.all != w->print.all)
	{
		ask_read(w, now);
		return;
	}
	note_sum(w);
	look_well(w, now);
}

/* Of an answer to all at once the first is the look's. */
static int
read_results(const CatalogWatch *w)
{
	return w->question == ASK_LOOK_AND_READ ? w->results - 1 : w->results;
}

/*
 * First the new facts are published, then the catalog's slot is moved. Every entry and every fill hangs on that slot. An entry filled before the change, or
 * between it and this look, was proved by the former facts: the move ends it. A fill that began with the former facts took its versions before the move, and
 * finds another sum when it is done. Were the slot moved first, a fill that began between the move and the publication would be proved
 * by the former facts and be kept under the new sum.
 */
static void
read_answered(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	const char *failure;

	if (w->read == NULL || !catalog_read_is_whole(read_results(w)))
	{
		watch_fail(w, now, "the answer about its catalog was cut short", NULL);
		return;
	}
	failure = catalog_publish(w->read, w->slot, origin, &w->identity);
	if (failure != NULL)
	{
		watch_fail(w, now, failure, NULL);
		return;
	}
	/* a link keeps the defaults it was opened with: two links would answer differently */
	if (w->has_print && w->read->print.defaults != w->print.defaults)
		cancel_note_all(NOTE_RESTART_ORIGIN, w->slot);
	versions_move(w->identity.catalog_slot);
	versions_move(w->identity.catalog_rows_slot);
	w->print = w->read->print;
	w->has_print = true;
	w->read_again = false;
	catalog_read_free(w->read);
	w->read = NULL;
	w->read_cost = now - w->asked_at;
	note_sum(w);
	look_well(w, now);
}

static void
answered(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	w->state = WATCH_IDLE;
	w->for_write = false;
	if (w->wrong != NULL)
	{
		watch_fail(w, now, w->wrong, NULL);
		return;
	}
	if (w->question == ASK_DOUBTS)
	{
		/* what is settled now may have been DDL */
		facts_suspect(w->slot);
		catalog_doubts_answered(&w->doubts);
	}
	else if (origin == NULL)
		w->looking = false;
	else if (w->question == ASK_LOOK)
		look_answered(w, origin, now);
	else if (w->question == ASK_PRINT)
		print_answered(w, now);
	else
		read_answered(w, origin, now);
}

/* ---- rows ---- */

static void
take_row(CatalogWatch *w, const PGresult *row)
{
	if (w->wrong != NULL)
		return;
	switch (w->question)
	{
		case ASK_LOOK:
			w->wrong = catalog_take_look(&w->fresh, row);
			break;
		case ASK_PRINT:
			w->wrong = catalog_take_print(&w->fresh_print, row);
			break;
		case ASK_LOOK_AND_READ:
			if (w->read == NULL)
			{
				w->wrong = catalog_take_look(&w->fresh, row);
				break;
			}
			/* fall through */
		case ASK_READ:
			w->wrong = catalog_take_read(w->read, read_results(w), row);
			break;
		case ASK_DOUBTS:
			w->wrong = catalog_take_doubt(&w->doubts, row);
			break;
	}
}

static void
refused(CatalogWatch *w, const PGresult *result, int64 now)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char		line[512];
	bool		denied = state != NULL && strcmp(state, "42501") == 0;

	strlcpy(line, text != NULL ? text : PQresultErrorMessage(result), sizeof(line));
	if (denied && w->read == NULL && (w->question == ASK_LOOK || w->question == ASK_LOOK_AND_READ))
	{
		w->denied = true;
		facts_set_identity(w->slot, w->oid, NULL);
	}
	watch_fail(w, now, line, denied ? "Without EXECUTE on pg_control_system() and pg_control_checkpoint(), and SELECT on the system catalogs, the origin's user cannot tell which database it is: nothing of it is cached." : NULL);
}

/* What follows is everything about the database that it has told it is; a failure from here on forgets what was known of it. */
static void
begin_read_behind_look(CatalogWatch *w, int64 now)
{
	if (w->wrong != NULL)
		return;
	if (!w->fresh.answered)
	{
		w->wrong = not_found;
		return;
	}
	/* of an origin that has been dropped: the slot may be another's */
	if (w->ended == PG_INT64_MAX)
		take_identity(w, now);
	w->read = catalog_read_begin(w->context);
}

/* False: there was no row to take, or it was the last. */
static bool
take_result(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	PGresult   *result = PQgetResult(w->conn);

	if (result == NULL)
	{
		answered(w, origin, now);
		return false;
	}
	switch (PQresultStatus(result))
	{
		case PGRES_SINGLE_TUPLE:
			take_row(w, result);
			break;
		case PGRES_TUPLES_OK:
			w->results++;
			if (w->question == ASK_LOOK_AND_READ && w->results == 1)
				begin_read_behind_look(w, now);
			break;
		case PGRES_COMMAND_OK:
		case PGRES_EMPTY_QUERY:
			break;
		default:
			refused(w, result, now);
			PQclear(result);
			return false;
	}
	PQclear(result);
	return true;
}

static void
ask_step(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	int			flushed;

	if (!PQconsumeInput(w->conn) || (flushed = PQflush(w->conn)) < 0)
	{
		watch_fail(w, now, PQerrorMessage(w->conn), NULL);
		return;
	}
	w->for_write = flushed == 1;
	while (!PQisBusy(w->conn))
	{
		wait_for_bytes(w, now);
		if (!take_result(w, origin, now))
			return;
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
	if (!is_used(origin))
		return !w->known.answered || w->looked_at == 0;
	return is_wanted(w, now) && (w->looked_at == 0 || now - w->looked_at >= look_every(w) || w->read_again);
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
	if (has_doubts(w))
		due = Min(due, Max(w->doubts_at, w->retry_at));
	if (w->looked_at != 0 && w->looked_at + look_every(w) > now)
		due = Min(due, w->looked_at + look_every(w));
	return Max(due, now + MS);
}

static void
close_if_idle(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	if (origin == NULL || !is_used(origin) || (!is_wanted(w, now) && now - w->used_at >= IDLE_FOR))
		watch_close(w);
}

static void
idle_step(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	bool		look = origin != NULL && look_is_due(w, origin, now);
	bool		doubts = has_doubts(w);

	/* bytes that nobody asked for: a notice, or the end. The origin may go to sleep: no failure before it is wanted again. */
	if (!PQconsumeInput(w->conn))
		watch_close(w);
	else if (doubts && w->denied && now >= w->doubts_at)
		ask_doubts(w, now);
	else if (origin != NULL && (look || (doubts && !w->introduced && !w->denied)))
		ask_look(w, wants_whole(w, origin), now);
	else if (doubts && now >= w->doubts_at)
		ask_doubts(w, now);
	else if (!doubts)
		close_if_idle(w, origin, now);
}

static void
closed_step(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now)
{
	bool		asked = facts_refresh_asked(w->slot) > w->tickets_done;

	if (origin == NULL || (now < w->retry_at && !(asked && w->backoff > 0)))
		return;
	if (look_is_due(w, origin, now) || has_doubts(w))
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

	buffer_put_u8(&all, is_used(origin));
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
	if ((w->state == WATCH_CONNECTING || w->state == WATCH_ASKING) && (now >= w->deadline || now >= w->last_deadline))
	{
		if (w->state == WATCH_CONNECTING)
			could_not_connect(w, now, "timeout expired while connecting (connect_timeout)");
		else
			give_up_waiting(w, now);
	}
	if (w->state == WATCH_CLOSED)
		closed_step(w, origin, credential, now);
	else if (w->state == WATCH_CONNECTING)
		connect_step(w, credential, now);
	else if (w->state == WATCH_ASKING)
		ask_step(w, origin, now);
	if (w->state == WATCH_IDLE)
		idle_step(w, origin, now);
	w->due = next_due(w, now);
	MemoryContextSwitchTo(former);
}
