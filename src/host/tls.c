/*
 * host/tls.c - an SSL_CTX from the server's own ssl_* settings; reload.
 *
 * Answers: with which certificate, versions and ciphers do we speak TLS to clients, and whose certificate has a
 * client shown? Owns the one SSL_CTX; an SSL made from it keeps it alive, so a reload never disturbs a
 * connection. Reads the server's variables and never changes them. Never lets an ERROR cross OpenSSL: the
 * callback that runs the passphrase command catches it, the others raise none. OpenSSL's error queue is emptied
 * before each attempt, so that the text in the log is of this attempt.
 */
#include "postgres.h"

#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "libpq/libpq.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "host/tls.h"

/* The one name in ALPN's form: its length, then its bytes. */
static const unsigned char alpn_name[] = "\012postgresql";

#define ALPN_NAME_LEN	(sizeof(alpn_name) - 1)

/* PostgreSQL 18 gave the TLS 1.3 suites a setting of their own and moved ssl_ciphers to another variable. */
#if PG_VERSION_NUM >= 180000
#define TLS_CIPHER_LIST		SSLCipherList
#else
#define TLS_CIPHER_LIST		SSLCipherSuites
#endif

static SSL_CTX *tls_current = NULL;
static bool tls_current_has_ca = false;
static bool tls_was_loaded = false;		/* the first load may ask for a passphrase */
static bool tls_passphrase_refused = false;
static char tls_refusal[256];	/* of the client certificate that was refused last */

/* ---- errors ---- */

static const char *
tls_error_text(void)
{
	unsigned long code = ERR_get_error();
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
	static char number[48];

	if (code == 0)
		return "no SSL error reported";
	if (reason != NULL)
		return reason;
	snprintf(number, sizeof(number), "SSL error code %lu", code);
	return number;
}

static bool
tls_fail_file(const char *what, const char *file)
{
	ereport(LOG,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("hyperpool: could not load %s \"%s\": %s", what, file, tls_error_text())));
	return false;
}

static bool
tls_fail_setting(const char *setting)
{
	ereport(LOG,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("hyperpool: could not apply setting \"%s\": %s", setting, tls_error_text())));
	return false;
}

/* ---- callbacks of OpenSSL ---- */

static int
tls_run_passphrase_command(char *buf, int size)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile int len = 0;

	PG_TRY();
	{
		/* "not at server start": problems are logged, not raised */
		len = run_ssl_passphrase_command("Enter PEM pass phrase:", false, buf, size);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		AtEOXact_Files(false);	/* the command's pipe */
		len = 0;
	}
	PG_END_TRY();
	return len;
}

static int
tls_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	if (size <= 0)
		return 0;
	buf[0] = '\0';
	return tls_run_passphrase_command(buf, size);
}

/* Instead of OpenSSL's own, which would ask on the terminal and wait. */
static int
tls_no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	tls_passphrase_refused = true;
	if (size > 0)
		buf[0] = '\0';
	return 0;
}

/* OpenSSL's verdict stands; a client without a certificate never comes here, one with a bad certificate is refused. */
static int
tls_verify(int ok, X509_STORE_CTX *store)
{
	if (ok)
		return ok;
	snprintf(tls_refusal, sizeof(tls_refusal), "Client certificate verification failed at depth %d: %s.",
			 X509_STORE_CTX_get_error_depth(store), X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	return 0;
}

/* A client that offers protocols must offer ours (ALPACA attack); one that offers none never comes here. */
static int
tls_select_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
				const unsigned char *in, unsigned int inlen, void *arg)
{
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, outlen, alpn_name, ALPN_NAME_LEN, in, inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* ---- the steps of a load: each false with a line in the log ---- */

static void
tls_set_modes(SSL_CTX *ctx)
{
	/* a write may be repeated from another place and end in part; an idle connection keeps no buffers */
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
#ifdef SSL_OP_NO_RENEGOTIATION
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
#endif
#ifdef SSL_OP_NO_CLIENT_RENEGOTIATION
	SSL_CTX_set_options(ctx, SSL_OP_NO_CLIENT_RENEGOTIATION);
#endif
#ifdef TLS1_3_VERSION
	/* SSL_OP_NO_TICKET alone still sends stateful tickets in TLS 1.3 */
	SSL_CTX_set_num_tickets(ctx, 0);
#endif
	SSL_CTX_set_alpn_select_cb(ctx, tls_select_alpn, NULL);
}

/* A module that sets a hook of its own for keys is called as the server calls it at a reload. */
static void
tls_set_passphrase(SSL_CTX *ctx)
{
	bool		may_ask = !tls_was_loaded || ssl_passphrase_command_supports_reload;

	tls_passphrase_refused = false;
	SSL_CTX_set_default_passwd_cb(ctx, tls_no_passphrase);
	if (ssl_passphrase_command != NULL && ssl_passphrase_command[0] != '\0')
	{
		if (may_ask)
			SSL_CTX_set_default_passwd_cb(ctx, tls_passphrase);
	}
	else if (openssl_tls_init_hook != NULL)
		openssl_tls_init_hook(ctx, false);
}

static bool
tls_load_key(SSL_CTX *ctx)
{
	if (SSL_CTX_use_certificate_chain_file(ctx, ssl_cert_file) != 1)
		return tls_fail_file("server certificate file", ssl_cert_file);
	if (!check_ssl_key_file_permissions(ssl_key_file, false))
		return false;			/* it has said why */
	if (SSL_CTX_use_PrivateKey_file(ctx, ssl_key_file, SSL_FILETYPE_PEM) != 1)
	{
		if (!tls_passphrase_refused)
			return tls_fail_file("private key file", ssl_key_file);
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("hyperpool: private key file \"%s\" cannot be reloaded because it requires a passphrase",
						ssl_key_file),
				 errhint("Set ssl_passphrase_command and ssl_passphrase_command_supports_reload, or restart the server.")));
		return false;
	}
	if (SSL_CTX_check_private_key(ctx) != 1)
		return tls_fail_file("private key file that fits the certificate", ssl_key_file);
	return true;
}

static int
tls_version_of(int setting)
{
	switch (setting)
	{
		case PG_TLS1_VERSION:
			return TLS1_VERSION;
		case PG_TLS1_1_VERSION:
			return TLS1_1_VERSION;
		case PG_TLS1_2_VERSION:
			return TLS1_2_VERSION;
#ifdef TLS1_3_VERSION
		case PG_TLS1_3_VERSION:
			return TLS1_3_VERSION;
#endif
		default:
			return -1;
	}
}

static bool
tls_set_versions(SSL_CTX *ctx)
{
	int			least = ssl_min_protocol_version == PG_TLS_ANY ? 0 : tls_version_of(ssl_min_protocol_version);
	int			most = ssl_max_protocol_version == PG_TLS_ANY ? 0 : tls_version_of(ssl_max_protocol_version);

	if (least < 0 || !SSL_CTX_set_min_proto_version(ctx, least))
		return tls_fail_setting("ssl_min_protocol_version");
	if (most < 0 || !SSL_CTX_set_max_proto_version(ctx, most))
		return tls_fail_setting("ssl_max_protocol_version");
	if (least != 0 && most != 0 && least > most)
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("hyperpool: could not set SSL protocol version range"),
				 errdetail("\"ssl_min_protocol_version\" cannot be higher than \"ssl_max_protocol_version\".")));
		return false;
	}
	return true;
}

static bool
tls_set_dh(SSL_CTX *ctx)
{
	FILE	   *file;
	DH		   *dh;
	bool		done;

	SSL_CTX_set_options(ctx, SSL_OP_SINGLE_DH_USE);
	if (ssl_dh_params_file == NULL || ssl_dh_params_file[0] == '\0')
		return SSL_CTX_set_dh_auto(ctx, 1) == 1 || tls_fail_setting("ssl_dh_params_file");
	file = fopen(ssl_dh_params_file, "r");
	if (file == NULL)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("hyperpool: could not open DH parameters file \"%s\": %m", ssl_dh_params_file)));
		return false;
	}
	dh = PEM_read_DHparams(file, NULL, NULL, NULL);
	fclose(file);
	done = dh != NULL && SSL_CTX_set_tmp_dh(ctx, dh) == 1;
	DH_free(dh);
	return done || tls_fail_file("DH parameters file", ssl_dh_params_file);
}

static bool
tls_set_ciphers(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_SINGLE_ECDH_USE);
	/* a list of groups from 18 on, one name before; the same call takes both */
	if (SSLECDHCurve != NULL && SSLECDHCurve[0] != '\0' && SSL_CTX_set1_groups_list(ctx, SSLECDHCurve) != 1)
		return tls_fail_setting(PG_VERSION_NUM >= 180000 ? "ssl_groups" : "ssl_ecdh_curve");
	if (SSL_CTX_set_cipher_list(ctx, TLS_CIPHER_LIST) != 1)
		return tls_fail_setting("ssl_ciphers");
#if PG_VERSION_NUM >= 180000
	if (SSLCipherSuites != NULL && SSLCipherSuites[0] != '\0' && SSL_CTX_set_ciphersuites(ctx, SSLCipherSuites) != 1)
		return tls_fail_setting("ssl_tls13_ciphers");
#endif
	if (SSLPreferServerCiphers)
		SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	return true;
}

static bool
tls_is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/* Ask every client for a certificate, take it only if it is good; whether one must be shown is pg_hba.conf's business. */
static bool
tls_load_client_ca(SSL_CTX *ctx)
{
	STACK_OF(X509_NAME) *names;

	if (!tls_is_set(ssl_ca_file))
		return true;
	if (SSL_CTX_load_verify_locations(ctx, ssl_ca_file, NULL) != 1)
		return tls_fail_file("root certificate file", ssl_ca_file);
	names = SSL_load_client_CA_file(ssl_ca_file);
	if (names == NULL)
		return tls_fail_file("root certificate file", ssl_ca_file);
	SSL_CTX_set_client_CA_list(ctx, names); /* ctx owns the list now */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, tls_verify);
	return true;
}

static bool
tls_load_crl(SSL_CTX *ctx)
{
	const char *file = tls_is_set(ssl_crl_file) ? ssl_crl_file : NULL;
	const char *dir = tls_is_set(ssl_crl_dir) ? ssl_crl_dir : NULL;
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);

	if (file == NULL && dir == NULL)
		return true;
	if (store == NULL || X509_STORE_load_locations(store, file, dir) != 1)
		return tls_fail_file("certificate revocation list", file != NULL ? file : dir);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

static SSL_CTX *
tls_build(void)
{
	SSL_CTX    *ctx;

	ERR_clear_error();
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx == NULL)
	{
		tls_fail_setting("ssl");
		return NULL;
	}
	tls_set_modes(ctx);
	tls_set_passphrase(ctx);
	if (tls_load_key(ctx) && tls_set_versions(ctx) && tls_set_dh(ctx) && tls_set_ciphers(ctx) &&
		tls_load_client_ca(ctx) && tls_load_crl(ctx))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

/* ---- for the loop ---- */

static void
tls_install(SSL_CTX *ctx)
{
	SSL_CTX_free(tls_current);	/* NULL is fine; connections made from it keep it */
	tls_current = ctx;
	tls_current_has_ca = ctx != NULL && tls_is_set(ssl_ca_file);
}

void
tls_reload(void)
{
	SSL_CTX    *ctx = EnableSSL ? tls_build() : NULL;

	if (ctx != NULL || !EnableSSL)
		tls_install(ctx);
	else
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 tls_current != NULL ?
				 errmsg("hyperpool: SSL configuration was not reloaded") :
				 errmsg("hyperpool: SSL configuration was not loaded, clients cannot use SSL")));
	tls_was_loaded = tls_was_loaded || ctx != NULL;
	ERR_clear_error();
}

void *
tls_context(void)
{
	return tls_current;
}

bool
tls_has_client_ca(void)
{
	return tls_current_has_ca;
}

/* ---- of one connection ---- */

/* The certificate of the client if it was verified; to be freed by X509_free. */
static X509 *
tls_verified_certificate(void *ssl)
{
	X509	   *certificate;

	if (ssl == NULL || (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) == 0)
		return NULL;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	certificate = SSL_get1_peer_certificate(ssl);
#else
	certificate = SSL_get_peer_certificate(ssl);
#endif
	if (certificate != NULL && SSL_get_verify_result(ssl) == X509_V_OK)
		return certificate;
	X509_free(certificate);
	return NULL;
}

bool
tls_client_verified(void *ssl)
{
	X509	   *certificate = tls_verified_certificate(ssl);

	X509_free(certificate);
	return certificate != NULL;
}

/* A name that holds a NUL is longer than it looks: it is nobody's. */
static bool
tls_common_name(X509_NAME *subject, char *buf, size_t size)
{
	int			len = X509_NAME_get_text_by_NID(subject, NID_commonName, NULL, 0);

	if (len <= 0 || (size_t) len >= size)
		return false;
	return X509_NAME_get_text_by_NID(subject, NID_commonName, buf, (int) size) == len &&
		strlen(buf) == (size_t) len;
}

static bool
tls_distinguished_name(X509_NAME *subject, char *buf, size_t size)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *text = NULL;
	long		len = 0;
	bool		fits;

	if (bio == NULL)
		return false;
	if (X509_NAME_print_ex(bio, subject, 0, XN_FLAG_RFC2253) >= 0)
		len = BIO_get_mem_data(bio, &text);
	fits = text != NULL && len > 0 && (size_t) len < size && memchr(text, '\0', len) == NULL;
	if (fits)
	{
		memcpy(buf, text, len);
		buf[len] = '\0';
	}
	BIO_free(bio);
	return fits;
}

bool
tls_client_name(void *ssl, bool dn, char *buf, size_t size)
{
	X509	   *certificate;
	X509_NAME  *subject;
	bool		found;

	if (size == 0 || size > PG_INT32_MAX)
		return false;
	buf[0] = '\0';
	certificate = tls_verified_certificate(ssl);
	if (certificate == NULL)
		return false;
	subject = X509_get_subject_name(certificate);
	found = subject != NULL &&
		(dn ? tls_distinguished_name(subject, buf, size) : tls_common_name(subject, buf, size));
	X509_free(certificate);
	ERR_clear_error();
	return found;
}

bool
tls_alpn_agreed(void *ssl)
{
	const unsigned char *name = NULL;
	unsigned int len = 0;

	if (ssl == NULL)
		return false;
	SSL_get0_alpn_selected(ssl, &name, &len);
	return len == alpn_name[0] && memcmp(name, alpn_name + 1, len) == 0;
}

const char *
tls_take_refusal(void)
{
	static char taken[sizeof(tls_refusal)];

	strlcpy(taken, tls_refusal, sizeof(taken));
	tls_refusal[0] = '\0';
	return taken;
}

const char *
tls_describe(void *ssl)
{
	static char text[128];
	const char *cipher = ssl != NULL ? SSL_get_cipher(ssl) : NULL;

	if (ssl == NULL)
		return "no SSL";
	snprintf(text, sizeof(text), "%s, %s", SSL_get_version(ssl), cipher != NULL ? cipher : "unknown cipher");
	return text;
}
