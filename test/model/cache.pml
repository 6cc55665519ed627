/*
 * cache.pml - a model of the version protocol of the cache (src/host/versions.h, steps W1-W4 and R1-R3).
 *
 * What must hold is invariant 2: once a write is acknowledged no read that begins later shows the earlier state, and no two reads, of which one ended before
 * the other began, disagree on the order of the writes.
 *
 * The data is one register at the origin that every commit makes greater by one, so "earlier" is "smaller". `least` is what a read that begins now has to show:
 * the greatest value that was acknowledged to a writer or shown by a read that has ended. A read that shows less than `least` was at its beginning breaks
 * the invariant; that is the only assertion about the data.
 *
 * There is one request, hence at most one entry and one flight. The entry hangs on two slots, its relation's and its cluster's; a write moves the one, the
 * other, or both. Each process below stands for a session in a worker of its own, so any two steps of any two processes can come in any order: that
 * includes the two clients of two workers. A step is one statement, or one atomic or d_step where C holds a lock. Inlines have the names of the C
 * functions they stand for, or their comment names them. Not in the model: time (an entry can be too old at any moment), eviction (the same), and the
 * contents of messages.
 *
 * `run` checks it, then checks that each mutation (an #ifdef below) is caught.
 */

#define RELATION	0
#define CLUSTER		1

/*
 * How much of it there is, so that it stays small: the reads of each of the two clients, writers (the second is plain, and so is the first beside an
 * invalidator), REFRESHER, INVALIDATOR, OUTSIDE (a write that does not pass through the gateway).
 */
#ifndef READS
#define READS		2
#endif
#ifndef OTHER_READS
#define OTHER_READS	1
#endif
#ifndef WRITERS
#define WRITERS		1
#endif

/* ---- what is shared ---- */
byte origin;					/* the register, as committed */
byte least;						/* see above */

byte version[2];				/* host/versions: the slots */
byte writers[2];

bool entry_there;				/* host/store: the entry … */
byte entry_value;
byte entry_sum;					/* … and the sum of the versions of R1 */
bool flight_open;				/* host/store: the flight */
byte flight_sum;
bool refresh_wanted;			/* it was begun by a hit, for the refresher */
mtype joined[2];				/* what the flight that each client has joined is doing */

mtype = { BEGIN, LOOK, HIT, MISS, JOIN, ALONE };	/* what a client is about to do: look up, or as store_lookup said */
mtype = { NONE, FLYING, LANDED, LOST };		/* of a flight that was joined: LANDED, its result is entry_value; LOST, there is none (any more) */

/* ---- versions ---- */

/* W1. One slot after the other, all before the first byte is sent. slots: 1 the relation's, 2 the cluster's. */
inline versions_raise(slots)
{
	writers[RELATION] = writers[RELATION] + (slots & 1);
	writers[CLUSTER] = writers[CLUSTER] + (slots >> 1)
}

/* W2. */
inline versions_moved(slots)
{
	version[RELATION] = version[RELATION] + (slots & 1);
	version[CLUSTER] = version[CLUSTER] + (slots >> 1)
}

/* W3. */
inline versions_drop(slots)
{
	writers[RELATION] = writers[RELATION] - (slots & 1);
	writers[CLUSTER] = writers[CLUSTER] - (slots >> 1)
}

/* W2, W3. */
inline versions_settle(slots)
{
#ifdef SETTLE_REVERSED
	versions_drop(slots);
	versions_moved(slots)
#else
	versions_moved(slots);
	versions_drop(slots)
#endif
}

/* The looks at the writers in R1 and R3: any up? */
inline look_at_writers(up)
{
#ifdef NO_WRITERS
	up = false
#else
	up = writers[RELATION] > 0;
#ifndef ONE_SLOT
	up = up || writers[CLUSTER] > 0
#endif
#endif
}

/* The sum of the versions in R1 and R3. */
inline sum_versions(sum)
{
	sum = version[RELATION];
#ifndef ONE_SLOT
	sum = sum + version[CLUSTER]
#endif
}

/* R1, R3. First all writers, then all versions; writes go on meanwhile. */
inline versions_read(up, sum)
{
#ifdef VERSIONS_FIRST
	sum_versions(sum);
	look_at_writers(up)
#else
	look_at_writers(up);
	sum_versions(sum)
#endif
}

/* invalidate(), DDL seen elsewhere, a failover. */
inline versions_move(slot)
{
	version[slot]++
}

/* ---- the store: what follows the versions is done under the partition's lock, hence in one step ---- */

inline flight_begin(sum)
{
	flight_open = true;
	flight_sum = sum
}

inline flight_end(landed)
{
	flight_open = false;
	flight_sum = 0;
	joined[0] = (joined[0] == FLYING && landed -> LANDED : (joined[0] == NONE -> NONE : LOST));
	joined[1] = (joined[1] == FLYING && landed -> LANDED : (joined[1] == NONE -> NONE : LOST))
}

#ifdef JOIN_UNCHECKED
#define MAY_JOIN	(flight_open && may_join)
#else
#define MAY_JOIN	(flight_open && may_join && flight_sum == sum)
#endif

/*
 * R1 or R3, whichever the verdict makes it. The versions are read before the lock is taken; if C reads them under it, it does less than this. A usable entry
 * may also be too old, so the lines below HIT are possible even when there is one. A STORE_HIT_REFRESH is a HIT that leaves its flight to the refresher.
 */
inline store_lookup(me, up, sum, may_join, verdict, value)
{
	atomic
	{
		if
		:: up -> verdict = ALONE
		:: !up && entry_there && entry_sum == sum ->
			verdict = HIT;
			value = entry_value;
			if
#ifdef REFRESHER
			:: !flight_open -> flight_begin(sum); refresh_wanted = true
#endif
			:: true
			fi
		:: !up && MAY_JOIN -> verdict = JOIN; joined[me] = FLYING
		:: !up && flight_open && !MAY_JOIN -> verdict = ALONE
		:: !up && !flight_open -> verdict = MISS; flight_begin(sum)
		fi
	}
}

/* R2. Found from now on under the sum of R1. That C also looks whether it still holds only saves memory. */
inline store_commit(value, sum)
{
	d_step
	{
		entry_there = true;
		entry_value = value;
		entry_sum = sum;
		flight_end(true)
	}
}

/* An error, too long, or the end of a worker (store_clear_worker). */
inline store_abort()
{
	d_step { flight_end(false) }
}

/* A miss or a refresh: sent; executed by the origin at some moment; answered; recorded or not. */
inline fly(up, sum, value)
{
	value = origin;
#ifdef VERSIONS_AFTER_SEND
	versions_read(up, sum);
#endif
	if
	:: !up -> store_commit(value, sum)
	:: store_abort()
	fi
}

/* store_flight_over; then the joiner looks up again, as store.h says, or takes what the flight has brought: both have to be right. */
inline flight_wait(me, verdict, value)
{
	atomic
	{
		joined[me] != FLYING;
		if
#ifndef JOIN_UNCHECKED
		:: verdict = LOOK
#endif
		:: joined[me] == LANDED -> verdict = HIT; value = entry_value
		:: joined[me] == LOST -> verdict = LOOK
		fi;
		joined[me] = NONE;
		may_join = false
	}
}

/* ---- the processes ---- */

/* What a read that begins later has to show. */
inline at_least(value)
{
	d_step
	{
		if
		:: least < value -> least = value
		:: else
		fi
	}
}

/* A read has shown `value` to its client. */
inline read_ends(value)
{
	assert(value >= begun);
#ifndef OUTSIDE
	least = (least < value -> value : least);
#endif
	n++;
	begun = 0; value = 0; sum = 0; up = false; may_join = false;
	verdict = BEGIN
}

/*
 * A session that reads. One that is not to be cached (in a transaction, by a hint) goes ALONE at once. A read begins as late and ends as early as what it
 * does permits, which is the hardest case.
 */
proctype client(bit me; byte reads)
{
	byte n, begun, value, sum;
	bool up, may_join;
	mtype verdict = BEGIN;

	do
	:: atomic { verdict == BEGIN && n < reads -> begun = least; may_join = true; verdict = LOOK }
	:: atomic { verdict == BEGIN && n < reads -> begun = least; value = origin; read_ends(value) }
	:: verdict == LOOK -> versions_read(up, sum); store_lookup(me, up, sum, may_join, verdict, value)
	:: verdict == JOIN -> flight_wait(me, verdict, value)
	:: verdict == MISS -> fly(up, sum, value); verdict = HIT
	:: atomic { verdict == ALONE -> value = origin; read_ends(value) }
	:: atomic { verdict == HIT -> read_ends(value) }
	:: verdict == BEGIN && n == reads -> break
	od
}

/* The flight of a STORE_HIT_REFRESH; also any flight whose first client has left. */
proctype refresher()
{
	byte value, sum;
	bool up;

end:
	do
	:: refresh_wanted ->
		d_step { refresh_wanted = false; sum = flight_sum }
		fly(up, sum, value);
		d_step { value = 0; sum = 0; up = false }
	od
}

/* The transaction commits at the origin. */
inline commit(value)
{
	d_step { origin++; value = origin }
}

/*
 * A session that writes: in autocommit by Query or by Execute, Flush, Sync; in a transaction, which is raised before its COMMIT is sent or earlier (nobody
 * sees before that what its statements do); or two commits in one pipeline, under one record. Between W1 and W2 the bytes go to the origin and its answer
 * comes back. The plain writer moves only the cluster's slot and always commits.
 */
proctype writer(bool plain)
{
	byte slots, value;

	if
	:: !plain -> slots = 1
	:: slots = 2
	:: !plain -> slots = 3
	fi;
	versions_raise(slots);
	if
#if WRITERS == 1
	:: !plain ->				/* the first of two in a pipeline */
		commit(value);
		versions_moved(slots);
		at_least(value)
#endif
	:: true
	fi;
	if
	:: true ->
#ifdef VERSIONS_AT_COMPLETE
		versions_settle(slots);	/* the Flush brought CommandComplete, but the commit is made at Sync */
		commit(value);
#else
		commit(value);
		versions_settle(slots);	/* the ReadyForQuery has come */
#endif
		at_least(value)			/* and is passed on */
	:: !plain ->				/* ROLLBACK, or refused before it was sent */
		versions_drop(slots)
	:: !plain ->				/* W4: versions_doubt, versions_clear_worker. Nothing is acknowledged, and the statement runs on */
#ifdef DOUBT_DROPPED
		versions_drop(slots);
#endif
#ifdef DOUBT_UNWATCHED
		versions_settle(slots);
#endif
		value = 0;
		if
		:: origin++
		:: true					/* it never commits */
		fi;
#if !defined(DOUBT_DROPPED) && !defined(DOUBT_UNWATCHED)
		versions_settle(slots)	/* the scout has seen that backend gone (versions_doubts) */
#endif
	fi;
	d_step { slots = 0; value = 0 }
}

/*
 * invalidate(), and the scout that has seen DDL. With OUTSIDE it was called because of a write that did not pass through the gateway: reads may disagree
 * until it returns, but none that begins later shows the earlier state, not even from a flight that was under way.
 */
proctype invalidator()
{
	byte value;

#ifdef OUTSIDE
	commit(value);
#endif
#ifdef PURGE_ONLY
	entry_there = false;
#else
	if
	:: versions_move(RELATION)
	:: versions_move(CLUSTER)
	fi;
#endif
	at_least(value)
}

init
{
	atomic
	{
		joined[0] = NONE;
		joined[1] = NONE;
		run client(0, READS);
		run client(1, OTHER_READS);
#ifdef REFRESHER
		run refresher();
#endif
#if WRITERS > 0
#ifdef INVALIDATOR
		run writer(true);
#else
		run writer(false);
#endif
#endif
#if WRITERS > 1
		run writer(true);
#endif
#ifdef INVALIDATOR
		run invalidator()
#endif
	}
}
