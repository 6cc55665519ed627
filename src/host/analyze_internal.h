/*
 * host/analyze_internal.h - what the parts of host/analyze share.                  floor 5
 *
 * Answers: how is what a walk finds gathered? analyze.c knows what each statement does, analyze_mentions.c
 * which names it speaks of, analyze_scan.c reads texts without the parser. Private to the three.
 */
#ifndef HYPERPOOL_HOST_ANALYZE_INTERNAL_H
#define HYPERPOOL_HOST_ANALYZE_INTERNAL_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "host/analyze.h"

#define NAME_SLOTS	1024		/* a power of two, more than MENTIONS_MAX */

/* The mentions of one text while it is read. Lives in the memory context of the parsing. */
typedef struct NameDraft
{
	uint32		flags;			/* TextFlag bits */
	uint32		count;
	uint32		len;			/* of bytes, as in Mentions */
	uint32		size;
	uint32		comparisons;	/* with names of CTEs: bounded, the text is hostile */
	char	   *bytes;
	uint32		offsets[MENTIONS_MAX];
	uint16		slots[NAME_SLOTS];	/* number of a mention + 1 by its hash, 0 = free; zeroed by the first mention */
} NameDraft;

/* The CTEs that can be seen from a place, inner WITH first. */
typedef struct CteScope
{
	List	   *ctes;
	int			visible;		/* this many of them, from the start */
	const struct CteScope *outer;
} CteScope;

/* What a walk over one statement finds. */
typedef struct Findings
{
	uint32		effects;
	bool		writes;			/* an INSERT, UPDATE, DELETE or MERGE, in a CTE perhaps */
	bool		makes_table;	/* SELECT INTO */
	NameDraft  *names;
	const CteScope *scope;
	const RangeVar *target;		/* of the writing statement being walked: mentioned already */
} Findings;

/* Walks a raw tree of SELECT, INSERT, UPDATE, DELETE, MERGE or expressions, and adds to *found. Raises the walker's errors. */
extern void analyze_walk(Node *node, Findings *found);
extern void analyze_mention_relation(NameDraft *names, MentionKind kind, const RangeVar *relation);
/* A possibly qualified name as a list of String nodes. */
extern void analyze_mention_name(NameDraft *names, MentionKind kind, List *parts);
extern void names_init(NameDraft *names);
/* False: no memory. *out is NULL when there is nothing to tell. */
extern bool names_finish(const NameDraft *names, Mentions **out);

/* What this node by itself adds to the effects (analyze.c). */
extern void analyze_node_effects(Node *node, Findings *found);

#endif
