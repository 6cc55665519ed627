/*
 * test/fuzz/fuzz_exchange.c - core/exchange, with an honest origin and with a hostile one.
 *
 * Honest: the play of test/unit/exchange_play.h, with the input for chance: the client must see what it would have seen without a gateway.
 * Hostile: any asks and any answers in any order. Then asks may not get lost, doubled or out of order: each leaves once, answered, made, dropped, or
 * taken off as what the origin reads and ignores (marks of ended copies; Syncs during a copy).
 * Input: which, then choices.
 */
#include "fuzz.h"

static FuzzInput chance;

static uint32_t
roll(uint32_t n)
{
	return fuzz_below(&chance, n);
}

#include "../unit/exchange_play.h"

/* ---- an honest origin ---- */

static void
play_honestly(void)
{
	static Play p;
	bool		good = play_all(&p);

	if (!good)
		play_tell(&p, stderr);
	FUZZ_CHECK(good);
	FUZZ_REACHED("exchanges of one honest play", p.head);
	FUZZ_REACHED("answers of one honest play", p.npassed);
	FUZZ_REACHED("answers in doubt of one honest play", p.doubts);
	play_free(&p);
}

/* ---- a hostile one ---- */

#define ASKED_MAX	40000

/* What was added, by number; `left` tells whether it has gone. */
typedef struct Asked
{
	uint8_t		kind;
	uint8_t		whose;
	bool		left;
} Asked;

typedef struct Hostile
{
	Exchange	x;
	Asked		asked[ASKED_MAX];
	uint32_t	count;			/* asks ever */
	uint32_t	inside;
	uint32_t	last_dropped;	/* within one call: they come newest first */
} Hostile;

static Hostile h;

/* It has left, and was what it is said to be. */
static void
leaves(const Ask *ask)
{
	Asked	   *a = &h.asked[ask->number];

	FUZZ_CHECK(ask->number < h.count && !a->left);
	FUZZ_CHECK(ask->kind == a->kind && ask->whose == a->whose && ask->note == a && ask->flags == (uint8_t) ask->number);
	a->left = true;
	h.inside--;
}

static void
on_dropped(void *arg, const Ask *ask)
{
	FUZZ_CHECK(arg == &h && ask->number < h.last_dropped);
	h.last_dropped = ask->number;
	leaves(ask);
}

/* The ring holds what has not left, oldest first, but for those that are taken off in silence. */
static void
check_ring(void)
{
	const Exchange *x = &h.x;
	uint32_t	size = x->ring ? x->size : sizeof(x->inline_ring) / sizeof(Ask);
	uint32_t	number = 0;

	FUZZ_CHECK(x->count <= size && x->head < size && size <= EXCHANGE_MAX_ASKS);
	for (uint32_t i = 0; i < x->count; i++)
	{
		const Ask  *ask = &(x->ring ? x->ring : x->inline_ring)[(x->head + i) % size];

		for (; number < ask->number; number++)
		{
			Asked	   *gone = &h.asked[number];

			if (gone->left)
				continue;
			FUZZ_CHECK(gone->kind == ASK_COPY_END || gone->kind == ASK_SYNC);
			gone->left = true;
			h.inside--;
		}
		FUZZ_CHECK(number == ask->number && !h.asked[number].left);
		number++;
	}
	for (; number < h.count; number++)
	{
		Asked	   *gone = &h.asked[number];

		FUZZ_CHECK(gone->left || gone->kind == ASK_COPY_END || gone->kind == ASK_SYNC);
		h.inside -= !gone->left;
		gone->left = true;
	}
	FUZZ_CHECK(h.inside == x->count);
	FUZZ_REACHED("asks in one exchange", x->count);
}

static void
add(AskKind kind, AskFor whose)
{
	Asked	   *a = &h.asked[h.count];

	if (h.count == ASKED_MAX)
		return;
	*a = (Asked) {.kind = kind, .whose = whose};
	if (!exchange_add(&h.x, kind, whose, (uint8_t) h.count, h.count, a))
	{
		FUZZ_CHECK(h.x.count == EXCHANGE_MAX_ASKS);
		return;
	}
	h.count++;
	h.inside++;
}

static void
answer(uint8_t type, uint8_t status)
{
	uint32_t	count = h.x.count;
	Ask			head = {0};
	Ask			out;
	bool		answered = true;
	AnswerVerdict verdict;
	bool		skips = h.x.in_doubt && h.x.unsure == 0 && type == ANS_READY;	/* what was in doubt goes first */

	if (count > 0)
		head = (h.x.ring ? h.x.ring : h.x.inline_ring)[h.x.head];
	h.last_dropped = UINT32_MAX;
	verdict = exchange_answered(&h.x, type, status, &out, &answered, on_dropped, &h);
	switch (verdict)
	{
		case ANSWER_VIOLATION:
			FUZZ_CHECK(!answered && (skips || (h.x.count == count && h.last_dropped == UINT32_MAX)));
			break;
		case ANSWER_PASS_ERROR:
			FUZZ_CHECK(type == ANS_ERROR && out.number == head.number && h.x.begun && !h.x.copy_in);
			break;
		case ANSWER_PASS:
		case ANSWER_SWALLOW:
			/* what an ask of ours brings is for nobody, what a client's brings is for it */
			FUZZ_CHECK(type != ANS_ERROR && (count == 0 || type == ANS_READY || head.whose == (verdict == ANSWER_PASS ? ASK_FOR_CLIENT : ASK_FOR_US)));
			FUZZ_CHECK(count > 0 || type == ANS_READY);
			break;
	}
	if (answered)
	{
		FUZZ_CHECK((skips || out.number == head.number) && out.whose != ASK_MADE);
		leaves(&out);
	}
	FUZZ_CHECK(!exchange_done(&h.x) || h.x.count == 0);
	FUZZ_REACHED("answers passed on in copy_in", h.x.copy_in && verdict == ANSWER_PASS);
}

static void
step(uint8_t op)
{
	static const uint8_t answers[] = "TDCIsGHdcEZ123tnVWRSKN";
	static const uint8_t statuses[] = {TX_IDLE, TX_OPEN, TX_FAILED, 0};
	Ask			made;

	switch (op % 8)
	{
		case 0:
		case 1:
			add((AskKind) (op / 8 % (ASK_COPY_END + 1)), (AskFor) fuzz_below(&chance, 3));
			break;
		case 2:
			for (uint32_t n = op / 8 == 31 && h.count < 8 ? 20000 : op % 64; n > 0; n--)
				add(op & 8 ? ASK_CLOSE : ASK_BIND, op & 16 ? ASK_FOR_US : ASK_FOR_CLIENT);
			break;
		case 3:
			if (op & 8)
				exchange_copy_data(&h.x);
			else
				exchange_sync_in_copy(&h.x);
			break;
		case 4:
			if (exchange_made(&h.x, &made))
			{
				FUZZ_CHECK(made.whose == ASK_MADE);
				leaves(&made);
			}
			break;
		case 5:
			FUZZ_CHECK((unsigned) exchange_ask(&h.x, fuzz_u8(&chance)) <= ASK_REFUSE);
			h.last_dropped = UINT32_MAX;
			if (exchange_over_by(&h.x, answers[op / 8 % 16], on_dropped, &h))
				FUZZ_CHECK(exchange_done(&h.x) && h.x.count == 0);
			break;
		default:
			answer(op & 0x80 ? answers[op / 8 % 16] : answers[fuzz_u8(&chance) % (sizeof(answers) - 1)], statuses[fuzz_below(&chance, 8) % 4]);
			break;
	}
}

static void
play_hostilely(void)
{
	bool		may_copy = fuzz_below(&chance, 8) > 0;

	h.count = h.inside = 0;
	exchange_init(&h.x);
	h.x.may_copy = may_copy;
	for (int i = 0; fuzz_left(&chance) > 0 && i < 3000; i++)
	{
		if (exchange_done(&h.x))
		{
			/* nothing joins it any more: what comes next begins another */
			exchange_free(&h.x);
			exchange_init(&h.x);
			h.x.may_copy = may_copy;
		}
		step(fuzz_u8(&chance));
		if (h.count < 500 || i % 64 == 0)
			check_ring();
	}
	check_ring();
	h.last_dropped = UINT32_MAX;
	exchange_drop_all(&h.x, on_dropped, &h);
	FUZZ_CHECK(h.inside == 0 && h.x.count == 0);
	exchange_free(&h.x);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		before = mem_used();

	chance = (FuzzInput) {data, data + size};
	if (fuzz_u8(&chance) % 2)
		play_hostilely();
	else
		play_honestly();
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
