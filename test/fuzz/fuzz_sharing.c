/*
 * test/fuzz/fuzz_sharing.c - core/sharing: paces of any samples stay within what was seen, and more load never makes more room.
 *
 * Input: samples of a few statements, then loads.
 */
#include "core/sharing.h"
#include "fuzz.h"

#define ROWS		8
#define STATEMENTS	16			/* two meet in each row */

/* What was seen of a statement since it came into its row. */
typedef struct Seen
{
	uint32_t	samples;
	int64_t		least;
	int64_t		most;
	uint64_t	longest;
} Seen;

static PaceTable *table;
static Seen seen[STATEMENTS];

static Digest128
digest(uint32_t n)
{
	return (Digest128) {.lo = n, .hi = n + 1};
}

/* Mostly microseconds as they are; now and then anything. */
static int64_t
any_time(FuzzInput *in)
{
	uint8_t		how = fuzz_u8(in);

	return how < 0xf0 ? (int64_t) fuzz_u16(in) * (how % 16 + 1) : (int64_t) ((uint64_t) fuzz_u32(in) << 32 | fuzz_u32(in));
}

static void
observe(FuzzInput *in)
{
	uint32_t	n = fuzz_u8(in) % STATEMENTS;
	int64_t		us = any_time(in);
	uint64_t	bytes = (uint64_t) any_time(in);
	int64_t		counted = us < 0 ? 0 : us;
	Pace		pace;

	if (pace_of(table, digest(n)).seen == 0)
		seen[n] = (Seen) {.least = counted};
	pace_observe(table, digest(n), us, bytes);
	seen[(n + ROWS) % STATEMENTS].samples = 0;
	seen[n].samples++;
	seen[n].least = counted < seen[n].least ? counted : seen[n].least;
	seen[n].most = counted > seen[n].most ? counted : seen[n].most;
	seen[n].longest = bytes > seen[n].longest ? bytes : seen[n].longest;
	pace = pace_of(table, digest(n));
	FUZZ_CHECK(pace.seen == seen[n].samples);
	FUZZ_CHECK(pace.us <= seen[n].most && pace.bytes <= seen[n].longest);
	FUZZ_CHECK(pace.us >= seen[n].least || seen[n].least > UINT32_MAX / 2);
	FUZZ_CHECK(pace_of(table, digest((n + ROWS) % STATEMENTS)).seen == 0);
	FUZZ_REACHED("samples of one statement", pace.seen);
}

/* One thing of the load, or of the pace, becomes worse. */
static void
worsen(ShareLoad *load, Pace *pace, FuzzInput *in)
{
	uint32_t	more = fuzz_u16(in);

	switch (fuzz_u8(in) % 5)
	{
		case 0:
			load->depth += more;
			break;
		case 1:
			load->work += more;
			break;
		case 2:
			load->head_for += more;
			break;
		case 3:
			pace->us += more;
			break;
		default:
			pace->bytes += more;
	}
}

static void
check_room(FuzzInput *in)
{
	Pace		pace = pace_of(table, digest(fuzz_u8(in) % STATEMENTS));
	ShareLoad	load = {.depth = fuzz_u8(in), .work = fuzz_u16(in), .rtt = fuzz_u32(in), .head_for = fuzz_u16(in)};
	uint32_t	max_depth = 1 + fuzz_u16(in);
	ShareHow	how = fuzz_u8(in) % 2 ? SHARE_PACKED : SHARE_CROWDED;
	bool		room = sharing_has_room(&load, &pace, how, max_depth);
	bool		quick = sharing_is_quick(&pace, load.rtt);
	ShareLoad	worse_load = load;
	Pace		worse_pace = pace;

	worsen(&worse_load, &worse_pace, in);
	FUZZ_CHECK(room || !sharing_has_room(&worse_load, &worse_pace, how, max_depth));
	FUZZ_CHECK(quick || !sharing_is_quick(&worse_pace, load.rtt));
	FUZZ_CHECK(!room || load.depth < max_depth);
	FUZZ_CHECK(room || !sharing_has_room(&load, &pace, how, max_depth - 1));
	FUZZ_CHECK(pace.seen > 0 || !quick);
	FUZZ_CHECK(sharing_patience(load.rtt) > load.rtt);
	/* what may be sent though another link is idle may be sent when none is */
	FUZZ_CHECK(!sharing_has_room(&load, &pace, SHARE_PACKED, max_depth) || sharing_has_room(&load, &pace, SHARE_CROWDED, max_depth));
	FUZZ_REACHED("exchanges on a link with room for another", room ? load.depth : 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();

	memset(seen, 0, sizeof(seen));
	table = pace_table_create(ROWS);
	while (fuzz_left(&in) > 0)
	{
		if (fuzz_u8(&in) % 3)
			observe(&in);
		else
			check_room(&in);
	}
	pace_table_destroy(table);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
