/*
 * test/unit/test_proof.c - drafts and images, what is proven of a text, and images that are broken.
 */
#include "core/proof.h"
#include "unit.h"

#include <stdlib.h>

/* the slots of the database; relations have small numbers */
#define FIXED	"0 1000 1001"
static const DatabaseSlots slots = {1000, 1001, 1002, 1003};

/* ---- the world ---- */

typedef struct RelationCase
{
	const char *schema;
	const char *name;
	uint8_t		reason;
	const char *flags;			/* w whole, c catalog_rows, r reads_write, d reads_dirty, a writes_anything, h harmless */
	int			nreads;
	uint32_t	reads;			/* the first; the others follow */
	int			nwrites;
	uint32_t	writes;
} RelationCase;

static const RelationCase relations[] = {
	{"public", "orders", REASON_CACHEABLE, "h", 1, 7, 1, 7},
	{"public", "items", REASON_CACHEABLE, "h", 1, 8, 1, 8},
	{"s2", "items", REASON_CACHEABLE, "a", 1, 9, 1, 9},
	{"public", "audited", REASON_CACHEABLE, "", 1, 10, 2, 10},
	{"public", "parts", REASON_CACHEABLE, "h", 1, 12, 3, 12},
	{"public", "view_now", REASON_TIME, "", 1, 7, 0, 0},
	{"public", "view_writes", REASON_CACHEABLE, "r", 1, 7, 0, 0},
	{"public", "view_stable", REASON_FUNCTION, "h", 1, 7, 1, 7},
	{"public", "view_sets", REASON_TIME, "d", 1, 7, 0, 0},
	{"public", "view_wide", REASON_CACHEABLE, "", 17, 200, 0, 0},
	{"public", "view_whole", REASON_CACHEABLE, "wh", 1, 7, 1, 7},
	{"public", "log", REASON_CACHEABLE, "h", 1, 15, 17, 300},
	{"public", "far", REASON_RELATION_KIND, "", 0, 0, 1, 16},
	{"pg_catalog", "pg_class", REASON_CACHEABLE, "ca", 0, 0, 0, 0},
};

static void
draft_relation(ProofDraft *draft, const RelationCase *r)
{
	uint32_t	reads[20];
	uint32_t	writes[20];
	RelationFacts facts = {0};
	int			i;

	for (i = 0; i < 20; i++)
	{
		reads[i] = r->reads + i;
		writes[i] = r->writes + i;
	}
	facts.schema = r->schema;
	facts.name = r->name;
	facts.reason = r->reason;
	facts.whole = strchr(r->flags, 'w') != NULL;
	facts.catalog_rows = strchr(r->flags, 'c') != NULL;
	facts.reads_write = strchr(r->flags, 'r') != NULL;
	facts.reads_dirty = strchr(r->flags, 'd') != NULL;
	facts.writes_anything = strchr(r->flags, 'a') != NULL;
	facts.harmless = strchr(r->flags, 'h') != NULL;
	facts.nreads = r->nreads;
	facts.reads = reads;
	facts.nwrites = r->nwrites;
	facts.writes = writes;
	proof_draft_relation(draft, &facts);
}

static void
draft_many(ProofDraft *draft)
{
	static char name[32];
	RelationCase r = {"public", name, REASON_CACHEABLE, "h", 1, 0, 1, 0};
	int			i;

	for (i = 1; i <= 20; i++)
	{
		snprintf(name, sizeof(name), "r%d", i);
		r.reads = r.writes = 100 + i;
		draft_relation(draft, &r);
	}
}

static void
draft_names(ProofDraft *draft)
{
	static const char *const builtins[] = {"lower", "upper", "count", "now", "random", "nextval", "lower", "concat", "jsonb", "int4", "numeric", NULL};
	int			i;

	for (i = 0; builtins[i] != NULL; i++)
		proof_draft_builtin(draft, builtins[i]);
	proof_draft_function(draft, "public", "fdet", NAME_DETERMINISTIC);
	proof_draft_function(draft, "public", "fimm", NAME_IMMUTABLE);
	proof_draft_function(draft, "public", "fsta", NAME_STABLE);
	proof_draft_function(draft, "public", "fvol", NAME_VOLATILE);
	proof_draft_function(draft, "s2", "fvol", NAME_DETERMINISTIC);
	proof_draft_function(draft, "public", "two", NAME_DETERMINISTIC);	/* overloaded: the worst is kept */
	proof_draft_function(draft, "public", "two", NAME_VOLATILE);
	proof_draft_function(draft, "public", "two", NAME_STABLE);
	proof_draft_function(draft, "public", "upper", NAME_STABLE);
	proof_draft_operator(draft, "public", "+", NAME_DETERMINISTIC);
	proof_draft_operator(draft, "public", "@@@", NAME_STABLE);
	proof_draft_operator(draft, "public", "===", NAME_VOLATILE);
	proof_draft_type(draft, "public", "tdet", NAME_DETERMINISTIC);
	proof_draft_type(draft, "public", "timm", NAME_IMMUTABLE);
	proof_draft_type(draft, "public", "tsta", NAME_STABLE);
	proof_draft_type(draft, "public", "tvol", NAME_VOLATILE);
	proof_draft_field(draft, "total", NAME_STABLE);
	proof_draft_field(draft, "bump", NAME_VOLATILE);
	proof_draft_field(draft, "sum2", NAME_IMMUTABLE);
}

static ByteBuffer
world_image(void)
{
	ProofDraft *draft = proof_draft_create();
	ByteBuffer	image = {0};
	size_t		i;

	for (i = 0; i < sizeof(relations) / sizeof(relations[0]); i++)
		draft_relation(draft, &relations[i]);
	draft_many(draft);
	draft_names(draft);
	CHECK(proof_draft_image(draft, &slots, &image));
	proof_draft_destroy(draft);
	return image;
}

/* ---- statements ---- */

/* In bytes of Mentions: three and the name, a dot less. */
static uint32_t
mentions_size(const char *text)
{
	uint32_t	size = sizeof(Mentions) + (text[0] != '\0' ? 1 : 0);

	for (; *text != '\0'; text++)
		size += *text != '.';
	return size;
}

/* "r orders;f s2.fvol": kind, blank, name with its schema */
static Mentions *
make_mentions(const char *text, uint32_t flags)
{
	uint32_t	size = mentions_size(text);
	Mentions   *m;
	uint8_t    *out;

	if (text[0] == '\0' && flags == 0)
		return NULL;
	m = mem_zalloc(size);
	m->size = size;
	m->flags = flags;
	out = m->bytes;
	while (*text != '\0')
	{
		size_t		len = strcspn(text, ";") - 2;
		const char *name = text + 2;
		const char *dot = memchr(name, '.', len);
		size_t		schema = dot != NULL && dot > name ? (size_t) (dot - name) : 0;
		size_t		skip = schema > 0 ? schema + 1 : 0;

		*out++ = (uint8_t) text[0];
		*out++ = (uint8_t) schema;
		*out++ = (uint8_t) (len - skip);
		memcpy(out, name, schema);
		out += schema;
		memcpy(out, name + skip, len - skip);
		out += len - skip;
		m->count++;
		text = name + len;
		text += *text == ';';
	}
	return m;
}

static const char *
slots_text(const uint32_t *list, int n)
{
	static char text[400];
	size_t		len = 0;
	int			i;

	text[0] = '\0';
	for (i = 0; i < n; i++)
		len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%u", i > 0 ? " " : "", list[i]);
	return text;
}

typedef struct Case
{
	int			line;
	StatementKind kind;
	uint32_t	effects;
	uint32_t	flags;
	const char *mentions;
	CacheReason reason;
	const char *culprit;
	const char *reads;
	WritesWhat	writes;
	const char *written;
	bool		clean;
} Case;

#define DML		(EFFECT_WRITES | EFFECT_DIRTY | EFFECT_LOCKS)
#define ANY		WRITES_ANYTHING, "1000 1003"
#define NONE	WRITES_NOTHING, ""
#define C		__LINE__

static void
check_text(const char *got, const char *expected, const Case *c, const char *what)
{
	if (strcmp(got, expected) == 0)
		return;
	unit_failures++;
	printf("# case of line %d: %s is \"%s\", expected \"%s\"\n", c->line, what, got, expected);
}

static void
check_case(const Facts *facts, const Case *c, const CacheRule *rules, int nrules)
{
	StatementFacts statement = {0};
	char		culprit[CULPRIT_SIZE];
	Proof		proof;

	statement.known = true;
	statement.kind = (uint8_t) c->kind;
	statement.effects = (uint16_t) c->effects;
	statement.mentions = make_mentions(c->mentions, c->flags);
	proof_draw(facts, &statement, rules, nrules, &proof, culprit);
	unit_check_int(proof.reason, c->reason, __FILE__, c->line, "reason");
	unit_check_int(proof.writes, c->writes, __FILE__, c->line, "writes");
	unit_check_int(proof.clean, c->clean, __FILE__, c->line, "clean");
	check_text(culprit, c->culprit, c, "culprit");
	check_text(slots_text(proof.reads, proof.nreads), c->reads, c, "reads");
	check_text(slots_text(proof.written, proof.nwritten), c->written, c, "written");
	mentions_free(statement.mentions);
}

static void
check_cases(const Case *cases, size_t n, const CacheRule *rules, int nrules)
{
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	size_t		i;

	if (CHECK(facts != NULL))
	{
		for (i = 0; i < n; i++)
			check_case(facts, &cases[i], rules, nrules);
	}
	buffer_free(&image);
}

#define CHECK_CASES(cases, rules, nrules) check_cases(cases, sizeof(cases) / sizeof((cases)[0]), rules, nrules)

/* ---- reads ---- */

TEST(plain_reads)
{
	static const Case cases[] = {
		{C, STATEMENT_READ, 0, 0, "", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "r orders", REASON_CACHEABLE, "", FIXED " 7", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r public.orders", REASON_CACHEABLE, "", FIXED " 7", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r orders;r items", REASON_CACHEABLE, "", FIXED " 7 8 9", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r s2.items", REASON_CACHEABLE, "", FIXED " 9", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r orders;r public.orders", REASON_CACHEABLE, "", FIXED " 7", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r pg_class", REASON_CACHEABLE, "", FIXED " 1002", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r orders;f to_regclass", REASON_CACHEABLE, "", FIXED " 7 1002", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r view_whole;r items", REASON_CACHEABLE, "", FIXED " 1003", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_wide", REASON_CACHEABLE, "", FIXED " 1003", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r r1;r r2;r r3;r r4;r r5;r r6;r r7;r r8;r r9;r r10;r r11;r r12;r r13;r r14;r r15;r r16;f to_regclass", REASON_CACHEABLE, "",
		FIXED " 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 1002", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r r1;r r2;r r3;r r4;r r5;r r6;r r7;r r8;r r9;r r10;r r11;r r12;r r13;r r14;r r15;r r16;r r17", REASON_CACHEABLE, "", FIXED " 1003", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r view_now", REASON_TIME, "view_now", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r orders;r public.far", REASON_RELATION_KIND, "public.far", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_stable", REASON_FUNCTION, "view_stable", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_writes", REASON_FUNCTION, "view_writes", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r nowhere", REASON_UNKNOWN_RELATION, "nowhere", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r s2.orders", REASON_UNKNOWN_RELATION, "s2.orders", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r order", REASON_UNKNOWN_RELATION, "order", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r orders2", REASON_UNKNOWN_RELATION, "orders2", "", ANY, false},
	};

	CHECK_CASES(cases, NULL, 0);
}

TEST(functions)
{
	static const Case cases[] = {
		{C, STATEMENT_READ, 0, 0, "f lower", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "f pg_catalog.lower", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "f concat;f count", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "f jsonb", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, DML, 0, "f public.lower", REASON_UNKNOWN_FUNCTION, "public.lower", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "f nothing", REASON_UNKNOWN_FUNCTION, "nothing", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "f upper", REASON_FUNCTION, "upper", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "f pg_catalog.upper", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "f now", REASON_TIME, "now", "", NONE, true},
		{C, STATEMENT_READ, 0, 0, "f random", REASON_FUNCTION, "random", "", NONE, true},
		{C, STATEMENT_READ, 0, 0, "f pg_backend_pid", REASON_FUNCTION, "pg_backend_pid", "", NONE, true},
		{C, STATEMENT_READ, 0, 0, "f random;f now", REASON_TIME, "now", "", NONE, true},
		{C, STATEMENT_READ, DML, 0, "f nextval", REASON_FUNCTION, "nextval", "", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f query_to_xml", REASON_FUNCTION, "query_to_xml", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "f fdet;r orders", REASON_CACHEABLE, "", FIXED " 7", NONE, true},
		{C, STATEMENT_READ, DML, 0, "f fimm;r orders", REASON_CACHEABLE, "", FIXED " 1003", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f fimm;r pg_class", REASON_CACHEABLE, "", FIXED " 1003 1002", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f fsta", REASON_FUNCTION, "fsta", "", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f fvol", REASON_FUNCTION, "fvol", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "f s2.fvol", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, DML, 0, "f two", REASON_FUNCTION, "two", "", ANY, false},
		{C, STATEMENT_READ, EFFECT_SETTINGS, 0, "f lower", REASON_FUNCTION, "", "", NONE, false},
		{C, STATEMENT_READ, EFFECT_BIND, 0, "f lower", REASON_FUNCTION, "", "", NONE, false},
	};

	CHECK_CASES(cases, NULL, 0);
}

TEST(operators_types_fields)
{
	static const Case cases[] = {
		{C, STATEMENT_READ, 0, 0, "o =;o +;o ||", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "o pg_catalog.@@@", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "o @@@", REASON_OPERATOR, "@@@", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "o ===", REASON_OPERATOR, "===", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "o s2.===", REASON_OPERATOR, "s2.===", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "t int4;t pg_catalog.numeric;t tdet", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "t regclass", REASON_CACHEABLE, "", FIXED " 1002", NONE, true},
		{C, STATEMENT_READ, 0, 0, "f regtype", REASON_CACHEABLE, "", FIXED " 1002", NONE, true},
		{C, STATEMENT_READ, 0, 0, "t public.regclass", REASON_TYPE, "public.regclass", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r orders;t unseen", REASON_TYPE, "unseen", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r orders;t timm", REASON_CACHEABLE, "", FIXED " 1003", NONE, false},
		{C, STATEMENT_READ, 0, 0, "t tsta", REASON_TYPE, "tsta", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "t public.tvol", REASON_TYPE, "public.tvol", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "f tdet", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, DML, 0, "f tsta", REASON_TYPE, "tsta", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "a id;a now;a age", REASON_CACHEABLE, "", FIXED, NONE, true},
		{C, STATEMENT_READ, 0, 0, "a total", REASON_FUNCTION, "total", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "a bump", REASON_FUNCTION, "bump", "", ANY, false},
		{C, STATEMENT_READ, 0, 0, "r orders;a sum2", REASON_CACHEABLE, "", FIXED " 1003", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_now;t tsta;o @@@;f fsta", REASON_FUNCTION, "fsta", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_now;t tsta;o @@@", REASON_OPERATOR, "@@@", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "r view_now;t tsta", REASON_TYPE, "tsta", "", NONE, false},
	};

	CHECK_CASES(cases, NULL, 0);
}

/* ---- what the text says ---- */

/* What is not in the text may leave session state behind all the same. */
TEST(dirty_reads)
{
	static const struct
	{
		const char *mentions;
		bool		dirties;
	}			cases[] = {
		{"r orders", false}, {"r view_now", false}, {"r view_stable", false}, {"r view_sets", true}, {"r view_writes", true}, {"w view_sets", true},
		{"o @@@", false}, {"o ===", true}, {"t tvol", true}, {"f fvol", true}, {"r nowhere", true},
	};
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	Proof		proof;
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		statement.mentions = make_mentions(cases[i].mentions, 0);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		if (!CHECK(proof.dirties == cases[i].dirties))
			printf("# %s\n", cases[i].mentions);
		mentions_free(statement.mentions);
	}
	buffer_free(&image);
}

/* What is temporary matters where something permanent has its name: from then on the session means the temporary one. */
TEST(shadows)
{
	static const struct
	{
		const char *mentions;
		bool		makes_temp;
		bool		shadows;
	}			cases[] = {
		{"p nowhere", true, false}, {"p orders", true, true}, {"p pg_temp.orders", true, true}, {"p tdet", true, true}, {"p jsonb", true, true},
		{"p nowhere;p view_now", true, true}, {"r orders", false, false}, {"f lower", false, false},
	};
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	StatementFacts statement = {.known = true, .kind = STATEMENT_OTHER, .effects = EFFECT_BIND | EFFECT_WRITES};
	Proof		proof;
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		statement.mentions = make_mentions(cases[i].mentions, TEXT_WRITES_CATALOG);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		if (!CHECK(proof.makes_temp == cases[i].makes_temp) | !CHECK(proof.shadows == cases[i].shadows))
			printf("# %s\n", cases[i].mentions);
		proof_draw(NULL, &statement, NULL, 0, &proof, NULL);
		CHECK(proof.shadows == cases[i].makes_temp);
		mentions_free(statement.mentions);
	}
	buffer_free(&image);
}

/* An event trigger runs whenever the catalog is written, if it is for a temporary table. */
TEST(event_triggers)
{
	static const Case temp = {C, STATEMENT_OTHER, EFFECT_BIND | EFFECT_WRITES, TEXT_WRITES_CATALOG, "p t", REASON_NOT_A_READ, "", "", ANY, false};
	static const Case quiet = {C, STATEMENT_OTHER, EFFECT_BIND | EFFECT_WRITES, TEXT_WRITES_CATALOG, "p t", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "1002", false};
	static const Case read = {C, STATEMENT_READ, 0, 0, "o =", REASON_CACHEABLE, "", FIXED, NONE, true};
	NameClass	class;

	for (class = NAME_DETERMINISTIC; class <= NAME_VOLATILE; class++)
	{
		ProofDraft *draft = proof_draft_create();
		ByteBuffer	image = {0};
		const Facts *facts;

		proof_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_EVENT_FUNCTION, class);
		CHECK(proof_draft_image(draft, &slots, &image));
		facts = proof_facts(image.data, buffer_len(&image));
		check_case(facts, class == NAME_VOLATILE ? &temp : &quiet, NULL, 0);
		check_case(facts, &read, NULL, 0);
		proof_draft_destroy(draft);
		buffer_free(&image);
	}
}

TEST(texts)
{
	static const Case cases[] = {
		{C, STATEMENT_UNKNOWN, EFFECT_UNKNOWN | DML, 0, "", REASON_NOT_PARSED, "", "", ANY, false},
		{C, STATEMENT_UNKNOWN, 0, 0, "", REASON_NOT_PARSED, "", "", ANY, false},
		{C, STATEMENT_READ, EFFECT_UNKNOWN, 0, "r orders", REASON_NOT_PARSED, "", "", ANY, false},
		{C, STATEMENT_READ, 0, TEXT_TOO_MUCH, "r orders", REASON_NOT_PARSED, "", "", ANY, false},
		{C, STATEMENT_EMPTY, 0, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_SEVERAL, 0, 0, "r orders", REASON_SEVERAL, "", "", NONE, false},
		{C, STATEMENT_SEVERAL, DML, 0, "r orders;w items", REASON_SEVERAL, "", "", ANY, false},
		{C, STATEMENT_SEVERAL, DML, 0, "r items;w orders", REASON_SEVERAL, "", "", WRITES_RELATIONS, "7 1003", false},
		{C, STATEMENT_READ, EFFECT_LOCKS | EFFECT_WRITES, TEXT_LOCKING, "r orders", REASON_LOCKING, "", "", NONE, true},
		{C, STATEMENT_READ, EFFECT_LOCKS | EFFECT_WRITES, TEXT_LOCKING | TEXT_TIME, "r orders;f fsta", REASON_LOCKING, "", "", NONE, false},
		{C, STATEMENT_READ, 0, TEXT_TIME, "r orders;f fsta", REASON_TIME, "", "", NONE, false},
		{C, STATEMENT_READ, 0, TEXT_TIME, "f fvol", REASON_TIME, "", "", ANY, false},
		{C, STATEMENT_OTHER, DML, TEXT_WRITES_ANYTHING, "", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_READ, 0, TEXT_WRITES_ANYTHING, "r orders", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_OTHER, DML, TEXT_INTO, "r orders", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_OTHER, EFFECT_BIND | EFFECT_WRITES, TEXT_INTO | TEXT_WRITES_CATALOG, "r orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "1002", false},
		{C, STATEMENT_OTHER, EFFECT_BIND | EFFECT_WRITES, TEXT_WRITES_CATALOG, "", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "1002", false},
		{C, STATEMENT_EXECUTE, DML, 0, "", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_TRANSACTION, EFFECT_END, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_TRANSACTION, EFFECT_END | EFFECT_WRITES, 0, "", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_SET, EFFECT_SETTINGS, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_SHOW, 0, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_DISCARD_ALL, EFFECT_UNBIND, 0, "", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "1002", false},
		{C, STATEMENT_OTHER, EFFECT_WRITES, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_OTHER, DML, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_READ, DML, 0, "", REASON_FUNCTION, "", "", ANY, false},
		{C, STATEMENT_OTHER, EFFECT_DIRTY, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "? orders", REASON_NOT_PARSED, "orders", "", ANY, false},
	};

	CHECK_CASES(cases, NULL, 0);
}

/* ---- writes ---- */

TEST(writes)
{
	static const Case cases[] = {
		{C, STATEMENT_WRITE, DML, 0, "w orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", true},
		{C, STATEMENT_WRITE, DML, 0, "w orders;w public.items;r parts", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 8 1003", true},
		{C, STATEMENT_WRITE, DML, 0, "w parts", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "12 13 14 1003", true},
		{C, STATEMENT_WRITE, DML, 0, "w audited", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "10 11 1003", false},
		{C, STATEMENT_WRITE, DML, 0, "w items", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w log", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w pg_class", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w nowhere", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;r view_writes", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "r orders", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;f fvol", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;f fsta", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;f fdet;f now;f gen_random_uuid", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", true},
		{C, STATEMENT_WRITE, DML, 0, "w orders;f nextval", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;o @@@", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;t tvol", REASON_NOT_A_READ, "", "", ANY, false},
		{C, STATEMENT_WRITE, DML | EFFECT_SETTINGS, 0, "w orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", false},
		{C, STATEMENT_WRITE, DML, TEXT_WRITES_CATALOG, "w orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003 1002", true},
		{C, STATEMENT_COPY, EFFECT_COPY | DML, 0, "w orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", true},
		{C, STATEMENT_COPY, EFFECT_COPY, 0, "r orders", REASON_NOT_A_READ, "", "", NONE, true},
		{C, STATEMENT_WRITE, DML, 0, "w r1;w r2;w r3;w r4;w r5;w r6;w r7;w r8;w r9;w r10;w r11;w r12;w r13;w r14;w r15;w r16", REASON_NOT_A_READ, "", "",
		WRITES_RELATIONS, "101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 1003", true},
		/* analysis says WRITE of these; if it should not, they are no reads all the same */
		{C, STATEMENT_READ, 0, 0, "r items;w orders", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", true},
		{C, STATEMENT_READ, 0, 0, "w orders;w r1;w r2;w r3;w r4;w r5;w r6;w r7;w r8;w r9;w r10;w r11;w r12;w r13;w r14;w r15;w r16", REASON_NOT_A_READ, "", "", ANY, true},
		{C, STATEMENT_WRITE, DML, 0, "w r1;w r2;w r3;w r4;w r5;w r6;w r7;w r8;w r9;w r10;w r11;w r12;w r13;w r14;w r15;w r16;w r17", REASON_NOT_A_READ, "", "", ANY, true},
	};

	CHECK_CASES(cases, NULL, 0);
}

/* ---- rules ---- */

TEST(rules)
{
	static const CacheRule off[] = {{false, "", "items", false, true, -1}, {false, "s2", "orders", false, true, -1}};
	static const CacheRule off_s2[] = {{false, "s2", "items", false, true, -1}};
	static const CacheRule quiet[] = {{true, "", "fvol", true, false, -1}, {true, "s2", "two", true, false, -1}, {true, "", "tvol", true, false, -1}};
	static const Case with_off[] = {
		{C, STATEMENT_READ, 0, 0, "r orders", REASON_CACHEABLE, "", FIXED " 7", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r orders;r items", REASON_DISABLED_RULE, "items", "", NONE, true},
	};
	static const Case with_off_s2[] = {
		{C, STATEMENT_READ, 0, 0, "r public.items", REASON_CACHEABLE, "", FIXED " 8", NONE, true},
		{C, STATEMENT_READ, 0, 0, "r items", REASON_DISABLED_RULE, "items", "", NONE, true},
	};
	static const Case with_quiet[] = {
		{C, STATEMENT_READ, DML, 0, "f fvol", REASON_FUNCTION, "fvol", "", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f two", REASON_FUNCTION, "two", "", ANY, false},
		{C, STATEMENT_READ, DML, 0, "t tvol", REASON_TYPE, "tvol", "", ANY, false},
		{C, STATEMENT_WRITE, DML, 0, "w orders;f fvol", REASON_NOT_A_READ, "", "", WRITES_RELATIONS, "7 1003", false},
	};

	CHECK_CASES(with_off, off, 2);
	CHECK_CASES(with_off_s2, off_s2, 1);
	CHECK_CASES(with_quiet, quiet, 3);
}

/* A function that speaks of temporary things may have run wherever anything may have. */
TEST(temporary_things_unseen)
{
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	DatabaseSlots slots = {1000, 1001, 1002, 1003};

	for (int with = 0; with < 3; with++)
	{
		ProofDraft *draft = proof_draft_create();
		ByteBuffer	image = {0};
		const Facts *facts;
		Proof		proof;
		bool		any = with >= 1;
		bool		view = with >= 2;

		draft_names(draft);
		if (any)
			proof_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_TEMP_FUNCTION, NAME_VOLATILE);
		if (view)
			proof_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_TEMP_VIEW_FUNCTION, NAME_VOLATILE);
		CHECK(proof_draft_image(draft, &slots, &image));
		facts = proof_facts(image.data, buffer_len(&image));
		statement.mentions = make_mentions("f fvol", 0);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		CHECK_EQ_INT(proof.writes, WRITES_ANYTHING);
		CHECK_EQ_INT(proof.makes_unseen, any);
		CHECK_EQ_INT(proof.makes_unseen_view, view);
		mentions_free(statement.mentions);
		statement.mentions = make_mentions("f lower", 0);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		CHECK_EQ_INT(proof.makes_unseen, false);
		CHECK_EQ_INT(proof.makes_unseen_view, false);
		mentions_free(statement.mentions);
		statement.mentions = make_mentions("f lower", TEXT_WRITES_ANYTHING);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		CHECK_EQ_INT(proof.makes_unseen, any);
		CHECK_EQ_INT(proof.makes_unseen_view, view);
		mentions_free(statement.mentions);
		statement.mentions = make_mentions("f lower", TEXT_WRITES_ANYTHING | TEXT_TEMPORARY);
		proof_draw(facts, &statement, NULL, 0, &proof, NULL);
		CHECK_EQ_INT(proof.makes_unseen, true);
		CHECK_EQ_INT(proof.makes_unseen_view, true);
		mentions_free(statement.mentions);
		buffer_free(&image);
		proof_draft_destroy(draft);
	}
}

/* Names that are lost are names that could matter. */
TEST(mentions_cut_short)
{
	ByteBuffer	image = world_image();
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	Proof		proof;

	statement.mentions = make_mentions("r orders;f lower", 0);
	statement.mentions->count++;
	proof_draw(proof_facts(image.data, buffer_len(&image)), &statement, NULL, 0, &proof, NULL);
	CHECK_EQ_INT(proof.reason, REASON_NOT_PARSED);
	CHECK_EQ_INT(proof.writes, WRITES_ANYTHING);
	mentions_free(statement.mentions);
	buffer_free(&image);
}

TEST(smallest_max_age_of_rules)
{
	static const CacheRule rules[] = {{false, "", "orders", false, false, 5000}, {false, "public", "items", false, false, 2000}, {false, "", "items", false, false, 3000}};
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	static const char *const mentions[] = {"r orders", "r orders;r items", "r s2.items", "r parts"};
	static const int ages[] = {5000, 2000, 3000, -1};
	int			i;

	for (i = 0; i < 4; i++)
	{
		StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
		Proof		proof;

		statement.mentions = make_mentions(mentions[i], 0);
		proof_draw(facts, &statement, rules, 3, &proof, NULL);
		CHECK_EQ_INT(proof.reason, REASON_CACHEABLE);
		CHECK_EQ_INT(proof.max_age, ages[i]);
		mentions_free(statement.mentions);
	}
	buffer_free(&image);
}

/* ---- without facts ---- */

TEST(nothing_known)
{
	static const Case cases[] = {
		{C, STATEMENT_READ, 0, 0, "r orders", REASON_FACTS_UNKNOWN, "", "", NONE, false},
		{C, STATEMENT_READ, 0, 0, "", REASON_FACTS_UNKNOWN, "", "", NONE, false},
		{C, STATEMENT_READ, 0, TEXT_TIME, "r orders", REASON_TIME, "", "", NONE, false},
		{C, STATEMENT_READ, DML, 0, "f fdet", REASON_FACTS_UNKNOWN, "", "", WRITES_ANYTHING, "", false},
		{C, STATEMENT_READ, EFFECT_WRITES, 0, "f query_to_xml", REASON_FACTS_UNKNOWN, "", "", WRITES_ANYTHING, "", false},
		{C, STATEMENT_READ, EFFECT_WRITES | EFFECT_LOCKS, TEXT_LOCKING, "r orders", REASON_LOCKING, "", "", NONE, false},
		{C, STATEMENT_WRITE, DML, 0, "w orders", REASON_NOT_A_READ, "", "", WRITES_ANYTHING, "", false},
		{C, STATEMENT_OTHER, EFFECT_BIND | EFFECT_WRITES, TEXT_WRITES_CATALOG, "", REASON_NOT_A_READ, "", "", WRITES_ANYTHING, "", false},
		{C, STATEMENT_OTHER, EFFECT_WRITES, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_TRANSACTION, EFFECT_END, 0, "", REASON_NOT_A_READ, "", "", NONE, false},
		{C, STATEMENT_UNKNOWN, EFFECT_UNKNOWN, 0, "", REASON_NOT_PARSED, "", "", WRITES_ANYTHING, "", false},
	};
	StatementFacts unanalysed = {0};
	Proof		proof;
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_case(NULL, &cases[i], NULL, 0);
	proof_draw(NULL, &unanalysed, NULL, 0, &proof, NULL);
	CHECK_EQ_INT(proof.reason, REASON_NOT_PARSED);
	CHECK_EQ_INT(proof.writes, WRITES_ANYTHING);
	CHECK_EQ_INT(proof.max_age, -1);
}

/* ---- culprits ---- */

TEST(culprit_of_long_names)
{
	char		mentions[300];
	char		culprit[CULPRIT_SIZE];
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	ByteBuffer	image = world_image();
	Proof		proof;

	/* two bytes a character, so that the limit falls into one */
	snprintf(mentions, sizeof(mentions), "r s%0*d.", 70, 0);
	while (strlen(mentions) < 250)
		strcat(mentions, "\xc3\xa9");
	statement.mentions = make_mentions(mentions, 0);
	proof_draw(proof_facts(image.data, buffer_len(&image)), &statement, NULL, 0, &proof, culprit);
	CHECK_EQ_INT(proof.reason, REASON_UNKNOWN_RELATION);
	CHECK(strlen(culprit) >= CULPRIT_SIZE - 3);
	CHECK_EQ_INT((uint8_t) culprit[strlen(culprit) - 1], 0xa9);
	mentions_free(statement.mentions);
	buffer_free(&image);
}

/* ---- for people ---- */

TEST(relations_of_a_text)
{
	static const char *const expected[] = {"public.orders", "public.items", "s2.items", "public.view_now"};
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	FactsRelation relation;
	uint32_t	at = 0;
	int			n = 0;

	statement.mentions = make_mentions("r orders;f lower;r nowhere;w items;r public.view_now", 0);
	while (proof_next_relation(facts, &statement, &at, &relation))
	{
		char		name[100];

		snprintf(name, sizeof(name), "%s.%s", relation.schema, relation.name);
		if (!CHECK(n < 4) || !CHECK(strcmp(name, expected[n]) == 0))
			break;
		CHECK_EQ_INT(relation.harmless, n < 2);
		CHECK_EQ_INT(relation.reason, n == 3 ? REASON_TIME : REASON_CACHEABLE);
		n++;
	}
	CHECK_EQ_INT(n, 4);
	at = 0;
	CHECK(!proof_next_relation(NULL, &statement, &at, &relation));
	mentions_free(statement.mentions);
	buffer_free(&image);
}

TEST(slots_of_a_relation)
{
	ByteBuffer	image = world_image();
	const Facts *facts = proof_facts(image.data, buffer_len(&image));
	uint32_t	got[32];
	int			n;

	n = proof_slots_of_relation(facts, NULL, "orders", got, 32);
	CHECK(strcmp(slots_text(got, n), "7 1003") == 0);
	n = proof_slots_of_relation(facts, NULL, "items", got, 32);
	CHECK(strcmp(slots_text(got, n), "8 1003 9") == 0);
	n = proof_slots_of_relation(facts, "s2", "items", got, 32);
	CHECK(strcmp(slots_text(got, n), "9 1003") == 0);
	n = proof_slots_of_relation(facts, NULL, "pg_class", got, 32);
	CHECK(strcmp(slots_text(got, n), "1002 1003") == 0);
	n = proof_slots_of_relation(facts, NULL, "items", got, 2);
	CHECK(strcmp(slots_text(got, n), "1000") == 0);
	CHECK_EQ_INT(proof_slots_of_relation(facts, "s2", "orders", got, 32), 0);
	CHECK_EQ_INT(proof_slots_of_relation(NULL, NULL, "orders", got, 32), 0);
	buffer_free(&image);
}

/* ---- images ---- */

TEST(empty_image)
{
	size_t		before = mem_used();
	ProofDraft *draft = proof_draft_create();
	ByteBuffer	image = {0};
	static const Case unknown = {C, STATEMENT_READ, 0, 0, "r orders", REASON_UNKNOWN_RELATION, "orders", "", ANY, false};
	static const Case nothing = {C, STATEMENT_READ, 0, 0, "o =", REASON_CACHEABLE, "", FIXED, NONE, true};

	CHECK(proof_draft_image(draft, &slots, &image));
	check_case(proof_facts(image.data, buffer_len(&image)), &unknown, NULL, 0);
	check_case(proof_facts(image.data, buffer_len(&image)), &nothing, NULL, 0);
	CHECK(proof_facts(NULL, 0) == NULL);
	proof_draft_destroy(draft);
	proof_draft_destroy(NULL);
	buffer_free(&image);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(many_names)
{
	ProofDraft *draft = proof_draft_create();
	ByteBuffer	image = {0};
	const Facts *facts;
	char		name[40];
	int			i;

	for (i = 0; i < 30000; i++)
	{
		RelationCase r = {i % 2 ? "a" : "b", name, REASON_CACHEABLE, "h", 1, (uint32_t) i, 1, (uint32_t) i};

		snprintf(name, sizeof(name), "table_%d", (i * 7919) % 30000);
		draft_relation(draft, &r);
		proof_draft_function(draft, "a", name, NAME_STABLE);
		proof_draft_builtin(draft, name);
	}
	CHECK(proof_draft_image(draft, &slots, &image));
	facts = proof_facts(image.data, buffer_len(&image));
	CHECK(facts != NULL);
	for (i = 0; i < 30000; i += 37)
	{
		uint32_t	got[4];

		snprintf(name, sizeof(name), "table_%d", (i * 7919) % 30000);
		CHECK_EQ_INT(proof_slots_of_relation(facts, i % 2 ? "a" : "b", name, got, 4), 2);
		CHECK_EQ_INT(got[0], i);
	}
	proof_draft_destroy(draft);
	buffer_free(&image);
}

/* Whatever the bytes say, nothing outside of them is read; what passes the check is used. */
static void
try_image(const uint8_t *bytes, size_t size)
{
	uint8_t    *copy = malloc(size > 0 ? size : 1);	/* of exactly this size, for the sanitizer */
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ};
	FactsRelation relation;
	const Facts *facts;
	uint32_t	at = 0;
	uint32_t	got[4];
	Proof		proof;
	char		culprit[CULPRIT_SIZE];

	memcpy(copy, bytes, size);
	facts = proof_facts(copy, size);
	if (facts != NULL)
	{
		statement.mentions = make_mentions("r orders;w items;f two;f lower;o +;t timm;a total;r view_wide;w r3;f upper", 0);
		proof_draw(facts, &statement, NULL, 0, &proof, culprit);
		while (proof_next_relation(facts, &statement, &at, &relation))
			CHECK(strlen(relation.schema) < 256 && strlen(relation.name) < 256 && relation.reason < REASON_LIMIT);
		(void) proof_slots_of_relation(facts, NULL, "items", got, 4);
		mentions_free(statement.mentions);
	}
	free(copy);
}

TEST(broken_images)
{
	ByteBuffer	image = world_image();
	size_t		size = buffer_len(&image);
	uint8_t    *bytes = malloc(size);
	size_t		i;
	int			round;

	srand(7);
	for (i = 0; i < size; i++)
		CHECK(proof_facts(image.data, i) == NULL);
	for (i = 0; i < size; i++)
	{
		memcpy(bytes, image.data, size);
		bytes[i] ^= (uint8_t) (1 + rand() % 255);
		try_image(bytes, size);
		bytes[i] = 0xff;
		try_image(bytes, size);
	}
	/* each word in turn a place just past the texts, whose count ends the header */
	for (i = 0; i + 4 <= size; i += 4)
	{
		memcpy(bytes, image.data, size);
		memcpy(bytes + i, image.data + 84, 4);
		try_image(bytes, size);
	}
	for (round = 0; round < 20000; round++)
	{
		int			n = 1 + rand() % 6;

		memcpy(bytes, image.data, size);
		while (n-- > 0)
			bytes[rand() % (rand() % 2 ? size : 120)] = (uint8_t) (rand() % 3 ? rand() % 8 : rand());
		try_image(bytes, size);
	}
	free(bytes);
	buffer_free(&image);
}
