/*
 * test/unit/test_statement.c - interning, the idle list, what effects permit.
 */
#include "core/statement.h"
#include "unit.h"

static Statement *
intern(StatementTable *table, const char *text, bool *fresh)
{
	return statement_intern(table, bytes_str(text), bytes_of(NULL, 0), fresh);
}

TEST(interned_once)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(10000);
	bool		fresh;
	Statement  *a = intern(table, "SELECT 1", &fresh);
	Statement  *b;

	if (!CHECK(a != NULL))
		return;
	CHECK(fresh && a->refs == 1 && !a->facts.known);
	b = intern(table, "SELECT 1", &fresh);
	CHECK(a == b && !fresh && a->refs == 2);
	CHECK(bytes_equal_str(statement_text(a), "SELECT 1"));
	CHECK_EQ_INT(a->bytes[a->types_len + a->text_len], 0);
	CHECK_EQ_INT(statement_types(a).len, 0);
	statement_unref(table, a);
	statement_unref(table, b);
	CHECK_EQ_INT(statement_table_count(table), 1);
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(types_are_part_of_it)
{
	StatementTable *table = statement_table_create(10000);
	bool		fresh;
	Statement  *plain = intern(table, "abcdSELECT", &fresh);
	Statement  *typed = statement_intern(table, bytes_str("SELECT"), bytes_str("abcd"), &fresh);

	CHECK(fresh && plain != typed);
	CHECK(!digest_equal(plain->digest, typed->digest));
	CHECK(bytes_equal_str(statement_types(typed), "abcd"));
	CHECK(bytes_equal_str(statement_text(typed), "SELECT"));
	CHECK(statement_intern(table, bytes_str("SELECT"), bytes_str("abcd"), &fresh) == typed);
	CHECK(intern(table, "", &fresh) != NULL && fresh);
	statement_table_destroy(table);
}

TEST(types_of_the_longest_parse)
{
	StatementTable *table = statement_table_create(0);
	static uint8_t types[65535 * 4];
	bool		fresh;
	Statement  *s = statement_intern(table, bytes_str("SELECT 1"), bytes_of(types, sizeof(types)), &fresh);

	if (!CHECK(s != NULL))
		return;
	CHECK_EQ_INT(statement_types(s).len, sizeof(types));
	CHECK(bytes_equal_str(statement_text(s), "SELECT 1"));
	statement_table_destroy(table);
}

TEST(idle_ones_come_back_with_their_facts)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(10000);
	bool		fresh;
	Statement  *a = intern(table, "DEALLOCATE x", &fresh);

	a->facts.known = true;
	a->facts.kind = STATEMENT_DEALLOCATE;
	a->facts.target = bytes_copy(bytes_str("x"));
	statement_unref(table, a);
	CHECK(intern(table, "DEALLOCATE x", &fresh) == a);
	CHECK(!fresh && a->facts.known && strcmp(a->facts.target, "x") == 0);
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(oldest_idle_goes_first)
{
	StatementTable *table = statement_table_create(3 * (sizeof(Statement) + 3));
	bool		fresh;
	Statement  *held = intern(table, "hh", &fresh);
	char		text[3] = "s0";

	for (text[1] = '0'; text[1] < '6'; text[1]++)
		statement_unref(table, intern(table, text, &fresh));
	CHECK_EQ_INT(statement_table_count(table), 4);
	statement_unref(table, intern(table, "s3", &fresh));
	CHECK(!fresh);
	statement_unref(table, intern(table, "s6", &fresh));
	/* s3 was used last but one: s4 has gone */
	intern(table, "s3", &fresh);
	CHECK(!fresh);
	intern(table, "s4", &fresh);
	CHECK(fresh);
	CHECK(intern(table, "hh", &fresh) == held);
	statement_table_destroy(table);
}

TEST(nothing_idle_is_kept_at_zero)
{
	size_t		before;
	StatementTable *table = statement_table_create(0);
	bool		fresh;

	before = mem_used();
	statement_unref(table, intern(table, "SELECT 1", &fresh));
	CHECK_EQ_INT(statement_table_count(table), 0);
	CHECK_EQ_INT(mem_used(), before);
	statement_table_destroy(table);
}

TEST(many)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(100000);
	static Statement *all[4000];
	char		text[32];
	bool		fresh;
	int			i;

	for (i = 0; i < 4000; i++)
	{
		snprintf(text, sizeof(text), "SELECT %d", i);
		all[i] = intern(table, text, &fresh);
		CHECK(fresh);
	}
	for (i = 0; i < 4000; i++)
	{
		snprintf(text, sizeof(text), "SELECT %d", i);
		CHECK(intern(table, text, &fresh) == all[i] && !fresh);
	}
	for (i = 0; i < 4000; i++)
	{
		statement_unref(table, all[i]);
		statement_unref(table, all[i]);
	}
	CHECK(statement_table_count(table) > 0 && statement_table_count(table) < 4000);
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(link_after)
{
	CHECK_EQ_INT(effects_link_after(EFFECT_NONE), LINK_AFTER_CLEAN);
	CHECK_EQ_INT(effects_link_after(EFFECT_WRITES | EFFECT_LOCKS | EFFECT_BEGIN | EFFECT_END | EFFECT_COPY),
				 LINK_AFTER_CLEAN);
	CHECK_EQ_INT(effects_link_after(EFFECT_DIRTY), LINK_AFTER_RESET);
	CHECK_EQ_INT(effects_link_after(EFFECT_SETTINGS), LINK_AFTER_RESET);
	CHECK_EQ_INT(effects_link_after(EFFECT_UNKNOWN), LINK_AFTER_RESET);
	CHECK_EQ_INT(effects_link_after(EFFECT_UNBIND), LINK_AFTER_RESET);
	CHECK_EQ_INT(effects_link_after(EFFECT_BIND | EFFECT_UNBIND), LINK_AFTER_BOUND);
	CHECK_EQ_INT(effects_link_after(EFFECT_BIND | EFFECT_RETIRE), LINK_AFTER_BOUND);
	CHECK_EQ_INT(effects_link_after(EFFECT_RETIRE | EFFECT_DIRTY | EFFECT_UNBIND), LINK_AFTER_RETIRE);
}

TEST(may_repeat)
{
	uint32_t	bit;

	CHECK(effects_may_repeat(EFFECT_NONE));
	CHECK(effects_may_repeat(EFFECT_LOCKS));
	for (bit = 1; bit <= EFFECT_SETS_NAMED; bit <<= 1)
		CHECK(effects_may_repeat(bit) == (bit == EFFECT_LOCKS));
}

TEST(kind_names)
{
	StatementKind kind;

	for (kind = STATEMENT_UNKNOWN; kind <= STATEMENT_SEVERAL; kind++)
		CHECK((kind == STATEMENT_UNKNOWN) == (strcmp(statement_kind_name(kind), "unknown") == 0));
	CHECK(strcmp(statement_kind_name(STATEMENT_DISCARD_ALL), "discard all") == 0);
}

/* Two mentions: reads s.tab, calls f. */
static Mentions *
two_mentions(void)
{
	static const uint8_t bytes[] = "r\1\3stabf\0\1f";
	size_t		len = sizeof(bytes) - 1;
	Mentions   *m = mem_zalloc(sizeof(Mentions) + len);

	if (m == NULL)
		return NULL;
	m->size = (uint32_t) (sizeof(Mentions) + len);
	m->count = 2;
	memcpy(m->bytes, bytes, len);
	return m;
}

TEST(mentions_one_by_one)
{
	size_t		before = mem_used();
	Mentions   *m = two_mentions();
	uint32_t	at = 0;
	Mention		mention;

	CHECK(mentions_next(m, &at, &mention));
	CHECK_EQ_INT(mention.kind, MENTION_READS);
	CHECK(bytes_equal_str(mention.schema, "s") && bytes_equal_str(mention.name, "tab"));
	CHECK(mentions_next(m, &at, &mention));
	CHECK_EQ_INT(mention.kind, MENTION_FUNCTION);
	CHECK(mention.schema.len == 0 && bytes_equal_str(mention.name, "f"));
	CHECK(!mentions_next(m, &at, &mention));
	CHECK(!mentions_next(m, &at, &mention));
	m->bytes[1] = 255;
	at = 0;
	CHECK(!mentions_next(m, &at, &mention) && at == 0);
	at = UINT32_MAX;
	CHECK(!mentions_next(m, &at, &mention));
	at = 0;
	CHECK(!mentions_next(NULL, &at, &mention));
	mentions_free(m);
	mentions_free(NULL);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(facts_and_proof_go_with_their_statement)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(sizeof(Statement) + 16 + sizeof(Proof));
	bool		fresh;
	Statement  *s = intern(table, "SELECT 1", &fresh);

	s->proof = mem_zalloc(sizeof(Proof));
	statement_unref(table, s);
	CHECK_EQ_INT(statement_table_count(table), 1);
	/* what is learnt of it counts: the mentions are one thing too many */
	s = intern(table, "SELECT 1", &fresh);
	CHECK(!fresh && s->proof != NULL);
	s->facts.mentions = two_mentions();
	statement_unref(table, s);
	CHECK_EQ_INT(statement_table_count(table), 0);
	s = intern(table, "SELECT 2", &fresh);
	s->proof = mem_zalloc(sizeof(Proof));
	s->facts.mentions = two_mentions();
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(reasons)
{
	int			i;
	int			j;

	for (i = 0; i < REASON_LIMIT; i++)
	{
		CHECK(reason_words(i) != NULL && strlen(reason_words(i)) > 5);
		CHECK(reason_status(i) < CACHE_STATUS_LIMIT && reason_status(i) != CACHE_HIT);
		for (j = 0; j < i; j++)
			CHECK(strcmp(reason_words(i), reason_words(j)) != 0);
	}
	CHECK_EQ_INT(reason_status(REASON_CACHEABLE), CACHE_MISS);
	CHECK_EQ_INT(reason_status(REASON_SEVERAL), CACHE_MULTIPLE_STATEMENTS);
	CHECK_EQ_INT(reason_status(REASON_OPERATOR), CACHE_VOLATILE);
	CHECK_EQ_INT(reason_status(REASON_LIMIT), CACHE_UNCACHEABLE);
	CHECK(reason_words(REASON_LIMIT) != NULL);
	for (i = 0; i < CACHE_STATUS_LIMIT; i++)
		for (j = 0; j < i; j++)
			CHECK(strcmp(cache_status_name(i), cache_status_name(j)) != 0);
	CHECK(strcmp(cache_status_name(CACHE_NOT_A_QUERY), "notaquery") == 0);
}
