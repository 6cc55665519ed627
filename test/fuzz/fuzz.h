/*
 * test/fuzz/fuzz.h - the harness of the fuzz targets.
 *
 * Each fuzz_<module>.c is one program: it includes this file once and defines LLVMFuzzerTestOneInput, which reads its input through a FuzzInput and
 * checks what it sees against a model with FUZZ_CHECK. Built with libFuzzer it is a fuzzer (make fuzz). Built with FUZZ_REPLAY it has the main below, which
 * plays the files named, or all of the target's corpus, and speaks TAP (make unit).
 */
#ifndef HYPERPOOL_TEST_FUZZ_H
#define HYPERPOOL_TEST_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "core/bytes.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- checks ---- */

static const char *fuzz_file = "this input";	/* that is being replayed */

#define FUZZ_CHECK(cond) \
	do { \
		if (!(cond)) \
			fuzz_failed(__FILE__, __LINE__, #cond); \
	} while (0)

__attribute__((noreturn, unused)) static void
fuzz_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "# %s:%d: failed with %s: %s\n", file, line, fuzz_file, what);
	abort();
}

/* ---- how deep did it get? The most that was seen of each thing, told at the end of the program ---- */

typedef struct FuzzReached
{
	const char *what;
	unsigned long long most;
	struct FuzzReached *next;
} FuzzReached;

static FuzzReached *fuzz_reached_first;

#define FUZZ_REACHED(thing, n) \
	do { \
		static FuzzReached reached = {.what = (thing)}; \
		fuzz_note_reached(&reached, (n)); \
	} while (0)

__attribute__((unused)) static void
fuzz_note_reached(FuzzReached *reached, unsigned long long n)
{
	if (reached->most == 0 && n > 0)
	{
		reached->next = fuzz_reached_first;
		fuzz_reached_first = reached;
	}
	if (n > reached->most)
		reached->most = n;
}

#ifdef FUZZ_REPLAY
#define FUZZ_OUT	stdout
#else
#define FUZZ_OUT	stderr
#endif

__attribute__((destructor)) static void
fuzz_tell_reached(void)
{
	for (FuzzReached *r = fuzz_reached_first; r; r = r->next)
		fprintf(FUZZ_OUT, "# reached: %llu %s\n", r->most, r->what);
}

/* ---- the input, as a row of choices; there is no end of zeros behind it ---- */

typedef struct FuzzInput
{
	const uint8_t *at;
	const uint8_t *end;
} FuzzInput;

static inline size_t
fuzz_left(const FuzzInput *in)
{
	return in->end - in->at;
}

static inline uint8_t
fuzz_u8(FuzzInput *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static inline uint16_t
fuzz_u16(FuzzInput *in)
{
	uint16_t	high = fuzz_u8(in);

	return (uint16_t) (high << 8 | fuzz_u8(in));
}

static inline uint32_t
fuzz_u32(FuzzInput *in)
{
	uint32_t	high = fuzz_u16(in);

	return high << 16 | fuzz_u16(in);
}

/* Below n, which is at least 1. */
static inline uint32_t
fuzz_below(FuzzInput *in, uint32_t n)
{
	return (n > 256 ? fuzz_u16(in) : fuzz_u8(in)) % n;
}

/* At most so many of the bytes that are left. */
static inline Bytes
fuzz_bytes(FuzzInput *in, size_t most)
{
	Bytes		view = bytes_of(in->at, fuzz_left(in) < most ? fuzz_left(in) : most);

	in->at += view.len;
	return view;
}

/* A copy that ends where its memory does, so that a byte too many is seen; free() it. */
static inline Bytes
fuzz_copy(Bytes view)
{
	uint8_t    *copy = malloc(view.len > 0 ? view.len : 1);

	FUZZ_CHECK(copy != NULL);
	if (view.len > 0)
		memcpy(copy, view.data, view.len);
	return bytes_of(copy, view.len);
}

static inline void
fuzz_free(Bytes copy)
{
	free((void *) (uintptr_t) copy.data);
}

static inline bool
fuzz_is_inside(Bytes part, Bytes whole)
{
	return part.len == 0 || (part.data >= whole.data && part.len <= whole.len && (size_t) (part.data - whole.data) <= whole.len - part.len);
}

/* ---- the replay ---- */

#ifdef FUZZ_REPLAY

#include <dirent.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>

static void
fuzz_tell_file(void)
{
	fprintf(stderr, "# died with %s\n", fuzz_file);
}
#endif

/* Memory that cannot be had is NULL and not the end, as in the unit tests. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static int
replay_file(const char *path)
{
	FILE	   *f = fopen(path, "rb");
	ByteBuffer	read = {0};
	char		piece[65536];
	Bytes		input;
	size_t		n;

	if (f == NULL)
	{
		printf("# cannot read %s\n", path);
		return 0;
	}
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		buffer_put(&read, piece, n);
	fclose(f);
	input = fuzz_copy(buffer_view(&read));
	buffer_free(&read);			/* targets look whether they leave any memory behind */
	fuzz_file = path;
	LLVMFuzzerTestOneInput(input.data, input.len);
	fuzz_free(input);
	return 1;
}

static int
replay_folder(const char *folder)
{
	DIR		   *dir = opendir(folder);
	struct dirent *entry;
	char		path[1024];
	int			n = 0;

	while (dir && (entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		n += replay_file(path);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* build/unit/replay_frame plays test/fuzz/corpus/frame. */
int
main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '_');
	char		folder[256];
	int			n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_set_death_callback(fuzz_tell_file);
#endif
	snprintf(folder, sizeof(folder), "test/fuzz/corpus/%s", name ? name + 1 : "");
	if (argc == 1)
		n = replay_folder(folder);
	for (int i = 1; i < argc; i++)
		n += replay_file(argv[i]);
	printf("%sok 1 - %d inputs of %s\n1..1\n", n > 0 ? "" : "not ", n, argc == 1 ? folder : "the command line");
	return n == 0;
}

#endif							/* FUZZ_REPLAY */

#endif
