/*
 * client/session_login.c - from accept to the first ReadyForQuery.
 *
 * Startup packets (core/login), TLS, authentication (host/identity), then the settings vector the client has asked for. Once the origin's
 * answer to that vector is known (a link was in it before) the login makes no trip; a vector never seen is
 * tried on a link first, and what the origin says about a bad value is what the client is told.
 *
 * Who has not shown yet who it is holds a place of the backlog, and one of its address; both are given back as soon as it has. A proof that was wrong is answered late; meanwhile
 * the client keeps the place of its address, which nobody else needs, also if it goes away, so that many connections do not make many guesses.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "postmaster/postmaster.h"
#include "utils/timestamp.h"

#include "core/callers.h"
#include "host/analyze.h"
#include "host/tls.h"

#include "client/session_internal.h"

#define LOGIN_PACKET_MAX		(64 * 1024 + 16)
#define HANDSHAKES_A_TURN		4	/* a TLS handshake costs a millisecond: others have their turn between */
#define TLS_RECORD_HANDSHAKE	0x16

typedef enum LoginPhase
{
	PHASE_STARTUP,				/* SSLRequest, StartupMessage … */
	PHASE_HANDSHAKE,
	PHASE_AUTHENTICATION,
	PHASE_PARAMETERS,			/* logged in; the origin is asked about the settings vector */
	PHASE_FAILED				/* the answer to its proof is held back */
} LoginPhase;

typedef struct SessionLogin
{
	LoginPhase	phase;
	bool		counted;		/* holds a place of the backlog */
	Caller	   *caller;			/* holds a place of this address; NULL: no more, or it has none */
	LoginState	state;
	bool		direct_tls;		/* the handshake began without SSLRequest: ALPN is compulsory then */
	Identity   *identity;
	IdentityClient client;
	int64		began;
	uint32		minor;			/* protocol version 3.x */
	char	   *user;			/* owned copies: the packet's bytes are gone when they are needed */
	char	   *database;
	SettingsDraft settings;
	char		bad_option[128];	/* of the `options` parameter: said only to who is let in */
	bool		bad_value;		/* it is the value that is wrong */
	char		application_name[NAMEDATALEN];
} SessionLogin;

#define CALLERS_REMEMBERED	10000	/* whose failures are not forgotten for others' sake */

static int64 handshake_turn;
static int	handshakes;
static CallerTable *callers;
static int	logins;				/* places of the backlog that are taken */
static LoginCounts *counts;

void
session_login_init(void)
{
	callers = callers_create(CALLERS_REMEMBERED);
	counts = login_counts_of(session_worker);
	if (callers == NULL || counts == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* ---- what whoever likes can have written into the log ---- */

#define SAY_EVERY	INT64CONST(1000000)

typedef struct LogLimit
{
	int64		next;			/* not before */
	uint32		unsaid;
} LogLimit;

/* May it be said again? *more: how many were not said meanwhile. */
static bool
may_say(LogLimit *limit, uint32 *more)
{
	int64		now = reactor_now(session_reactor);

	if (now < limit->next)
	{
		limit->unsaid++;
		return false;
	}
	*more = limit->unsaid;
	*limit = (LogLimit) {.next = now + SAY_EVERY};
	return true;
}

static const char *
address_of(const ClientSession *s)
{
	static char address[INET6_ADDRSTRLEN];
	const HbaClient *c = &s->login->client.hba;

	strlcpy(address, "[local]", sizeof(address));
	if (!c->local)
		(void) inet_ntop(c->family == 6 ? AF_INET6 : AF_INET, c->addr, address, sizeof(address));
	return address;
}

static void
say_refused(const ClientSession *s, Refusal refusal)
{
	static LogLimit limit;
	uint32		more;

	if (!may_say(&limit, &more))
		return;
	ereport(LOG, (errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				  errmsg("hyperpool: login refused: %s", refusal_row(refusal)->primary),
				  errdetail("From host \"%s\"; %u others were refused since this was logged last.", address_of(s), more),
				  errhint("%s", refusal_row(refusal)->hint)));
}

/* The first line, as far as it is told to the log: the text may be an origin's. */
static Bytes
first_line(Bytes text)
{
	const uint8 *end;

	text.len = Min(text.len, 1024);
	end = memchr(text.data, '\n', text.len);
	return bytes_of(text.data, end != NULL ? (size_t) (end - text.data) : text.len);
}

/*
 * What is refused here and not by host/identity, which logs its own. Who has shown who they are is always logged; of the others, who may be
 * anybody, one a second.
 */
static void
say_failed(const ClientSession *s, const char *sqlstate, Bytes primary)
{
	static LogLimit limit;
	const SessionLogin *login = s->login;
	uint32		more = 0;

	if (login->counted && !may_say(&limit, &more))
		return;
	primary = first_line(primary);
	ereport(LOG, (errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
				  errmsg("hyperpool: login refused: %.*s", (int) primary.len, (const char *) primary.data),
				  more > 0 ? errdetail("%u others were refused since this was logged last.", more) : 0,
				  errcontext("login from host \"%s\", user \"%s\", database \"%s\"", address_of(s),
							 login->user ? login->user : "[unknown]", login->database ? login->database : "[unknown]")));
}

/* ---- places ---- */

static void
show_places(void)
{
	pg_atomic_write_u32(&counts->unfinished, logins);
	pg_atomic_write_u32(&counts->addresses, callers_count(callers));
}

static void
leave_backlog(SessionLogin *login)
{
	logins -= login->counted;
	login->counted = false;
	show_places();
}

static void
leave_address(SessionLogin *login)
{
	if (login->caller)
		callers_leave(callers, login->caller, reactor_now(session_reactor));
	login->caller = NULL;
	show_places();
}

/* REFUSE_LIMIT: it has them. */
static Refusal
take_places(SessionLogin *login)
{
	const HbaClient *c = &login->client.hba;
	int64		now = reactor_now(session_reactor);

	if (logins >= hyperpool_login_backlog)
	{
		pg_atomic_write_u64(&counts->refused_backlog, pg_atomic_read_u64(&counts->refused_backlog) + 1);
		return REFUSE_TOO_MANY_LOGINS;
	}
	if (!c->local)
		login->caller = callers_enter(callers, c->family, c->addr, hyperpool_login_address_limit, now);
	if (!c->local && login->caller == NULL)
	{
		pg_atomic_write_u64(&counts->refused_address, pg_atomic_read_u64(&counts->refused_address) + 1);
		return REFUSE_TOO_MANY_LOGINS_OF_ADDRESS;
	}
	logins++;
	login->counted = true;
	show_places();
	return REFUSE_LIMIT;
}

/* ---- begin and end ---- */

/* Returns the port. */
static uint16
note_address(HbaClient *c, const struct sockaddr_storage *from, bool local)
{
	c->local = local;
	if (!local && from->ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) from;

		c->family = 4;
		memcpy(c->addr, &in->sin_addr, 4);
		return ntohs(in->sin_port);
	}
	if (!local && from->ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) from;

		c->family = 6;
		memcpy(c->addr, &in6->sin6_addr, 16);
		return ntohs(in6->sin6_port);
	}
	return 0;
}

static void
show_address(ClientRow *row, const HbaClient *c, uint16 port)
{
	row->family = c->family;
	row->port = port;
	memcpy(row->addr, c->addr, sizeof(row->addr));
}

bool
session_login_begin(ClientSession *s, const struct sockaddr_storage *from, bool local)
{
	Refusal		refusal;
	uint16		port;

	s->login = mem_zalloc(sizeof(SessionLogin));
	if (s->login == NULL)
		return false;
	s->login->began = reactor_now(session_reactor);
	port = note_address(&s->login->client.hba, from, local);
	refusal = take_places(s->login);
	if (refusal == REFUSE_LIMIT && !session_has_descriptor())
		refusal = REFUSE_TOO_MANY_FILES;
	if (refusal == REFUSE_LIMIT && !session_take_row(s))
		refusal = REFUSE_TOO_MANY_CLIENTS;
	if (refusal != REFUSE_LIMIT)
	{
		message_put_refusal(&s->out, "FATAL", refusal, NULL);
		say_refused(s, refusal);
		return false;
	}
	show_address(s->row, &s->login->client.hba, port);
	session_set_timer(s, (int64) AuthenticationTimeout * 1000000);
	return true;
}

void
session_login_end(ClientSession *s)
{
	SessionLogin *login = s->login;

	if (login == NULL)
		return;
	leave_backlog(login);
	leave_address(login);
	identity_end(login->identity);
	settings_draft_free(&login->settings);
	mem_free_str(login->user);
	mem_free_str(login->database);
	mem_free(login, sizeof(SessionLogin));
	s->login = NULL;
}

static void
refuse(ClientSession *s, Refusal refusal, const char *arg)
{
	char		primary[512];

	snprintf(primary, sizeof(primary), refusal_row(refusal)->primary, arg != NULL ? arg : "");
	say_failed(s, refusal_row(refusal)->sqlstate, bytes_str(primary));
	if (s->counters)
		counter_add(s->counters, COUNT_LOGINS_FAILED, 1);
	session_fatal(s, refusal, arg);
}

/* Output of a login step: few bytes, sent at the end of the turn. */
static void
send_now(ClientSession *s)
{
	session_flush(s);
}

/* ---- the end: greeting ---- */

/* What the ParameterStatus messages in `out` say of this one; NULL: nothing. */
static const char *
told_parameter(const ClientSession *s, const char *name)
{
	const uint8 *end = s->out.data + s->out.end;
	const uint8 *at = memmem(s->out.data + s->out.start, buffer_len(&s->out), name, strlen(name) + 1);

	if (at)
		at += strlen(name) + 1;
	return at && memchr(at, 0, end - at) ? (const char *) at : NULL;
}

/* The rest of what a client is greeted with, behind the ParameterStatus messages. */
static void
greet(ClientSession *s)
{
	ClientRow  *row = s->row;
	int64		took = reactor_now(session_reactor) - s->login->began;

	session_read_as(s, told_parameter(s, "client_encoding"), told_parameter(s, "standard_conforming_strings"), told_parameter(s, "server_encoding"));
	transport_read_ahead(&s->transport);
	cancel_key_make(row, s->login->minor >= 2);
	message_put_backend_key(&s->out, row->key_pid, bytes_of(row->key, row->key_len));
	message_put_ready(&s->out, TX_IDLE);
	counter_add(s->counters, COUNT_LOGINS, 1);
	histogram_add(s->counters, HISTOGRAM_LOGIN, took);
	session_login_end(s);
	session_set_timer(s, 0);
	session_set_state(s, SESSION_IDLE);
	session_flush(s);
	session_resume(s);
}

/* A link is in the client's vector: what the origin reports there is the greeting, for this client and for the next. */
static void
greet_from_link(ClientSession *s, OriginLink *link)
{
	link_put_parameters(link, &s->out);
	pool_learn_parameters(s->pool, s->settings, link);
	pool_return(link, session_settings_are_identity(s->settings) ? LINK_AFTER_RESET : LINK_AFTER_CLEAN);
	if (s->state == SESSION_STARTING)
		greet(s);
}

/* A failure of the origin while it was asked about this client's settings: its own words, and the end. */
static void
fail_with(ClientSession *s, Bytes body, const char *sqlstate, const char *text, const char *hint)
{
	counter_add(s->counters, COUNT_LOGINS_FAILED, 1);
	say_failed(s, sqlstate, body.len > 0 ? message_error_field(body, 'M') : bytes_str(text));
	if (body.len > 0)
		message_put_error_as(&s->out, body, "FATAL");
	else
		message_put_error(&s->out, ANS_ERROR, "FATAL", sqlstate, text, NULL, hint);
	session_close_after_flush(s);
}

static void
on_probe(LinkExchange *e, const LinkNews *news)
{
	ClientSession *s = e->owner;
	OriginLink *link = s->link;

	if (news->kind == LINK_LOST)
	{
		s->link = NULL;
		s->inflight = 0;
		s->tail = NULL;
		fail_with(s, news->bytes, "08006", "the link to the origin was lost during login", "Try again.");
	}
	else if (news->kind == LINK_END)
	{
		s->inflight = 0;
		s->tail = NULL;
		s->link = NULL;
		greet_from_link(s, link);
	}
}

/* The link is brought into the vector; an empty exchange behind it comes back when the origin has taken all of it. */
void
session_login_link(ClientSession *s, OriginLink *link)
{
	char		sqlstate[6];

	if (link == NULL)
	{
		if (s->waiter.refusal != REFUSE_LIMIT)
			refuse(s, s->waiter.refusal, pool_origin_name(s->pool));
		else
		{
			const char *text = pool_failure(s->pool, sqlstate);

			fail_with(s, bytes_of(NULL, 0), sqlstate, text, HINT_NO_LINK);
		}
		return;
	}
	if (link_settings(link) == s->settings)
	{
		greet_from_link(s, link);
		return;
	}
	s->link = link;
	if (!link_apply_settings(link, s->settings) || (s->tail = link_ask(link, s, on_probe)) == NULL ||
		!link_note(s->tail, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
	{
		s->link = NULL;
		link_break_now(link);
		refuse(s, REFUSE_MEMORY, NULL);
		return;
	}
	s->inflight = 1;
	message_put_empty(link_outbound(link), MSG_SYNC);
	link_flush(link);
}

static void
ask_parameters(ClientSession *s)
{
	const ByteBuffer *parameters;
	OriginLink *link;

	s->login->phase = PHASE_PARAMETERS;
	session_set_timer(s, 0);
	parameters = pool_parameters(s->pool, s->settings);
	if (parameters)
	{
		Bytes		bytes = buffer_view(parameters);

		buffer_put(&s->out, bytes.data, bytes.len);
		greet(s);
		return;
	}
	/* the way to the origin is gone anyhow, and its catalog is best known before the first query: the scout looks meanwhile */
	(void) session_facts_state(s);
	s->waiter.settings = s->settings;
	s->waiter.role = s->role;
	link = pool_checkout(s->pool, &s->waiter);
	if (link)
		session_login_link(s, link);
}

/* ---- authenticated ---- */

/* The vector of what it has asked for. False: refused. */
static bool
take_vector(ClientSession *s)
{
	s->settings = settings_intern(pools_settings(), &s->login->settings);
	if (s->settings == NULL)
	{
		refuse(s, REFUSE_TOO_MANY_SETTINGS, NULL);
		return false;
	}
	s->startup_settings = s->settings;
	settings_ref(s->startup_settings);
	return true;
}

/* The links it may have. False: refused. */
static bool
take_pool(ClientSession *s, const DirectoryOrigin *origin)
{
	const DirectoryCredential *credential = directory_credential(session_directory, origin, s->role);

	s->pool = credential ? pool_of(origin, credential) : NULL;
	if (s->pool == NULL)
		refuse(s, credential ? REFUSE_TOO_MANY_POOLS : REFUSE_NO_CREDENTIAL, origin->name);
	return s->pool != NULL;
}

static void
show_client(ClientSession *s, const DirectoryOrigin *origin)
{
	client_row_begin_change(s->row);
	client_row_set_role(s->row, s->role);
	s->row->origin_slot = origin->slot;
	s->row->tls = transport_is_tls(&s->transport);
	strlcpy(s->row->application_name, s->login->application_name, NAMEDATALEN);
	client_row_end_change(s->row);
}

static void
let_in(ClientSession *s)
{
	SessionLogin *login = s->login;
	/* looked up again: the directory may have been replaced while the client was thinking */
	const DirectoryOrigin *origin = directory_origin(session_directory, bytes_str(login->database));

	leave_backlog(login);
	leave_address(login);
	if (origin == NULL)
	{
		refuse(s, REFUSE_NO_ORIGIN, login->database);
		return;
	}

	if (login->bad_option[0])
	{
		counter_add(s->counters, COUNT_LOGINS_FAILED, 1);
		say_failed(s, login->bad_value ? "22023" : "42601", bytes_str(login->bad_option));
		message_put_error(&s->out, ANS_ERROR, "FATAL", login->bad_value ? "22023" : "42601", login->bad_option, NULL,
						  login->bad_value ? NULL : "Try \"postgres --help\" for more information.");
		session_close_after_flush(s);
		return;
	}
	s->role = identity_role(login->identity);
	if (!directory_may_use(session_directory, s->role, origin))
	{
		refuse(s, REFUSE_NO_RIGHT, origin->name);
		return;
	}
	if (!take_vector(s) || !take_pool(s, origin))
		return;
	show_client(s, origin);
	identity_end(login->identity);
	login->identity = NULL;
	ask_parameters(s);
}

/* Nothing more is heard of the client. The descriptor stays its own. */
static void
turn_deaf(ClientSession *s)
{
	int			fd = s->source.fd;

	reactor_remove(session_reactor, &s->source);
	s->source.fd = fd;
}

/* The answer lies in `out`. Whoever is not limited by address keeps its place of the backlog instead. */
static void
hold_back(ClientSession *s)
{
	SessionLogin *login = s->login;
	int64		delay = (int64) hyperpool_failed_login_delay * 1000;

	if (login->caller)
		delay = callers_failed(login->caller, delay, reactor_now(session_reactor));
	if (delay == 0)
	{
		session_close_after_flush(s);
		return;
	}
	login->phase = PHASE_FAILED;
	identity_end(login->identity);
	login->identity = NULL;
	pg_atomic_write_u64(&counts->held_back, pg_atomic_read_u64(&counts->held_back) + 1);
	if (login->caller && hyperpool_login_address_limit > 0)
		leave_backlog(login);
	turn_deaf(s);
	session_set_timer(s, delay);
}

static void
act_on(ClientSession *s, IdentityVerdict verdict)
{
	switch (verdict)
	{
		case IDENTITY_CONTINUE:
			send_now(s);
			break;
		case IDENTITY_IN:
			send_now(s);
			let_in(s);
			break;
		case IDENTITY_REFUSED:
			counter_add(s->counters, COUNT_LOGINS_FAILED, 1);
			session_close_after_flush(s);
			break;
		case IDENTITY_FAILED:
			counter_add(s->counters, COUNT_LOGINS_FAILED, 1);
			hold_back(s);
			break;
	}
}

void
session_login_late(ClientSession *s)
{
	if (s->login->phase == PHASE_FAILED)
		session_close_after_flush(s);
	else
		refuse(s, REFUSE_LOGIN_TIMEOUT, NULL);
}

static void
authenticate(ClientSession *s)
{
	SessionLogin *login = s->login;
	IdentityClient *c = &login->client;
	const DirectoryOrigin *origin;

	login->phase = PHASE_AUTHENTICATION;
	c->hba.tls = transport_is_tls(&s->transport);
	c->hba.user = bytes_str(login->user);
	c->hba.database = bytes_str(login->database);
	c->ssl = c->hba.tls ? s->transport.ssl : NULL;
	origin = directory_origin(session_directory, c->hba.database);
	s->counters = counters_of(session_worker, origin ? origin->slot : 0);
	act_on(s, identity_begin(session_directory, c, &login->identity, &s->out));
}

/* ---- the startup message ---- */

static void
note_application_name(SessionLogin *login, Bytes name)
{
	size_t		len = Min(name.len, NAMEDATALEN - 1);

	/* as PostgreSQL: printable ASCII only */
	for (size_t i = 0; i < len; i++)
		login->application_name[i] = name.data[i] >= 32 && name.data[i] < 127 ? name.data[i] : '?';
	login->application_name[len] = '\0';
}

/* As PostgreSQL tells it: without the backslashes that held it together. */
static void
tell_bad_option(SessionLogin *login, Bytes bad)
{
	char		plain[64 + 1];
	size_t		len = 0;

	for (size_t i = 0; i < bad.len && len < sizeof(plain) - 1; i++)
	{
		if (bad.data[i] == '\\' && i + 1 < bad.len)
			i++;
		plain[len++] = (char) bad.data[i];
	}
	plain[len] = '\0';
	snprintf(login->bad_option, sizeof(login->bad_option), "invalid command-line argument for server process: %s", plain);
}

static bool
take_settings(ClientSession *s, const StartupRequest *request)
{
	SettingsDraft *draft = &s->login->settings;
	Bytes		bad;

	if (request->options.len > 0 && !settings_draft_put_options(draft, request->options, &bad))
		tell_bad_option(s->login, bad);
	for (uint32 i = 0; i < request->count; i++)
		settings_draft_put(draft, request->names[i], request->values[i]);
	/* not applied: it would leave no two clients alike; the clients view shows it */
	settings_draft_remove(draft, bytes_str("application_name"));
	if (!session_gateway_take(s, draft, s->login->bad_option, sizeof(s->login->bad_option)))
		s->login->bad_value = true;
	if (draft->failed)
	{
		refuse(s, REFUSE_TOO_MANY_SETTINGS, NULL);
		return false;
	}
	return true;
}

/* Takes what is needed out of the packet, whose bytes are used up then. False: refused. */
static bool
on_startup(ClientSession *s, const StartupRequest *request)
{
	SessionLogin *login = s->login;

	if (session_directory == NULL)
	{
		refuse(s, REFUSE_STARTING, NULL);
		return false;
	}
	login->minor = request->minor;
	login->user = bytes_copy(request->user);
	login->database = bytes_copy(request->database);
	if (login->user == NULL || login->database == NULL)
	{
		refuse(s, REFUSE_MEMORY, NULL);
		return false;
	}
	if (request->wants_replication)
	{
		refuse(s, REFUSE_REPLICATION, NULL);
		return false;
	}
	note_application_name(login, request->application_name);
	if (request->negotiate)
		message_put_negotiate(&s->out, request->minor, request->protocol_options, request->protocol_option_count);
	return take_settings(s, request);
}

/* ---- TLS ---- */

static void
begin_handshake(ClientSession *s)
{
	SessionLogin *login = s->login;

	if (!transport_init_tls_server(&s->transport, s->source.fd, tls_context()))
	{
		session_close(s);
		return;
	}
	login->phase = PHASE_HANDSHAKE;
}

static void
on_ssl_request(ClientSession *s)
{
	uint8		answer = tls_context() && !s->login->client.hba.local ? 'S' : 'N';

	/* one byte into an empty socket buffer goes out at once or the client is not worth waiting for */
	if (transport_write(&s->transport, &answer, 1) != 1)
	{
		session_close(s);
		return;
	}
	if (answer == 'N')
		return;
	/* whoever has written more before TLS began may be somebody in the middle */
	if (buffer_len(&s->in) > 0)
	{
		refuse(s, REFUSE_PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
		return;
	}
	begin_handshake(s);
}

static bool
may_handshake(void)
{
	int64		now = reactor_now(session_reactor);

	if (now != handshake_turn)
	{
		handshake_turn = now;
		handshakes = 0;
	}
	return handshakes++ < HANDSHAKES_A_TURN;
}

/*
 * In TLS 1.3 the client has the last word of the handshake, and we send nothing it would be acknowledged with. A client under Nagle's
 * algorithm (node's) would keep its startup message until the kernel's delayed acknowledgement, 40 ms later.
 */
static void
acknowledge(ClientSession *s)
{
	int			on = 1;

	(void) setsockopt(s->source.fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static void
say_no_tls(void)
{
	static LogLimit limit;
	const char *refusal = tls_take_refusal();
	uint32		more;

	if (may_say(&limit, &more))
		ereport(LOG, (errcode(ERRCODE_PROTOCOL_VIOLATION),
					  errmsg("hyperpool: could not accept SSL connection: %s", transport_error()),
					  more > 0 ? errdetail("%s%s%u others failed since this was logged last.", refusal, refusal[0] ? " " : "", more) :
					  refusal[0] ? errdetail("%s", refusal) : 0));
}

/* True: TLS is on. */
static bool
handshake(ClientSession *s)
{
	if (!may_handshake())
		return false;			/* still readable: told again next turn */
	switch (transport_handshake(&s->transport))
	{
		case HANDSHAKE_DONE:
			if (s->login->direct_tls && !tls_alpn_agreed(s->transport.ssl))
			{
				session_close(s);
				return false;
			}
			s->login->state.tls = true;
			s->login->phase = PHASE_STARTUP;
			acknowledge(s);
			reactor_watch(session_reactor, &s->source, REACTOR_READ);
			return true;
		case HANDSHAKE_AGAIN:
			reactor_watch(session_reactor, &s->source, s->transport.wants_write ? REACTOR_WRITE : REACTOR_READ);
			return false;
		case HANDSHAKE_FAILED:
			say_no_tls();
			session_close(s);
			return false;
	}
	return false;
}

/* ---- bytes ---- */

static void
startup_bytes(ClientSession *s)
{
	LoginStep	step;
	LoginVerdict verdict = login_step(&s->login->state, buffer_view(&s->in), &step);

	switch (verdict)
	{
		case LOGIN_MORE:
			return;
		case LOGIN_SSL_REQUEST:
			buffer_consume(&s->in, step.used);
			on_ssl_request(s);
			break;
		case LOGIN_GSS_REQUEST:
			buffer_consume(&s->in, step.used);
			if (transport_write(&s->transport, "N", 1) != 1)
				session_close(s);
			break;
		case LOGIN_DIRECT_TLS:
			/* the handshake's first bytes are peeked at, never read here: see session_login_step */
			session_close(s);
			break;
		case LOGIN_CANCEL:
			cancel_request(step.cancel_pid, step.cancel_key);
			session_close(s);
			break;
		case LOGIN_STARTUP:
			if (!on_startup(s, &step.startup))
				break;
			buffer_consume(&s->in, step.used);
			authenticate(s);
			break;
		case LOGIN_CLOSE:
			session_close(s);
			break;
		case LOGIN_BAD:
			refuse(s, step.refusal, step.refusal_arg);
			break;
	}
}

static void
password_bytes(ClientSession *s)
{
	Frame		frame;
	FrameVerdict verdict = frame_next(&s->reader, buffer_view(&s->in), LOGIN_PACKET_MAX, &frame);
	IdentityVerdict identity;

	if (verdict == FRAME_MORE)
		return;
	if (verdict != FRAME_WHOLE || frame.type != MSG_PASSWORD)
	{
		refuse(s, REFUSE_PROTOCOL_VIOLATION, "expected password response");
		return;
	}
	identity = identity_step(session_directory, s->login->identity, frame.body, &s->out);
	explicit_bzero((void *) frame.raw.data, frame.raw.len);
	buffer_consume(&s->in, frame.raw.len);
	act_on(s, identity);
}

/* Takes what has come, as long as the phase changes. */
static void
take_bytes(ClientSession *s)
{
	size_t		before;
	LoginPhase	phase;

	do
	{
		before = buffer_len(&s->in);
		phase = s->login->phase;
		if (phase == PHASE_STARTUP)
			startup_bytes(s);
		else if (phase == PHASE_AUTHENTICATION)
			password_bytes(s);
	} while (s->state == SESSION_STARTING && s->login && buffer_len(&s->in) > 0 &&
			 (buffer_len(&s->in) != before || s->login->phase != phase));
}

/* A first byte of a TLS record: the handshake begins without SSLRequest. The byte stays in the socket. */
static bool
is_direct_tls(ClientSession *s)
{
	uint8		first;

	if (s->login->state.first_byte_seen || s->login->state.tls || s->login->client.hba.local)
		return false;
	if (recv(s->source.fd, &first, 1, MSG_PEEK) != 1)
		return false;
	s->login->state.first_byte_seen = true;
	return first == TLS_RECORD_HANDSHAKE && tls_context() != NULL;
}

static void
read_some(ClientSession *s)
{
	ssize_t		n;

	if (buffer_len(&s->in) > LOGIN_PACKET_MAX || !buffer_reserve(&s->in, 1024))
	{
		session_close(s);
		return;
	}
	n = transport_read(&s->transport, s->in.data + s->in.end, s->in.size - s->in.end);
	if (n == TRANSPORT_AGAIN)
		return;
	if (n <= 0)
	{
		session_close(s);
		return;
	}
	s->in.end += n;
	take_bytes(s);
}

void
session_login_step(ClientSession *s, int events)
{
	SessionLogin *login = s->login;

	if (login->phase == PHASE_STARTUP && is_direct_tls(s))
	{
		login->state.ssl_asked = true;
		login->direct_tls = true;
		begin_handshake(s);
		if (s->state == SESSION_CLOSED)
			return;
	}
	if (login->phase == PHASE_HANDSHAKE && !handshake(s))
		return;
	if (login->phase == PHASE_PARAMETERS)
	{
		/* nothing is expected now; what comes is read later. A vanished client is seen by hang-up. */
		if (!(events & REACTOR_READ))
			return;
		if (buffer_len(&s->in) > LOGIN_PACKET_MAX)
		{
			reactor_watch(session_reactor, &s->source, 0);
			return;
		}
	}
	read_some(s);
	if (s->state == SESSION_STARTING && s->login->phase != PHASE_FAILED && transport_pending(&s->transport))
		read_some(s);
}
