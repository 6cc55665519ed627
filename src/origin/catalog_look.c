/*
 * origin/catalog_look.c - a look: what is asked, and what follows from each answer.
 *
 * Answers: has the catalog changed, and what of that is to be told? A look asks for the identity of the database and a cheap sum over its catalogs'
 * write counters; if that has moved, for a fingerprint of the catalogs; if that has moved, for everything. Where nothing is known yet all is asked at once.
 *
 * The counters may be late (a backend keeps its own for up to ten seconds, before 15 until its next command), absent (track_counts) or not
 * replicated (a standby): so the fingerprint is taken without them now and then, always where they tell nothing, and when somebody asks for a refresh.
 *
 * Owns what the last answers were (CatalogLook, CatalogPrint) and the order in which news is published (read_answered). At most one question is
 * out, each with a deadline. Never: decides when to look, writes at the origin.
 */
#include "postgres.h"

#include "host/cancel.h"
#include "origin/catalog_watch.h"

#define DOUBTS_EVERY	(200 * MS)
#define QUESTION_FOR	(10 * SECOND)	/* without a byte of an answer; of a read as many times what the last one took, if that is more, … */
#define READ_TIMES		4
#define SILENCE_MAX		(70 * SECOND)	/* … or twice as long after each that was given up: to what the origin has for a statement of it, and the way */
#define READ_FOR		(120 * SECOND)	/* a whole answer, though bytes keep coming */
#define PRINT_MIN		(10 * SECOND)	/* a fingerprint without the sum's asking: this often … */
#define PRINT_SHARE		50				/* … but for no more than a fiftieth of the time … */
#define PRINT_MAX		(60 * SECOND)	/* … and this often whatever it costs */

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

static void
wait_for_bytes(CatalogWatch *w, int64 now)
{
	w->deadline = now + (is_quick(w->question) ? QUESTION_FOR : Max(QUESTION_FOR, w->silence));
}

/* An origin of which nothing comes is gone, or so slow that it is to be given more the next time. */
static void
give_up_waiting(CatalogWatch *w, int64 now)
{
	if (!is_quick(w->question))
		w->silence = Min(2 * Max(QUESTION_FOR, w->silence), SILENCE_MAX);
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

void
watch_ask_look(CatalogWatch *w, bool whole, int64 now)
{
	int			version = PQserverVersion(w->conn);

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

void
watch_ask_doubts(CatalogWatch *w, int64 now)
{
	w->doubts_at = now + DOUBTS_EVERY;
	ask(w, ASK_DOUBTS, catalog_doubts_text(&w->doubts, w->slot, w->born, w->ended, now), now);
}

/* ---- what the answers mean: a look ---- */

static void
look_well(CatalogWatch *w, int64 now)
{
	w->backoff = 0;
	w->retry_at = 0;
	w->silence = Min(READ_TIMES * w->read_cost, SILENCE_MAX);
	w->looked_at = w->look_began;
	if (w->failing)
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION), errmsg("hyperpool: the catalog of origin \"%s\" can be read again", w->name)));
	w->failing = false;
	w->cleared = w->before.suspicions;
	if (facts_looked(w->slot, w->oid, w->look_began, now, &w->before))
		cancel_wake_workers();
	watch_finish_ticket(w);
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
	if (!(watch_serves(origin) || w->ticket > w->tickets_done) || !print_is_due(w, now))
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
		return;					/* dropped meanwhile */
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

void
watch_answer_step(CatalogWatch *w, const DirectoryOrigin *origin, int64 now)
{
	int			flushed;

	if (watch_is_late(w, now))
	{
		give_up_waiting(w, now);
		return;
	}
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
