/*
 * test/fuzz/fuzz_catalog.c - origin/catalog: the answers of an origin that lies about its catalog.
 *
 * The true catalog_ask, catalog_classes, catalog_closure and catalog_doubt, with what they need of the server and of libpq below: memory contexts whose every
 * allocation ends where its memory does, results of one row, a place that facts are published to. Rows of any shape must be taken or refused; what was
 * taken must be published as a sound image; and to know one edge more may make nothing more cacheable than it was without.
 * Input: rules, then rows, each to one of the questions.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "fuzz.h"
#include "origin/catalog_internal.h"

/* ---- libpq: a result of one row ---- */

#define COLUMNS_MAX	10

struct pg_result
{
	int			ncolumns;
	bool		null[COLUMNS_MAX];
	Bytes		values[COLUMNS_MAX];	/* each with a NUL behind it, as libpq has them */
};

int
PQnfields(const PGresult *row)
{
	return row->ncolumns;
}

int
PQgetisnull(const PGresult *row, int tuple, int column)
{
	FUZZ_CHECK(tuple == 0 && column >= 0 && column < row->ncolumns);
	return row->null[column];
}

int
PQgetlength(const PGresult *row, int tuple, int column)
{
	FUZZ_CHECK(tuple == 0 && column >= 0 && column < row->ncolumns);
	return (int) row->values[column].len;
}

char *
PQgetvalue(const PGresult *row, int tuple, int column)
{
	FUZZ_CHECK(tuple == 0 && column >= 0 && column < row->ncolumns);
	return (char *) (uintptr_t) row->values[column].data;
}

/* ---- memory contexts: a list of what is to be freed together ---- */

typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk **owner;
	Size		size;
	char		bytes[];
} Chunk;

typedef struct FuzzContext
{
	MemoryContextData head;		/* MUST BE FIRST */
	Chunk	   *first;
} FuzzContext;

static FuzzContext top;
MemoryContext CurrentMemoryContext = &top.head;

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size minContextSize, Size initBlockSize, Size maxBlockSize)
{
	FuzzContext *context = calloc(1, sizeof(FuzzContext));

	FUZZ_CHECK(context != NULL);
	return &context->head;
}

void *
MemoryContextAllocExtended(MemoryContext context, Size size, int flags)
{
	Chunk	  **first = &((FuzzContext *) context)->first;
	Chunk	   *chunk = calloc(1, sizeof(Chunk) + size);

	FUZZ_CHECK(chunk != NULL);
	chunk->next = *first;
	chunk->owner = first;
	chunk->size = size;
	*first = chunk;
	return chunk->bytes;
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, 0);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return MemoryContextAllocExtended(context, size, MCXT_ALLOC_ZERO);
}

/* The old one stays until its context goes. */
void *
repalloc_huge(void *pointer, Size size)
{
	Chunk	   *old = (Chunk *) ((char *) pointer - offsetof(Chunk, bytes));
	FuzzContext *context = (FuzzContext *) ((char *) old->owner - offsetof(FuzzContext, first));
	void	   *fresh = MemoryContextAllocExtended(&context->head, size, 0);

	memcpy(fresh, pointer, old->size < size ? old->size : size);
	return fresh;
}

void
MemoryContextDelete(MemoryContext context)
{
	FuzzContext *c = (FuzzContext *) context;

	while (c->first)
	{
		Chunk	   *next = c->first->next;

		free(c->first);
		c->first = next;
	}
	free(c);
}

/* ---- what is published ---- */

struct FactsDraft
{
	ProofDraft *draft;
};

static FactsDraft the_draft;
static ByteBuffer published;
static int	nsettled;

FactsDraft *
facts_draft(void)
{
	the_draft.draft = proof_draft_create();
	return &the_draft;
}

void
facts_draft_relation(FactsDraft *draft, const RelationFacts *relation)
{
	FUZZ_CHECK(relation->nreads <= RELATION_SLOTS && relation->nwrites <= RELATION_SLOTS && relation->reason < REASON_LIMIT);
	proof_draft_relation(draft->draft, relation);
}

void
facts_draft_function(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	FUZZ_CHECK(c <= NAME_VOLATILE);
	proof_draft_function(draft->draft, schema, name, c);
}

void
facts_draft_operator(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	FUZZ_CHECK(c <= NAME_VOLATILE);
	proof_draft_operator(draft->draft, schema, name, c);
}

void
facts_draft_type(FactsDraft *draft, const char *schema, const char *name, NameClass c)
{
	FUZZ_CHECK(c <= NAME_VOLATILE);
	proof_draft_type(draft->draft, schema, name, c);
}

void
facts_draft_field(FactsDraft *draft, const char *name, NameClass c)
{
	proof_draft_field(draft->draft, name, c);
}

void
facts_draft_builtin(FactsDraft *draft, const char *name)
{
	proof_draft_builtin(draft->draft, name);
}

bool
facts_publish(FactsDraft *draft, int slot, Oid origin, uint64 print)
{
	DatabaseSlots slots = {1, 2, 3, 4};
	bool		made = proof_draft_image(draft->draft, &slots, &published);

	proof_draft_destroy(draft->draft);
	return made;
}

uint32
version_slot_relation(DatabaseId id, Oid family)
{
	return 5 + family % (VERSION_SLOTS - 5);
}

int
versions_doubts(int origin_slot, Doubt *out, int max)
{
	for (int i = 0; i < max; i++)
		out[i] = (Doubt) {i + 1, origin_slot, i % 3 == 0 ? 0 : i % 7, i * 1000};
	return max;
}

void
versions_settle(WriteRecord record)
{
	FUZZ_CHECK(record >= 1 && record <= DOUBTS_MAX);
	nsettled++;
}

/* ---- rows ---- */

/* o OID, b boolean, l letter, n name, t a time or another number; in the order of the questions of a read, then a look and a doubt. */
static const char *const shapes[] = {"nnn", "on", "oolbn", "oollbobn", "oolbon", "ooooon", "ltoo", "ltoo", "ooottbbn", "ltn"};

#define EDGE_QUESTION	6
#define SHAPE_LOOK		8
#define SHAPE_DOUBT		9

static Bytes
pick_value(FuzzInput *in, char kind)
{
	static const char *const names[] = {"public", "app", "t", "v", "f", "now", "set_config", "random", "timestamptz", "pg_catalog", "a name of sixty-four bytes, so that it is cut where all of them are", ""};
	static const char letters[] = "VRPDGCWThkctagAixesforydnipm1";
	static const unsigned oids[] = {0, 11, 12, 16, 25, 1082, 1184, 2205, 2249, 2276, 16384, 16385, 16386, 16387, 16388, 16389, 16390, 16391, 16392, 16393, 20000, 4294967295u};
	static char text[32];
	uint8_t		c = fuzz_u8(in);

	if (c >= 0xf8)				/* anything */
		return fuzz_bytes(in, fuzz_u8(in));
	switch (kind)
	{
		case 'o':
			snprintf(text, sizeof(text), "%u", oids[c % lengthof(oids)]);
			break;
		case 'b':
			snprintf(text, sizeof(text), "%d", c & 1);
			break;
		case 'l':
			snprintf(text, sizeof(text), "%c", letters[c % (sizeof(letters) - 1)]);
			break;
		case 't':
			snprintf(text, sizeof(text), c & 0x80 ? "%d" : "%c", c & 0x80 ? c * 4000 - 700000 : letters[c % (sizeof(letters) - 1)]);
			break;
		default:
			return bytes_str(names[c % lengthof(names)]);
	}
	return bytes_str(text);
}

static void
make_row(FuzzInput *in, PGresult *row, const char *shape)
{
	uint8_t		how = fuzz_u8(in);

	memset(row, 0, sizeof(*row));
	row->ncolumns = (int) strlen(shape);
	if (how == 0xff)
		row->ncolumns = fuzz_u8(in) % (COLUMNS_MAX + 1);
	for (int i = 0; i < row->ncolumns; i++)
	{
		Bytes		value = pick_value(in, i < (int) strlen(shape) ? shape[i] : 'n');
		uint8_t    *copy = malloc(value.len + 1);

		FUZZ_CHECK(copy != NULL);
		memcpy(copy, value.data, value.len);
		copy[value.len] = 0;
		row->values[i] = bytes_of(copy, value.len);
		row->null[i] = how == (uint8_t) (0xf0 + i);
	}
}

static void
free_row(PGresult *row)
{
	for (int i = 0; i < row->ncolumns; i++)
		fuzz_free(row->values[i]);
}

/* A row for each question but those of a read. */
static void
take_others(FuzzInput *in)
{
	static CatalogDoubts doubts;
	CatalogLook look;
	PGresult	row;

	make_row(in, &row, shapes[SHAPE_LOOK]);
	if (catalog_take_look(&look, &row) == NULL)
		FUZZ_CHECK(look.answered && look.version >= 120000 && look.system != 0 && memchr(look.sum, 0, sizeof(look.sum)));
	free_row(&row);

	memset(&doubts, 0, sizeof(doubts));
	doubts.count = catalog_doubts_of(1, 2000, 50000, doubts.asked, DOUBTS_MAX);
	doubts.asked_at = 10000000;
	nsettled = 0;
	for (int n = fuzz_u8(in); n > 0; n--)
	{
		make_row(in, &row, shapes[SHAPE_DOUBT]);
		(void) catalog_take_doubt(&doubts, &row);
		free_row(&row);
	}
	catalog_doubts_answered(&doubts);
	FUZZ_CHECK(nsettled <= 2 * DOUBTS_MAX && doubts.nrunning <= DOUBT_STARTERS);
}

/* ---- a catalog ---- */

static void
read_rules(FuzzInput *in, CacheRule *rules, DirectoryOrigin *origin)
{
	origin->rules = rules;
	origin->nrules = fuzz_u8(in) % 3;
	for (int i = 0; i < origin->nrules; i++)
		rules[i] = (CacheRule) {.function = true, .schema = i ? "app" : "", .name = fuzz_u8(in) % 2 ? "f" : "now", .quiet = true, .max_age = -1};
}

/* Takes all rows; the last edge is left out on request. NULL: a row was refused. */
static CatalogRead *
read_all(FuzzInput in, const CatalogEdge *left_out, CatalogEdge *last)
{
	CatalogRead *read = catalog_read_begin(CurrentMemoryContext);
	int			nedges = 0;

	memset(last, 0, sizeof(*last));
	while (fuzz_left(&in) > 0)
	{
		uint8_t		question = fuzz_u8(&in) % 12;
		PGresult	row;
		const char *wrong;

		question = question > 7 ? EDGE_QUESTION : question;
		make_row(&in, &row, shapes[question]);
		wrong = catalog_take_read(read, question, &row);
		free_row(&row);
		if (wrong)
		{
			catalog_read_free(read);
			return NULL;
		}
		if (question >= EDGE_QUESTION)
			*last = ((CatalogEdge *) read->edges.items)[nedges++];
	}
	if (left_out && nedges > 0)
		read->edges.count--;
	FUZZ_REACHED("edges", nedges);
	FUZZ_REACHED("relations", read->relations.count);
	return read;
}

static const Facts *
publish(CatalogRead *read, const DirectoryOrigin *origin, void **image)
{
	FactsIdentity identity = {.system = 1, .database = 5};
	const Facts *facts;
	Bytes		written;

	*image = NULL;
	if (catalog_publish(read, 0, origin, &identity) != NULL)
		return NULL;
	written = buffer_view(&published);
	FUZZ_CHECK(written.data != NULL);
	*image = malloc(written.len);
	FUZZ_CHECK(*image != NULL);
	memcpy(*image, written.data, written.len);
	facts = proof_facts(*image, written.len);
	buffer_free(&published);
	FUZZ_CHECK(facts != NULL);
	return facts;
}

/* ---- more is known, nothing is better ---- */

static void
draw(const Facts *facts, char kind, const char *name, Proof *proof)
{
	Size		size = sizeof(Mentions) + 3 + strlen(name);
	Mentions   *m = mem_zalloc(size);
	StatementFacts s = {.known = true, .kind = kind == MENTION_WRITES ? STATEMENT_WRITE : STATEMENT_READ, .mentions = m};

	m->size = (uint32) size;
	m->count = 1;
	m->bytes[0] = (uint8) kind;
	m->bytes[2] = (uint8) strlen(name);
	memcpy(m->bytes + 3, name, strlen(name));
	proof_draw(facts, &s, NULL, 0, proof, NULL);
	mentions_free(m);
}

static void
check_order(const Facts *less, const Facts *more)
{
	static const char *const names[] = {"public", "app", "t", "v", "f", "now", "timestamptz"};
	static const char kinds[] = {MENTION_READS, MENTION_WRITES, MENTION_FUNCTION, MENTION_OPERATOR, MENTION_TYPE, MENTION_FIELD};

	for (size_t i = 0; i < lengthof(names) * lengthof(kinds); i++)
	{
		Proof		a;
		Proof		b;

		draw(less, kinds[i % lengthof(kinds)], names[i / lengthof(kinds)], &a);
		draw(more, kinds[i % lengthof(kinds)], names[i / lengthof(kinds)], &b);
		/* a name that is not known is the worst: the arrays whose names are not kept for their harmlessness become known by what makes them worse */
		if (a.reason == REASON_UNKNOWN_FUNCTION)
			continue;
		FUZZ_CHECK(a.reason == REASON_CACHEABLE || b.reason != REASON_CACHEABLE);
		FUZZ_CHECK(a.writes <= b.writes);
		FUZZ_CHECK(a.clean || !b.clean);
		FUZZ_CHECK(!a.dirties || b.dirties);
		FUZZ_REACHED("slots of a proof", b.nreads + b.nwritten);
	}
}

static void
check_catalog(const FuzzInput *in, const DirectoryOrigin *origin)
{
	CatalogEdge last;
	CatalogRead *whole = read_all(*in, NULL, &last);
	CatalogRead *less;
	void	   *images[2];
	const Facts *facts[2];

	if (whole == NULL)
		return;
	less = read_all(*in, &last, &last);
	facts[0] = publish(less, origin, &images[0]);
	facts[1] = publish(whole, origin, &images[1]);
	if (facts[0] && facts[1])
		check_order(facts[0], facts[1]);
	for (int i = 0; i < 2; i++)
		free(images[i]);
	catalog_read_free(whole);
	catalog_read_free(less);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	DirectoryOrigin origin = {0};
	CacheRule	rules[3];

	if (fuzz_u8(&in) % 8 == 0)
		take_others(&in);
	else
	{
		read_rules(&in, rules, &origin);
		check_catalog(&in, &origin);
	}
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
