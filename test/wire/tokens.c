/*
 * tokens.c: many clients at once, each of which knows every byte it must be told.
 *
 * It answers: does a client among others get its own answers, all of them, in order and with the right ReadyForQuery, whatever the others do?
 * One thread a client, sockets of its own, no libpq. A client makes random requests from a seed (simple, extended, prepared; pipelined; in and
 * out of transactions; under its own TimeZone, DateStyle and search_path) together with the answer of a direct connection, computed
 * beforehand. Each request has a token, ~client.request~, that is in everything it makes the other side say; a token of somebody else is an error
 * in every mode, and so is silence.
 *
 *   tokens --direct CONNINFO --setup                                  makes the tables, then ends
 *   tokens --direct CONNINFO --through CONNINFO [--through …] [--seed N] [--seconds N] [--clients N] [--victims N] [--stallers N]
 *         [--leavers N] [--lockers N] [--kill MS] [--control FIFO --reset MS] [--patience MS]
 *
 * --victims are cancelled all the time and may say so; the others must not notice. --stallers stop reading in the middle of a large answer.
 * --leavers go without a word. --lockers wait for each other's locks. --kill: every so often the origin ends a link; --control, --reset: of a relay.
 * Only then may a request fail with 08001, 08006, 08007 or 57P01, and a connection end.
 *
 * It prints counts as "name number" lines. Exit status: 0 no violation, 1 some, 2 it could not run.
 * It never decides what a gateway may do beyond that; docs/protocol.md does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX		200
#define THROUGH_MAX		16
#define ROWS			10000	/* of hpc_own */
#define TOKEN_LEN		24
#define FIRST_NUMBER	100		/* so that each has three digits */
#define PIPELINE_MAX	8
#define ZONES			4
#define STYLES			3
#define PLACES			2
#define POSSIBLE_MAX	4		/* values that a row may have after a write of unknown outcome */
#define BIG_ROWS		3000
#define UNWRITTEN		"nothing yet"

static const char *const zones[ZONES] = {"UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"};
static const char *const styles[STYLES] = {"ISO, MDY", "German, DMY", "SQL, MDY"};
static const char *const places[PLACES] = {"hpc_a", "hpc_b"};
static char moments[ZONES][STYLES][64]; /* what a direct connection says of one moment */

#define MOMENT "timestamptz '2024-02-03 04:05:06+00'"

typedef struct Buffer
{
	char	   *data;
	size_t		len;
	size_t		cap;
} Buffer;

typedef struct Address
{
	char		host[256];
	char		port[16];
	char		dbname[64];
	char		user[64];
} Address;

typedef enum Role
{
	STEADY, VICTIM, STALLER, LEAVER, LOCKER
} Role;

static const char *const role_names[] = {"steady", "victim", "staller", "leaver", "locker"};

typedef struct Client
{
	int			number;
	Role		role;
	const Address *address;
	uint64_t	random;
	int			fd;
	bool		closed;			/* by the other side */
	uint32_t	pid;			/* with key: for cancelling; read by others under keys_lock */
	char		key[256];
	size_t		key_len;
	Buffer		in;
	size_t		taken;			/* of in */
	Buffer		out;
	Buffer		wanted;			/* the answer of the pipeline, a line a message */
	Buffer		said;			/* the pipeline, for the report */
	int			zone;
	int			style;
	int			place;
	bool		prepared;
	long		requests;
	char		token[TOKEN_LEN];
	char		expression[64]; /* of SQL, for the token: texts that differ in numbers alone may be one statement to a gateway */
	char		status;			/* as it must be after what has been asked so far */
	int			row;			/* its own; another one after a loss: who was lost may write to the old one late */
	char		own[TOKEN_LEN];	/* what its row holds, as far as its transaction sees */
	char		committed[TOKEN_LEN];
	char		possible[POSSIBLE_MAX][TOKEN_LEN];
	int			possible_count;	/* 0: committed is certain */
	int			exchanges;		/* asked in this pipeline */
} Client;

static Client clients[CLIENTS_MAX];
static int	client_count;
static Address direct;
static Address through[THROUGH_MAX];
static int	through_count;
static long seconds = 10;
static long patience_ms = 10000;
static uint64_t seed = 1;
static int	count_of[5] = {8, 0, 0, 0, 0};
static long kill_every_ms;
static long reset_every_ms;
static const char *control_fifo;
static bool losses_allowed;
static atomic_bool stopping;
static atomic_long violations, answered, lost, cancelled, reconnected, cancels_sent, kills;
static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

static void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

static void
rest_ms(long ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

static uint32_t
chance(Client *c, uint32_t below)
{
	c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (c->random >> 33) % below;
}

/* ---- bytes ---- */

static void
put(Buffer *b, const void *data, size_t len)
{
	if (b->cap - b->len < len)
	{
		b->cap = (b->len + len) * 2;
		b->data = realloc(b->data, b->cap);
		if (b->data == NULL)
			die("out of memory");
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void
put32(Buffer *b, uint32_t value)
{
	value = htonl(value);
	put(b, &value, 4);
}

static void
put16(Buffer *b, uint16_t value)
{
	value = htons(value);
	put(b, &value, 2);
}

static void
put_string(Buffer *b, const char *text)
{
	put(b, text, strlen(text) + 1);
}

static void
put_text(Buffer *b, const char *format,...)
{
	char		text[4096];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put(b, text, strlen(text));
}

/* ---- a violation ---- */

static void
violation(Client *c, const char *format,...)
{
	va_list		args;

	pthread_mutex_lock(&report_lock);
	if (violations++ < 3)
	{
		fprintf(stderr, "client %d (%s, %s, %s, %s, seed %llu): ", c->number, role_names[c->role], zones[c->zone], styles[c->style], places[c->place],
				(unsigned long long) seed);
		va_start(args, format);
		vfprintf(stderr, format, args);
		va_end(args);
		fprintf(stderr, "\nit has said:\n%.*s\n", (int) c->said.len, c->said.data ? c->said.data : "");
	}
	stopping = true;
	pthread_mutex_unlock(&report_lock);
}

/* ---- messages out ---- */

static size_t
begin_message(Client *c, char type)
{
	put(&c->out, &type, 1);
	put32(&c->out, 0);
	return c->out.len;
}

static void
end_message(Client *c, size_t start)
{
	uint32_t	len = htonl((uint32_t) (c->out.len - start + 4));

	memcpy(c->out.data + start - 4, &len, 4);
}

static void
say_query(Client *c, const char *format,...)
{
	char		sql[1024];
	va_list		args;
	size_t		start = begin_message(c, 'Q');

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	put_string(&c->out, sql);
	end_message(c, start);
	put_text(&c->said, "Q \"%s\"\n", sql);
	c->exchanges++;
}

static void
say_parse(Client *c, const char *name, const char *sql)
{
	size_t		start = begin_message(c, 'P');

	put_string(&c->out, name);
	put_string(&c->out, sql);
	put16(&c->out, 0);
	end_message(c, start);
	put_text(&c->said, "P \"%s\" \"%s\"\n", name, sql);
}

static void
say_bind(Client *c, const char *name, const char *one, const char *other)
{
	size_t		start = begin_message(c, 'B');
	const char *values[] = {one, other};

	put_string(&c->out, "");
	put_string(&c->out, name);
	put16(&c->out, 0);
	put16(&c->out, other ? 2 : 1);
	for (int i = 0; i < (other ? 2 : 1); i++)
	{
		put32(&c->out, (uint32_t) strlen(values[i]));
		put(&c->out, values[i], strlen(values[i]));
	}
	put16(&c->out, 0);
	end_message(c, start);
	put_text(&c->said, "B \"\" \"%s\" [] (\"%s\" \"%s\")\n", name, one, other ? other : "");
}

static void
say_describe(Client *c)
{
	size_t		start = begin_message(c, 'D');

	put(&c->out, "P", 1);
	put_string(&c->out, "");
	end_message(c, start);
	put_text(&c->said, "D P \"\"\n");
}

static void
say_execute(Client *c, uint32_t rows)
{
	size_t		start = begin_message(c, 'E');

	put_string(&c->out, "");
	put32(&c->out, rows);
	end_message(c, start);
	put_text(&c->said, "E \"\" %u\n", rows);
}

static void
say_sync(Client *c)
{
	end_message(c, begin_message(c, 'S'));
	put_text(&c->said, "S\n");
	c->exchanges++;
}

/* ---- messages in ---- */

static void
want(Client *c, const char *format,...)
{
	char		line[4096];
	va_list		args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	put(&c->wanted, line, strlen(line));
	put(&c->wanted, "\n", 1);
}

static void
want_ready(Client *c)
{
	want(c, "Z %c", c->status);
}

/* More bytes; false when the other side has closed, or nothing came in time. */
static bool
receive(Client *c)
{
	struct pollfd p = {c->fd, POLLIN, 0};
	char		bytes[65536];
	ssize_t		n;

	if (poll(&p, 1, (int) patience_ms) == 0)
	{
		violation(c, "no answer within %ld ms", patience_ms);
		c->closed = true;
		return false;
	}
	n = recv(c->fd, bytes, sizeof(bytes), 0);
	if (n <= 0)
	{
		c->closed = true;
		return false;
	}
	if (c->taken == c->in.len)
		c->taken = c->in.len = 0;
	put(&c->in, bytes, (size_t) n);
	return true;
}

/* Somebody else's token anywhere in the message. */
static bool
has_foreign_token(const Client *c, const char *body, size_t len)
{
	const char *p = body;
	const char *end = body + len;
	char		mine[16];

	snprintf(mine, sizeof(mine), "~%d.", FIRST_NUMBER + c->number);
	while ((p = memchr(p, '~', (size_t) (end - p))) != NULL)
	{
		if (end - p < 5 || p[4] != '.')
		{
			p++;				/* the end of a token */
			continue;
		}
		if (memcmp(p, mine, 5) != 0)
			return true;
		p += 5;
	}
	return false;
}

static size_t
body_of(const Client *c, const char **body)
{
	uint32_t	len;

	memcpy(&len, c->in.data + c->taken + 1, 4);
	*body = c->in.data + c->taken + 5;
	return ntohl(len) - 4;
}

static bool
message_is_there(Client *c)
{
	uint32_t	len;

	if (c->in.len - c->taken < 5)
		return false;
	memcpy(&len, c->in.data + c->taken + 1, 4);
	len = ntohl(len);
	if (len < 4 || len > 64 * 1024 * 1024)
	{
		violation(c, "a message of impossible length %u", len);
		c->closed = true;
		return false;
	}
	return c->in.len - c->taken >= (size_t) len + 1;
}

static void
row_to_text(const char *body, size_t len, char *line, size_t size)
{
	const char *p = body + 2;
	size_t		at = (size_t) snprintf(line, size, "D ");
	uint32_t	n;

	for (bool first = true; p + 4 <= body + len; first = false)
	{
		memcpy(&n, p, 4);
		n = ntohl(n);
		p += 4;
		if (!first && at + 1 < size)
			line[at++] = '|';
		if (n == UINT32_MAX)
			continue;
		for (uint32_t i = 0; i < n && p + i < body + len && at + 1 < size; i++)
			line[at++] = p[i];
		p += n;
	}
	line[at] = '\0';
}

static void
error_to_text(char type, const char *body, size_t len, char *line, size_t size)
{
	const char *code = "?";
	const char *message = "?";

	for (const char *p = body; p < body + len && *p; p += strlen(p) + 1)
	{
		if (*p == 'C')
			code = p + 1;
		else if (*p == 'M')
			message = p + 1;
	}
	snprintf(line, size, "%c %s|%s", type, code, message);
}

/* The next message as a line; false when the connection has ended. */
static bool
next_line(Client *c, char *line, size_t size)
{
	const char *body;
	size_t		len;
	char		type;

	while (!message_is_there(c))
		if (c->closed || !receive(c))
			return false;
	type = c->in.data[c->taken];
	len = body_of(c, &body);
	if (type != 'K' && has_foreign_token(c, body, len))	/* the key is of random bytes */
		violation(c, "somebody else's token in %c: %.*s", type, (int) (len > 200 ? 200 : len), body);
	switch (type)
	{
		case 'D': row_to_text(body, len, line, size); break;
		case 'E':
		case 'N': error_to_text(type, body, len, line, size); break;
		case 'C': snprintf(line, size, "C %s", body); break;
		case 'Z': snprintf(line, size, "Z %c", body[0]); break;
		case 'S': snprintf(line, size, "S %s=%s", body, body + strlen(body) + 1); break;
		case 'd': snprintf(line, size, "d %.*s", (int) (len > 0 && body[len - 1] == '\n' ? len - 1 : len), body); break;
		case 'T': snprintf(line, size, "T %d", (unsigned char) body[0] << 8 | (unsigned char) body[1]); break;
		case 'K':
			pthread_mutex_lock(&keys_lock);
			memcpy(&c->pid, body, 4);
			c->key_len = len - 4 < sizeof(c->key) ? len - 4 : sizeof(c->key);
			memcpy(c->key, body + 4, c->key_len);
			pthread_mutex_unlock(&keys_lock);
			snprintf(line, size, "K");
			break;
		default: snprintf(line, size, "%c", type); break;
	}
	c->taken += len + 5;
	return true;
}

/* ---- connecting ---- */

static int
open_socket(const Address *a)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	struct sockaddr_un u = {.sun_family = AF_UNIX};
	int			one = 1;
	int			fd;

	if (a->host[0] == '/')
	{
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if ((size_t) snprintf(u.sun_path, sizeof(u.sun_path), "%s/.s.PGSQL.%s", a->host, a->port) >= sizeof(u.sun_path))
			die("socket path too long");
		return connect(fd, (struct sockaddr *) &u, sizeof(u)) == 0 ? fd : (close(fd), -1);
	}
	if (getaddrinfo(a->host, a->port, &hints, &found) != 0)
		die("host \"%s\" not found", a->host);
	fd = socket(found->ai_family, SOCK_STREAM, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, found->ai_addr, found->ai_addrlen) != 0)
	{
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

static bool
send_bytes(Client *c, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t		n = send(c->fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t) n;
	}
	return true;
}

static void
put_startup(Client *c)
{
	size_t		start;

	c->out.len = 0;
	put32(&c->out, 0);
	start = c->out.len;
	put32(&c->out, 3 << 16);
	put_string(&c->out, "user");
	put_string(&c->out, c->address->user);
	put_string(&c->out, "database");
	put_string(&c->out, c->address->dbname);
	put_string(&c->out, "TimeZone");
	put_string(&c->out, zones[c->zone]);
	put_string(&c->out, "DateStyle");
	put_string(&c->out, styles[c->style]);
	put_string(&c->out, "search_path");
	put_string(&c->out, places[c->place]);
	put_string(&c->out, "application_name");
	put_text(&c->out, "tokens %d", c->number % 5);
	put(&c->out, "", 1);
	put(&c->out, "", 1);
	end_message(c, start);
}

static bool
log_in(Client *c)
{
	char		line[1024];

	c->fd = open_socket(c->address);
	if (c->fd < 0)
		return false;
	c->closed = false;
	c->in.len = c->taken = c->out.len = 0;
	c->prepared = false;
	c->status = 'I';
	put_startup(c);
	if (!send_bytes(c, c->out.data, c->out.len))
		return false;
	while (next_line(c, line, sizeof(line)))
	{
		if (line[0] == 'Z')
			return true;
		if (line[0] == 'E')
		{
			if (!losses_allowed)
				violation(c, "the login failed: %s", line);
			return false;
		}
	}
	return false;
}

static void
hang_up(Client *c)
{
	pthread_mutex_lock(&keys_lock);
	c->key_len = 0;
	pthread_mutex_unlock(&keys_lock);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* ---- what the row of the client may hold ---- */

static void
add_possible(Client *c, const char *value)
{
	if (c->possible_count < POSSIBLE_MAX)
		strcpy(c->possible[c->possible_count++], value);
}

/* ---- requests: what is said, and what must be answered ---- */

static void
new_token(Client *c)
{
	int			who = FIRST_NUMBER + c->number;
	long		which = 100000 + ++c->requests % 900000;

	snprintf(c->token, sizeof(c->token), "~%d.%ld~", who, which);
	snprintf(c->expression, sizeof(c->expression), "'~' || %d || '.' || %ld || '~'", who, which);
}

static void
ask_read(Client *c)
{
	say_query(c, "select %s, " MOMENT, c->expression);
	want(c, "T 2");
	want(c, "D %s|%s", c->token, moments[c->zone][c->style]);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_place(Client *c)
{
	int			id = 1 + (int) chance(c, 9);

	say_query(c, "select %s, who from place where id = %d", c->expression, id);
	want(c, "T 2");
	want(c, "D %s|%s-%d", c->token, places[c->place], id);
	want(c, "C SELECT 1");
	want_ready(c);
}

/* The same question from everybody, with an answer for each of the settings. */
static void
ask_common(Client *c)
{
	int			id = 1 + (int) chance(c, 2);

	say_query(c, "select who, " MOMENT " from place where id = %d", id);
	want(c, "T 2");
	want(c, "D %s-%d|%s", places[c->place], id, moments[c->zone][c->style]);
	want(c, "C SELECT 1");
	want_ready(c);
}

/* A setting that is not what everybody has, told by SHOW. */
static void
ask_zone(Client *c)
{
	say_query(c, "show timezone");
	want(c, "T 1");
	want(c, "D %s", zones[c->zone]);
	want(c, "C SHOW");
	want_ready(c);
}

#define EXTENDED "select $1::text, $2::int + 1, " MOMENT
#define PREPARED "select $1::text, who from place where id = $2::int"

static void
ask_extended(Client *c)
{
	bool		describe = chance(c, 2) == 0;

	say_parse(c, "", EXTENDED);
	say_bind(c, "", c->token, "41");
	if (describe)
		say_describe(c);
	say_execute(c, 0);
	say_sync(c);
	want(c, "1");
	want(c, "2");
	if (describe)
		want(c, "T 3");
	want(c, "D %s|42|%s", c->token, moments[c->zone][c->style]);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_prepared(Client *c)
{
	char		id[2] = {(char) ('1' + chance(c, 9)), '\0'};

	if (!c->prepared)
	{
		say_parse(c, "where", PREPARED);
		want(c, "1");
	}
	c->prepared = true;
	say_bind(c, "where", c->token, id);
	say_execute(c, 0);
	say_sync(c);
	want(c, "2");
	want(c, "D %s|%s-%s", c->token, places[c->place], id);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_suspended(Client *c)
{
	say_parse(c, "", "select $1::text || '-' || n from generate_series(1, 3) n");
	say_bind(c, "", c->token, NULL);
	say_execute(c, 2);
	say_execute(c, 2);
	say_sync(c);
	want(c, "1");
	want(c, "2");
	want(c, "D %s-1", c->token);
	want(c, "D %s-2", c->token);
	want(c, "s");
	want(c, "D %s-3", c->token);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_big(Client *c, int rows)
{
	say_query(c, "select %s || n, repeat('x', 300) from generate_series(1, %d) n", c->expression, rows);
	want(c, "T 2");
	for (int i = 1; i <= rows; i++)
		want(c, "D %s%d|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", c->token, i);
	want(c, "C SELECT %d", rows);
	want_ready(c);
}

static void
want_error(Client *c, const char *code, const char *format,...)
{
	char		message[256];
	va_list		args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	want(c, "E %s|%s", code, message);
	if (c->status == 'T')
		c->status = 'E';
}

static void
ask_error(Client *c)
{
	/* what cannot be parsed may be DDL, too */
	switch (chance(c, c->role == LOCKER ? 3 : 2))
	{
		case 0:
			say_query(c, "select '%s'::int", c->token);
			want_error(c, "22P02", "invalid input syntax for type integer: \"%s\"", c->token);
			break;
		case 1:
			say_parse(c, "", "select $1::text::int");
			say_bind(c, "", c->token, NULL);
			say_execute(c, 0);
			say_sync(c);
			want(c, "1");		/* the value is folded into the plan: Bind fails */
			want_error(c, "22P02", "invalid input syntax for type integer: \"%s\"", c->token);
			break;
		default:
			say_query(c, "selec '%s'", c->token);
			want_error(c, "42601", "syntax error at or near \"selec\"");
			break;
	}
	want_ready(c);
}

/* Only from those who are trouble anyway: a DO may be DDL, so that for a while no gateway knows what is cached, or what may share a link. */
static void
ask_notice(Client *c)
{
	say_query(c, "do $$ begin raise notice 'of %s'; end $$", c->token);
	want(c, "N 00000|of %s", c->token);
	want(c, "C DO");
	want_ready(c);
}

static void ask_end(Client *c);

static void
ask_warning(Client *c)
{
	if (c->status != 'I')
		ask_end(c);
	say_query(c, "rollback");
	want(c, "N 25P01|there is no transaction in progress");
	want(c, "C ROLLBACK");
	want_ready(c);
}

static void
ask_copy_out(Client *c)
{
	say_query(c, "copy (select '%s', n from generate_series(1, 3) n) to stdout", c->token);
	want(c, "H");
	for (int i = 1; i <= 3; i++)
		want(c, "d %s\t%d", c->token, i);
	want(c, "c");
	want(c, "C COPY 3");
	want_ready(c);
}

static void
ask_write(Client *c)
{
	if (chance(c, 2) == 0)
		say_query(c, "update public.hpc_own set v = '%s' where c = %d", c->token, c->row);
	else
	{
		char		number[12];

		snprintf(number, sizeof(number), "%d", c->row);
		say_parse(c, "", "update public.hpc_own set v = $1 where c = $2::int");
		say_bind(c, "", c->token, number);
		say_execute(c, 0);
		say_sync(c);
		want(c, "1");
		want(c, "2");
	}
	want(c, "C UPDATE 1");
	want_ready(c);
	strcpy(c->own, c->token);
	if (c->status == 'I')
		strcpy(c->committed, c->token);
	add_possible(c, c->token);
}

static void
ask_own(Client *c)
{
	say_query(c, "select v, %s from public.hpc_own where c = %d", c->expression, c->row);
	want(c, "T 2");
	want(c, "D %s|%s", c->own, c->token);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_set(Client *c)
{
	c->zone = (c->zone + 1 + (int) chance(c, ZONES - 1)) % ZONES;
	say_query(c, "set timezone = '%s'", zones[c->zone]);
	want(c, "C SET");
	want(c, "S TimeZone=%s", zones[c->zone]);
	want_ready(c);
}

static void
ask_begin(Client *c)
{
	say_query(c, chance(c, 2) ? "begin" : "start transaction");
	c->status = 'T';
	want(c, c->out.data[c->out.len - 2] == 'n' && c->out.data[c->out.len - 3] == 'i' ? "C BEGIN" : "C START TRANSACTION");
	want_ready(c);
}

static void
ask_end(Client *c)
{
	bool		commit = chance(c, 3) != 0;
	bool		works = commit && c->status == 'T';

	say_query(c, commit ? "commit" : "rollback");
	c->status = 'I';
	want(c, works ? "C COMMIT" : "C ROLLBACK");
	want_ready(c);
	strcpy(works ? c->committed : c->own, works ? c->own : c->committed);
}

/* In a transaction of its own; the other lockers wait for the same row. */
static void
ask_lock(Client *c)
{
	if (c->status != 'I')
		ask_end(c);
	say_query(c, "begin");
	want(c, "C BEGIN");
	want(c, "Z T");
	say_query(c, "select '%s', id from public.hpc_lock where id = 1 for update", c->token);
	want(c, "T 2");
	want(c, "D %s|1", c->token);
	want(c, "C SELECT 1");
	want(c, "Z T");
	say_query(c, "select pg_advisory_xact_lock(7), '%s', pg_sleep(0.00%d)", c->token, (int) chance(c, 10));
	want(c, "T 3");
	want(c, "D |%s|", c->token);
	want(c, "C SELECT 1");
	want(c, "Z T");
	say_query(c, "commit");
	want(c, "C COMMIT");
	want(c, "Z I");
}

static void
ask_slow(Client *c)
{
	say_query(c, "select '%s', pg_sleep(0.%02d)", c->token, (int) chance(c, 6));
	want(c, "T 2");
	want(c, "D %s|", c->token);
	want(c, "C SELECT 1");
	want_ready(c);
}

static void
ask_in_failed(Client *c)
{
	if (chance(c, 2) == 0)
		ask_end(c);
	else
	{
		say_query(c, "select '%s'", c->token);
		want(c, "E 25P02|current transaction is aborted, commands ignored until end of transaction block");
		want_ready(c);
	}
}

static void
ask_something(Client *c)
{
	uint32_t	what = chance(c, 100);

	new_token(c);
	if (c->status == 'E')
		ask_in_failed(c);
	else if (c->role == LOCKER && what < 40)
		ask_lock(c);
	else if (c->role == VICTIM && what < 50)
		ask_slow(c);
	else if (c->role == STALLER && what < 15)
		ask_big(c, BIG_ROWS);
	else if (c->status == 'T' && what < 25)
		ask_end(c);
	else if (what < 18)
		ask_read(c);
	else if (what < 19)
		ask_zone(c);
	else if (what < 25)
		ask_common(c);
	else if (what < 31)
		ask_place(c);
	else if (what < 45)
		ask_extended(c);
	else if (what < 60)
		ask_prepared(c);
	else if (what < 64)
		ask_suspended(c);
	else if (what < 66)
		ask_big(c, 1 + (int) chance(c, 300));
	else if (what < 72)
		ask_error(c);
	else if (what < 74)
		c->role == LOCKER ? ask_notice(c) : ask_warning(c);
	else if (what < 77)
		ask_copy_out(c);
	else if (what < 84)
		ask_write(c);
	else if (what < 92)
		ask_own(c);
	else if (what < 94 && c->status == 'I')
		ask_set(c);
	else if (what < 99 && c->status == 'I')
		ask_begin(c);
	else if (what == 99)
		ask_slow(c);
	else
		ask_read(c);
}

/* ---- judging an answer ---- */

static bool
may_fail_so(const Client *c, const char *line)
{
	if (c->role == VICTIM && strncmp(line, "E 57014", 7) == 0)
	{
		cancelled++;
		return true;
	}
	/*
	 * Z E: a known difference. Who loses his link behind the end of a transaction, in the same pipeline, is told that his transaction has
	 * failed, though he is in none.
	 */
	if (losses_allowed && (strcmp(line, "Z E") == 0 || strncmp(line, "E 0800", 6) == 0 || strncmp(line, "E 57P01", 7) == 0))
	{
		lost++;
		return true;
	}
	return false;
}

/* Something failed that was allowed to: only tokens and the number of answers count for the rest. False: the connection has ended. */
static bool
drain(Client *c, int ready_seen)
{
	char		line[4096];

	while (ready_seen < c->exchanges)
	{
		if (!next_line(c, line, sizeof(line)))
			return false;
		if (line[0] == 'Z')
		{
			ready_seen++;
			c->status = line[2];
		}
	}
	return true;
}

/* A staller takes the beginning, and nothing for a while. */
static void
stall(Client *c)
{
	if (c->wanted.len > 200 * 1024)
	{
		receive(c);
		rest_ms(100 + chance(c, 700));
	}
}

typedef enum Outcome
{
	AS_WANTED, FAILED, ENDED, WRONG
} Outcome;

static Outcome
hear(Client *c)
{
	char	   *at = c->wanted.data;
	char	   *end;
	char		line[4096];
	int			ready_seen = 0;

	while (at < c->wanted.data + c->wanted.len)
	{
		end = strchr(at, '\n');
		*end = '\0';
		if (!next_line(c, line, sizeof(line)))
			return stopping ? WRONG : ENDED;
		if (strcmp(line, at) != 0)
		{
			if (may_fail_so(c, line))
				return drain(c, ready_seen + (line[0] == 'Z')) ? FAILED : ENDED;
			violation(c, "wanted \"%s\", got \"%s\"", at, line);
			return WRONG;
		}
		ready_seen += line[0] == 'Z';
		at = end + 1;
	}
	answered += c->exchanges;
	return AS_WANTED;
}

/* ---- after a failure: what holds now? ---- */

static void
clear_pipeline(Client *c)
{
	c->out.len = c->wanted.len = c->said.len = 0;
	c->exchanges = 0;
}

/* One request by hand; the row of the answer, or "" . */
static bool
ask_plainly(Client *c, const char *sql, char *row, size_t size)
{
	char		line[4096];

	clear_pipeline(c);
	say_query(c, "%s", sql);
	row[0] = '\0';
	if (!send_bytes(c, c->out.data, c->out.len))
		return false;
	while (next_line(c, line, sizeof(line)))
	{
		if (line[0] == 'D')
			snprintf(row, size, "%s", line + 2);
		else if (line[0] == 'E' && !may_fail_so(c, line))
		{
			violation(c, "after a failure: %s", line);
			return false;
		}
		else if (line[0] == 'Z')
		{
			c->status = line[2];
			return true;
		}
	}
	return false;
}

static bool
is_possible(const Client *c, const char *value)
{
	for (int i = 0; i < c->possible_count; i++)
		if (strcmp(c->possible[i], value) == 0)
			return true;
	return false;
}

static void
use_another_row(Client *c)
{
	c->row = (c->row + CLIENTS_MAX) % ROWS;
	strcpy(c->own, UNWRITTEN);
	strcpy(c->committed, UNWRITTEN);
}

/*
 * Back to a known state: no transaction, the own row as it may be, or another one. False: connect anew. What was lost may be carried out later than
 * now, so that nothing is known of the row for good.
 */
static bool
recover(Client *c)
{
	char		row[256];
	char		sql[128];

	for (int tries = 0; tries < 20 && !stopping; tries++)
	{
		if (!ask_plainly(c, "rollback", row, sizeof(row)))
			return false;
		if (c->status != 'I')
			continue;
		snprintf(sql, sizeof(sql), "select v from public.hpc_own where c = %d", c->row);
		if (!ask_plainly(c, sql, row, sizeof(row)))
			return false;
		if (row[0] == '\0')
			continue;
		if (!is_possible(c, row))
		{
			violation(c, "the row holds \"%s\", which it may not", row);
			return false;
		}
		strcpy(c->own, row);
		strcpy(c->committed, row);
		if (c->possible_count > 1)
			use_another_row(c);
		return true;
	}
	return false;
}

/* ---- clients ---- */

static void
leave_in_the_middle(Client *c)
{
	struct linger l = {1, 0};

	if (chance(c, 2) == 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	rest_ms(chance(c, 20));
	c->closed = true;
}

static Outcome
converse(Client *c)
{
	int			n = 1 + (chance(c, 3) == 0 ? (int) chance(c, PIPELINE_MAX) : 0);
	size_t		part;

	clear_pipeline(c);
	/* unknown until all has been answered: its value before, and each it is given */
	c->possible_count = 0;
	add_possible(c, c->committed);
	if (strcmp(c->own, c->committed) != 0)
		add_possible(c, c->own);	/* of a transaction that goes on */
	for (int i = 0; i < n && c->possible_count < POSSIBLE_MAX; i++)
		ask_something(c);
	part = chance(c, 3) == 0 ? chance(c, (uint32_t) c->out.len) : 0;
	if (!send_bytes(c, c->out.data, part))
		return ENDED;
	if (c->role == LEAVER && chance(c, 8) == 0)
	{
		leave_in_the_middle(c);
		return ENDED;
	}
	if (!send_bytes(c, c->out.data + part, c->out.len - part))
		return ENDED;
	if (c->role == STALLER)
		stall(c);
	return hear(c);
}

static bool
may_end(const Client *c)
{
	return losses_allowed || c->role == LEAVER;
}

static void *
client_main(void *arg)
{
	Client	   *c = arg;
	long		until = now_ms() + seconds * 1000;
	bool		sure = true;

	c->fd = -1;
	while (!stopping && now_ms() < until)
	{
		if (c->fd < 0)
		{
			c->zone = (int) chance(c, ZONES);
			c->style = (int) chance(c, STYLES);
			c->place = (int) chance(c, PLACES);
			reconnected++;
			if (!log_in(c) || (!sure && !recover(c)))
			{
				hang_up(c);
				rest_ms(20);
				continue;
			}
			sure = true;
		}
		switch (converse(c))
		{
			case AS_WANTED:
				if (c->status == 'I' && chance(c, 40) == 0)
				{
					end_message(c, (c->out.len = 0, begin_message(c, 'X')));
					send_bytes(c, c->out.data, c->out.len);
					hang_up(c);
				}
				break;
			case FAILED:
				sure = recover(c);
				hang_up(c);		/* the settings are not certain */
				break;
			case ENDED:
				if (!may_end(c))
					violation(c, "the connection was closed");
				sure = false;
				hang_up(c);
				break;
			case WRONG:
				hang_up(c);
				return NULL;
		}
	}
	hang_up(c);
	return NULL;
}

/* ---- trouble makers ---- */

static void
cancel(const Address *address, uint32_t pid, const char *key, size_t key_len)
{
	Client		canceller = {.fd = open_socket(address)};
	char		rest[64];
	struct pollfd p = {canceller.fd, POLLIN, 0};

	if (canceller.fd < 0)
		return;
	put32(&canceller.out, 12 + (uint32_t) key_len);
	put32(&canceller.out, 80877102);
	put(&canceller.out, &pid, 4);
	put(&canceller.out, key, key_len);
	if (send_bytes(&canceller, canceller.out.data, canceller.out.len) && poll(&p, 1, 2000) > 0 && recv(canceller.fd, rest, sizeof(rest), 0) == 0)
		cancels_sent++;
	close(canceller.fd);
	free(canceller.out.data);
}

static void *
canceller_main(void *arg)
{
	Client		dice = {.random = seed ^ 0xcace};
	char		key[256];
	size_t		key_len;
	uint32_t	pid;

	(void) arg;
	while (!stopping)
	{
		Client	   *c = &clients[chance(&dice, (uint32_t) client_count)];

		if (c->role != VICTIM)
			continue;
		pthread_mutex_lock(&keys_lock);
		pid = c->pid;
		key_len = c->key_len;
		memcpy(key, c->key, key_len);
		pthread_mutex_unlock(&keys_lock);
		if (key_len > 0)
			cancel(c->address, pid, key, key_len);
		rest_ms(chance(&dice, 30));
	}
	return NULL;
}

static void
ask_origin(Client *c, const char *sql)
{
	char		row[256];

	if (!ask_plainly(c, sql, row, sizeof(row)))
		die("a connection has ended");
}

static void
connect_by(Client *c, const Address *address)
{
	c->address = address;
	c->role = STEADY;
	if (!log_in(c))
		die("no connection");
}

static void *
killer_main(void *arg)
{
	Client		c = {.random = seed, .number = 999};

	(void) arg;
	connect_by(&c, &direct);
	while (!stopping)
	{
		rest_ms(kill_every_ms);
		ask_origin(&c, "select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null and pid <> pg_backend_pid() "
				   "and application_name <> 'hyperpool scout' order by random() limit 1");
		kills++;
	}
	hang_up(&c);
	return NULL;
}

static void *
resetter_main(void *arg)
{
	FILE	   *f = fopen(control_fifo, "w");

	(void) arg;
	if (f == NULL)
		die("%s: %s", control_fifo, strerror(errno));
	while (!stopping)
	{
		rest_ms(reset_every_ms);
		fputs("reset\n", f);
		fflush(f);
		kills++;
	}
	fclose(f);
	return NULL;
}

/* ---- before ---- */

static void
set_up(Client *c)
{
	char		sql[256];

	ask_origin(c, "drop schema if exists hpc_a, hpc_b cascade");
	ask_origin(c, "drop table if exists public.hpc_own, public.hpc_lock");
	ask_origin(c, "create table public.hpc_own (c int primary key, v text)");
	ask_origin(c, "create table public.hpc_lock (id int primary key)");
	ask_origin(c, "insert into public.hpc_lock values (1)");
	for (int i = 0; i < PLACES; i++)
	{
		snprintf(sql, sizeof(sql), "create schema %s create table place (id int primary key, who text)", places[i]);
		ask_origin(c, sql);
		snprintf(sql, sizeof(sql), "insert into %s.place select n, '%s-' || n from generate_series(1, 9) n", places[i], places[i]);
		ask_origin(c, sql);
	}
	snprintf(sql, sizeof(sql), "insert into public.hpc_own select n, '" UNWRITTEN "' from generate_series(0, %d) n", ROWS - 1);
	ask_origin(c, sql);
}

static void
learn_moments(Client *c)
{
	for (int z = 0; z < ZONES; z++)
		for (int s = 0; s < STYLES; s++)
		{
			char		sql[256];

			snprintf(sql, sizeof(sql), "set timezone = '%s'; set datestyle = '%s'; select " MOMENT, zones[z], styles[s]);
			if (!ask_plainly(c, sql, moments[z][s], sizeof(moments[z][s])) || !moments[z][s][0])
				die("the direct connection does not answer");
		}
}

/* What a run before has left in the rows goes, by each way that clients will read them. */
static void
begin_rows(void)
{
	for (int i = 0; i < through_count; i++)
	{
		Client		c = {.number = 997};

		connect_by(&c, &through[i]);
		ask_origin(&c, "update public.hpc_own set v = '" UNWRITTEN "' where v <> '" UNWRITTEN "'");
		hang_up(&c);
	}
}

static void
make_clients(void)
{
	for (int role = 0; role < 5; role++)
		for (int i = 0; i < count_of[role]; i++)
		{
			Client	   *c = &clients[client_count];

			if (client_count == CLIENTS_MAX)
				die("too many clients");
			c->number = client_count;
			c->role = (Role) role;
			c->address = &through[client_count % through_count];
			c->random = seed * UINT64_C(2654435761) + (uint64_t) client_count * UINT64_C(40503);
			c->row = client_count;
			strcpy(c->own, UNWRITTEN);
			strcpy(c->committed, UNWRITTEN);
			client_count++;
		}
}

static void
read_address(Address *a, const char *conninfo)
{
	char		copy[1024];
	char	   *save;

	snprintf(copy, sizeof(copy), "%s", conninfo);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
	{
		sscanf(word, "host=%255s", a->host);
		sscanf(word, "port=%15s", a->port);
		sscanf(word, "dbname=%63s", a->dbname);
		sscanf(word, "user=%63s", a->user);
	}
}

static bool
read_options(int argc, char **argv)
{
	bool		setup = false;

	for (int i = 1; i < argc; i++)
	{
		const char *name = argv[i];
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(name, "--setup") == 0)
		{
			setup = true;
			continue;
		}
		i++;
		if (strcmp(name, "--direct") == 0)
			read_address(&direct, value);
		else if (strcmp(name, "--through") == 0 && through_count < THROUGH_MAX)
			read_address(&through[through_count++], value);
		else if (strcmp(name, "--seed") == 0)
			seed = strtoull(value, NULL, 10);
		else if (strcmp(name, "--seconds") == 0)
			seconds = atol(value);
		else if (strcmp(name, "--clients") == 0)
			count_of[STEADY] = atoi(value);
		else if (strcmp(name, "--victims") == 0)
			count_of[VICTIM] = atoi(value);
		else if (strcmp(name, "--stallers") == 0)
			count_of[STALLER] = atoi(value);
		else if (strcmp(name, "--leavers") == 0)
			count_of[LEAVER] = atoi(value);
		else if (strcmp(name, "--lockers") == 0)
			count_of[LOCKER] = atoi(value);
		else if (strcmp(name, "--kill") == 0)
			kill_every_ms = atol(value);
		else if (strcmp(name, "--reset") == 0)
			reset_every_ms = atol(value);
		else if (strcmp(name, "--control") == 0)
			control_fifo = value;
		else if (strcmp(name, "--patience") == 0)
			patience_ms = atol(value);
		else
			die("%s: what is that? See the head of tokens.c", name);
	}
	losses_allowed = kill_every_ms > 0 || reset_every_ms > 0;
	return setup;
}

static void
start(pthread_t *threads, int *count, void *(*run) (void *), void *arg)
{
	if (pthread_create(&threads[(*count)++], NULL, run, arg) != 0)
		die("no thread");
}

static void
run(void)
{
	pthread_t	threads[CLIENTS_MAX];
	pthread_t	trouble[3];
	int			count = 0;
	int			trouble_count = 0;

	for (int i = 0; i < client_count; i++)
		start(threads, &count, client_main, &clients[i]);
	if (count_of[VICTIM] > 0)
		start(trouble, &trouble_count, canceller_main, NULL);
	if (kill_every_ms > 0)
		start(trouble, &trouble_count, killer_main, NULL);
	if (reset_every_ms > 0 && control_fifo)
		start(trouble, &trouble_count, resetter_main, NULL);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	stopping = true;
	for (int i = 0; i < trouble_count; i++)
		pthread_join(trouble[i], NULL);
}

int
main(int argc, char **argv)
{
	Client		control = {.number = 998};
	bool		setup = read_options(argc, argv);

	connect_by(&control, &direct);
	if (setup)
	{
		set_up(&control);
		return 0;
	}
	if (through_count == 0)
		die("--through is missing");
	learn_moments(&control);
	begin_rows();
	make_clients();
	run();
	printf("violations %ld\nanswered %ld\nlost %ld\ncancelled %ld\nconnections %ld\ncancels %ld\nkills %ld\n", (long) violations, (long) answered,
		   (long) lost, (long) cancelled, (long) reconnected, (long) cancels_sent, (long) kills);
	return violations > 0 ? 1 : 0;
}
