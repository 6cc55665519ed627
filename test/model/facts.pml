/*
 * facts.pml - a model of when what is known of a catalog may be counted on (src/host/facts.h, src/origin/catalog_look.c, src/client/session_writes.c).
 *
 * What must hold: an answer that is given from the cache was proved by a catalog in which every DDL is that was acknowledged before it was asked for; through whichever origin
 * of the database, and whatever may have made that DDL (a write whose table had got a trigger, too).
 *
 * The catalog at the origin is a number that each DDL makes greater by one: what is known of it is the number that a look has found, which is its
 * fingerprint as well. Two origins of one database, each with its scout. A write is DDL, or a plain one. A plain one makes no DDL if what its session knew was true when
 * it was executed, else it may. All hang on one slot here (cluster and catalog are one), as both end whatever they move for.
 *
 * A step is one statement, or one atomic or d_step where C holds the lock of the facts. Inlines have the names of the C functions they stand for. Not in the model: time (a look
 * may come at any moment), DDL made elsewhere (nobody is told when), the values (cache.pml), and writes that no catalog could tell of.
 *
 * `run` checks it, then that each mutation (an #ifdef below) is caught.
 */

#define ORIGINS		2

/* How much of it there is, so that it stays small: the looks of each scout, at which origin writers and the reader are. */
#ifndef LOOKS
#define LOOKS		2
#endif
#ifndef OTHER_LOOKS
#define OTHER_LOOKS	1
#endif
#ifndef WRITER_AT
#define WRITER_AT	0
#endif
#ifndef READER_AT
#define READER_AT	0
#endif

/* ---- at the origin ---- */
byte catalog;
byte acknowledged;				/* the catalog of the last DDL that its client knows of */
byte astray;					/* plain writes on their way that have made DDL and were told they would not */

/* ---- host/versions: the slot ---- */
byte version;
byte writers;

/* ---- host/facts: of each origin ---- */
byte known[ORIGINS];			/* the image, and the fingerprint it was made of */
byte generation[ORIGINS];
byte suspicions[ORIGINS];
byte cleared[ORIGINS];
byte unproven[ORIGINS];

#define IS_FRESH(o)	(suspicions[o] == cleared[o])

inline facts_suspect()
{
	suspicions[0]++;
	suspicions[1]++
}

/* Of another origin: it has relied on the same, or is to look for itself. */
inline count_other(me, other)
{
	if
#ifdef OTHERS_UNTOLD
	:: true
#else
#ifdef RELY_ON_ANOTHER
	:: true -> unproven[other]++
#else
	:: known[other] == known[me] -> unproven[other]++
	:: known[other] != known[me] -> suspicions[other]++
#endif
#endif
	fi
}

/* Under the lock, shared: nothing is published meanwhile, but scouts and other writers count. */
inline facts_rely(me, by, held)
{
	atomic
	{
#ifdef RELY_UNCHECKED
		held = true;
#else
		held = generation[me] == by;
#endif
		if
		:: held ->
			unproven[me]++;
			count_other(me, 1 - me)
		:: !held
		fi
	}
}

/* ---- a scout: one look after the other ---- */
proctype scout(bit me; byte looks)
{
	byte n, was_generation, was_suspicions, was_unproven, found;

	do
	:: n < looks ->
		/* facts_before: as late as can be, which is the hardest case */
		d_step { was_generation = generation[me]; was_unproven = unproven[me]; was_suspicions = suspicions[me] };
		found = catalog;		/* asked, and executed */
		if
		:: found != known[me] ->
			d_step { known[me] = found; generation[me]++ };
			version++
		:: found == known[me]
		fi;
		/* facts_looked */
#ifndef RELIED_IN_VAIN
		if
		:: generation[me] != was_generation && unproven[me] != was_unproven -> suspicions[me]++
		:: else
		fi;
#endif
#ifdef CLEARED_LATE
		cleared[me] = suspicions[me];
#else
		cleared[me] = was_suspicions;
#endif
		d_step { n++; was_generation = 0; was_unproven = 0; was_suspicions = 0; found = 0 }
	:: n == looks -> break
	od
}

/* ---- sessions that write ---- */

/* Its client is told. */
inline acknowledge(made)
{
	acknowledged = (acknowledged < made -> made : acknowledged)
}

inline settle()
{
	version++;
	writers--
}

proctype ddl()
{
	byte made;

	writers++;
	d_step { catalog++; made = catalog };
#ifdef SETTLED_FIRST
	settle();
	facts_suspect();
#else
	facts_suspect();
	settle();
#endif
	acknowledge(made)
}

/* It has relied on what was known then, or, where that has changed by now, on what may have been wrong. */
inline suspect_catalog(me, by)
{
	facts_rely(me, by, held);
	if
	:: !held -> facts_suspect()
	:: held
	fi
}

/* A plain write, by what its session knows. If that is true it changes nothing in the catalog. */
proctype writer(bit me)
{
	byte told_by, by, made;
	bool anything, held;

	/* session_writes_asked. (Were it told by what is not known any more, it would be suspected as DDL is.) */
	d_step { told_by = known[me]; by = generation[me] };
	anything = !IS_FRESH(me);
	writers = writers + anything;
	atomic					/* it is executed */
	{
		if
		:: told_by != catalog -> catalog++; made = catalog; astray = astray + !anything
		:: true
		fi
	};
	/* session_writes_ended */
	if
	:: anything ->
		suspect_catalog(me, by);
		settle()
	:: !anything ->
		if
		:: generation[me] != by || !IS_FRESH(me) ->
#ifndef TOLD_UNJUDGED
			suspect_catalog(me, by);
#endif
			version++		/* session_catalog_moved */
		:: else
		fi;
		astray = (made > 0 -> astray - 1 : astray)
	fi;
	acknowledge(made)
}

/*
 * With two plain writes there is one exception (of -DWRITER_TOO_AT=1, which takes a minute and 1 GB, so that `run` leaves it out), as long as the first is on its way: it was asked before the DDL was known, executed behind it, and made DDL itself; so did
 * the second, which was told by what is known of the former; and the second is acknowledged first. Nothing could tell of the first before it ends, which then ends what was kept.
 */
#ifdef WRITER_TOO_AT
#define MAY_BE_ASTRAY	(astray > 0)
#else
#define MAY_BE_ASTRAY	false
#endif

/* ---- a session that reads: records an answer, and finds it again ---- */
proctype reader(bit me)
{
	byte proved_by, by, sum, asked;

	/* that it is fresh is looked at here as well, which only saves work */
	d_step { proved_by = known[me]; by = generation[me] };
#ifdef PROVED_BEFORE
	if
	:: IS_FRESH(me)
	:: !IS_FRESH(me) -> goto end
	fi;
#endif
	if						/* R1 */
	:: writers == 0
	:: writers > 0 -> goto end
	fi;
	sum = version;
#ifndef PROVED_BEFORE
	if						/* proof_holds_still */
	:: IS_FRESH(me)
	:: !IS_FRESH(me) -> goto end
	fi;
	if
	:: generation[me] == by
	:: generation[me] != by -> goto end
	fi;
#endif
	asked = acknowledged;		/* somebody asks for the same later on */
	if						/* R3 */
	:: writers == 0
	:: writers > 0 -> goto end
	fi;
	atomic
	{
		if
		:: version == sum -> assert(proved_by >= asked || MAY_BE_ASTRAY)
		:: version != sum
		fi
	};
end:
	skip
}

init
{
	atomic
	{
		run scout(0, LOOKS);
		run scout(1, OTHER_LOOKS);
		run ddl();
		run writer(WRITER_AT);
#ifdef WRITER_TOO_AT
		run writer(WRITER_TOO_AT);
#endif
		run reader(READER_AT)
	}
}
