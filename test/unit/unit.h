/*
 * test/unit/unit.h - the harness of the unit tests.
 *
 * Each test_<module>.c is one program: it includes this file once, writes
 * TEST(name) { ... } blocks, and needs no main.  The blocks run in the order
 * they stand in, or only those whose name contains the program's first
 * argument.  Output is TAP, the plan at the end; the exit status is 1 when a
 * check failed or nothing ran.  A failed check is told and the block goes on.
 */
#ifndef HYPERPOOL_TEST_UNIT_H
#define HYPERPOOL_TEST_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct UnitTest
{
	const char *name;
	void		(*run) (void);
	struct UnitTest *next;
} UnitTest;

static UnitTest *unit_first = NULL;
static UnitTest **unit_last = &unit_first;
static int	unit_failures = 0;	/* of the block that runs */

#define TEST(test_name) \
	static void unit_run_##test_name(void); \
	static UnitTest unit_test_##test_name = {#test_name, unit_run_##test_name, NULL}; \
	__attribute__((constructor)) static void unit_add_##test_name(void) \
	{ \
		*unit_last = &unit_test_##test_name; \
		unit_last = &unit_test_##test_name.next; \
	} \
	static void unit_run_##test_name(void)

#define CHECK(cond) \
	unit_check((cond), __FILE__, __LINE__, #cond)
#define CHECK_EQ_INT(got, expected) \
	unit_check_int((long long) (got), (long long) (expected), __FILE__, __LINE__, #got)
#define CHECK_BYTES(got, got_len, expected, expected_len) \
	unit_check_bytes((got), (got_len), (expected), (expected_len), __FILE__, __LINE__, #got)
/* The bytes of a string literal without its last NUL; it may hold others. */
#define CHECK_BYTES_LIT(got, got_len, literal) \
	CHECK_BYTES((got), (got_len), (literal), sizeof(literal) - 1)

static inline bool
unit_check(bool passed, const char *file, int line, const char *what)
{
	if (!passed)
	{
		unit_failures++;
		printf("# %s:%d: failed: %s\n", file, line, what);
	}
	return passed;
}

static inline bool
unit_check_int(long long got, long long expected, const char *file, int line, const char *what)
{
	if (got == expected)
		return true;
	unit_failures++;
	printf("# %s:%d: %s is %lld, expected %lld\n", file, line, what, got, expected);
	return false;
}

static inline void
unit_print_bytes(const char *title, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t		i;

	printf("#   %s (%zu bytes): ", title, len);
	for (i = 0; p != NULL && i < len && i < 256; i++)
	{
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\')
			putchar(p[i]);
		else
			printf("\\x%02x", p[i]);
	}
	printf("%s\n", len > 256 ? "..." : "");
}

static inline bool
unit_check_bytes(const void *got, size_t got_len, const void *expected, size_t expected_len,
				 const char *file, int line, const char *what)
{
	if (got_len == expected_len && (got_len == 0 || (got != NULL && memcmp(got, expected, got_len) == 0)))
		return true;
	unit_failures++;
	printf("# %s:%d: %s differs\n", file, line, what);
	unit_print_bytes("got     ", got, got_len);
	unit_print_bytes("expected", expected, expected_len);
	return false;
}

/* Under AddressSanitizer too, memory that cannot be had is NULL and not the end. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

int
main(int argc, char **argv)
{
	UnitTest   *test;
	int			number = 0;
	int			failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);	/* a crash keeps what was told before it */
	for (test = unit_first; test != NULL; test = test->next)
	{
		if (argc > 1 && strstr(test->name, argv[1]) == NULL)
			continue;
		unit_failures = 0;
		test->run();
		number++;
		printf("%s %d - %s\n", unit_failures == 0 ? "ok" : "not ok", number, test->name);
		failed += unit_failures > 0;
	}
	printf("1..%d\n", number);
	return failed > 0 || number == 0;
}

#endif
