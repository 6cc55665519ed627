/*
 * core/proof_internal.h - the image that the files of the proof share.             floor 2
 *
 *	proof.c			draws the proof from facts
 *	proof_image.c	checks an image, finds rows by name
 *	proof_draft.c	collects a draft and makes the image
 *
 * An image is a header and eight sections, each behind the other: rows sorted by name, slots, texts. Integers are those of this machine: an image never
 * leaves it. A text is its length in one byte, its bytes, a NUL; rows hold its place in the section of texts.
 * Never: included outside the proof's own files.
 */
#ifndef HYPERPOOL_CORE_PROOF_INTERNAL_H
#define HYPERPOOL_CORE_PROOF_INTERNAL_H

#include "core/proof.h"

#define FACTS_MAGIC		0x48504631	/* HPF1 */
#define TEXT_MAX		255

typedef enum FactsSection
{
	SECTION_RELATIONS,
	SECTION_FUNCTIONS,
	SECTION_OPERATORS,
	SECTION_TYPES,
	SECTION_FIELDS,
	SECTION_BUILTINS,
	SECTION_SLOTS,				/* uint32_t */
	SECTION_TEXTS,				/* bytes */
	SECTION_LIMIT
} FactsSection;

#define SECTION_IS_NAMED(section)	((section) <= SECTION_BUILTINS)

struct Facts
{
	uint32_t	magic;
	uint32_t	size;			/* of the whole image */
	DatabaseSlots slots;
	struct
	{
		uint32_t	at;			/* offset in the image */
		uint32_t	count;
	}			sections[SECTION_LIMIT];
};

/* What rows of all named sections begin with. */
typedef struct NameRow
{
	uint32_t	name;
	uint32_t	schema;			/* not in a row of builtins */
	uint32_t	class;			/* NameClass; not in a row of relations or builtins */
} NameRow;

typedef enum RelationFlag
{
	RELATION_WHOLE = 1 << 0,
	RELATION_CATALOG_ROWS = 1 << 1,
	RELATION_READS_WRITE = 1 << 2,
	RELATION_WRITES_ANYTHING = 1 << 3,
	RELATION_HARMLESS = 1 << 4,
	RELATION_READS_DIRTY = 1 << 5
} RelationFlag;

typedef struct RelationRow
{
	uint32_t	name;
	uint32_t	schema;
	uint32_t	reads;			/* index of the first in the section of slots */
	uint32_t	writes;
	uint8_t		nreads;			/* at most RELATION_SLOTS */
	uint8_t		nwrites;
	uint8_t		reason;
	uint8_t		flags;			/* RelationFlag */
} RelationRow;

/* ---- proof_image.c ---- */

extern size_t facts_row_size(FactsSection section);
extern int	facts_compare_texts(Bytes a, Bytes b);
extern const void *facts_row(const Facts *facts, FactsSection section, uint32_t i);
extern Bytes facts_text(const Facts *facts, uint32_t at);	/* a NUL follows */
extern const uint32_t *facts_slots_at(const Facts *facts, uint32_t first);
/* The rows of this name, in this schema (an empty one is that of an unqualified name: in any): *first the first of them. How many. */
extern uint32_t facts_find(const Facts *facts, FactsSection section, Bytes schema, Bytes name, uint32_t *first);

#endif
