/*
 * core/sharing.c - may this read share a link with others, and behind how much?
 *
 * What is measured from here holds every delay on the way: a busy machine makes all answers late. So the time of a statement is the one that a quarter of its
 * answers stay below, approached in steps; what is slow by itself is slow each time. Numbers of the policy are at the top of their part, with what they were chosen by.
 */
#include "core/sharing.h"

/* ---- paces ---- */

#define SMOOTHING	8
#define STEP_DOWN	4			/* three answers above weigh as much as one below */
#define STEP_UP		12
#define FIRST_FEW	4			/* of so many the quickest counts: the first ones find plans and pages cold */

struct PaceTable
{
	uint32_t	rows;
	Pace		row[];
};

PaceTable *
pace_table_create(uint32_t rows)
{
	PaceTable  *table = mem_zalloc(sizeof(PaceTable) + rows * sizeof(Pace));

	if (table != NULL)
		table->rows = rows;
	return table;
}

void
pace_table_destroy(PaceTable *table)
{
	if (table != NULL)
		mem_free(table, sizeof(PaceTable) + table->rows * sizeof(Pace));
}

static const Pace *
row_of(const PaceTable *table, Digest128 digest)
{
	return &table->row[digest.lo & (table->rows - 1)];
}

Pace
pace_of(const PaceTable *table, Digest128 digest)
{
	const Pace *row = row_of(table, digest);

	return row->key == digest.hi ? *row : (Pace) {0};
}

static uint32_t
clamp(uint64_t value)
{
	return value > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t) value;
}

static int64_t
largest(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static uint32_t
least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* A step towards the lower quartile. */
static uint32_t
step(uint32_t before, uint32_t v)
{
	if (v < before)
		return before - least(before - v, before / STEP_DOWN + 1);
	return before + least(v - before, before / STEP_UP + 1);
}

/* Rounded so that small values are reached. */
static uint32_t
smooth(uint32_t before, uint32_t v)
{
	if (v >= before)
		return before + (v - before + SMOOTHING - 1) / SMOOTHING;
	return before - (before - v + SMOOTHING - 1) / SMOOTHING;
}

void
pace_observe(PaceTable *table, Digest128 digest, int64_t us, uint64_t bytes)
{
	Pace	   *row = (Pace *) row_of(table, digest);

	if (row->key != digest.hi || row->seen == 0)
		*row = (Pace) {.key = digest.hi};
	if (row->seen == 0)
	{
		row->us = clamp(us > 0 ? (uint64_t) us : 0);
		row->bytes = clamp(bytes);
	}
	else
	{
		uint32_t	v = clamp(us > 0 ? (uint64_t) us : 0);

		row->us = row->seen < FIRST_FEW ? least(row->us, v) : step(row->us, v);
		row->bytes = smooth(row->bytes, clamp(bytes));
	}
	if (row->seen < UINT32_MAX)
		row->seen++;
}

/* ---- ways ---- */

#define WAY_LASTS	30000000	/* microseconds: routes change, and a busy moment makes the way look long */

bool
way_is_fresh(const Way *way, int64_t now)
{
	return way->rtt > 0 && now - way->measured_at < WAY_LASTS;
}

void
way_measure(Way *way, int64_t us, int64_t now)
{
	way->rtt = largest(us, 1);
	way->measured_at = now;
}

void
way_shorten(Way *way, int64_t us, int64_t now)
{
	if (way->rtt == 0)
		way_measure(way, us, now);
	else if (us < way->rtt)
		way->rtt = largest(us, 1);
}

/* ---- the policy ---- */

#define NEAR_RTT		1000	/* an origin within a millisecond is near */
#define PACKED_NEAR		8		/* throughput is flat from 8 to 12, and falls off on both sides */
#define PACKED_FAR		16		/* spread over the links first: who stands still keeps fewer from going on */
#define CROWDED_PER_MS	8		/* what one backend answers in the time of a round trip; */
#define CROWDED_LEAST	16
#define PACKED_WORK		1000	/* microseconds that may stand before an exchange although another link is idle */
#define CROWDED_WORK	5000	/* and if none is */
#define QUICK_BYTES		32768	/* longer answers are sent by themselves */
#define STILL			1000	/* an oldest exchange not older than this, and two round trips, is going on as it should */
#define STUCK			20000

/* What may stand before an exchange: over a long way nobody notices a little more. */
static int64_t
work_allowed(ShareHow how, int64_t rtt)
{
	return how == SHARE_PACKED ? largest(PACKED_WORK, rtt / 32) : largest(CROWDED_WORK, rtt / 2);
}

bool
sharing_is_quick(const Pace *pace, int64_t rtt)
{
	return pace->seen > 0 && pace->bytes <= QUICK_BYTES && pace->us <= work_allowed(SHARE_PACKED, rtt) / 2;
}

int64_t
sharing_patience(int64_t rtt)
{
	return STUCK + 2 * rtt;
}

static uint32_t
depth_allowed(ShareHow how, int64_t rtt, uint32_t max_depth)
{
	int64_t		depth;

	if (how == SHARE_PACKED)
		depth = rtt <= NEAR_RTT ? PACKED_NEAR : PACKED_FAR;
	else
		depth = CROWDED_LEAST + rtt * CROWDED_PER_MS / 1000;
	return depth < max_depth ? (uint32_t) depth : max_depth;
}

bool
sharing_has_room(const ShareLoad *load, const Pace *pace, ShareHow how, uint32_t max_depth)
{
	int64_t		still = how == SHARE_PACKED ? STILL + 2 * load->rtt : sharing_patience(load->rtt);

	return load->depth < depth_allowed(how, load->rtt, max_depth) && load->head_for <= still &&
		(load->depth == 0 || (int64_t) load->work + pace->us <= work_allowed(how, load->rtt));
}
