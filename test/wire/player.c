/*
 * player.c: plays one script of protocol messages and prints the trace of every answer.
 *
 * It answers: what exactly does this address say to these bytes? It owns its own sockets, a
 * login (trust, password, md5, SCRAM-SHA-256; plain or TLS) and the script language that
 * README.md describes. It never uses libpq, never judges an answer (run.pl compares two
 * traces), and never waits without a deadline. With --live it takes the script line by line from its
 * standard input and can say when an answer has ended (settle), for those who do not know it before.
 *
 * Exit status: 0 played to the end, 2 an answer did not come in time, 3 the script, its setup
 * or the connection is at fault.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EXIT_TIMEOUT 2
#define EXIT_FAULT 3
#define MAX_CONNECTIONS 64
#define MAX_MESSAGE (1024L * 1024 * 1024)
#define SHOWN_VALUE 96			/* longer values are traced as length, hash and their first bytes */
#define SHOWN_PREFIX 40
#define SPLIT_BELOW (256 * 1024)	/* a longer queue goes out in large writes even when split */
#define SCRIPT_SECONDS 240		/* no script plays longer than this */
#define READY_SECONDS 70		/* the query that is asked before a play gives up sooner */

typedef struct Buffer
{
	char	   *data;
	size_t		start;			/* consumed up to here */
	size_t		len;			/* filled up to here */
	size_t		cap;
} Buffer;

typedef struct Target
{
	char		host[256];
	char		port[16];
	char		dbname[128];
	char		user[128];
	char		password[256];
	bool		tls;
} Target;

typedef struct Scram
{
	char		first_bare[128];
	unsigned char salted[32];
	char		auth_message[2048];
} Scram;

typedef struct Connection
{
	char		name[32];
	const Target *target;
	int			fd;
	SSL		   *ssl;
	bool		eof;			/* the other side closed, or the bytes make no sense */
	bool		write_dead;
	int			split;			/* bytes a write; 0: all at once */
	uint64_t	cut;			/* not 0: writes of random lengths; the state of their generator */
	Buffer		in;
	const char *last_body;		/* of the message read last; valid until the next read */
	size_t		last_len;
	Buffer		out;
	FILE	   *trace;
	char	   *trace_text;
	size_t		trace_len;
	size_t		trace_shown;	/* live: so much of it has been printed */
	long		step_count[256];	/* live: messages since the last command that read, by type */
	char		step_last;
	char		run_type;		/* brief: the type of the run of messages being counted */
	long		run_count;
	uint64_t	run_hash;
	uint32_t	pid;
	char		key[256];
	size_t		key_len;
	Scram		scram;
} Connection;

/* A view of bytes being decoded, or of a line being parsed. */
typedef struct Cursor
{
	const unsigned char *p;
	const unsigned char *end;
	bool		bad;
} Cursor;

static Target target_played;
static Target target_control;
static Target target_setup;		/* no host: the control connection does it */
static Target target_ready;		/* no host: there is nothing to ask before a play */
static const char *record_folder;	/* NULL: nothing is recorded */
static const char *script_name;
static Connection control;		/* waits for states of the origin; setup and teardown */
static Connection setter;		/* runs setup and teardown, if they go another way */
static Connection readier;		/* runs ready_query */
static Connection *connections[MAX_CONNECTIONS];
static int	connection_count;
static Connection *current;
static SSL_CTX *tls_context;
static long timeout_ms = 10000;
static long script_deadline;
static int	default_split;
static bool brief;
static bool replayable;
static bool live;
static const char *last_write;	/* SQL, run before the last play; it may fail */
static const char *ready_query;	/* SQL, run before each play: when it is answered, the gateway knows what the setup has made */
static char **lines;
static int	line_count;
static int	line_number;
static bool teardown_due;

static void stop(int status, const char *format,...) __attribute__((format(printf, 2, 3), noreturn));

/* ---- time, memory ---- */

static long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

static void
pause_ms(long ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

static void
reserve(Buffer *b, size_t more)
{
	if (b->start == b->len)
		b->start = b->len = 0;
	if (b->cap - b->len >= more)
		return;
	b->cap = (b->len + more) * 2;
	b->data = realloc(b->data, b->cap);
	if (b->data == NULL)
		stop(EXIT_FAULT, "out of memory");
}

static void
put(Buffer *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	reserve(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void
put16(Buffer *b, int value)
{
	uint16_t	n = htons((uint16_t) value);

	put(b, &n, 2);
}

static void
put32(Buffer *b, long value)
{
	uint32_t	n = htonl((uint32_t) value);

	put(b, &n, 4);
}

/* A C string with its closing zero. */
static void
put_string(Buffer *b, const char *s)
{
	put(b, s, strlen(s) + 1);
}

static void
put_value_string(Buffer *b, const Buffer *value)
{
	put(b, value->data, value->len);
	put(b, "", 1);
}

static void
put_message(Buffer *b, char type, const Buffer *body)
{
	put(b, &type, 1);
	put32(b, (long) body->len + 4);
	put(b, body->data, body->len);
}

static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t		i;

	for (i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(1099511628211);
	return hash;
}

/* ---- the trace ---- */

static void
print_quoted(FILE *f, const unsigned char *p, size_t len)
{
	size_t		i;

	fputc('"', f);
	for (i = 0; i < len; i++)
	{
		if (p[i] == '"' || p[i] == '\\')
			fprintf(f, "\\%c", p[i]);
		else if (p[i] == '\n')
			fputs("\\n", f);
		else if (p[i] < 0x20 || p[i] >= 0x7f)
			fprintf(f, "\\x%02x", p[i]);
		else
			fputc(p[i], f);
	}
	fputc('"', f);
}

static void
print_value(FILE *f, const unsigned char *p, size_t len)
{
	if (len <= SHOWN_VALUE)
	{
		print_quoted(f, p, len);
		return;
	}
	fprintf(f, "%zu:%016llx:", len, (unsigned long long) hash_bytes(UINT64_C(14695981039346656037), p, len));
	print_quoted(f, p, SHOWN_PREFIX);
	fputs("...", f);
}

static void
end_run(Connection *c)
{
	if (c->run_count > 0)
		fprintf(c->trace, "%s< %c times %ld hash %016llx\n", c->name, c->run_type, c->run_count,
				(unsigned long long) c->run_hash);
	c->run_count = 0;
}

/* Brief scripts trace a run of DataRow or CopyData as one line. */
static bool
join_run(Connection *c, char type, const char *body, size_t len)
{
	if (!brief || (type != 'D' && type != 'd'))
	{
		end_run(c);
		return false;
	}
	if (c->run_count > 0 && c->run_type != type)
		end_run(c);
	if (c->run_count++ == 0)
		c->run_hash = UINT64_C(14695981039346656037);
	c->run_type = type;
	c->run_hash = hash_bytes(hash_bytes(c->run_hash, &len, sizeof(len)), body, len);
	return true;
}

static void
trace_sent(Connection *c, const char *line)
{
	if (!brief)
		fprintf(c->trace, "%s> %.110s\n", c->name, line);
}

/* ---- decoding answers ---- */

static uint32_t
get_uint(Cursor *c, size_t width)
{
	uint32_t	value = 0;

	if (c->bad || (size_t) (c->end - c->p) < width)
	{
		c->bad = true;
		return 0;
	}
	while (width-- > 0)
		value = value << 8 | *c->p++;
	return value;
}

static int
get16(Cursor *c)
{
	return (int16_t) get_uint(c, 2);
}

static int32_t
get32(Cursor *c)
{
	return (int32_t) get_uint(c, 4);
}

static const char *
get_string(Cursor *c)
{
	const unsigned char *zero = c->bad ? NULL : memchr(c->p, 0, c->end - c->p);
	const char *s = (const char *) c->p;

	if (zero == NULL)
	{
		c->bad = true;
		return "";
	}
	c->p = zero + 1;
	return s;
}

static void
decode_formats(FILE *f, Cursor *c)
{
	int			n = get16(c);

	fputs(" [", f);
	for (; n > 0 && !c->bad; n--)
		fprintf(f, "%d%s", get16(c), n > 1 ? " " : "");
	fputs("]", f);
}

static void
decode_value(FILE *f, Cursor *c)
{
	int32_t		len = get32(c);

	if (len == -1)
	{
		fputs(" null", f);
		return;
	}
	if (c->bad || len < 0 || len > c->end - c->p)
	{
		c->bad = true;
		return;
	}
	fputc(' ', f);
	print_value(f, c->p, len);
	c->p += len;
}

static void
decode_row(FILE *f, Cursor *c)
{
	int			n = get16(c);

	while (n-- > 0 && !c->bad)
		decode_value(f, c);
}

static void
decode_row_description(FILE *f, Cursor *c)
{
	int			n = get16(c);

	while (n-- > 0 && !c->bad)
	{
		fprintf(f, " [%s", get_string(c));
		fprintf(f, " table=%u", get_uint(c, 4));
		fprintf(f, ".%d", get16(c));
		fprintf(f, " type=%u", get_uint(c, 4));
		fprintf(f, " size=%d", get16(c));
		fprintf(f, " modifier=%d", get32(c));
		fprintf(f, " format=%d]", get16(c));
	}
}

static void
decode_parameter_description(FILE *f, Cursor *c)
{
	int			n = get16(c);

	while (n-- > 0 && !c->bad)
		fprintf(f, " type=%u", get_uint(c, 4));
}

static void
decode_error(FILE *f, Cursor *c)
{
	unsigned	field;
	const char *text;

	while ((field = get_uint(c, 1)) != 0)
	{
		text = get_string(c);
		fprintf(f, " %c=", field);
		print_quoted(f, (const unsigned char *) text, strlen(text));
	}
}

static void
decode_strings(FILE *f, Cursor *c, int n)
{
	const char *s;

	while (n-- > 0 && !c->bad)
	{
		s = get_string(c);
		fputc(' ', f);
		print_value(f, (const unsigned char *) s, strlen(s));
	}
}

static void
decode_parameter_status(FILE *f, Cursor *c)
{
	fprintf(f, " %s =", get_string(c));
	decode_strings(f, c, 1);
}

static void
decode_key(Connection *conn, FILE *f, Cursor *c)
{
	conn->pid = get_uint(c, 4);
	conn->key_len = c->bad ? 0 : (size_t) (c->end - c->p);
	if (conn->key_len > sizeof(conn->key))
		conn->key_len = sizeof(conn->key);
	memcpy(conn->key, c->p, conn->key_len);
	fprintf(f, " pid=%u key=%zu bytes:", conn->pid, conn->key_len);
	print_quoted(f, c->p, conn->key_len);
	c->p = c->end;
}

static void
decode_negotiate(FILE *f, Cursor *c)
{
	fprintf(f, " minor=%d", get32(c));
	decode_strings(f, c, get32(c));
}

static void
decode_copy_start(FILE *f, Cursor *c)
{
	fprintf(f, " format=%u", get_uint(c, 1));
	decode_formats(f, c);
}

static void
decode_notification(FILE *f, Cursor *c)
{
	fprintf(f, " pid=%u", get_uint(c, 4));
	decode_strings(f, c, 2);
}

static void
decode_body(Connection *conn, char type, Cursor *c)
{
	FILE	   *f = conn->trace;

	switch (type)
	{
		case 'T': decode_row_description(f, c); break;
		case 't': decode_parameter_description(f, c); break;
		case 'D': decode_row(f, c); break;
		case 'E':
		case 'N': decode_error(f, c); break;
		case 'C': decode_strings(f, c, 1); break;
		case 'S': decode_parameter_status(f, c); break;
		case 'K': decode_key(conn, f, c); break;
		case 'v': decode_negotiate(f, c); break;
		case 'V': decode_value(f, c); break;
		case 'A': decode_notification(f, c); break;
		case 'Z': fprintf(f, " %c", get_uint(c, 1)); break;
		case 'R': fprintf(f, " code=%d", get32(c)); break;
		case 'G':
		case 'H':
		case 'W': decode_copy_start(f, c); break;
		default: break;			/* empty ones, and what no rule of decoding is known for */
	}
}

static void
trace_answer(Connection *c, char type, const char *body, size_t len)
{
	Cursor		cursor = {(const unsigned char *) body, (const unsigned char *) body + len, false};

	c->step_count[(unsigned char) type]++;
	c->step_last = type;
	if (join_run(c, type, body, len))
		return;
	fprintf(c->trace, "%s< %c", c->name, type);
	decode_body(c, type, &cursor);
	if (type == 'd' || cursor.p < cursor.end)
	{
		fputs(type == 'd' ? " " : " and more: ", c->trace);
		print_value(c->trace, cursor.p, cursor.end - cursor.p);
	}
	fputs(cursor.bad ? " malformed\n" : "\n", c->trace);
}

/* ---- bytes in and out ---- */

static void
mark_eof(Connection *c, const char *why)
{
	if (c->eof)
		return;
	c->eof = c->write_dead = true;
	end_run(c);
	fprintf(c->trace, "%s< %s\n", c->name, why);
}

static bool
tls_retry(SSL *ssl, int result)
{
	int			e = SSL_get_error(ssl, result);

	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

/* With --record: what a connection of the play sent and what it got, in files named after script and connection. */
static void
record(const Connection *c, const char *way, const void *data, size_t len)
{
	char		path[512];
	FILE	   *f;

	if (record_folder == NULL || c == &control || c == &setter || c == &readier)
		return;
	snprintf(path, sizeof(path), "%s/%s.%s.%s", record_folder, script_name, c->name, way);
	f = fopen(path, "ab");
	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
		stop(EXIT_FAULT, "%s: %s", path, strerror(errno));
}

/* A length from 1 to len, short ones more often than long ones, and now and then a rest, so that the pieces arrive apart. */
static size_t
cut_length(Connection *c, size_t len)
{
	static const size_t most[] = {2, 9, 60, 700, 9000};
	size_t		limit;

	c->cut = c->cut * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	limit = most[(c->cut >> 33) % 5];
	if (((c->cut >> 40) & 7) == 0)
		pause_ms(1);
	return 1 + (c->cut >> 45) % (limit < len ? limit : len);
}

/* Sends what it can; true if something went out (or the way out is gone). */
static bool
write_some(Connection *c)
{
	size_t		len = c->out.len - c->out.start;
	ssize_t		n;

	if (len == 0)
		return false;
	if (c->split > 0 && len > (size_t) c->split && len <= SPLIT_BELOW)
		len = c->split;
	else if (c->cut != 0 && len <= SPLIT_BELOW)
		len = cut_length(c, len);
	if (len > 1 << 20)
		len = 1 << 20;
	if (c->ssl)
		n = SSL_write(c->ssl, c->out.data + c->out.start, (int) len);
	else
		n = send(c->fd, c->out.data + c->out.start, len, MSG_NOSIGNAL);
	if (n > 0)
	{
		record(c, "sent", c->out.data + c->out.start, n);
		c->out.start += n;
	}
	else if (c->ssl ? tls_retry(c->ssl, (int) n) : (errno == EAGAIN || errno == EINTR))
		return false;
	else
	{
		c->write_dead = true;
		c->out.start = c->out.len;
	}
	return true;
}

static bool
read_some(Connection *c)
{
	ssize_t		n;

	if (c->eof)
		return false;
	reserve(&c->in, 65536);
	if (c->ssl)
		n = SSL_read(c->ssl, c->in.data + c->in.len, 65536);
	else
		n = recv(c->fd, c->in.data + c->in.len, 65536, 0);
	if (n > 0)
	{
		record(c, "got", c->in.data + c->in.len, n);
		c->in.len += n;
	}
	else if (c->ssl ? tls_retry(c->ssl, (int) n) : (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return false;
	else
		c->eof = true;
	return true;
}

/* Sleeps until the socket is ready; false at the deadline. */
static bool
wait_ready(Connection *c, short events, long deadline)
{
	struct pollfd p = {c->fd, events, 0};
	long		left = deadline - now_ms();

	if (left > script_deadline - now_ms())
		left = script_deadline - now_ms();
	if (left <= 0)
		return false;
	return poll(&p, 1, (int) left) != 0;
}

/* One step of both directions; every byte of progress starts the deadline anew. */
static void
move_bytes(Connection *c, long *deadline, const char *waiting_for)
{
	bool		moved = write_some(c);

	if (read_some(c))
		moved = true;
	if (moved)
	{
		*deadline = now_ms() + timeout_ms;
		return;
	}
	if (wait_ready(c, c->out.start < c->out.len ? POLLIN | POLLOUT : POLLIN, *deadline))
		return;
	end_run(c);
	fprintf(c->trace, "%s< timeout waiting for %s\n", c->name, waiting_for);
	stop(EXIT_TIMEOUT, "connection %s: timeout waiting for %s", c->name, waiting_for);
}

static void
flush_out(Connection *c)
{
	long		deadline = now_ms() + timeout_ms;

	if (c->fd < 0 || c->write_dead)
		c->out.start = c->out.len;
	while (c->out.start < c->out.len)
		move_bytes(c, &deadline, "the socket to take bytes");
}

/* ---- login ---- */

static void
hmac(const void *key, size_t key_len, const void *text, size_t len, unsigned char *out)
{
	unsigned	out_len = 32;

	if (HMAC(EVP_sha256(), key, (int) key_len, text, len, out, &out_len) == NULL)
		stop(EXIT_FAULT, "HMAC failed");
}

static void
hex_md5(const void *text, size_t len, char *hex)
{
	unsigned char digest[16];
	int			i;

	if (!EVP_Digest(text, len, digest, NULL, EVP_md5(), NULL))
		stop(EXIT_FAULT, "md5 is not available");
	for (i = 0; i < 16; i++)
		sprintf(hex + i * 2, "%02x", digest[i]);
}

static void
answer_md5(Connection *c, const unsigned char *salt)
{
	Buffer		b = {0};
	Buffer		body = {0};
	char		hex[33];

	put(&b, c->target->password, strlen(c->target->password));
	put(&b, c->target->user, strlen(c->target->user));
	hex_md5(b.data, b.len, hex);
	b.len = 0;
	put(&b, hex, 32);
	put(&b, salt, 4);
	hex_md5(b.data, b.len, hex);
	put(&body, "md5", 3);
	put_string(&body, hex);
	put_message(&c->out, 'p', &body);
	free(b.data);
	free(body.data);
}

static void
scram_first(Connection *c)
{
	unsigned char random[18];
	char		nonce[25];
	Buffer		body = {0};

	RAND_bytes(random, sizeof(random));
	EVP_EncodeBlock((unsigned char *) nonce, random, sizeof(random));
	snprintf(c->scram.first_bare, sizeof(c->scram.first_bare), "n=,r=%s", nonce);
	put_string(&body, "SCRAM-SHA-256");
	put32(&body, (long) strlen(c->scram.first_bare) + 3);
	put(&body, "n,,", 3);
	put(&body, c->scram.first_bare, strlen(c->scram.first_bare));
	put_message(&c->out, 'p', &body);
	free(body.data);
}

static void
scram_salt(Connection *c, const char *base64, int iterations)
{
	unsigned char salt[512];
	size_t		len = strlen(base64);
	int			n;

	if (len > sizeof(salt) || len < 4 || iterations < 1)
		stop(EXIT_FAULT, "SCRAM salt or iterations make no sense");
	n = EVP_DecodeBlock(salt, (const unsigned char *) base64, (int) len);
	while (n > 0 && base64[--len] == '=')
		n--;
	if (!PKCS5_PBKDF2_HMAC(c->target->password, (int) strlen(c->target->password), salt, n, iterations,
						   EVP_sha256(), 32, c->scram.salted))
		stop(EXIT_FAULT, "PBKDF2 failed");
}

/* server-first: r=nonce,s=salt,i=iterations; answered with the proof. */
static void
scram_final(Connection *c, const char *server_first)
{
	unsigned char client_key[32], stored_key[32], signature[32];
	char		nonce[256], salt[512], proof[64], without_proof[300];
	int			iterations, i;
	Buffer		body = {0};

	if (sscanf(server_first, "r=%255[^,],s=%511[^,],i=%d", nonce, salt, &iterations) != 3)
		stop(EXIT_FAULT, "SCRAM challenge not understood");
	scram_salt(c, salt, iterations);
	snprintf(without_proof, sizeof(without_proof), "c=biws,r=%s", nonce);
	snprintf(c->scram.auth_message, sizeof(c->scram.auth_message), "%s,%s,%s", c->scram.first_bare,
			 server_first, without_proof);
	hmac(c->scram.salted, 32, "Client Key", 10, client_key);
	EVP_Digest(client_key, 32, stored_key, NULL, EVP_sha256(), NULL);
	hmac(stored_key, 32, c->scram.auth_message, strlen(c->scram.auth_message), signature);
	for (i = 0; i < 32; i++)
		client_key[i] ^= signature[i];
	EVP_EncodeBlock((unsigned char *) proof, client_key, 32);
	put(&body, without_proof, strlen(without_proof));
	put(&body, ",p=", 3);
	put(&body, proof, strlen(proof));
	put_message(&c->out, 'p', &body);
	free(body.data);
}

static void
scram_verify(Connection *c, const char *server_final)
{
	unsigned char key[32], signature[32];
	char		expected[64] = "v=";

	hmac(c->scram.salted, 32, "Server Key", 10, key);
	hmac(key, 32, c->scram.auth_message, strlen(c->scram.auth_message), signature);
	EVP_EncodeBlock((unsigned char *) expected + 2, signature, 32);
	if (strcmp(expected, server_final) != 0)
		stop(EXIT_FAULT, "SCRAM: the signature of the other side is wrong");
}

static void
answer_password(Connection *c)
{
	Buffer		body = {0};

	put_string(&body, c->target->password);
	put_message(&c->out, 'p', &body);
	free(body.data);
}

/*
 * Answers a request for authentication. Only AuthenticationOk is traced: which method is asked
 * for is a matter of the address's own pg_hba.conf, not of the conversation.
 */
static void
authenticate(Connection *c, const char *body, size_t len)
{
	char		text[1024];
	uint32_t	code;

	if (len < 4 || len - 4 >= sizeof(text))
		stop(EXIT_FAULT, "authentication request of %zu bytes", len);
	memcpy(&code, body, 4);
	memcpy(text, body + 4, len - 4);
	text[len - 4] = '\0';
	switch (ntohl(code))
	{
		case 0: trace_answer(c, 'R', body, len); break;
		case 3: answer_password(c); break;
		case 5: answer_md5(c, (const unsigned char *) text); break;
		case 10: scram_first(c); break;
		case 11: scram_final(c, text); break;
		case 12: scram_verify(c, text); break;
		default: stop(EXIT_FAULT, "authentication method %u is not known", ntohl(code));
	}
}

/* ---- messages in ---- */

/* The next complete message in the buffer: its total length, or 0. */
static size_t
message_length(Connection *c)
{
	size_t		have = c->in.len - c->in.start;
	uint32_t	len;

	if (have < 5)
		return 0;
	memcpy(&len, c->in.data + c->in.start + 1, 4);
	len = ntohl(len);
	if (len < 4 || len > MAX_MESSAGE)
	{
		mark_eof(c, "a message of impossible length");
		return 0;
	}
	return have < (size_t) len + 1 ? 0 : (size_t) len + 1;
}

/* Reads one message and traces it; its type, or 0 when the other side has closed. */
static char
read_message(Connection *c, const char *waiting_for)
{
	long		deadline = now_ms() + timeout_ms;
	size_t		len;
	char	   *start;

	if (c->fd < 0)
		return 0;
	while ((len = message_length(c)) == 0)
	{
		if (c->eof)
			return 0;
		move_bytes(c, &deadline, waiting_for);
	}
	start = c->in.data + c->in.start;
	c->in.start += len;
	c->last_body = start + 5;
	c->last_len = len - 5;
	if (*start == 'R')
		authenticate(c, start + 5, len - 5);
	else
		trace_answer(c, *start, start + 5, len - 5);
	return *start;
}

static void
trace_closed(Connection *c)
{
	if (c->fd < 0)
		return;
	end_run(c);
	fprintf(c->trace, "%s< closed", c->name);
	if (c->in.start < c->in.len)
	{
		fputs(" inside a message: ", c->trace);
		print_value(c->trace, (unsigned char *) c->in.data + c->in.start, c->in.len - c->in.start);
	}
	fputc('\n', c->trace);
}

static void
drop_socket(Connection *c)
{
	if (c->ssl)
		SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	c->ssl = NULL;
	c->fd = -1;
	c->in.start = c->in.len = c->out.start = c->out.len = 0;
}

static void
forget_step(Connection *c)
{
	memset(c->step_count, 0, sizeof(c->step_count));
	c->step_last = 0;
}

/* Reads until the n-th message of the type, or (type 0) until the other side closes. */
static void
read_until(Connection *c, char type, int n)
{
	char		waiting_for[64] = "the end of the connection";
	char		got;

	if (type)
		snprintf(waiting_for, sizeof(waiting_for), "%d x '%c' (line %d)", n, type, line_number);
	flush_out(c);
	while (n > 0)
	{
		got = read_message(c, waiting_for);
		if (got == 0)
		{
			trace_closed(c);
			drop_socket(c);
			return;
		}
		if (got == type)
			n--;
	}
	end_run(c);
	forget_step(c);
}

/* ---- connecting ---- */

static int
open_unix(const Target *t)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval limit = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if ((size_t) snprintf(a.sun_path, sizeof(a.sun_path), "%s/.s.PGSQL.%s", t->host, t->port) >= sizeof(a.sun_path))
		stop(EXIT_FAULT, "socket path too long");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (fd < 0 || connect(fd, (struct sockaddr *) &a, sizeof(a)) != 0)
		stop(EXIT_FAULT, "connect to %s: %s", a.sun_path, strerror(errno));
	return fd;
}

static int
open_tcp(const Target *t)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	struct timeval limit = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
	int			one = 1;
	int			fd;

	if (getaddrinfo(t->host, t->port, &hints, &found) != 0)
		stop(EXIT_FAULT, "host \"%s\" not found", t->host);
	fd = socket(found->ai_family, SOCK_STREAM, 0);
	/* the send timeout also bounds connect() */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0)
		stop(EXIT_FAULT, "connect to %s port %s: %s", t->host, t->port, strerror(errno));
	freeaddrinfo(found);
	return fd;
}

static void
start_tls(Connection *c)
{
	long		deadline = now_ms() + timeout_ms;
	int			result;

	put32(&c->out, 8);
	put32(&c->out, 80877103);
	flush_out(c);
	while (c->in.len == c->in.start && !c->eof)
		move_bytes(c, &deadline, "the answer to SSLRequest");
	if (c->eof || c->in.len - c->in.start != 1 || c->in.data[c->in.start] != 'S')
		stop(EXIT_FAULT, "connection %s: TLS refused", c->name);
	c->in.start = c->in.len;
	if (tls_context == NULL)
		tls_context = SSL_CTX_new(TLS_client_method());
	c->ssl = SSL_new(tls_context);
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_fd(c->ssl, c->fd);
	while ((result = SSL_connect(c->ssl)) != 1)
		if (!tls_retry(c->ssl, result) || !wait_ready(c, SSL_want_write(c->ssl) ? POLLOUT : POLLIN, deadline))
			stop(EXIT_FAULT, "connection %s: TLS handshake failed", c->name);
}

static void
open_connection(Connection *c, const Target *t)
{
	c->target = t;
	c->fd = t->host[0] == '/' ? open_unix(t) : open_tcp(t);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	c->eof = c->write_dead = false;
	c->split = 0;
	c->cut = 0;
	if (t->tls)
		start_tls(c);
	c->split = t == &target_played ? default_split : 0;
}

/* ---- the language: values and words of a line ---- */

static void
skip_space(Cursor *c)
{
	while (c->p < c->end && (isspace(*c->p) || *c->p == ','))
		c->p++;
}

static bool
at_end(Cursor *c)
{
	skip_space(c);
	return c->p >= c->end || *c->p == '#';
}

static bool
take_char(Cursor *c, char wanted)
{
	skip_space(c);
	if (c->p >= c->end || *c->p != wanted)
		return false;
	c->p++;
	return true;
}

static void
word(Cursor *c, char *out, size_t size)
{
	size_t		n = 0;

	skip_space(c);
	while (c->p < c->end && !isspace(*c->p) && !strchr(",()[]\"", *c->p) && n + 1 < size)
		out[n++] = *c->p++;
	out[n] = '\0';
}

static long
number(Cursor *c, long otherwise)
{
	char		text[32];

	if (at_end(c))
		return otherwise;
	word(c, text, sizeof(text));
	return text[0] ? strtol(text, NULL, 0) : otherwise;
}

static int
hex_digit(int ch)
{
	return isdigit(ch) ? ch - '0' : (tolower(ch) - 'a' + 10) & 15;
}

static void
quoted_piece(Cursor *c, Buffer *out)
{
	char		ch;

	for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
	{
		ch = *c->p;
		if (ch == '\\' && c->p + 1 < c->end)
		{
			ch = *++c->p;
			if (ch == 'n')
				ch = '\n';
			else if (ch == 't')
				ch = '\t';
			else if (ch == '0')
				ch = '\0';
			else if (ch == 'x' && c->p + 2 < c->end)
			{
				ch = hex_digit(c->p[1]) << 4 | hex_digit(c->p[2]);
				c->p += 2;
			}
		}
		put(out, &ch, 1);
	}
	if (c->p >= c->end)
		stop(EXIT_FAULT, "line %d: a quote is not closed", line_number);
	c->p++;
}

/* fill:SIZE or fill:SIZE:x, SIZE with kB or MB: letters in an order that shows a lost byte. */
static void
fill_piece(const char *text, Buffer *out)
{
	char	   *unit;
	size_t		size = strtoul(text, &unit, 10);
	size_t		i;

	if (strncmp(unit, "kB", 2) == 0)
		size *= 1024, unit += 2;
	else if (strncmp(unit, "MB", 2) == 0)
		size *= 1024 * 1024, unit += 2;
	reserve(out, size);
	for (i = 0; i < size; i++)
		out->data[out->len + i] = unit[0] == ':' ? unit[1] : (char) ('a' + (i + i / 26) % 26);
	out->len += size;
}

static void
hex_piece(const char *text, Buffer *out)
{
	char		ch;

	for (; isxdigit(text[0]) && isxdigit(text[1]); text += 2)
	{
		ch = hex_digit(text[0]) << 4 | hex_digit(text[1]);
		put(out, &ch, 1);
	}
}

static void
bare_piece(Cursor *c, Buffer *out)
{
	char		text[4096];

	word(c, text, sizeof(text));
	if (strncmp(text, "fill:", 5) == 0)
		fill_piece(text + 5, out);
	else if (strncmp(text, "hex:", 4) == 0)
		hex_piece(text + 4, out);
	else if (strncmp(text, "i16:", 4) == 0)
		put16(out, (int) strtol(text + 4, NULL, 0));
	else if (strncmp(text, "i32:", 4) == 0)
		put32(out, strtol(text + 4, NULL, 0));
	else if (text[0] == '\0')
		stop(EXIT_FAULT, "line %d: a value is missing", line_number);
	else
		put(out, text, strlen(text));
}

/* A value: pieces joined by "+"; false for null. */
static bool
value(Cursor *c, Buffer *out)
{
	size_t		start = out->len;
	bool		quoted = false;

	do
	{
		skip_space(c);
		if (c->p < c->end && *c->p == '"')
			quoted_piece(c, out), quoted = true;
		else
			bare_piece(c, out);
	} while (take_char(c, '+'));
	if (quoted || out->len - start != 4 || memcmp(out->data + start, "null", 4) != 0)
		return true;
	out->len = start;
	return false;
}

/* [n n n]: a count, then each number in the given width; nothing but a zero count if absent. */
static void
number_list(Cursor *c, Buffer *out, int width)
{
	Buffer		items = {0};
	int			n = 0;

	if (take_char(c, '['))
		while (!take_char(c, ']'))
		{
			if (at_end(c))
				stop(EXIT_FAULT, "line %d: ] is missing", line_number);
			if (width == 2)
				put16(&items, (int) number(c, 0));
			else
				put32(&items, number(c, 0));
			n++;
		}
	put16(out, n);
	put(out, items.data, items.len);
	free(items.data);
}

static void
value_list(Cursor *c, Buffer *out)
{
	Buffer		items = {0};
	Buffer		one = {0};
	int			n = 0;

	if (take_char(c, '('))
		while (!take_char(c, ')'))
		{
			if (at_end(c))
				stop(EXIT_FAULT, "line %d: ) is missing", line_number);
			one.len = 0;
			put32(&items, value(c, &one) ? (long) one.len : -1);
			put(&items, one.data, one.len);
			n++;
		}
	put16(out, n);
	put(out, items.data, items.len);
	free(items.data);
	free(one.data);
}

static void
string_argument(Cursor *c, Buffer *out)
{
	Buffer		text = {0};

	value(c, &text);
	put_value_string(out, &text);
	free(text.data);
}

/* ---- commands that queue a message ---- */

static void
message_body(char type, Cursor *c, Buffer *b)
{
	switch (type)
	{
		case 'Q':
		case 'f':
			string_argument(c, b);
			break;
		case 'P':
			string_argument(c, b);
			string_argument(c, b);
			number_list(c, b, 4);
			break;
		case 'B':
			string_argument(c, b);
			string_argument(c, b);
			number_list(c, b, 2);
			value_list(c, b);
			number_list(c, b, 2);
			break;
		case 'D':
		case 'C':
			skip_space(c);
			put(b, c->p++, 1);
			string_argument(c, b);
			break;
		case 'E':
			string_argument(c, b);
			put32(b, number(c, 0));
			break;
		case 'F':
			put32(b, number(c, 0));
			number_list(c, b, 2);
			value_list(c, b);
			put16(b, (int) number(c, 0));
			break;
		case 'd':
			value(c, b);
			break;
		default:				/* S, H, c, X have no body */
			break;
	}
}

static void
queue_message(char type, Cursor *c)
{
	Buffer		body = {0};

	message_body(type, c, &body);
	put_message(&current->out, type, &body);
	free(body.data);
}

static void
do_msg(Cursor *c)
{
	Buffer		body = {0};
	char		type[2];

	word(c, type, sizeof(type));
	if (!at_end(c))
		value(c, &body);
	put_message(&current->out, type[0], &body);
	free(body.data);
}

static void
do_raw(Cursor *c)
{
	value(c, &current->out);
}

/* "name=value": true and the value appended; the name goes to out. */
static void
startup_option(Cursor *c, char *name, size_t size, Buffer *text)
{
	size_t		n = 0;

	while (c->p < c->end && *c->p != '=' && n + 1 < size)
		name[n++] = *c->p++;
	name[n] = '\0';
	if (!take_char(c, '='))
		stop(EXIT_FAULT, "line %d: name=value expected", line_number);
	text->len = 0;
	value(c, text);
	put(text, "", 1);
}

static void
put_default(Buffer *body, bool given, const char *name, const char *text)
{
	if (given)
		return;
	put_string(body, name);
	put_string(body, text);
}

static void
do_startup(Cursor *c)
{
	Buffer		options = {0}, text = {0}, body = {0};
	char		name[64];
	int			major = 3, minor = 0;
	bool		user = false, database = false;

	while (!at_end(c))
	{
		startup_option(c, name, sizeof(name), &text);
		if (strcmp(name, "protocol") == 0)
		{
			sscanf(text.data, "%d.%d", &major, &minor);
			continue;
		}
		user |= strcmp(name, "user") == 0;
		database |= strcmp(name, "database") == 0;
		put_string(&options, name);
		put(&options, text.data, text.len);
	}
	put_default(&body, user, "user", current->target->user);
	put_default(&body, database, "database", current->target->dbname);
	put(&body, options.data, options.len);
	put(&body, "", 1);
	put32(&current->out, (long) body.len + 8);
	put32(&current->out, major << 16 | minor);
	put(&current->out, body.data, body.len);
	free(options.data);
	free(text.data);
	free(body.data);
}

/* ---- commands about connections ---- */

static Connection *
find_connection(const char *name)
{
	int			i;

	for (i = 0; i < connection_count; i++)
		if (strcmp(connections[i]->name, name) == 0)
			return connections[i];
	return NULL;
}

static Connection *
known_connection(Cursor *c)
{
	char		name[32];
	Connection *found;

	word(c, name, sizeof(name));
	found = find_connection(name);
	if (found == NULL)
		stop(EXIT_FAULT, "line %d: no connection \"%s\"", line_number, name);
	return found;
}

static Connection *
named_connection(Cursor *c)
{
	char		name[32];
	Connection *made;

	word(c, name, sizeof(name));
	made = find_connection(name);
	if (made != NULL)
		return made;
	made = calloc(1, sizeof(Connection));
	if (made == NULL || connection_count == MAX_CONNECTIONS)
		stop(EXIT_FAULT, "too many connections");
	snprintf(made->name, sizeof(made->name), "%s", name);
	made->fd = -1;
	made->trace = open_memstream(&made->trace_text, &made->trace_len);
	connections[connection_count++] = made;
	return made;
}

static void
do_open(Cursor *c)
{
	current = named_connection(c);
	if (current->fd >= 0)
		stop(EXIT_FAULT, "line %d: connection \"%s\" is open", line_number, current->name);
	open_connection(current, &target_played);
}

static void
do_connect(Cursor *c)
{
	do_open(c);
	do_startup(c);
	read_until(current, 'Z', 1);
}

static void
do_expect(Cursor *c)
{
	char		what[16];

	word(c, what, sizeof(what));
	if (strcmp(what, "closed") == 0)
		read_until(current, 0, 1);
	else if (what[0] != '\0' && what[1] == '\0')
		read_until(current, what[0], (int) number(c, 1));
	else
		stop(EXIT_FAULT, "line %d: expect a message type or \"closed\"", line_number);
}

static void
do_send(Cursor *c)
{
	(void) c;
	flush_out(current);
}

static void
do_split(Cursor *c)
{
	flush_out(current);
	current->split = (int) number(c, 0);
}

static void
do_cut(Cursor *c)
{
	flush_out(current);
	current->cut = (uint64_t) number(c, 0);
}

static void
do_shutdown(Cursor *c)
{
	(void) c;
	flush_out(current);
	if (current->ssl)
		SSL_shutdown(current->ssl);
	shutdown(current->fd, SHUT_WR);
}

static void
do_close(Cursor *c)
{
	(void) c;
	flush_out(current);
	end_run(current);
	drop_socket(current);
}

/* Closes with a reset, as a client that was killed with unread bytes does. */
static void
do_reset(Cursor *c)
{
	struct linger l = {1, 0};

	(void) c;
	flush_out(current);
	setsockopt(current->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	end_run(current);
	drop_socket(current);
}

/* cancel NAME [wrong]: on a connection of its own, which the other side has to close. */
static void
do_cancel(Cursor *c)
{
	Connection *whom = known_connection(c);
	Connection	canceller = {.name = "cancel", .fd = -1};
	char		key[sizeof(whom->key)];
	char		how[16];
	char	   *text;
	size_t		len;

	memcpy(key, whom->key, whom->key_len);
	word(c, how, sizeof(how));
	if (strcmp(how, "wrong") == 0 && whom->key_len > 0)
		key[whom->key_len - 1] ^= 1;
	flush_out(whom);
	canceller.trace = open_memstream(&text, &len);
	open_connection(&canceller, &target_played);
	put32(&canceller.out, 12 + (long) whom->key_len);
	put32(&canceller.out, 80877102);
	put32(&canceller.out, whom->pid);
	put(&canceller.out, key, whom->key_len);
	flush_out(&canceller);
	while (read_message(&canceller, "the end of the cancel connection") != 0)
		;
	drop_socket(&canceller);
	fclose(canceller.trace);
	free(text);
	free(canceller.in.data);
	free(canceller.out.data);
}

/* ---- beside the script: setup, teardown, waiting for a state of the origin ---- */

static void
first_column(Connection *c, Buffer *result)
{
	Cursor		cursor = {(const unsigned char *) c->last_body, (const unsigned char *) c->last_body + c->last_len, false};
	int32_t		len;

	get16(&cursor);
	len = get32(&cursor);
	result->start = result->len = 0;
	if (!cursor.bad && len > 0 && len <= cursor.end - cursor.p)
		put(result, cursor.p, len);
}

/* The first column of the last row goes to result, if there is one; false on an error. */
static bool
control_query(Connection *control, const Buffer *sql, Buffer *result, bool may_fail)
{
	Buffer		body = {0};
	bool		ok = true;
	char		type;

	put_value_string(&body, sql);
	put_message(&control->out, 'Q', &body);
	free(body.data);
	do
	{
		type = read_message(control, "the control connection");
		if (type == 'E' || type == 0)
		{
			fflush(control->trace);
			if (!may_fail)
				fprintf(stderr, "%.*s: %s\n", (int) sql->len, sql->data, control->trace_text);
			ok = false;
		}
		else if (type == 'D')
			first_column(control, result);
	} while (type != 'Z' && type != 0);
	rewind(control->trace);
	return ok;
}

static void
open_control(Connection *control, const char *name, const Target *target, const char *options)
{
	Cursor		c = {(const unsigned char *) options, (const unsigned char *) options + strlen(options), false};
	Connection *before = current;

	snprintf(control->name, sizeof(control->name), "%s", name);
	control->fd = -1;
	control->trace = open_memstream(&control->trace_text, &control->trace_len);
	open_connection(control, target);
	current = control;
	do_startup(&c);
	current = before;
	while (control->fd >= 0)
	{
		char		type = read_message(control, "the login of the control connection");

		if (type == 'Z')
			return;
		fflush(control->trace);
		if (type == 'E' || type == 0)
			stop(EXIT_FAULT, "%s connection: %s", name, control->trace_text);
	}
}

/* Polls until the query's first column is the value. */
static void
do_wait(Cursor *c)
{
	Buffer		sql = {0}, wanted = {0}, got = {0};
	long		deadline = now_ms() + timeout_ms;

	value(c, &sql);
	value(c, &wanted);
	if (current)
		flush_out(current);
	for (;;)
	{
		if (!control_query(&control, &sql, &got, false))
			stop(EXIT_FAULT, "line %d: the query of wait failed", line_number);
		if (got.len == wanted.len && memcmp(got.data, wanted.data, got.len) == 0)
			break;
		if (now_ms() > deadline)
			stop(EXIT_TIMEOUT, "line %d: waited in vain; last value \"%.*s\"", line_number, (int) got.len, got.data);
		pause_ms(10);
	}
	free(sql.data);
	free(wanted.data);
	free(got.data);
}

/* control "sql": something that happens at the origin, beside all the script's connections. */
static void
do_control(Cursor *c)
{
	Buffer		sql = {0}, ignored = {0};

	value(c, &sql);
	if (!control_query(&control, &sql, &ignored, false))
		stop(EXIT_FAULT, "line %d: failed on the control connection", line_number);
	free(sql.data);
	free(ignored.data);
}

/* ---- live: when has an answer ended? ---- */

/* What the origin's process waits for once it has read all that was sent; empty while it works. */
static void
what_is_awaited(Connection *c, Buffer *event)
{
	Buffer		sql = {0};
	char		text[256];
	int			unread = 1;

	event->start = event->len = 0;
	/* of a Unix socket: bytes that the other side has not read yet */
	if (c->out.start < c->out.len || ioctl(c->fd, SIOCOUTQ, &unread) != 0 || unread > 0)
		return;
	snprintf(text, sizeof(text), "select case when wait_event = 'ClientRead' then 'Client' else nullif(wait_event_type, 'Client') end "
			 "from pg_stat_activity where pid = %u", c->pid);
	put(&sql, text, strlen(text));
	if (!control_query(&control, &sql, event, false))
		stop(EXIT_FAULT, "pg_stat_activity cannot be read");
	free(sql.data);
}

static bool
is_text(const Buffer *b, const char *text)
{
	return b->len == strlen(text) && memcmp(b->data, text, b->len) == 0;
}

static void
read_what_is_there(Connection *c)
{
	long		deadline = now_ms() + timeout_ms;

	while (read_some(c) || message_length(c) > 0)
		while (message_length(c) > 0)
			read_message(c, "nothing");
	if (!c->eof && c->out.start < c->out.len)
		move_bytes(c, &deadline, "the socket to take bytes");
}

/* Prints what is new in the trace of the connection, and by which command a script waits for just that. */
static void
show_step(Connection *c, const char *how)
{
	end_run(c);
	fflush(c->trace);
	fwrite(c->trace_text + c->trace_shown, 1, c->trace_len - c->trace_shown, stdout);
	c->trace_shown = c->trace_len;
	if (how)
		printf("== %s\n", how);
	else if (c->step_last)
		printf("== expect %c %ld\n", c->step_last, c->step_count[(unsigned char) c->step_last]);
	else
		printf("== send\n");
	fflush(stdout);
	forget_step(c);
}

/* Reads until the origin has nothing more to say: it waits for us, for a lock, or it has closed. */
static void
do_settle(Cursor *c)
{
	long		deadline = now_ms() + timeout_ms;
	Buffer		event = {0};
	bool		quiet = false;

	(void) c;
	if (!live || current->target->host[0] != '/')
		stop(EXIT_FAULT, "line %d: settle needs --live and a Unix socket", line_number);
	while (current->fd >= 0 && !quiet)
	{
		read_what_is_there(current);
		if (current->eof)
		{
			trace_closed(current);
			drop_socket(current);
			break;
		}
		what_is_awaited(current, &event);
		quiet = is_text(&event, "Client") || is_text(&event, "Lock");
		if (now_ms() > deadline)
			stop(EXIT_TIMEOUT, "line %d: it does not settle", line_number);
		if (!quiet)
			pause_ms(0);
	}
	if (current->fd >= 0)
		read_what_is_there(current);
	show_step(current, current->fd < 0 ? "expect closed" : is_text(&event, "Lock") ? "locked" : NULL);
	free(event.data);
}

/* ---- running a script ---- */

static void
do_sleep(Cursor *c)
{
	flush_out(current);
	pause_ms(number(c, 0));
}

static void
do_timeout(Cursor *c)
{
	timeout_ms = number(c, timeout_ms);
}

static void
do_nothing(Cursor *c)
{
	(void) c;
}

typedef enum CommandKind
{
	SENDS,						/* queues bytes on the current connection */
	ACTS,						/* anything else */
	DECLARES					/* read before the play, not in it */
} CommandKind;

static const struct Command
{
	const char *name;
	CommandKind kind;
	void		(*run) (Cursor *c);
}			commands[] = {
	{"msg", SENDS, do_msg},
	{"raw", SENDS, do_raw},
	{"startup", SENDS, do_startup},
	{"connect", ACTS, do_connect},
	{"open", ACTS, do_open},
	{"expect", ACTS, do_expect},
	{"send", ACTS, do_send},
	{"split", ACTS, do_split},
	{"cut", ACTS, do_cut},
	{"settle", ACTS, do_settle},
	{"shutdown", ACTS, do_shutdown},
	{"close", ACTS, do_close},
	{"reset", ACTS, do_reset},
	{"cancel", ACTS, do_cancel},
	{"wait", ACTS, do_wait},
	{"control", ACTS, do_control},
	{"sleep", ACTS, do_sleep},
	{"timeout", ACTS, do_timeout},
	{"setup", DECLARES, do_control},
	{"teardown", DECLARES, do_control},
	{"allow", DECLARES, do_nothing},
	{"links", DECLARES, do_nothing},
	{"brief", DECLARES, do_nothing},
	{"replayable", DECLARES, do_nothing},
	{"afresh", DECLARES, do_nothing},
};

static const struct Command *
find_command(const char *name)
{
	size_t		i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void
keep_line(const char *line)
{
	char	  **longer = realloc(lines, (line_count + 1) * sizeof(char *));

	if (longer == NULL || (longer[line_count++] = strdup(line)) == NULL)
		stop(EXIT_FAULT, "out of memory");
	lines = longer;
}

/* "@name" at the start of a line makes that connection the current one. */
static void
switch_connection(Cursor *c)
{
	if (take_char(c, '@'))
		current = known_connection(c);
}

static void
need_connection(void)
{
	if (current == NULL)
		stop(EXIT_FAULT, "line %d: no connection yet", line_number);
}

/* Live, a setup is run when it comes, and a teardown is kept for the end. */
static void
live_section(const char *text, Cursor *c)
{
	teardown_due = true;
	if (strncmp(text, "setup", 5) == 0)
		do_control(c);
	else
		keep_line(text);
}

static void
run_line(const char *text)
{
	Cursor		c = {(const unsigned char *) text, (const unsigned char *) text + strlen(text), false};
	const struct Command *command;
	char		name[32];

	switch_connection(&c);
	if (at_end(&c))
		return;
	word(&c, name, sizeof(name));
	command = find_command(name);
	if (command == NULL && (name[0] == '\0' || name[1] != '\0' || !strchr("QPBDECSHFdcfX", name[0])))
		stop(EXIT_FAULT, "line %d: what is \"%s\"?", line_number, name);
	if (command == NULL || command->kind == SENDS)
	{
		need_connection();
		trace_sent(current, text);
	}
	if (command == NULL)
		queue_message(name[0], &c);
	else if (command->kind != DECLARES)
		command->run(&c);
	else if (live && command->run == do_control)
		live_section(text, &c);
	if ((command == NULL || command->kind != DECLARES) && !at_end(&c))
		stop(EXIT_FAULT, "line %d: not understood: %s", line_number, (const char *) c.p);
}

/* The line with each $i replaced by the turn of the innermost repeat. */
static void
run_line_in_turn(const char *line, long turn)
{
	Buffer		text = {0};
	char		digits[32];
	const char *p;

	snprintf(digits, sizeof(digits), "%ld", turn);
	for (p = line; *p; p++)
	{
		if (p[0] == '$' && p[1] == 'i' && !isalnum((unsigned char) p[2]))
		{
			put(&text, digits, strlen(digits));
			p++;
		}
		else
			put(&text, p, 1);
	}
	put(&text, "", 1);
	run_line(text.data);
	free(text.data);
}

static bool
line_starts(int i, const char *name, Cursor *rest)
{
	char		first[32];

	rest->p = (const unsigned char *) lines[i];
	rest->end = rest->p + strlen(lines[i]);
	rest->bad = false;
	word(rest, first, sizeof(first));
	return strcmp(first, name) == 0;
}

static int
matching_end(int i)
{
	int			depth = 1;
	Cursor		rest;

	while (++i < line_count)
	{
		if (line_starts(i, "repeat", &rest))
			depth++;
		else if (line_starts(i, "end", &rest) && --depth == 0)
			return i;
	}
	stop(EXIT_FAULT, "line %d: repeat without end", line_number);
}

static void
run_lines(int from, int to, long turn)
{
	Cursor		rest;
	long		times, k;
	int			i, end;

	for (i = from; i < to; i++)
	{
		line_number = i + 1;
		if (!line_starts(i, "repeat", &rest))
		{
			run_line_in_turn(lines[i], turn);
			continue;
		}
		end = matching_end(i);
		times = number(&rest, 1);
		for (k = 1; k <= times; k++)
			run_lines(i + 1, end, k);
		i = end;
	}
}

static bool
run_section(const char *section)
{
	Cursor		rest;
	Buffer		sql = {0}, ignored = {0};
	bool		ok = true;
	int			i;

	for (i = 0; i < line_count; i++)
	{
		if (!line_starts(i, section, &rest))
			continue;
		line_number = i + 1;
		sql.start = sql.len = 0;
		value(&rest, &sql);
		ok &= control_query(target_setup.host[0] ? &setter : &control, &sql, &ignored, false);
	}
	free(sql.data);
	free(ignored.data);
	return ok;
}

static void
set_up(void)
{
	teardown_due = true;
	if (!run_section("setup"))
		stop(EXIT_FAULT, "setup failed");
}

static void
tear_down(void)
{
	if (!teardown_due)
		return;
	teardown_due = false;
	if (!run_section("teardown"))
		stop(EXIT_FAULT, "teardown failed");
}

/* What stands between the last play and those before it: the same way as the setup. */
static void
write_before_last(void)
{
	Buffer		sql = {0}, ignored = {0};

	put(&sql, last_write, strlen(last_write));
	control_query(target_setup.host[0] ? &setter : &control, &sql, &ignored, true);
	free(sql.data);
	free(ignored.data);
}

/* What a gateway has to learn first is no answer of the play: on a slow machine it may take longer. */
static void
wait_until_ready(void)
{
	Buffer		sql = {0}, ignored = {0};
	long		patience = timeout_ms;

	if (target_ready.host[0] == '\0' || ready_query == NULL)
		return;
	put(&sql, ready_query, strlen(ready_query));
	timeout_ms = READY_SECONDS * 1000L;
	if (!control_query(&readier, &sql, &ignored, false))
		stop(EXIT_FAULT, "not ready for a play");
	timeout_ms = patience;
	free(sql.data);
	free(ignored.data);
}

/* What is still open says goodbye and must be closed by the other side. */
static void
close_all(void)
{
	int			i;

	for (i = 0; i < connection_count; i++)
	{
		Connection *c = connections[i];
		Buffer		nothing = {0};

		if (c->fd < 0)
			continue;
		put_message(&c->out, 'X', &nothing);
		read_until(c, 0, 1);
	}
}

static void
print_traces(int turn)
{
	int			i;

	for (i = 0; i < connection_count; i++)
	{
		Connection *c = connections[i];

		fclose(c->trace);
		printf("== play %d, connection %s\n%s", turn, c->name, c->trace_text + c->trace_shown);
		drop_socket(c);
		free(c->trace_text);
		free(c->in.data);
		free(c->out.data);
		free(c);
	}
	connection_count = 0;
	current = NULL;
}

static void
stop(int status, const char *format,...)
{
	static bool stopping = false;
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (!stopping)
	{
		stopping = true;
		print_traces(0);
		script_deadline = now_ms() + timeout_ms;
		if (teardown_due && control.fd >= 0)
			run_section("teardown");
	}
	fflush(stdout);
	_exit(status);
}

static void
play(int times)
{
	int			turn;

	for (turn = 1; turn <= times; turn++)
	{
		if (turn == 1 || !replayable)
			set_up();
		if (turn == times && turn > 1 && last_write)
			write_before_last();
		wait_until_ready();
		run_lines(0, line_count, 0);
		close_all();
		print_traces(turn);
		if (turn == times || !replayable)
			tear_down();
	}
}

static void
play_live(void)
{
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		n;

	while ((n = getline(&line, &size, stdin)) >= 0)
	{
		if (n > 0 && line[n - 1] == '\n')
			line[n - 1] = '\0';
		line_number++;
		run_line(line);
	}
	free(line);
	close_all();
	print_traces(1);
	tear_down();
}

/* ---- the command line ---- */

static void
read_script(const char *path)
{
	FILE	   *f = fopen(path, "r");
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		n;

	if (f == NULL)
		stop(EXIT_FAULT, "%s: %s", path, strerror(errno));
	while ((n = getline(&line, &size, f)) >= 0)
	{
		if (n > 0 && line[n - 1] == '\n')
			line[n - 1] = '\0';
		keep_line(line);
	}
	free(line);
	fclose(f);
}

static void
read_declarations(void)
{
	Cursor		rest;
	int			i;

	for (i = 0; i < line_count; i++)
	{
		brief |= line_starts(i, "brief", &rest);
		replayable |= line_starts(i, "replayable", &rest);
	}
}

static void
target_option(Target *t, const char *name, const char *text)
{
	const struct
	{
		const char *name;
		char	   *place;
		size_t		size;
	}			places[] = {
		{"host", t->host, sizeof(t->host)},
		{"port", t->port, sizeof(t->port)},
		{"dbname", t->dbname, sizeof(t->dbname)},
		{"user", t->user, sizeof(t->user)},
		{"password", t->password, sizeof(t->password)},
	};
	size_t		i;

	if (strcmp(name, "sslmode") == 0)
	{
		t->tls = strcmp(text, "disable") != 0;
		return;
	}
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (strcmp(name, places[i].name) == 0 && strlen(text) < places[i].size)
		{
			strcpy(places[i].place, text);
			return;
		}
	stop(EXIT_FAULT, "conninfo: \"%s\" is not known or too long", name);
}

/* host= port= dbname= user= password= sslmode=disable|require; a value may be quoted. */
static void
read_target(Target *t, const char *conninfo)
{
	Cursor		c = {(const unsigned char *) conninfo, (const unsigned char *) conninfo + strlen(conninfo), false};
	Buffer		text = {0};
	char		name[64];

	while (!at_end(&c))
	{
		startup_option(&c, name, sizeof(name), &text);
		target_option(t, name, text.data);
	}
	free(text.data);
}

static void
usage(void)
{
	stop(EXIT_FAULT, "usage: player --target CONNINFO [--control CONNINFO] [--setup CONNINFO] [--repeat N] [--stay 1] [--write SQL] [--ready CONNINFO --ready-query SQL] [--split N] [--timeout MS] [--record FOLDER] SCRIPT | --live 1 -");
}

static int
read_options(int argc, char **argv)
{
	int			times = 1;
	int			i;

	for (i = 1; i + 1 < argc; i += 2)
	{
		if (strcmp(argv[i], "--target") == 0)
			read_target(&target_played, argv[i + 1]);
		else if (strcmp(argv[i], "--control") == 0)
			read_target(&target_control, argv[i + 1]);
		else if (strcmp(argv[i], "--setup") == 0)
			read_target(&target_setup, argv[i + 1]);
		else if (strcmp(argv[i], "--repeat") == 0)
			times = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--record") == 0)
			record_folder = argv[i + 1];
		else if (strcmp(argv[i], "--split") == 0)
			default_split = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--live") == 0)
			live = atoi(argv[i + 1]) != 0;
		else if (strcmp(argv[i], "--stay") == 0)
			replayable = atoi(argv[i + 1]) != 0;
		else if (strcmp(argv[i], "--write") == 0)
			last_write = argv[i + 1];
		else if (strcmp(argv[i], "--ready") == 0)
			read_target(&target_ready, argv[i + 1]);
		else if (strcmp(argv[i], "--ready-query") == 0)
			ready_query = argv[i + 1];
		else if (strcmp(argv[i], "--timeout") == 0)
			timeout_ms = atol(argv[i + 1]);
		else
			usage();
	}
	if (i != argc - 1 || target_played.host[0] == '\0')
		usage();
	return times;
}

int
main(int argc, char **argv)
{
	int			times;

	/* the last resort, should a deadline be missed */
	alarm(SCRIPT_SECONDS + 30);
	script_deadline = now_ms() + SCRIPT_SECONDS * 1000L;
	times = read_options(argc, argv);
	if (target_control.host[0] == '\0')
		target_control = target_played;
	script_name = strrchr(argv[argc - 1], '/') ? strrchr(argv[argc - 1], '/') + 1 : argv[argc - 1];
	if (!live)
		read_script(argv[argc - 1]);
	read_declarations();
	open_control(&control, "control", &target_control, "lock_timeout=5000");
	if (target_setup.host[0] != '\0')
		open_control(&setter, "setup", &target_setup, "");
	if (target_ready.host[0] != '\0')
		open_control(&readier, "ready", &target_ready, "");
	if (live)
		play_live();
	else
		play(times);
	return 0;
}
