/*
 * core/proof_draft.c - facts being collected, and the image they become.
 *
 * Answers: how do the facts of a database lie in one piece of memory? Owns each draft: the rows of the sections as they come, each text once, and
 * the table by which a text that is there already is found. Never: decides what a fact means.
 */
#include "core/proof_internal.h"

#include <stdlib.h>

#define FIRST_BUCKETS	1024

struct ProofDraft
{
	bool		failed;			/* a fact found no memory, or there are too many */
	uint32_t   *buckets;		/* place of a text + 1; 0 = free */
	uint32_t	nbuckets;		/* a power of two */
	uint32_t	ntexts;
	ByteBuffer	sections[SECTION_LIMIT];
};

ProofDraft *
proof_draft_create(void)
{
	ProofDraft *draft = mem_zalloc(sizeof(ProofDraft));

	if (draft == NULL)
		return NULL;
	draft->nbuckets = FIRST_BUCKETS;
	draft->buckets = mem_zalloc(draft->nbuckets * sizeof(uint32_t));
	if (draft->buckets == NULL)
	{
		mem_free(draft, sizeof(ProofDraft));
		return NULL;
	}
	return draft;
}

void
proof_draft_destroy(ProofDraft *draft)
{
	int			i;

	if (draft == NULL)
		return;
	for (i = 0; i < SECTION_LIMIT; i++)
		buffer_free(&draft->sections[i]);
	mem_free(draft->buckets, draft->nbuckets * sizeof(uint32_t));
	mem_free(draft, sizeof(ProofDraft));
}

/* ---- texts, each kept once ---- */

static Bytes
draft_text(const ProofDraft *draft, uint32_t at)
{
	const uint8_t *text = draft->sections[SECTION_TEXTS].data + at;

	return bytes_of(text + 1, text[0]);
}

/* The bucket in which this text is, or belongs. At least a half of them is free. */
static uint32_t *
find_bucket(const ProofDraft *draft, uint32_t *buckets, uint32_t nbuckets, Bytes text)
{
	uint32_t	i = (uint32_t) digest_of(text).lo & (nbuckets - 1);

	while (buckets[i] != 0 && !bytes_equal(draft_text(draft, buckets[i] - 1), text))
		i = (i + 1) & (nbuckets - 1);
	return &buckets[i];
}

static void
grow_buckets(ProofDraft *draft)
{
	uint32_t	nfresh = draft->nbuckets * 2;
	uint32_t   *fresh = nfresh > draft->nbuckets ? mem_zalloc((size_t) nfresh * sizeof(uint32_t)) : NULL;
	uint32_t	i;

	if (fresh == NULL)
	{
		draft->failed = true;
		return;
	}
	for (i = 0; i < draft->nbuckets; i++)
	{
		if (draft->buckets[i] != 0)
			*find_bucket(draft, fresh, nfresh, draft_text(draft, draft->buckets[i] - 1)) = draft->buckets[i];
	}
	mem_free(draft->buckets, (size_t) draft->nbuckets * sizeof(uint32_t));
	draft->buckets = fresh;
	draft->nbuckets = nfresh;
}

/* The place of a text in its section. A longer one is cut: no name of PostgreSQL is. */
static uint32_t
put_text(ProofDraft *draft, const char *s)
{
	ByteBuffer *texts = &draft->sections[SECTION_TEXTS];
	Bytes		text = bytes_of(s, strnlen(s, TEXT_MAX));
	uint32_t   *bucket;
	uint32_t	at = (uint32_t) buffer_len(texts);

	if (draft->ntexts >= draft->nbuckets / 2)
		grow_buckets(draft);
	if (draft->failed)
		return 0;
	bucket = find_bucket(draft, draft->buckets, draft->nbuckets, text);
	if (*bucket != 0)
		return *bucket - 1;
	buffer_put_u8(texts, (uint8_t) text.len);
	buffer_put(texts, text.data, text.len);
	buffer_put_u8(texts, 0);
	if (texts->failed)
		draft->failed = true;
	else
	{
		*bucket = at + 1;
		draft->ntexts++;
	}
	return at;
}

/* ---- rows ---- */

static void
put_row(ProofDraft *draft, FactsSection section, const void *row)
{
	if (draft->failed)
		return;
	buffer_put(&draft->sections[section], row, facts_row_size(section));
	if (draft->sections[section].failed)
		draft->failed = true;
}

static void
put_name(ProofDraft *draft, FactsSection section, const char *schema, const char *name, NameClass c)
{
	NameRow		row;

	row.schema = put_text(draft, schema);
	row.name = put_text(draft, name);
	row.class = c;
	put_row(draft, section, &row);
}

/* The index of the first of them; none are put if they are too many. */
static uint32_t
put_slots(ProofDraft *draft, const uint32_t *slots, uint32_t n)
{
	uint32_t	first = (uint32_t) (buffer_len(&draft->sections[SECTION_SLOTS]) / sizeof(uint32_t));
	uint32_t	i;

	for (i = 0; i < n; i++)
		put_row(draft, SECTION_SLOTS, &slots[i]);
	return first;
}

void
proof_draft_relation(ProofDraft *draft, const RelationFacts *relation)
{
	bool		whole = relation->whole || relation->nreads > RELATION_SLOTS;
	bool		anything = relation->writes_anything || relation->nwrites > RELATION_SLOTS;
	RelationRow row;

	memset(&row, 0, sizeof(row));
	row.schema = put_text(draft, relation->schema);
	row.name = put_text(draft, relation->name);
	row.nreads = whole || relation->nreads < 0 ? 0 : (uint8_t) relation->nreads;
	row.nwrites = anything || relation->nwrites < 0 ? 0 : (uint8_t) relation->nwrites;
	row.reads = put_slots(draft, relation->reads, row.nreads);
	row.writes = put_slots(draft, relation->writes, row.nwrites);
	row.reason = relation->reason;
	row.flags = (whole ? RELATION_WHOLE : 0) | (relation->catalog_rows ? RELATION_CATALOG_ROWS : 0) |
		(relation->reads_write ? RELATION_READS_WRITE : 0) | (anything ? RELATION_WRITES_ANYTHING : 0) |
		(relation->harmless ? RELATION_HARMLESS : 0) | (relation->reads_dirty ? RELATION_READS_DIRTY : 0);
	put_row(draft, SECTION_RELATIONS, &row);
}

void
proof_draft_function(ProofDraft *draft, const char *schema, const char *name, NameClass c)
{
	put_name(draft, SECTION_FUNCTIONS, schema, name, c);
}

void
proof_draft_operator(ProofDraft *draft, const char *schema, const char *name, NameClass c)
{
	put_name(draft, SECTION_OPERATORS, schema, name, c);
}

void
proof_draft_type(ProofDraft *draft, const char *schema, const char *name, NameClass c)
{
	put_name(draft, SECTION_TYPES, schema, name, c);
}

void
proof_draft_field(ProofDraft *draft, const char *name, NameClass c)
{
	put_name(draft, SECTION_FIELDS, "", name, c);
}

void
proof_draft_builtin(ProofDraft *draft, const char *name)
{
	uint32_t	text = put_text(draft, name);

	put_row(draft, SECTION_BUILTINS, &text);
}

/* ---- the image ---- */

/* qsort hands nothing on to its comparison, and a process has one thread. */
static const ProofDraft *sorting;

static int
compare_places(uint32_t a, uint32_t b)
{
	return a == b ? 0 : facts_compare_texts(draft_text(sorting, a), draft_text(sorting, b));
}

static int
compare_builtins(const void *a, const void *b)
{
	return compare_places(*(const uint32_t *) a, *(const uint32_t *) b);
}

static int
compare_relations(const void *a, const void *b)
{
	const RelationRow *x = a;
	const RelationRow *y = b;
	int			order = compare_places(x->name, y->name);

	return order != 0 ? order : compare_places(x->schema, y->schema);
}

/* By name, schema, and the worst class first: of equal ones the first is kept. */
static int
compare_names(const void *a, const void *b)
{
	const NameRow *x = a;
	const NameRow *y = b;
	int			order = compare_places(x->name, y->name);

	if (order == 0)
		order = compare_places(x->schema, y->schema);
	return order != 0 ? order : (x->class < y->class) - (x->class > y->class);
}

static bool
same_row(FactsSection section, const void *a, const void *b)
{
	const NameRow *x = a;
	const NameRow *y = b;

	return x->name == y->name && (section == SECTION_BUILTINS || x->schema == y->schema);
}

/* Relations may be twice in a draft: both are then kept, the worst of them decides. */
static void
drop_repeated(ByteBuffer *rows, FactsSection section)
{
	size_t		size = facts_row_size(section);
	size_t		n = buffer_len(rows) / size;
	size_t		kept = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		uint8_t    *row = rows->data + i * size;

		if (kept > 0 && same_row(section, row, rows->data + (kept - 1) * size))
			continue;
		if (kept != i)
			memcpy(rows->data + kept * size, row, size);
		kept++;
	}
	rows->end = (uint32_t) (kept * size);
}

static void
sort_section(ProofDraft *draft, FactsSection section)
{
	ByteBuffer *rows = &draft->sections[section];
	size_t		size = facts_row_size(section);

	if (buffer_len(rows) == 0)
		return;
	sorting = draft;
	if (section == SECTION_RELATIONS)
		qsort(rows->data, buffer_len(rows) / size, size, compare_relations);
	else
	{
		qsort(rows->data, buffer_len(rows) / size, size, section == SECTION_BUILTINS ? compare_builtins : compare_names);
		drop_repeated(rows, section);
	}
	sorting = NULL;
}

bool
proof_draft_image(ProofDraft *draft, const DatabaseSlots *slots, ByteBuffer *out)
{
	Facts		head;
	uint64_t	at = sizeof(Facts);
	int			i;

	if (draft->failed)
		return false;
	memset(&head, 0, sizeof(head));
	for (i = 0; i < SECTION_LIMIT; i++)
	{
		if (SECTION_IS_NAMED(i))
			sort_section(draft, (FactsSection) i);
		head.sections[i].at = (uint32_t) at;
		head.sections[i].count = (uint32_t) (buffer_len(&draft->sections[i]) / facts_row_size((FactsSection) i));
		at += buffer_len(&draft->sections[i]);
	}
	if (at > BUFFER_LIMIT)
		return false;
	head.magic = FACTS_MAGIC;
	head.size = (uint32_t) at;
	head.slots = *slots;
	buffer_put(out, &head, sizeof(head));
	for (i = 0; i < SECTION_LIMIT; i++)
	{
		if (buffer_len(&draft->sections[i]) > 0)
			buffer_put(out, draft->sections[i].data, buffer_len(&draft->sections[i]));
	}
	return !out->failed;
}
