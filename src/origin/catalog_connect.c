/*
 * origin/catalog_connect.c - the control connection: made, closed, lost.
 *
 * Answers: is it there, and if not, when may it be tried again? With what libpq is told: the origin's own options but for those that are not its to
 * choose, its credential, and the addresses that the scout has looked up. libpq is non-blocking throughout, and asked only when it can go on.
 *
 * Owns the connection and the back-off. Every failure of a watch comes here (watch_fail): it ends the connection, is told to whoever waits for
 * the look, and where the catalog is known to have changed what was known is forgotten. Never: asks a question.
 */
#include "postgres.h"

#include <poll.h>
#include <sys/socket.h>

#include "origin/catalog_watch.h"

#define CONNECT_FOR		(10 * SECOND)	/* unless the origin has a connect_timeout */
#define BACKOFF_MIN		SECOND
#define BACKOFF_MAX		(10 * SECOND)
#define BACKOFF_UNWANTED (60 * SECOND)

/* ---- its end ---- */

void
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
}

/* ---- failure ---- */

bool
watch_is_late(const CatalogWatch *w, int64 now)
{
	return now >= w->deadline || now >= w->last_deadline;
}

static void
say_failure(CatalogWatch *w, const char *text, const char *hint)
{
	if (!w->failing)
		ereport(LOG, (errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					  errmsg("hyperpool: the catalog of origin \"%s\" cannot be read: %s", w->name, text),
					  hint != NULL ? errhint("%s", hint) : 0));
	w->failing = true;
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

void
watch_fail(CatalogWatch *w, int64 now, const char *text, const char *hint)
{
	char		line[512];
	int64		most = watch_is_wanted(w, now) || watch_has_doubts(w) ? BACKOFF_MAX : BACKOFF_UNWANTED;

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
	watch_finish_ticket(w);
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
	if (credential->require_password)
		keyword_unless_given(k, origin, "sslcert", "/dev/null/none");
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
ignore_notice(void *arg, const char *message)
{
}

void
watch_open(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now)
{
	DirectoryAddresses addresses;
	int			places;

	if (credential == NULL)
	{
		watch_fail(w, now, "it has no credential", "Give it one with hyperpool.set_credential().");
		return;
	}
	if (credential->require_password && (credential->password == NULL || credential->password[0] == '\0'))
	{
		watch_fail(w, now, "its credential has no password, and was not set by a superuser", NULL);
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
	w->guard.password_only = credential->require_password;
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

void
watch_connect_step(CatalogWatch *w, const DirectoryCredential *credential, int64 now)
{
	if (watch_is_late(w, now))
	{
		could_not_connect(w, now, "timeout expired while connecting (connect_timeout)");
		return;
	}
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
