/*
 * net/resolve.c - what addresses does a host name have?                           floor 4
 *
 * getaddrinfo_a works in a thread of the C library, which must not take the process's signals: all are blocked while it is
 * started, and a thread keeps the mask it is born with. A look-up that was given up stays in a short list until its
 * thread has ended, since the thread writes into it. C library only.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* getaddrinfo_a, strchrnul */
#endif

#include "net/resolve.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#define STUCK_MAX	16

struct Lookup
{
	Lookup	   *next;
	struct addrinfo hints;
	char		host[256];
	char		port[32];
#ifdef __GLIBC__
	struct gaicb request;
#else
	int			result;
	struct addrinfo *list;
#endif
};

static Lookup *stuck = NULL;

#ifdef __GLIBC__

static void
free_lookup(Lookup *lookup)
{
	if (lookup->request.ar_result != NULL)
		freeaddrinfo(lookup->request.ar_result);
	free(lookup);
}

bool
resolve_done(Lookup *lookup)
{
	return gai_error(&lookup->request) != EAI_INPROGRESS;
}

int
resolve_result(Lookup *lookup, struct addrinfo **list)
{
	*list = lookup->request.ar_result;
	return gai_error(&lookup->request);
}

static bool
begin(Lookup *lookup)
{
	struct gaicb *requests[1] = {&lookup->request};
	struct sigevent event;
	sigset_t	all;
	sigset_t	before;
	int			rc;

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_NONE;
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_service = lookup->port;
	lookup->request.ar_request = &lookup->hints;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = getaddrinfo_a(GAI_NOWAIT, requests, 1, &event);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc == 0;
}

#else

static void
free_lookup(Lookup *lookup)
{
	if (lookup->list != NULL)
		freeaddrinfo(lookup->list);
	free(lookup);
}

bool
resolve_done(Lookup *lookup)
{
	(void) lookup;
	return true;
}

int
resolve_result(Lookup *lookup, struct addrinfo **list)
{
	*list = lookup->list;
	return lookup->result;
}

static bool
begin(Lookup *lookup)
{
	lookup->result = getaddrinfo(lookup->host, lookup->port, &lookup->hints, &lookup->list);
	return true;
}

#endif

/* Frees the given-up look-ups whose threads have ended; returns how many have not. */
static int
sweep_stuck(void)
{
	Lookup	  **at = &stuck;
	int			n = 0;

	while (*at != NULL)
	{
		Lookup	   *lookup = *at;

		if (resolve_done(lookup))
		{
			*at = lookup->next;
			free_lookup(lookup);
			continue;
		}
		at = &lookup->next;
		n++;
	}
	return n;
}

Lookup *
resolve_start(const char *host, const char *port)
{
	Lookup	   *lookup;

	if (sweep_stuck() >= STUCK_MAX || strlen(host) >= sizeof(lookup->host) || strlen(port) >= sizeof(lookup->port))
		return NULL;
	lookup = calloc(1, sizeof(Lookup));
	if (lookup == NULL)
		return NULL;
	memcpy(lookup->host, host, strlen(host));
	memcpy(lookup->port, port, strlen(port));
	lookup->hints.ai_family = AF_UNSPEC;
	lookup->hints.ai_socktype = SOCK_STREAM;
	if (begin(lookup))
		return lookup;
	free(lookup);
	return NULL;
}

void
resolve_end(Lookup *lookup)
{
	if (lookup == NULL)
		return;
	if (resolve_done(lookup))
	{
		free_lookup(lookup);
		return;
	}
#ifdef __GLIBC__
	(void) gai_cancel(&lookup->request);
#endif
	lookup->next = stuck;
	stuck = lookup;
	(void) sweep_stuck();
}

bool
resolve_address_text(const struct addrinfo *address, char *text, size_t size)
{
	return address->ai_addr != NULL && (address->ai_family == AF_INET || address->ai_family == AF_INET6) &&
		getnameinfo(address->ai_addr, address->ai_addrlen, text, (socklen_t) size, NULL, 0, NI_NUMERICHOST) == 0;
}

/* ---- places ---- */

/* Entry i of a comma-separated list into buf; false: there is no such entry, or it is too long. */
static bool
list_entry(const char *list, int i, char *buf, size_t size)
{
	const char *end;

	buf[0] = '\0';
	for (; i > 0; i--)
	{
		list = strchr(list, ',');
		if (list == NULL)
			return false;
		list++;
	}
	end = strchrnul(list, ',');
	if ((size_t) (end - list) >= size)
		return false;
	memcpy(buf, list, (size_t) (end - list));
	buf[end - list] = '\0';
	return true;
}

static int
list_size(const char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',' ? 1 : 0;
	return n;
}

/* Hosts and addresses go side by side; one port serves all, an empty one is 5432. */
static bool
read_place(const char *hosts, const char *hostaddrs, const char *ports, int i, Place *place)
{
	memset(place, 0, sizeof(*place));
	if (hosts[0] != '\0' && !list_entry(hosts, i, place->host, sizeof(place->host)))
		return false;
	if (hostaddrs[0] != '\0' && !list_entry(hostaddrs, i, place->hostaddr, sizeof(place->hostaddr)))
		return false;
	if (!list_entry(ports, strchr(ports, ',') != NULL ? i : 0, place->port, sizeof(place->port)))
		return false;
	if (place->port[0] == '\0')
		memcpy(place->port, "5432", 5);
	return true;
}

int
places_read(const char *hosts, const char *hostaddrs, const char *ports, Place *places)
{
	int			n;
	int			good = 0;
	int			i;

	hosts = hosts != NULL ? hosts : "";
	hostaddrs = hostaddrs != NULL ? hostaddrs : "";
	ports = ports != NULL ? ports : "";
	n = list_size(hosts[0] != '\0' ? hosts : hostaddrs);
	for (i = 0; i < n && good < PLACES_MAX; i++)
	{
		if (read_place(hosts, hostaddrs, ports, i, &places[good]))
			good++;
	}
	return good;
}

bool
place_is_socket(const Place *place)
{
	return place->hostaddr[0] == '\0' && (place->host[0] == '/' || place->host[0] == '@');
}

bool
place_needs_lookup(const Place *place)
{
	return place->hostaddr[0] == '\0' && place->host[0] != '\0' && !place_is_socket(place);
}

void
places_start(Place *places, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (place_needs_lookup(&places[i]))
			places[i].lookup = resolve_start(places[i].host, places[i].port);
	}
}

bool
places_done(const Place *places, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (places[i].lookup != NULL && !resolve_done(places[i].lookup))
			return false;
	}
	return true;
}

void
places_end(Place *places, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		resolve_end(places[i].lookup);
		places[i].lookup = NULL;
	}
}
