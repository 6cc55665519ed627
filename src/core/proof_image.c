/*
 * core/proof_image.c - facts as they lie in their image.
 *
 * Answers: is this image whole, and which rows have this name? After proof_facts has looked at every row, nothing a lookup does can leave the image.
 * Owns nothing. Never: writes, allocates.
 */
#include "core/proof_internal.h"

size_t
facts_row_size(FactsSection section)
{
	switch (section)
	{
		case SECTION_RELATIONS:
			return sizeof(RelationRow);
		case SECTION_FUNCTIONS:
		case SECTION_OPERATORS:
		case SECTION_TYPES:
		case SECTION_FIELDS:
			return sizeof(NameRow);
		case SECTION_BUILTINS:
		case SECTION_SLOTS:
			return sizeof(uint32_t);
		case SECTION_TEXTS:
		case SECTION_LIMIT:
			break;
	}
	return 1;
}

int
facts_compare_texts(Bytes a, Bytes b)
{
	size_t		common = a.len < b.len ? a.len : b.len;
	int			order = common > 0 ? memcmp(a.data, b.data, common) : 0;

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

const void *
facts_row(const Facts *facts, FactsSection section, uint32_t i)
{
	return (const uint8_t *) facts + facts->sections[section].at + (size_t) i * facts_row_size(section);
}

Bytes
facts_text(const Facts *facts, uint32_t at)
{
	const uint8_t *text = facts_row(facts, SECTION_TEXTS, at);

	return bytes_of(text + 1, text[0]);
}

const uint32_t *
facts_slots_at(const Facts *facts, uint32_t first)
{
	return facts_row(facts, SECTION_SLOTS, first);
}

/* ---- the check ---- */

static bool
text_is_good(const Facts *facts, uint32_t at)
{
	uint32_t	size = facts->sections[SECTION_TEXTS].count;
	const uint8_t *text;

	if (at >= size)
		return false;
	text = facts_row(facts, SECTION_TEXTS, at);
	return size - at >= (uint32_t) text[0] + 2 && text[text[0] + 1] == 0;
}

static bool
slots_are_good(const Facts *facts, uint32_t first, uint32_t n)
{
	uint32_t	size = facts->sections[SECTION_SLOTS].count;

	return n <= RELATION_SLOTS && first <= size && n <= size - first;
}

static bool
row_is_good(const Facts *facts, FactsSection section, uint32_t i)
{
	const NameRow *row = facts_row(facts, section, i);
	const RelationRow *relation;

	if (!text_is_good(facts, row->name))
		return false;
	if (section == SECTION_BUILTINS)
		return true;
	if (!text_is_good(facts, row->schema))
		return false;
	if (section != SECTION_RELATIONS)
		return row->class <= NAME_VOLATILE;
	relation = (const RelationRow *) row;
	return relation->reason < REASON_LIMIT && slots_are_good(facts, relation->reads, relation->nreads) &&
		slots_are_good(facts, relation->writes, relation->nwrites);
}

/* By name, then by schema. */
static bool
follows(const Facts *facts, FactsSection section, uint32_t i)
{
	const NameRow *before = facts_row(facts, section, i - 1);
	const NameRow *row = facts_row(facts, section, i);
	int			order = facts_compare_texts(facts_text(facts, before->name), facts_text(facts, row->name));

	if (order != 0 || section == SECTION_BUILTINS)
		return order <= 0;
	return facts_compare_texts(facts_text(facts, before->schema), facts_text(facts, row->schema)) <= 0;
}

/* Rows out of order could be missed by a search, and a function that is missed might pass for a built-in. */
static bool
rows_are_good(const Facts *facts, FactsSection section)
{
	uint32_t	i;

	for (i = 0; i < facts->sections[section].count; i++)
	{
		if (!row_is_good(facts, section, i) || (i > 0 && !follows(facts, section, i)))
			return false;
	}
	return true;
}

/* The sections follow one another without a gap, texts last. */
static bool
sections_are_good(const Facts *facts, size_t size)
{
	uint64_t	at = sizeof(Facts);
	int			i;

	for (i = 0; i < SECTION_LIMIT; i++)
	{
		if (facts->sections[i].at != at)
			return false;
		at += (uint64_t) facts->sections[i].count * facts_row_size((FactsSection) i);
		if (at > size)
			return false;
	}
	return at == size;
}

const Facts *
proof_facts(const void *image, size_t size)
{
	const Facts *facts = image;
	int			i;

	if (image == NULL || (uintptr_t) image % sizeof(uint32_t) != 0 || size < sizeof(Facts))
		return NULL;
	if (facts->magic != FACTS_MAGIC || facts->size != size || !sections_are_good(facts, size))
		return NULL;
	for (i = 0; SECTION_IS_NAMED(i); i++)
	{
		if (!rows_are_good(facts, (FactsSection) i))
			return NULL;
	}
	return facts;
}

/* ---- the search ---- */

/* The row's name against this one and, where the section has schemas and one is wanted, then its schema. */
static int
compare_row(const Facts *facts, FactsSection section, uint32_t i, Bytes schema, Bytes name)
{
	const NameRow *row = facts_row(facts, section, i);
	int			order = facts_compare_texts(facts_text(facts, row->name), name);

	if (order != 0 || schema.len == 0 || section == SECTION_BUILTINS)
		return order;
	return facts_compare_texts(facts_text(facts, row->schema), schema);
}

/* The first row from `low` on that is not before the name, or (past) is behind it. */
static uint32_t
bound(const Facts *facts, FactsSection section, uint32_t low, Bytes schema, Bytes name, bool past)
{
	uint32_t	high = facts->sections[section].count;

	while (low < high)
	{
		uint32_t	middle = low + (high - low) / 2;

		if (compare_row(facts, section, middle, schema, name) < (past ? 1 : 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t
facts_find(const Facts *facts, FactsSection section, Bytes schema, Bytes name, uint32_t *first)
{
	*first = bound(facts, section, 0, schema, name, false);
	return bound(facts, section, *first, schema, name, true) - *first;
}
