/*
 * net/transport.h - a non-blocking pipe of bytes: plain, TLS, mock.               floor 4
 *
 * One ops table. Owns the descriptor and the SSL object (unless told they are borrowed). Never: waits,
 * buffers (beyond OpenSSL's own), raises an error.
 */
#ifndef HYPERPOOL_NET_TRANSPORT_H
#define HYPERPOOL_NET_TRANSPORT_H

#include <sys/types.h>
#include "core/bytes.h"

#define TRANSPORT_AGAIN		(-1)	/* would block; see wants_write */
#define TRANSPORT_FAILED	(-2)	/* broken; see transport_error */

struct TransportOps;

typedef struct Transport
{
	const struct TransportOps *ops;
	int			fd;
	bool		wants_write;	/* a TLS read or handshake waits for writability */
	bool		dry;			/* TLS: the last read found less than a record */
	bool		borrowed;		/* fd and ssl belong to somebody else (libpq): close does not free them */
	void	   *ssl;			/* SSL *, or NULL; the mock's own object */
} Transport;

typedef struct TransportOps
{
	const char *name;
	ssize_t		(*read) (Transport *t, void *into, size_t n);
	ssize_t		(*write) (Transport *t, const void *from, size_t n);
	bool		(*pending) (const Transport *t);	/* decrypted bytes wait that no poll will tell of */
	void		(*close) (Transport *t);
} TransportOps;

extern void transport_init_plain(Transport *t, int fd);
/* A server-side TLS handshake over fd is to begin. ssl_ctx: SSL_CTX *. False: OpenSSL has no memory. */
extern bool transport_init_tls_server(Transport *t, int fd, void *ssl_ctx);
/* An established connection of libpq's: fd and SSL * (or NULL) stay libpq's. Re-seats the SSL on a plain fd BIO. */
extern bool transport_init_borrowed(Transport *t, int fd, void *ssl);

typedef enum HandshakeVerdict { HANDSHAKE_DONE, HANDSHAKE_AGAIN, HANDSHAKE_FAILED } HandshakeVerdict;
extern HandshakeVerdict transport_handshake(Transport *t);

/* From now on TLS takes what the socket holds in one receive, not a record's head and then its body. Who reads must mind transport_pending. */
extern void transport_read_ahead(Transport *t);

/* > 0 bytes, 0 end of stream, TRANSPORT_AGAIN or TRANSPORT_FAILED. */
static inline ssize_t
transport_read(Transport *t, void *into, size_t n)
{
	return t->ops->read(t, into, n);
}

static inline ssize_t
transport_write(Transport *t, const void *from, size_t n)
{
	return t->ops->write(t, from, n);
}

static inline bool
transport_pending(const Transport *t)
{
	return t->ops->pending(t);
}

extern void transport_close(Transport *t);	/* once; sets fd to -1; a TLS close_notify is attempted, not waited for */
extern const char *transport_error(void);	/* text of the last failure in this process; for logs */
extern bool transport_is_tls(const Transport *t);

#endif
