/*
 * host/listen_internal.h - what the files of the listener share.                  floor 5
 *
 * listen.c: the listening sockets, accepting. listen_handover.c: which worker gets a client, and its descriptor's way there.
 */
#ifndef HYPERPOOL_HOST_LISTEN_INTERNAL_H
#define HYPERPOOL_HOST_LISTEN_INTERNAL_H

#include "host/listen.h"

struct sockaddr_un;

/* A client that was accepted and has said nothing yet; a message between workers, its descriptor beside it. */
typedef struct Arrival
{
	struct sockaddr_storage from;
	bool		local;
} Arrival;

typedef enum HandoverVerdict
{
	HANDOVER_KEEP,				/* ours: we have not too many, or nobody else takes it */
	HANDOVER_FULL,				/* ours, as the emptiest worker has not yet taken what it was sent */
	HANDOVER_GONE				/* another worker's: our descriptor is closed */
} HandoverVerdict;

extern void handover_address(struct sockaddr_un *un, int worker);	/* of a worker's mailbox for clients */
extern void handover_forget_others(void);	/* the files of workers that are no longer */
extern void handover_start(int worker);
extern void handover_stop(void);
extern void handover_open(bool open);	/* do we take clients from others? */
extern HandoverVerdict handover_offer(int fd, const Arrival *arrival);
/* The next one sent to us: its descriptor, or -1 and errno. */
extern int	handover_take(int socket, Arrival *arrival);

#endif
