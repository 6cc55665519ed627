/*
 * host/tls.h - an SSL_CTX from the server's own ssl_* settings; reload.           floor 4
 *
 * Owns one SSL_CTX for clients. On a failed reload the old one stays. Never: waits (a passphrase command runs at start, and
 * at a reload only where ssl_passphrase_command_supports_reload says so, as in the server).
 */
#ifndef HYPERPOOL_HOST_TLS_H
#define HYPERPOOL_HOST_TLS_H

#include "postgres.h"

/* (Re)builds from ssl_cert_file, ssl_key_file, ssl_ca_file, ssl_crl_*, ssl_ciphers, protocol versions, curves. Logs on failure. ssl = off: drops it. */
extern void tls_reload(void);
extern void *tls_context(void);			/* SSL_CTX *, or NULL when TLS is off */
extern bool tls_has_client_ca(void);	/* ssl_ca_file is set: client certificates are asked for and verified */
/* Has this client shown a certificate, and was it verified against ssl_ca_file? NULL is fine: no. */
extern bool tls_client_verified(void *ssl);
/* The verified client certificate's common name (dn = false) or DN in RFC 2253 form, into buf; false: none or malformed (embedded NUL). */
extern bool tls_client_name(void *ssl, bool dn, char *buf, size_t size);
/* Was the protocol "postgresql" agreed upon by ALPN? Direct TLS requires it. */
extern bool tls_alpn_agreed(void *ssl);
extern const char *tls_take_refusal(void);	/* why the certificate of a client was refused since this was asked last, or ""; static */
extern const char *tls_describe(void *ssl);	/* "TLSv1.3, TLS_AES_256_GCM_SHA384"; static, until the next call */

#endif
