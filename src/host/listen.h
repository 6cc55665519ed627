/*
 * host/listen.h - where do clients come in?                                       floor 5
 *
 * Owns the listening sockets of this worker: TCP, the Unix socket with its file (worker 0), and the socket over which workers that
 * have more clients hand it accepted ones. Opens them again when an address was taken or descriptors ran out. Never:
 * reads a byte from a client; ends the worker because a port is taken.
 */
#ifndef HYPERPOOL_HOST_LISTEN_H
#define HYPERPOOL_HOST_LISTEN_H

#include "postgres.h"
#include <sys/socket.h>
#include "net/reactor.h"

typedef struct ListenTarget
{
	bool		(*accepting) (void);	/* false: nobody more for now */
	/* a non-blocking, close-on-exec descriptor, the callee's from here on */
	void		(*on_client) (int fd, const struct sockaddr_storage *from, bool local);
} ListenTarget;

/* Resolves hyperpool.listen_addresses (the one place that may wait, at start) and opens what can be opened. */
extern void listen_start(Reactor *reactor, int worker, const ListenTarget *target);
/* Each turn: watches again what was put aside, opens what could not be opened when its time has come. */
extern void listen_turn(void);
extern void listen_stop(void);			/* closes all and removes the socket files; fine if not started */

#endif
