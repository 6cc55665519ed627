/*
 * test/fuzz/fuzz_statement.c - core/statement: interning against a plain list; mentions of any bytes; what effects permit.
 *
 * The texts themselves are parsed by PostgreSQL's parser inside the server (host/analyze), which cannot be linked here: the fuzzed gateway of
 * test/t/052_fuzzed_gateway.pl reaches it.
 * Input: how many idle bytes are kept, then operations.
 */
#include "core/statement.h"
#include "fuzz.h"

#define HELD_MAX	64

/* A reference of ours. */
typedef struct Held
{
	Statement  *s;
	Bytes		text;			/* copies */
	Bytes		types;
} Held;

static StatementTable *table;
static Held held[HELD_MAX];

static bool
is_same(const Held *h, Bytes text, Bytes types)
{
	return h->s && bytes_equal(h->text, text) && bytes_equal(h->types, types);
}

/* What analysis would hang on it. */
static void
give_facts(Statement *s, FuzzInput *in)
{
	uint8_t		what = fuzz_u8(in);

	if (s->facts.known)
		return;
	s->facts.known = true;
	s->facts.kind = what % (STATEMENT_SEVERAL + 1);
	s->facts.effects = fuzz_u16(in);
	if (what & 0x40)
		s->facts.target = bytes_copy(bytes_str("a name"));
	if (what & 0x80)
		s->proof = mem_zalloc(sizeof(Proof));
	if (what & 0x20)
	{
		uint32_t	size = (uint32_t) sizeof(Mentions) + what;

		s->facts.mentions = mem_zalloc(size);
		s->facts.mentions->size = size;
	}
}

static void
intern(FuzzInput *in, Held *h)
{
	uint8_t		choice = fuzz_u8(in);
	Bytes		types = fuzz_bytes(in, choice % 4 * 4);
	Bytes		text = fuzz_bytes(in, choice / 4);
	Statement  *known = NULL;
	bool		fresh;

	types.len -= types.len % 4;
	for (int i = 0; i < HELD_MAX; i++)
		if (is_same(&held[i], text, types))
			known = held[i].s;
	if (h->s)
		return;
	h->s = statement_intern(table, text, types, &fresh);
	h->text = fuzz_copy(text);
	h->types = fuzz_copy(types);
	FUZZ_CHECK(h->s && (known == NULL || (h->s == known && !fresh)));
	FUZZ_CHECK(bytes_equal(statement_text(h->s), text) && bytes_equal(statement_types(h->s), types) && statement_text(h->s).data[text.len] == 0);
	for (int i = 0; i < HELD_MAX; i++)
		FUZZ_CHECK(held[i].s != h->s || is_same(&held[i], text, types));
	give_facts(h->s, in);
}

static void
let_go(Held *h)
{
	if (h->s == NULL)
		return;
	FUZZ_CHECK(bytes_equal(statement_text(h->s), h->text) && bytes_equal(statement_types(h->s), h->types));
	statement_unref(table, h->s);
	fuzz_free(h->text);
	fuzz_free(h->types);
	h->s = NULL;
}

static void
check_references(void)
{
	size_t		distinct = 0;

	for (int i = 0; i < HELD_MAX; i++)
	{
		uint32_t	refs = 0;
		bool		first = true;

		if (held[i].s == NULL)
			continue;
		for (int j = 0; j < HELD_MAX; j++)
		{
			refs += held[j].s == held[i].s;
			first &= j >= i || held[j].s != held[i].s;
		}
		FUZZ_CHECK(held[i].s->refs == refs);
		distinct += first;
	}
	FUZZ_CHECK(statement_table_count(table) >= distinct);
	FUZZ_REACHED("statements with references", distinct);
	FUZZ_REACHED("statements without", statement_table_count(table) - distinct);
}

/* Any bytes as mentions: each inside, always further on, so that it ends. */
static void
walk_mentions(FuzzInput *in)
{
	Bytes		bytes = fuzz_bytes(in, fuzz_u16(in));
	size_t		size = sizeof(Mentions) + bytes.len;
	Mentions   *m = malloc(size);
	Mention		mention;
	uint32_t	at = 0;
	uint32_t	before = 0;
	int			n = 0;

	FUZZ_CHECK(m != NULL);
	m->size = (uint32_t) size;
	m->count = 0;
	memcpy(m->bytes, bytes.data, bytes.len);
	bytes = bytes_of(m->bytes, bytes.len);
	while (mentions_next(m, &at, &mention))
	{
		FUZZ_CHECK(at > before && at <= bytes.len);
		FUZZ_CHECK(fuzz_is_inside(mention.schema, bytes) && fuzz_is_inside(mention.name, bytes));
		FUZZ_CHECK(mention.name.len + mention.schema.len + 3 == at - before);
		before = at;
		n++;
	}
	FUZZ_CHECK(at == before);
	FUZZ_REACHED("mentions", n);
	at = fuzz_u32(in);			/* a place that is none */
	(void) mentions_next(m, &at, &mention);
	free(m);
}

/* More effects never make a link cleaner or a repetition safer. */
static void
check_effects(uint32_t a, uint32_t b)
{
	LinkAfter	alone = effects_link_after(a);
	LinkAfter	both = effects_link_after(a | b);

	FUZZ_CHECK(alone == LINK_AFTER_CLEAN || both != LINK_AFTER_CLEAN);
	FUZZ_CHECK(alone != LINK_AFTER_BOUND || both == LINK_AFTER_BOUND);
	FUZZ_CHECK(alone != LINK_AFTER_RETIRE || both == LINK_AFTER_RETIRE || both == LINK_AFTER_BOUND);
	FUZZ_CHECK(effects_may_repeat(a) || !effects_may_repeat(a | b));
	FUZZ_CHECK(!effects_may_repeat(a) || alone == LINK_AFTER_CLEAN);
}

static void
check_names(uint8_t n)
{
	FUZZ_CHECK(strlen(statement_kind_name((StatementKind) n)) > 0 && strlen(reason_words((CacheReason) n)) > 0);
	FUZZ_CHECK((unsigned) reason_status((CacheReason) n) < CACHE_STATUS_LIMIT && strlen(cache_status_name((CacheStatus) n)) > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	uint32_t	idle = fuzz_u8(&in);
	size_t		used;

	table = statement_table_create((size_t) idle * 64);
	used = mem_used();
	while (fuzz_left(&in) > 0)
	{
		uint8_t		op = fuzz_u8(&in);
		Held	   *h = &held[op / 4 % HELD_MAX];

		switch (op % 4)
		{
			case 0:
			case 1:
				intern(&in, h);
				break;
			case 2:
				let_go(h);
				break;
			default:
				if (op & 4)
					walk_mentions(&in);
				else
					check_effects(fuzz_u16(&in), fuzz_u16(&in));
				check_names(op);
		}
		check_references();
	}
	for (int i = 0; i < HELD_MAX; i++)
		let_go(&held[i]);
	/* what nobody refers to is bounded; the table itself may have grown meanwhile */
	FUZZ_CHECK(mem_used() - used <= (size_t) idle * 64 + 65536);
	FUZZ_CHECK(idle > 0 || statement_table_count(table) == 0);
	statement_table_destroy(table);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
