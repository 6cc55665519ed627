/*
 * net/resolve.h - what addresses does a host name have?                           floor 4
 *
 * A look-up that can be polled and given up, as the resolver itself may wait for many seconds. Owns the look-ups, also those
 * given up until the resolver lets go of them. Never: waits (but see resolve_start), caches.
 */
#ifndef HYPERPOOL_NET_RESOLVE_H
#define HYPERPOOL_NET_RESOLVE_H

#include "core/bytes.h"

#include <netdb.h>

typedef struct Lookup Lookup;

/* Begins; NULL: no memory, or too many look-ups are stuck. Where the C library has no getaddrinfo_a this is where it waits. */
extern Lookup *resolve_start(const char *host, const char *port);
/* True: finished. */
extern bool resolve_done(Lookup *lookup);
/* After resolve_done: 0 or an EAI_ code; the list belongs to the look-up. */
extern int	resolve_result(Lookup *lookup, struct addrinfo **list);
/* Frees it, finished or not. NULL is fine. */
extern void resolve_end(Lookup *lookup);
/* A numeric address as text; false: neither IPv4 nor IPv6. */
extern bool resolve_address_text(const struct addrinfo *address, char *text, size_t size);
/* ---- the places of an origin: its host, hostaddr and port lists, side by side ---- */

#define PLACES_MAX	16

typedef struct Place
{
	char		host[256];
	char		hostaddr[64];
	char		port[32];
	Lookup	   *lookup;			/* or NULL: nothing to look up, or it could not be begun */
} Place;

/* libpq's rules; lists may be NULL. Returns how many (at most PLACES_MAX). */
extern int	places_read(const char *hosts, const char *hostaddrs, const char *ports, Place *places);
extern bool place_is_socket(const Place *place);	/* a Unix socket */
extern bool place_needs_lookup(const Place *place);
/* The look-ups of all places, side by side. */
extern void places_start(Place *places, int n);
extern bool places_done(const Place *places, int n);
extern void places_end(Place *places, int n);

#endif
