/*
 * client/session.h - one client's life; the only conductor of the route.           floor 7
 *
 * Answers: what happens with each message of a client? Owns the sessions of this worker (their sockets, buffers, names,
 * settings, place in a pool's queue). What the worker's loop needs is below; nobody else
 * calls in, news comes through the callbacks of reactor, pool and link.
 * States and edges: client/README.md.
 */
#ifndef HYPERPOOL_CLIENT_SESSION_H
#define HYPERPOOL_CLIENT_SESSION_H

#include "postgres.h"
#include <sys/socket.h>
#include "host/cancel.h"
#include "host/directory.h"
#include "net/reactor.h"

/* Once per worker. pools_init (origin/pool.h) was called before. */
extern void sessions_init(Reactor *reactor, int worker);
/* A fresh descriptor (non-blocking, close-on-exec). local: Unix socket. Takes it over, closes it on refusal. */
extern void session_accept(int fd, const struct sockaddr_storage *from, bool local);
/* False while nobody more should be accepted (worker_memory, too many in login): the listener is not to be watched. */
extern bool sessions_accepting(void);
/* A note from another process (cancel, disconnect). */
extern void sessions_on_note(const Note *note);
/* A new directory: rights, origins may have gone. The old one's pointers are dead after this returns. */
extern void sessions_on_directory(Directory *directory);
/* Shutdown: idle clients leave at once, others when their transaction ends; now = everybody. True when none is left. */
extern bool sessions_drain(bool now);
extern void sessions_limit(int most);	/* of this worker: there are descriptors for no more */
/* Who waits for another client's answer goes on if it has come. Each turn; latched: the latch was set, another process may have ended a flight. */
extern void sessions_on_flights(bool latched);
/* An ERROR was caught: whose event was handled, and who was being told something by a link (links_interrupted), is closed; the worker goes on. */
extern void sessions_after_error(void *told);

#endif
