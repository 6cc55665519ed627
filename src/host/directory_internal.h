/*
 * host/directory_internal.h - what the files of the directory share.              floor 4
 *
 *	directory.c			the shared area, the origins' slots, flags and addresses, publication and its tickets
 *	directory_read.c	a reader's private copy: decoding, look-ups, what the hba matcher asks
 *	directory_write.c	the manager's draft: collecting, generations, encoding into the half that is not current
 *	directory_places.c	which place of an origin is tried first
 *
 * The image is a sequence of records, integers in network order, strings as length + 1 (0 stands for NULL), bytes, NUL. It is
 * read by a cursor that checks every length, though only the manager writes it: a crash would restart somebody's database.
 *
 * Owns nothing; the area is directory.c's. Never: included outside the directory's own files.
 */
#ifndef HYPERPOOL_HOST_DIRECTORY_INTERNAL_H
#define HYPERPOOL_HOST_DIRECTORY_INTERNAL_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "host/directory.h"

#define IMAGE_MAGIC		0x48504431	/* HPD1 */

typedef struct OriginSlot
{
	Oid			oid;			/* InvalidOid = free; manager writes */
	uint64		freed;			/* when it was freed, a count: the longest free is taken first */
	pg_atomic_uint32 paused;
	pg_atomic_uint32 wanted;
	uint32		address_count;	/* generations given; survives a new look-up; address_lock */
	DirectoryAddresses addresses;	/* address_lock */
} OriginSlot;

typedef struct DirectoryShared
{
	int			tranche;
	LWLock		image_lock;
	LWLock		address_lock;
	pg_atomic_uint64 generation;	/* 0 = nothing published; its lowest bit says which half is current */
	pg_atomic_uint64 asked;		/* newest ticket */
	pg_atomic_uint64 done;		/* newest ticket whose publication is out */
	pg_atomic_uint32 manager;	/* a manager is there to do it */
	pg_atomic_uint32 database_missing;
	ConditionVariable published;
	uint32		changes;		/* gives origins and credentials their generations; manager only */
	uint64		slots_freed;	/* manager only */
	Size		used[2];		/* bytes of each half; image_lock */
	Size		half_size;
	uint8	   *halves[2];
	int			nslots;
	OriginSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} DirectoryShared;

typedef struct OidPair
{
	Oid			a;
	Oid			b;
} OidPair;

struct Directory
{
	MemoryContext context;
	uint64		generation;
	uint8	   *image;			/* private copy; strings point into it */
	Size		image_size;
	int			norigins;
	DirectoryOrigin *origins;
	DirectoryOrigin **origins_by_name;
	DirectoryOrigin **origins_by_oid;
	int			ncredentials;
	DirectoryCredential *credentials;
	DirectoryCredential **credentials_sorted;	/* by origin, role */
	int			nroles;
	DirectoryRole *roles;
	DirectoryRole **roles_by_name;
	DirectoryRole **roles_by_oid;
	uint32	   *visited;		/* a mark for each of roles_by_oid: the walk that has seen it */
	uint32	   *walk;			/* walk[0]: number of the newest walk; then the queue */
	int			nmembers;
	OidPair    *members;		/* (role, group), sorted */
	int			nrights;
	OidPair    *rights;			/* (role, origin), sorted; role 0 = everybody */
	int			nlines;
	GatewayHbaLine *lines;
	bool		hba_usable;
	bool		regexes_compiled;
	HbaWorld	world;
};

struct DirectoryDraft
{
	MemoryContext context;
	List	   *origins;
	List	   *credentials;
	List	   *roles;
	List	   *lines;
	List	   *moved;			/* slots of origins with another host than before */
	int			nmembers;
	int			members_size;
	OidPair    *members;
	int			nrights;
	int			rights_size;
	OidPair    *rights;
	bool		hba_usable;
};

extern DirectoryShared *directory_shared;	/* NULL where the library was not preloaded */
extern OriginSlot *directory_slot_at(int slot); /* or NULL */

/* ---- directory_read.c ---- */

/* A private copy of what is current, decoded; raises when memory fails. */
extern Directory *directory_read(void);
/* The credential of exactly this role, `origin` an index; or NULL. */
extern const DirectoryCredential *directory_find_credential(const Directory *d, int origin, Oid role);

/* ---- directory_write.c: the manager ---- */

extern bool directory_draft_has_origin(const DirectoryDraft *draft, Oid oid);
/* Gives the draft its generations: kept where nothing differs from `was` (NULL: nothing published). Notes who has moved. */
extern void directory_number_draft(DirectoryDraft *draft, const Directory *was);
/* Writes the draft into the idle half; returns its size, or raises with the idle half wiped. */
extern Size directory_write_half(const DirectoryDraft *draft, int idle);

#endif
