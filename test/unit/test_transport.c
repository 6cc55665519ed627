/*
 * test/unit/test_transport.c - net/transport: plain, TLS both ways, and an ops table of a test's own.
 */
#include "net/transport.h"
#include "unit.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void
make_pair(int pair[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
		abort();
}

TEST(plain_reads_writes_and_ends)
{
	Transport	t;
	int			pair[2];
	char		buf[16];
	static char big[1 << 20];
	ssize_t		put;

	make_pair(pair);
	transport_init_plain(&t, pair[0]);
	CHECK(!transport_is_tls(&t));
	CHECK(!transport_pending(&t));
	CHECK_EQ_INT(transport_handshake(&t), HANDSHAKE_DONE);
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), TRANSPORT_AGAIN);
	CHECK_EQ_INT(transport_read(&t, buf, 0), TRANSPORT_AGAIN);
	CHECK(write(pair[1], "hello", 5) == 5);
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), 5);
	CHECK_EQ_INT(transport_write(&t, "abc", 3), 3);
	CHECK_EQ_INT(read(pair[1], buf, sizeof(buf)), 3);
	do
		put = transport_write(&t, big, sizeof(big));
	while (put > 0);
	CHECK_EQ_INT(put, TRANSPORT_AGAIN);
	while (read(pair[1], big, sizeof(big)) > 0)
		;
	close(pair[1]);
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), 0);
	CHECK_EQ_INT(transport_write(&t, "abc", 3), TRANSPORT_FAILED);	/* and no SIGPIPE */
	CHECK(strstr(transport_error(), "could not send") != NULL);
	transport_close(&t);
	CHECK_EQ_INT(t.fd, -1);
	CHECK(close(pair[0]) != 0 && errno == EBADF);
	transport_close(&t);
}

TEST(borrowed_stays_open)
{
	Transport	t;
	int			pair[2];

	make_pair(pair);
	CHECK(transport_init_borrowed(&t, pair[0], NULL));
	CHECK(!transport_is_tls(&t));
	transport_close(&t);
	CHECK_EQ_INT(t.fd, -1);
	CHECK_EQ_INT(write(pair[0], "x", 1), 1);
	close(pair[0]);
	close(pair[1]);
}

/* ---- TLS ---- */

/* OpenSSL writes with write(2); every PostgreSQL process ignores SIGPIPE. From here on, so that the plain tests do without. */
TEST(sigpipe_is_ignored)
{
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
}

static SSL_CTX *
server_context(void)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY   *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	X509	   *cert = X509_new();

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
							   (const unsigned char *) "test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_sign(cert, key, EVP_sha256());
	CHECK(SSL_CTX_use_certificate(ctx, cert) == 1);
	CHECK(SSL_CTX_use_PrivateKey(ctx, key) == 1);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

/* Both ends of an established TLS connection: ours as a server, the other borrowed, as a link's is. */
static SSL *
connect_tls(Transport *server, Transport *client, SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
	int			pair[2];
	SSL		   *ssl;
	HandshakeVerdict verdict = HANDSHAKE_AGAIN;
	int			turns;

	make_pair(pair);
	ssl = SSL_new(client_ctx);
	SSL_set_fd(ssl, pair[1]);
	SSL_set_connect_state(ssl);
	CHECK(transport_init_tls_server(server, pair[0], server_ctx));
	CHECK_EQ_INT(transport_handshake(server), HANDSHAKE_AGAIN);
	for (turns = 0; turns < 20 && (verdict == HANDSHAKE_AGAIN || !SSL_is_init_finished(ssl)); turns++)
	{
		(void) SSL_do_handshake(ssl);
		if (verdict == HANDSHAKE_AGAIN)
			verdict = transport_handshake(server);
	}
	CHECK_EQ_INT(verdict, HANDSHAKE_DONE);
	CHECK(transport_init_borrowed(client, pair[1], ssl));
	return ssl;
}

static void
exchange_over_tls(int version)
{
	SSL_CTX    *server_ctx = server_context();
	SSL_CTX    *client_ctx = SSL_CTX_new(TLS_client_method());
	Transport	server;
	Transport	client;
	SSL		   *ssl;
	static char big[1 << 20];
	char	   *moved;
	char		buf[8];
	size_t		sent = 0;
	size_t		got = 0;
	int			fd;

	SSL_CTX_set_max_proto_version(client_ctx, version);
	ssl = connect_tls(&server, &client, server_ctx, client_ctx);
	fd = client.fd;
	CHECK(transport_is_tls(&server) && transport_is_tls(&client));
	CHECK_EQ_INT(transport_read(&server, buf, sizeof(buf)), TRANSPORT_AGAIN);
	CHECK_EQ_INT(transport_read(&client, buf, sizeof(buf)), TRANSPORT_AGAIN);

	/* what a short read leaves decrypted is pending, and no poll would tell of it */
	CHECK_EQ_INT(transport_write(&client, "0123456789", 10), 10);
	CHECK_EQ_INT(transport_read(&server, buf, 4), 4);
	CHECK(transport_pending(&server));
	CHECK_EQ_INT(transport_read(&server, buf, sizeof(buf)), 6);
	CHECK(!transport_pending(&server));

	/* a megabyte through a smaller socket buffer; the rest goes on from another address */
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char) (i * 31 >> 3);
	moved = malloc(sizeof(big));
	memcpy(moved, big, sizeof(big));
	while (got < sizeof(big))
	{
		static char into[65536];
		ssize_t		put = 1;
		ssize_t		n;

		while (sent < sizeof(big) && put > 0)
		{
			put = transport_write(&server, (sent & 0x10000 ? moved : big) + sent, sizeof(big) - sent);
			if (put > 0)
				sent += put;
		}
		CHECK(put > 0 || put == TRANSPORT_AGAIN);
		n = transport_read(&client, into, sizeof(into));
		if (!CHECK(n > 0 || n == TRANSPORT_AGAIN) || (n > 0 && !CHECK(memcmp(into, big + got, n) == 0)))
			break;
		if (n > 0)
			got += n;
	}
	CHECK_EQ_INT(got, sizeof(big));
	free(moved);

	/* our close says so; the borrowed end stays its owner's */
	transport_close(&server);
	CHECK_EQ_INT(transport_read(&client, buf, sizeof(buf)), 0);
	transport_close(&client);
	CHECK_EQ_INT(ERR_peek_error(), 0);
	SSL_free(ssl);
	CHECK_EQ_INT(close(fd), 0);
	SSL_CTX_free(server_ctx);
	SSL_CTX_free(client_ctx);
}

TEST(tls13)
{
	exchange_over_tls(TLS1_3_VERSION);
}

TEST(tls12)
{
	exchange_over_tls(TLS1_2_VERSION);
}

TEST(tls_ended_without_a_word)
{
	SSL_CTX    *server_ctx = server_context();
	SSL_CTX    *client_ctx = SSL_CTX_new(TLS_client_method());
	Transport	server;
	Transport	client;
	SSL		   *ssl = connect_tls(&server, &client, server_ctx, client_ctx);
	char		buf[8];

	(void) transport_read(&client, buf, sizeof(buf));	/* the session tickets */
	shutdown(client.fd, SHUT_WR);
	CHECK_EQ_INT(transport_read(&server, buf, sizeof(buf)), 0);
	CHECK_EQ_INT(ERR_peek_error(), 0);
	close(client.fd);
	SSL_free(ssl);
	transport_close(&server);
	SSL_CTX_free(server_ctx);
	SSL_CTX_free(client_ctx);
}

TEST(tls_handshake_with_garbage)
{
	SSL_CTX    *ctx = server_context();
	Transport	t;
	int			pair[2];

	make_pair(pair);
	CHECK(transport_init_tls_server(&t, pair[0], ctx));
	CHECK(write(pair[1], "\0\0\0\x08\x04\xd2\x16\x2f not a hello at all", 28) == 28);
	CHECK_EQ_INT(transport_handshake(&t), HANDSHAKE_FAILED);
	CHECK(strstr(transport_error(), "handshake") != NULL);
	CHECK_EQ_INT(ERR_peek_error(), 0);
	transport_close(&t);
	close(pair[1]);

	make_pair(pair);
	CHECK(transport_init_tls_server(&t, pair[0], ctx));
	close(pair[1]);
	CHECK_EQ_INT(transport_handshake(&t), HANDSHAKE_FAILED);
	transport_close(&t);
	SSL_CTX_free(ctx);
}

/* ---- an ops table of one's own: two bytes at a time, then nothing more ---- */

typedef struct Mock
{
	const char *left;
	bool		closed;
} Mock;

static ssize_t
mock_read(Transport *t, void *into, size_t n)
{
	Mock	   *mock = t->ssl;
	size_t		len = strnlen(mock->left, n < 2 ? n : 2);

	memcpy(into, mock->left, len);
	mock->left += len;
	return len > 0 ? (ssize_t) len : TRANSPORT_AGAIN;
}

static ssize_t
mock_write(Transport *t, const void *from, size_t n)
{
	(void) t;
	(void) from;
	return n < 2 ? (ssize_t) n : 2;
}

static bool
mock_pending(const Transport *t)
{
	return ((const Mock *) t->ssl)->left[0] != '\0';
}

static void
mock_close(Transport *t)
{
	((Mock *) t->ssl)->closed = true;
}

TEST(mock)
{
	static const TransportOps ops = {"mock", mock_read, mock_write, mock_pending, mock_close};
	Mock		mock = {"abc", false};
	Transport	t = {.ops = &ops, .fd = 1000, .ssl = &mock};
	char		buf[8];

	CHECK(!transport_is_tls(&t));
	CHECK(transport_pending(&t));
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), 2);
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), 1);
	CHECK_EQ_INT(transport_read(&t, buf, sizeof(buf)), TRANSPORT_AGAIN);
	CHECK_EQ_INT(transport_write(&t, "xyz", 3), 2);
	transport_close(&t);
	CHECK(mock.closed);
	CHECK_EQ_INT(t.fd, -1);
}
