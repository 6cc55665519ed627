/*
 * test/unit/test_settings.c - drafts, options, interning, difference.
 */
#include "core/settings.h"
#include "unit.h"

static void
put(SettingsDraft *draft, const char *name, const char *value)
{
	settings_draft_put(draft, bytes_str(name), bytes_str(value));
}

static const SettingsVector *
vector_of(SettingsTable *table, const char *options)
{
	SettingsDraft draft = {0};
	Bytes		bad;

	if (!settings_draft_put_options(&draft, bytes_str(options), &bad))
	{
		settings_draft_free(&draft);
		return NULL;
	}
	return settings_intern(table, &draft);
}

static bool
has(const SettingsVector *vector, const char *name, const char *value)
{
	const char *found = settings_get(vector, name);

	return value == NULL ? found == NULL : found != NULL && strcmp(found, value) == 0;
}

TEST(equal_vectors_are_one)
{
	size_t		before = mem_used();
	SettingsTable *table = settings_table_create(100);
	SettingsDraft a = {0};
	SettingsDraft b = {0};
	const SettingsVector *va;
	const SettingsVector *vb;

	put(&a, "DateStyle", "ISO");
	put(&a, "work_mem", "1MB");
	put(&a, "TimeZone", "UTC");
	put(&a, "WORK_MEM", "2MB");
	put(&b, "timezone", "UTC");
	put(&b, "work_mem", "2MB");
	put(&b, "datestyle", "ISO");
	va = settings_intern(table, &a);
	vb = settings_intern(table, &b);
	CHECK(va != NULL && va == vb);
	CHECK_EQ_INT(va->count, 3);
	CHECK_EQ_INT(va->refs, 2);
	CHECK(va->id != 0);
	CHECK(va->attached == NULL);
	CHECK(strcmp(va->settings[0].name, "datestyle") == 0);
	CHECK(strcmp(va->settings[2].name, "work_mem") == 0);
	CHECK(has(va, "Work_Mem", "2MB"));
	CHECK(has(va, "work_me", NULL));
	CHECK(has(va, "work_mem2", NULL));
	settings_unref(table, va);
	CHECK_EQ_INT(settings_table_count(table), 1);
	settings_unref(table, vb);
	CHECK_EQ_INT(settings_table_count(table), 0);
	settings_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(empty_vector)
{
	SettingsTable *table = settings_table_create(10);
	SettingsDraft draft = {0};
	const SettingsVector *v = settings_intern(table, &draft);
	const SettingsVector *same = vector_of(table, "  ");

	CHECK(v != NULL && v->count == 0 && v->id != 0);
	CHECK(v == same);
	CHECK(has(v, "x", NULL));
	settings_table_destroy(table);
}

TEST(no_ambiguity_between_name_and_value)
{
	SettingsTable *table = settings_table_create(10);
	const SettingsVector *a = vector_of(table, "-c ab=c");
	const SettingsVector *b = vector_of(table, "-c a=bc");
	const SettingsVector *c = vector_of(table, "-c a=b\\ c");

	CHECK(a != b && b != c && a->id != b->id);
	settings_table_destroy(table);
}

TEST(remove_and_copy)
{
	SettingsTable *table = settings_table_create(10);
	const SettingsVector *v = vector_of(table, "-c a=1 -c b=2 -c c=3");
	SettingsDraft draft = {0};
	const SettingsVector *w;

	settings_draft_put_vector(&draft, v);
	settings_draft_remove(&draft, bytes_str("B"));
	settings_draft_remove(&draft, bytes_str("absent"));
	CHECK_EQ_INT(draft.count, 2);
	settings_draft_put_vector(&draft, v);
	CHECK_EQ_INT(draft.count, 3);
	settings_draft_remove(&draft, bytes_str("c"));
	w = settings_intern(table, &draft);
	CHECK(has(w, "a", "1") && has(w, "b", "2") && has(w, "c", NULL));
	settings_table_destroy(table);
}

TEST(limits)
{
	SettingsTable *table = settings_table_create(2);
	static char big[70000];
	SettingsDraft draft = {0};
	const SettingsVector *a = vector_of(table, "-c a=1");
	const SettingsVector *b = vector_of(table, "-c a=2");

	CHECK(a != NULL && b != NULL);
	CHECK(vector_of(table, "-c a=3") == NULL);
	CHECK(vector_of(table, "-c a=1") == a);
	settings_unref(table, b);
	CHECK(vector_of(table, "-c a=3") != NULL);
	memset(big, 'x', sizeof(big));
	settings_draft_put(&draft, bytes_str("n"), bytes_of(big, 60000));
	CHECK(!draft.failed);
	settings_draft_put(&draft, bytes_str("n"), bytes_of(big, 65533));
	CHECK(!draft.failed);
	settings_draft_put(&draft, bytes_str("m"), bytes_of(big, 1));
	CHECK(draft.failed);
	CHECK(settings_intern(table, &draft) == NULL);
	CHECK(!draft.failed && draft.count == 0);
	/* so many that each must be looked for among thousands */
	for (int i = 0; i < 5000 && !draft.failed; i++)
	{
		char		name[16];

		settings_draft_put(&draft, bytes_of(name, (size_t) snprintf(name, sizeof(name), "s%d", i)), bytes_str(""));
	}
	CHECK(draft.failed);
	CHECK_EQ_INT(draft.count, 1000);
	CHECK(settings_intern(table, &draft) == NULL);
	settings_draft_put(&draft, bytes_of("a\0b", 3), bytes_str("v"));
	CHECK(draft.failed);
	settings_draft_free(&draft);
	settings_draft_put(&draft, bytes_str("a"), bytes_of("v\0", 2));
	CHECK(draft.failed);
	settings_draft_free(&draft);
	settings_table_destroy(table);
}

TEST(options_like_postgresql)
{
	SettingsTable *table = settings_table_create(100);
	const SettingsVector *v = vector_of(table,
										" -c work_mem=4MB\t-cDateStyle=ISO --search-path=a\\ b,\\\\c  -c geqo=off --x.y-z= ");

	CHECK(v != NULL && v->count == 5);
	CHECK(has(v, "work_mem", "4MB"));
	CHECK(has(v, "datestyle", "ISO"));
	CHECK(has(v, "search_path", "a b,\\c"));
	CHECK(has(v, "geqo", "off"));
	CHECK(has(v, "x.y_z", ""));
	CHECK(has(vector_of(table, "-c a=b=c-d"), "a", "b=c-d"));
	CHECK(has(vector_of(table, "-c a=1 -c A=2"), "a", "2"));
	CHECK(has(vector_of(table, "-c a=1 --"), "a", "1"));
	CHECK(has(vector_of(table, "-c a=1\\"), "a", "1"));
	CHECK(has(vector_of(table, "-c \\a=1"), "a", "1"));
	settings_table_destroy(table);
}

static void
check_bad(const char *options, const char *offender)
{
	SettingsDraft draft = {0};
	Bytes		bad = {0};

	CHECK(!settings_draft_put_options(&draft, bytes_str(options), &bad));
	if (!CHECK_BYTES(bad.data, bad.len, offender, strlen(offender)))
		printf("#   in: %s\n", options);
	settings_draft_free(&draft);
}

TEST(options_refused)
{
	check_bad("-c a=1 -e", "-e");
	check_bad("-O -c a=1", "-O");
	check_bad("-c", "-c");
	check_bad("-c a", "a");
	check_bad("-ca", "-ca");
	check_bad("--a", "--a");
	check_bad("--=x", "--=x");
	check_bad("word", "word");
	check_bad("-", "-");
	check_bad("-- -c a=1", "-c");
	check_bad("-c -c a=1", "-c");
	check_bad("\\ ", "\\ ");
}

static char seen[256];

static void
note(void *arg, const char *name, const char *value)
{
	(void) arg;
	strcat(seen, name);
	strcat(seen, "=");
	strcat(seen, value);
	strcat(seen, ";");
}

TEST(difference_and_reset)
{
	SettingsTable *table = settings_table_create(100);
	const SettingsVector *a = vector_of(table, "-c a=1 -c b=2 -c d=4");
	const SettingsVector *b = vector_of(table, "-c a=1 -c b=3 -c c=5 -c d=4 -c e=6");

	seen[0] = 0;
	settings_difference(a, b, note, NULL);
	CHECK(strcmp(seen, "b=3;c=5;e=6;") == 0);
	seen[0] = 0;
	settings_difference(b, a, note, NULL);
	CHECK(strcmp(seen, "b=2;") == 0);
	seen[0] = 0;
	settings_difference(NULL, a, note, NULL);
	CHECK(strcmp(seen, "a=1;b=2;d=4;") == 0);
	CHECK(!settings_need_reset(a, b));
	CHECK(settings_need_reset(b, a));
	CHECK(!settings_need_reset(NULL, a));
	CHECK(settings_need_reset(a, NULL));

	/* a part of a DateStyle stays behind */
	a = vector_of(table, "-c datestyle=German");
	b = vector_of(table, "-c DateStyle=ISO -c e=6");
	CHECK(settings_need_reset(a, b));
	CHECK(!settings_need_reset(a, a));
	CHECK(!settings_need_reset(a, vector_of(table, "-c datestyle=German -c e=6")));
	CHECK(!settings_need_reset(NULL, b));
	settings_table_destroy(table);
}

TEST(many_vectors)
{
	size_t		before = mem_used();
	SettingsTable *table = settings_table_create(5000);
	static const SettingsVector *all[5000];
	char		options[64];
	int			i;

	for (i = 0; i < 5000; i++)
	{
		snprintf(options, sizeof(options), "-c a=%d -c b=%d", i, i % 7);
		all[i] = vector_of(table, options);
		CHECK(all[i] != NULL);
	}
	CHECK_EQ_INT(settings_table_count(table), 5000);
	for (i = 0; i < 5000; i++)
	{
		snprintf(options, sizeof(options), "-c b=%d -c a=%d", i % 7, i);
		CHECK(vector_of(table, options) == all[i]);
		settings_unref(table, all[i]);
		settings_unref(table, all[i]);
	}
	CHECK_EQ_INT(settings_table_count(table), 0);
	settings_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}
