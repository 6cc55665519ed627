/*
 * host/directory_places.c - which place of an origin is tried first?              floor 4
 *
 * An origin may have several places: hosts of a list, addresses of a name. libpq tries them in turn, but driven without waiting it stays with one that neither accepts nor refuses
 * until its caller gives up, and fails at one that accepts and closes. So who has given up at a place says so here, and everybody begins with the next one: links of all workers and the scout
 * find what is there at once. It is heard of until that one does not answer either, or the addresses change.
 *
 * Owns nothing; the slots are directory.c's. Never: connects, looks up a name.
 */
#include "postgres.h"

#include "host/directory_internal.h"

/* ---- lists with commas ---- */

static size_t
entry_len(const char *entry)
{
	return strcspn(entry, ",");
}

static const char *
entry_at(const char *list, int n)
{
	for (; n > 0 && *list != '\0'; n--)
	{
		list += entry_len(list);
		list += *list == ',';
	}
	return list;
}

static int
count_entries(const char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
		n += *list == ',';
	return n;
}

static bool
entry_is(const char *list, int n, const char *text)
{
	const char *entry = entry_at(list, n);

	return strlen(text) == entry_len(entry) && strncmp(entry, text, entry_len(entry)) == 0;
}

/* The entries from the n-th on come first. An empty list stands for as many empty entries. */
static void
rotate(char *list, size_t size, int n)
{
	char	   *former = pstrdup(list);
	const char *first = entry_at(former, n);

	if (first > former)
		snprintf(list, size, "%s,%.*s", first, (int) (first - former - 1), former);
	pfree(former);
}

/* ---- places ---- */

int
directory_places_to_try(int slot, DirectoryAddresses *out)
{
	directory_get_addresses(slot, out);
	rotate(out->hosts, sizeof(out->hosts), out->first);
	rotate(out->hostaddrs, sizeof(out->hostaddrs), out->first);
	rotate(out->ports, sizeof(out->ports), out->first);
	return count_entries(out->ports);
}

void
directory_avoid_place(int slot, const char *hostaddr, const char *port)
{
	OriginSlot *s = directory_slot_at(slot);
	DirectoryAddresses *a;
	int			n;

	if (s == NULL || hostaddr == NULL || port == NULL)
		return;
	LWLockAcquire(&directory_shared->address_lock, LW_EXCLUSIVE);
	a = &s->addresses;
	n = count_entries(a->ports);
	for (int i = 0; i < n; i++)
	{
		if (entry_is(a->hostaddrs, i, hostaddr) && entry_is(a->ports, i, port))
		{
			a->first = (i + 1) % n;
			break;
		}
	}
	LWLockRelease(&directory_shared->address_lock);
}
