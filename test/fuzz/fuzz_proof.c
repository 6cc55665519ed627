/*
 * test/fuzz/fuzz_proof.c - core/proof: any bytes may call themselves an image of facts; what is drawn from facts stays on the safe side.
 *
 * Facts are drafted from the input and made an image, which must be sound, hold what was put in, and prove more of nothing when more is known to be bad: a longer text
 * is never more cacheable than its front, and never writes less. Then bytes of the image are changed: if it still passes for an image, all of the above must be
 * without a step out of it.
 * Input: slots, facts, a text's mentions, changes; or a raw image.
 */
#include "core/proof.h"
#include "fuzz.h"

#define NAMES	12

static const char *const names[NAMES] = {"t", "u", "v", "now", "f", "random", "regclass", "=", "public", "app", "pg_catalog", "a_rather_long_name"};

typedef struct Image
{
	void	   *bytes;			/* aligned, and ends where its memory does */
	size_t		size;
	const Facts *facts;
} Image;

static const char *
pick(FuzzInput *in)
{
	return names[fuzz_u8(in) % NAMES];
}

static Image
image_of(Bytes bytes)
{
	Image		image = {malloc(bytes.len > 0 ? bytes.len : 1), bytes.len, NULL};

	FUZZ_CHECK(image.bytes != NULL);
	if (bytes.len > 0)
		memcpy(image.bytes, bytes.data, bytes.len);
	image.facts = proof_facts(image.bytes, image.size);
	return image;
}

/* ---- facts ---- */

static void
draft_relation(ProofDraft *draft, FuzzInput *in)
{
	uint32_t	slots[RELATION_SLOTS + 2];
	uint8_t		flags = fuzz_u8(in);
	RelationFacts r = {.schema = pick(in), .name = pick(in), .reads = slots, .writes = slots};

	for (int i = 0; i < RELATION_SLOTS + 2; i++)
		slots[i] = 10 + (flags + i * 7u) % 64;
	r.reason = fuzz_u8(in) % 4 == 0 ? fuzz_u8(in) % REASON_LIMIT : REASON_CACHEABLE;
	r.whole = flags & 1;
	r.catalog_rows = flags & 2;
	r.reads_write = flags & 4;
	r.reads_dirty = flags & 8;
	r.writes_anything = flags & 16;
	r.harmless = flags & 32;
	r.nreads = fuzz_u8(in) % (RELATION_SLOTS + 3);
	r.nwrites = fuzz_u8(in) % (RELATION_SLOTS + 3);
	proof_draft_relation(draft, &r);
}

static void
draft_facts(ProofDraft *draft, FuzzInput *in)
{
	int			n = fuzz_u8(in) % 40;

	while (n-- > 0)
	{
		uint8_t		what = fuzz_u8(in);
		NameClass	c = (NameClass) (what / 8 % (NAME_VOLATILE + 1));

		switch (what % 8)
		{
			case 0:
				proof_draft_function(draft, pick(in), pick(in), c);
				break;
			case 1:
				proof_draft_operator(draft, pick(in), pick(in), c);
				break;
			case 2:
				proof_draft_type(draft, pick(in), pick(in), c);
				break;
			case 3:
				proof_draft_field(draft, pick(in), c);
				break;
			case 4:
				proof_draft_builtin(draft, pick(in));
				break;
			default:
				draft_relation(draft, in);
		}
	}
}

/* ---- texts ---- */

static Mentions *
read_mentions(FuzzInput *in, uint32_t flags)
{
	static const uint8_t kinds[] = "rrrwfota?";
	uint8_t		n = fuzz_u8(in) % 12;
	ByteBuffer	b = {0};
	Bytes		all;
	Mentions   *m;
	uint32_t	count = 0;

	while (count < n)
	{
		uint8_t		kind = fuzz_u8(in);
		const char *schema = kind & 0x80 ? pick(in) : "";
		const char *name = pick(in);

		buffer_put_u8(&b, kinds[kind % (flags & TEXT_TOO_MUCH ? 9 : 8)]);
		buffer_put_u8(&b, (uint8_t) strlen(schema));
		buffer_put_u8(&b, (uint8_t) strlen(name));
		buffer_put(&b, schema, strlen(schema));
		buffer_put(&b, name, strlen(name));
		count++;
	}
	all = buffer_view(&b);
	m = mem_zalloc(sizeof(Mentions) + all.len);
	m->size = (uint32_t) (sizeof(Mentions) + all.len);
	m->count = count;
	m->flags = flags;
	if (all.data != NULL)
		memcpy(m->bytes, all.data, all.len);
	buffer_free(&b);
	return m;
}

/* The same without the last mention. */
static Mentions *
front_of(const Mentions *m)
{
	uint32_t	at = 0;
	uint32_t	last = 0;
	Mention		mention;
	Mentions   *front;

	for (uint32_t i = 0; i + 1 < m->count && mentions_next(m, &at, &mention); i++)
		last = at;
	front = mem_zalloc(sizeof(Mentions) + last);
	memcpy(front, m, sizeof(Mentions) + last);
	front->size = (uint32_t) sizeof(Mentions) + last;
	front->count = m->count - 1;
	return front;
}

static void
read_statement(FuzzInput *in, StatementFacts *s)
{
	uint8_t		shape = fuzz_u8(in);

	s->known = shape % 16 != 15;
	s->kind = shape & 1 ? STATEMENT_READ : fuzz_u8(in) % (STATEMENT_SEVERAL + 1);
	s->effects = shape & 2 ? fuzz_u16(in) : 0;
	if (shape & 4)
		s->mentions = read_mentions(in, shape & 8 ? fuzz_u8(in) % 64 : 0);
	else if (shape & 8)
		s->mentions = read_mentions(in, 0);
}

static void
read_rules(FuzzInput *in, CacheRule *rules, int *n)
{
	*n = fuzz_u8(in) % 4;
	for (int i = 0; i < *n; i++)
	{
		uint8_t		flags = fuzz_u8(in);

		rules[i] = (CacheRule) {flags & 1, flags & 2 ? "" : pick(in), pick(in), flags & 4, flags & 8, flags & 16 ? -1 : fuzz_u8(in)};
	}
}

/* ---- what must hold of any proof ---- */

static bool
holds(const uint32_t *slots, int n, uint32_t slot)
{
	for (int i = 0; i < n; i++)
		if (slots[i] == slot)
			return true;
	return false;
}

static void
check_proof(const Proof *p, const Facts *facts, const DatabaseSlots *slots)
{
	FUZZ_CHECK(p->reason < REASON_LIMIT && p->writes <= WRITES_ANYTHING && p->nreads <= PROOF_SLOTS && p->nwritten <= PROOF_SLOTS);
	FUZZ_CHECK((p->reason == REASON_CACHEABLE) == (p->nreads > 0));
	FUZZ_CHECK(p->reason != REASON_CACHEABLE || (facts && p->writes == WRITES_NOTHING));
	FUZZ_CHECK((p->writes == WRITES_NOTHING || facts == NULL) == (p->nwritten == 0));
	if (p->reason == REASON_CACHEABLE)
		FUZZ_CHECK(holds(p->reads, p->nreads, PROOF_SLOT_GLOBAL) && holds(p->reads, p->nreads, slots->cluster) && holds(p->reads, p->nreads, slots->catalog));
	if (facts && p->writes == WRITES_ANYTHING)
		FUZZ_CHECK(holds(p->written, p->nwritten, slots->cluster));
	for (int i = 0; i < p->nreads; i++)
		FUZZ_CHECK(!holds(p->reads, i, p->reads[i]));
	FUZZ_REACHED("slots of a proof", p->nreads);
}

/* `more` is of the same text with one mention more. */
static void
check_order(const Proof *less, const Proof *more, const DatabaseSlots *slots)
{
	FUZZ_CHECK(less->reason == REASON_CACHEABLE || more->reason != REASON_CACHEABLE);
	FUZZ_CHECK(less->writes <= more->writes);
	FUZZ_CHECK(less->clean || !more->clean);
	FUZZ_CHECK(!less->dirties || more->dirties);
	if (more->reason != REASON_CACHEABLE || less->reason != REASON_CACHEABLE || holds(more->reads, more->nreads, slots->any))
		return;
	for (int i = 0; i < less->nreads; i++)
		FUZZ_CHECK(holds(more->reads, more->nreads, less->reads[i]));
}

static void
draw_all(const Image *image, const StatementFacts *s, const DatabaseSlots *slots, const CacheRule *rules, int nrules)
{
	char		culprit[CULPRIT_SIZE];
	uint32_t	moved[4];
	FactsRelation relation;
	uint32_t	at = 0;
	Proof		whole;
	Proof		front;
	StatementFacts shorter = *s;

	proof_draw(image->facts, s, rules, nrules, &whole, culprit);
	FUZZ_CHECK(memchr(culprit, 0, sizeof(culprit)) != NULL);
	if (slots)
		check_proof(&whole, image->facts, slots);
	while (proof_next_relation(image->facts, s, &at, &relation))
	{
		FUZZ_CHECK(strlen(relation.schema) < 256 && strlen(relation.name) < 256 && relation.reason < REASON_LIMIT);
		if (at > 2000)
			return;				/* rows may be repeated, and each walk begins anew */
	}
	for (int i = 0; i < NAMES; i++)
	{
		int			n = proof_slots_of_relation(image->facts, i % 2 ? names[i] : NULL, names[i], moved, 1 + i % 4);

		FUZZ_CHECK(n >= 0 && n <= 1 + i % 4);
	}
	if (slots == NULL || s->kind != STATEMENT_READ || s->mentions == NULL || s->mentions->count == 0)
		return;
	shorter.mentions = front_of(s->mentions);
	proof_draw(image->facts, &shorter, rules, nrules, &front, NULL);
	check_proof(&front, image->facts, slots);
	check_order(&front, &whole, slots);
	mentions_free(shorter.mentions);
	FUZZ_REACHED("cacheable texts of so many mentions", whole.reason == REASON_CACHEABLE ? s->mentions->count : 0);
}

static void
change_bytes(Image *image, FuzzInput *in)
{
	FUZZ_CHECK(image->size > 0);
	while (fuzz_left(in) > 0)
	{
		size_t		at = fuzz_u16(in) % image->size;

		((uint8_t *) image->bytes)[at] = fuzz_u8(in);
	}
	image->facts = proof_facts(image->bytes, image->size);
	FUZZ_REACHED("changed images that pass", image->facts != NULL);
}

static void
draw_from_draft(FuzzInput *in, const StatementFacts *s, const CacheRule *rules, int nrules)
{
	ProofDraft *draft = proof_draft_create();
	DatabaseSlots slots = {1, 2, 3, 4};
	ByteBuffer	bytes = {0};
	Image		image;
	Image		nothing = {NULL, 0, NULL};

	draft_facts(draft, in);
	FUZZ_CHECK(proof_draft_image(draft, &slots, &bytes));
	proof_draft_destroy(draft);
	image = image_of(buffer_view(&bytes));
	buffer_free(&bytes);
	FUZZ_CHECK(image.facts != NULL);
	draw_all(&image, s, &slots, rules, nrules);
	draw_all(&nothing, s, &slots, rules, nrules);
	change_bytes(&image, in);
	draw_all(&image, s, NULL, rules, nrules);
	free(image.bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	StatementFacts s = {0};
	CacheRule	rules[4];
	int			nrules;
	uint8_t		how = fuzz_u8(&in);

	read_statement(&in, &s);
	read_rules(&in, rules, &nrules);
	if (how % 8 == 7)
	{
		Image		raw = image_of(fuzz_bytes(&in, size));

		draw_all(&raw, &s, NULL, rules, nrules);
		free(raw.bytes);
	}
	else
		draw_from_draft(&in, &s, rules, nrules);
	mentions_free(s.mentions);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
