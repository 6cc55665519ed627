/*
 * stream.h: one connection as bytes in and out, by a Unix socket, TCP or TLS; and where it goes.
 *
 * A Stream that is closed has fd -1. Nothing here waits without a deadline. A message stays where it was read: its body is valid until the next read.
 */
#ifndef WIRE_STREAM_H
#define WIRE_STREAM_H

#include "bytes.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/types.h>

#define TARGET_TEXT 256

typedef struct Target
{
	char		host[TARGET_TEXT];	/* empty: there is none; beginning with a slash: the folder of a Unix socket */
	char		port[TARGET_TEXT];
	char		dbname[TARGET_TEXT];
	char		user[TARGET_TEXT];
	char		password[TARGET_TEXT];
	bool		tls;
} Target;

typedef struct Stream
{
	int			fd;
	SSL		   *ssl;
	bool		eof;			/* the other side closed, or its bytes make no sense */
	bool		write_dead;
	Buffer		in;
	Buffer		out;
} Stream;

/* host= port= dbname= user= password= sslmode=disable|require; a value may stand in double quotes. */
extern void read_target(Target *t, const char *conninfo);

/* False, with errno, where there is no connection within limit_ms. */
extern bool stream_open(Stream *s, const Target *t, long limit_ms);
extern void stream_close(Stream *s);

/* How many bytes were moved, at the end of in or before the start of out; 0: none now; -1: this way has ended just now. */
extern ssize_t stream_read(Stream *s);
extern ssize_t stream_write(Stream *s, size_t most);
extern bool stream_wait(const Stream *s, short events, long deadline);

/* The first queues SSLRequest; the second, when its answer is there, does the rest. */
extern void stream_ask_for_tls(Stream *s);
extern bool stream_start_tls(Stream *s, long deadline);

/* Of the first message of in: 0 when it has not all come, -1 when its length is impossible. */
extern long stream_message_length(const Stream *s);

/* Takes it, once it has all come; its type. */
extern char stream_take_message(Stream *s, Cursor *body);

#endif
