/*
 * test/unit/test_exchange.c - what is asked and not yet answered.
 *
 * Most blocks play a short script on one exchange. Asks are letters: Q P B E C S F as on the wire, D and O describe a
 * statement and a portal, c ends a copy, d is copy data, s a Sync during a known copy; '~' before a letter: asked by us, '*': made. Asks are numbered from 1 as they are
 * added. Answers are the origin's letters. What became of them is a line of words: p passed, s swallowed, e error, v violation, each followed by the number of
 * the ask it completed; -n an ask dropped, mn one made. The property at the end plays random clients against a model of PostgresMain.
 */
#include <stdlib.h>

#include "core/exchange.h"
#include "unit.h"

/* ---- scripts ---- */

typedef struct Script
{
	Exchange	x;
	uint32_t	numbered;
	char		line[1024];
} Script;

static void
say(Script *t, const char *form, unsigned number)
{
	size_t		len = strlen(t->line);

	snprintf(t->line + len, sizeof(t->line) - len, form, number);
}

static Script *
start(void)
{
	static Script t;

	memset(&t, 0x5a, sizeof(t));	/* exchange_init owes nothing to zeroed memory */
	exchange_init(&t.x);
	t.x.may_copy = true;
	t.numbered = 0;
	t.line[0] = '\0';
	return &t;
}

static AskKind
kind_of(char c)
{
	switch (c)
	{
		case 'D':
			return exchange_kind_of(MSG_DESCRIBE, 'S');
		case 'O':
			return exchange_kind_of(MSG_DESCRIBE, 'P');
		default:
			return exchange_kind_of(c, 0);
	}
}

static void
ask(Script *t, const char *asks)
{
	AskFor		whose = ASK_FOR_CLIENT;

	for (; *asks; asks++)
	{
		if (*asks == '~' || *asks == '*')
		{
			whose = *asks == '~' ? ASK_FOR_US : ASK_MADE;
			continue;
		}
		if (*asks == 'd')
			exchange_copy_data(&t->x);
		else if (*asks == 's')
			exchange_sync_in_copy(&t->x);
		else
		{
			t->numbered++;
			CHECK(exchange_add(&t->x, kind_of(*asks), whose, (uint8_t) t->numbered, t->numbered, t));
		}
		whose = ASK_FOR_CLIENT;
	}
}

static void
on_dropped(void *arg, const Ask *a)
{
	say(arg, "-%u ", a->number);
}

static void
make(Script *t)
{
	Ask			made;

	while (exchange_made(&t->x, &made))
		say(t, "m%u ", made.number);
}

static void
answer_one(Script *t, uint8_t type, uint8_t status)
{
	static const char *const words[] = {"p", "s", "e", "v"};
	Ask			out;
	bool		answered;
	AnswerVerdict verdict = exchange_answered(&t->x, type, status, &out, &answered, on_dropped, t);

	say(t, words[verdict], 0);
	if (answered)
		say(t, "%u", out.number);
	say(t, " ", 0);
	if (verdict != ANSWER_VIOLATION)
		make(t);
}

/* Answers, then compares all that was said since the last comparison. */
static bool
answer_at(Script *t, const char *types, const char *expected, int line)
{
	bool		equal;

	for (; *types; types++)
		answer_one(t, (uint8_t) *types, *types == 'Z' ? TX_IDLE : 0);
	if (t->line[0])
		t->line[strlen(t->line) - 1] = '\0';
	equal = strcmp(t->line, expected) == 0;
	if (!equal)
		printf("# line %d: got \"%s\", expected \"%s\"\n", line, t->line, expected);
	t->line[0] = '\0';
	return equal;
}

#define ANSWER(types, expected)	CHECK(answer_at(t, types, expected, __LINE__))
#define ENDS() \
	do { \
		CHECK(exchange_done(&t->x)); \
		CHECK_EQ_INT(t->x.count, 0); \
		CHECK(!t->x.skipping && !t->x.copy_in); \
		exchange_free(&t->x); \
	} while (0)

static bool
verdict_is(const Script *t, const char *types, AskVerdict expected)
{
	for (; *types; types++)
		if (exchange_ask(&t->x, (uint8_t) *types) != expected)
		{
			printf("# of %c the verdict is %d, expected %d\n", *types, exchange_ask(&t->x, (uint8_t) *types), expected);
			return false;
		}
	return true;
}

/* ---- may this message come now? ---- */

/* All that is in no class is refused, whatever the situation; so is a password. */
static void
check_unknown_types(const Script *t)
{
	for (int type = 0; type < 256; type++)
		if (type == 0 || strchr("QFPBDECHSdcfX", type) == NULL)
			CHECK_EQ_INT(exchange_ask(&t->x, (uint8_t) type), ASK_REFUSE);
}

TEST(verdicts_in_nothing)
{
	Script	   *t = start();

	for (int round = 0; round < 2; round++)
	{
		CHECK(verdict_is(t, "QFPBDECS", ASK_FORWARD));
		CHECK(verdict_is(t, "Hdcf", ASK_IGNORE));
		CHECK(verdict_is(t, "X", ASK_TERMINATE));
		check_unknown_types(t);
		if (round == 0)
			ask(t, "S");
		ANSWER(round == 0 ? "Z" : "", round == 0 ? "p1" : "");
	}
	ENDS();
}

TEST(verdicts_in_batch)
{
	Script	   *t = start();

	ask(t, "P");
	CHECK(verdict_is(t, "QFPBDECSH", ASK_FORWARD));
	CHECK(verdict_is(t, "dcf", ASK_IGNORE));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	ask(t, "BE");
	CHECK(verdict_is(t, "QFPBDECSHdcf", ASK_FORWARD));
	ANSWER("12C", "p1 p2 p3");
	CHECK(verdict_is(t, "dcf", ASK_IGNORE));
	CHECK(verdict_is(t, "QFPBDECSH", ASK_FORWARD));
	ask(t, "S");
	ANSWER("Z", "p4");
	ENDS();
}

TEST(verdicts_in_skip)
{
	Script	   *t = start();

	ask(t, "P");
	ANSWER("E", "e1");
	CHECK(t->x.skipping);
	CHECK(verdict_is(t, "QFPBDECHdcf", ASK_IGNORE));
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	ask(t, "S");
	CHECK(verdict_is(t, "QFPBDECS", ASK_NEXT));
	ANSWER("Z", "p2");
	ENDS();
}

/* A Query in a batch that decides what names mean: what stands behind it is another exchange, unless the batch has failed before. */
TEST(verdicts_behind_query)
{
	Script	   *t = start();

	ask(t, "PQ");
	t->x.names_unsure = true;
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "HSdcf", ASK_FORWARD));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	CHECK(!exchange_skips(&t->x));
	ANSWER("1CZ", "p1 p p2");
	ENDS();

	t = start();
	ask(t, "PQ");
	t->x.names_unsure = true;
	ANSWER("E", "-2 e1");
	CHECK(exchange_skips(&t->x));
	CHECK(verdict_is(t, "QFPBDECHdcf", ASK_IGNORE));
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	ask(t, "S");
	CHECK(!exchange_skips(&t->x));
	ANSWER("Z", "p3");
	ENDS();
}

TEST(verdicts_in_copy)
{
	Script	   *t = start();

	ask(t, "Q");
	ANSWER("G", "p");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));	/* the copy may have failed by now */
	CHECK(verdict_is(t, "HSdcf", ASK_FORWARD));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	CHECK(exchange_waits_for_client(&t->x));
	ask(t, "dc");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "dcf", ASK_FORWARD));	/* another copy of the same Query may follow */
	ANSWER("CZ", "p p1");
	ENDS();

	/* of a batch */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	CHECK(verdict_is(t, "QFPBDECHSdcf", ASK_FORWARD));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	ask(t, "P");
	ANSWER("E", "-3 e2");
	CHECK(verdict_is(t, "QFPBDECHdcf", ASK_IGNORE));
	ask(t, "S");
	ANSWER("Z", "p4");
	ENDS();

	/* behind a Sync, which ends the batch if the copy had failed by then */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "ds");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "HSdcf", ASK_FORWARD));
	ANSWER("E", "e2");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	CHECK(verdict_is(t, "Hdcf", ASK_IGNORE));
	ANSWER("Z", "p");
	ENDS();

	/* with more data behind it: that was what failed, and the Sync a part of the copy */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "sd");
	CHECK(verdict_is(t, "QFPBDECHSdcf", ASK_FORWARD));
	ANSWER("E", "e2");
	CHECK(verdict_is(t, "QFPBDECHS", ASK_FORWARD));	/* or what stood before the Sync: then that was answered */
	CHECK(verdict_is(t, "dcf", ASK_IGNORE));
	ask(t, "S");
	ANSWER("Z", "p3");
	CHECK(exchange_is_unsure(&t->x));
	exchange_free(&t->x);
}

/* What its owner knows to be no copy takes no data. */
TEST(verdicts_where_nothing_copies)
{
	static const char *const asked[] = {"Q", "BE", "BES"};

	for (int i = 0; i < 3; i++)
	{
		Script	   *t = start();

		t->x.may_copy = false;
		ask(t, asked[i]);
		CHECK(verdict_is(t, "dcf", ASK_IGNORE));
		CHECK(verdict_is(t, "S", i == 1 ? ASK_FORWARD : ASK_NEXT));
		exchange_free(&t->x);
	}
}

TEST(verdicts_in_flight)
{
	Script	   *t = start();

	ask(t, "PDS");
	CHECK(verdict_is(t, "QFPBDECS", ASK_NEXT));
	CHECK(verdict_is(t, "Hdcf", ASK_IGNORE));
	CHECK(verdict_is(t, "X", ASK_TERMINATE));
	check_unknown_types(t);
	exchange_free(&t->x);

	/* what may be a copy takes its data, and a Sync that the copy may swallow */
	t = start();
	ask(t, "BES");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "dcfS", ASK_FORWARD));
	CHECK(verdict_is(t, "H", ASK_IGNORE));
	exchange_free(&t->x);
	t = start();
	ask(t, "Q");
	CHECK(verdict_is(t, "QFPBDEC", ASK_NEXT));
	CHECK(verdict_is(t, "dcfS", ASK_FORWARD));
	ANSWER("CZ", "p p1");
	ENDS();
}

TEST(kinds)
{
	static const char types[] = "QPBECSFcf";
	static const AskKind kinds[] = {ASK_QUERY, ASK_PARSE, ASK_BIND, ASK_EXECUTE, ASK_CLOSE, ASK_SYNC, ASK_FUNCTION_CALL, ASK_COPY_END, ASK_COPY_END};

	for (int i = 0; types[i]; i++)
		CHECK_EQ_INT(exchange_kind_of((uint8_t) types[i], 0), kinds[i]);
	CHECK_EQ_INT(exchange_kind_of('D', 'S'), ASK_DESCRIBE_STATEMENT);
	CHECK_EQ_INT(exchange_kind_of('D', 'P'), ASK_DESCRIBE_PORTAL);
}

/* ---- simple ---- */

TEST(simple)
{
	Script	   *t = start();

	CHECK_EQ_INT(t->x.phase, EXCHANGE_EMPTY);
	ask(t, "Q");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_CLOSED);
	CHECK(!t->x.begun && !t->x.extended && !exchange_waits_for_client(&t->x));
	ANSWER("T", "p");
	CHECK(t->x.begun);
	ANSWER("DDC", "p p p");
	CHECK(!exchange_done(&t->x));
	answer_one(t, 'Z', TX_FAILED);
	ANSWER("", "p1");
	CHECK_EQ_INT(t->x.status, TX_FAILED);
	ENDS();
}

TEST(simple_many_results)
{
	Script	   *t = start();

	ask(t, "Q");
	ANSWER("CTDCCHddcCTCZ", "p p p p p p p p p p p p p1");
	ENDS();
	t = start();
	ask(t, "Q");
	ANSWER("IZ", "p p1");
	ENDS();
	t = start();
	ask(t, "Q");
	ANSWER("TDCE", "p p p e");
	CHECK(!t->x.skipping && !exchange_done(&t->x));
	ANSWER("Z", "p1");
	ENDS();
}

TEST(function_call)
{
	Script	   *t = start();

	ask(t, "F");
	ANSWER("VZ", "p p1");
	ENDS();
	t = start();
	ask(t, "F");
	ANSWER("EZ", "e p1");
	ENDS();
	t = start();
	ask(t, "F");
	ANSWER("C", "v");
	exchange_free(&t->x);
}

/* ---- extended ---- */

TEST(extended)
{
	Script	   *t = start();

	ask(t, "PBES");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_CLOSED);
	CHECK(t->x.extended);
	ANSWER("12DDCZ", "p1 p2 p p p3 p4");
	ENDS();
	t = start();
	ask(t, "PDBOECCS");
	ANSWER("1tT2TDC33Z", "p1 p p2 p3 p4 p p5 p6 p7 p8");
	ENDS();
	t = start();
	ask(t, "DODOES");
	ANSWER("tnntTTIZ", "p p1 p2 p p3 p4 p5 p6");
	ENDS();
	t = start();
	ask(t, "S");
	ANSWER("Z", "p1");
	ENDS();

	/* what is pending, oldest first */
	t = start();
	ask(t, "PBES");
	ANSWER("1", "p1");
	CHECK_EQ_INT(exchange_pending(&t->x, 0)->number, 2);
	CHECK_EQ_INT(exchange_pending(&t->x, 2)->number, 4);
	CHECK(exchange_pending(&t->x, 3) == NULL);
	exchange_free(&t->x);
}

TEST(suspended_portals)
{
	Script	   *t = start();

	ask(t, "BEEE");
	ANSWER("2DDsDDsDC", "p1 p p p2 p p p3 p p4");
	CHECK(exchange_waits_for_client(&t->x));
	ask(t, "ES");
	ANSWER("CZ", "p5 p6");
	ENDS();
}

TEST(step_by_step)
{
	Script	   *t = start();

	ask(t, "P");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_OPEN);
	CHECK(!exchange_waits_for_client(&t->x));
	ANSWER("1", "p1");
	CHECK(exchange_waits_for_client(&t->x));
	CHECK(!exchange_done(&t->x));
	ask(t, "D");
	ANSWER("tn", "p p2");
	ask(t, "S");
	ANSWER("Z", "p3");
	ENDS();
}

/* ---- errors ---- */

TEST(error_in_each_phase)
{
	static const struct
	{
		const char *before;
		const char *said;
	}			cases[] = {
		{"E", "-5 -4 -3 -2 e1"},
		{"1E", "p1 -5 -4 -3 e2"},
		{"1tE", "p1 p -5 -4 -3 e2"},
		{"1tT2E", "p1 p p2 p3 -5 e4"},
		{"1tT2TE", "p1 p p2 p3 p4 e5"},
		{"1tT2TDDE", "p1 p p2 p3 p4 p p e5"},
		{"1tT2THddE", "p1 p p2 p3 p4 p p p e5"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Script	   *t = start();

		/* the Sync was sent before the error came */
		ask(t, "PDBOES");
		ANSWER(cases[i].before, cases[i].said);
		CHECK(!t->x.skipping);
		ANSWER("Z", "p6");
		ENDS();

		/* and after it */
		t = start();
		ask(t, "PDBOE");
		ANSWER(cases[i].before, cases[i].said);
		CHECK(t->x.skipping && exchange_waits_for_client(&t->x));
		ask(t, "S");
		ANSWER("Z", "p6");
		ENDS();
	}
}

/* A deferred constraint fails at the Sync: nothing is skipped. */
TEST(error_at_sync)
{
	Script	   *t = start();

	ask(t, "BES");
	ANSWER("2CE", "p1 p2 e");
	CHECK(!t->x.skipping);
	ANSWER("Z", "p3");
	ENDS();
}

TEST(nothing_may_follow_an_error_but_ready)
{
	Script	   *t = start();

	ask(t, "BE");
	ANSWER("E2", "-2 e1 v");
	ANSWER("Z", "v");
	exchange_free(&t->x);
}

TEST(query_in_an_unsynced_batch)
{
	Script	   *t = start();

	ask(t, "PQ");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_OPEN);
	ask(t, "BS");
	ANSWER("1CZ", "p1 p p2");
	CHECK(!exchange_done(&t->x));
	ANSWER("2Z", "p3 p4");
	ENDS();

	/* alone at the end: its ReadyForQuery ends all */
	t = start();
	ask(t, "PQ");
	ANSWER("1TDCZ", "p1 p p p p2");
	ENDS();

	/* its own error ends with it */
	t = start();
	ask(t, "PQBS");
	ANSWER("1E", "p1 e");
	ANSWER("Z2Z", "p2 p3 p4");
	ENDS();

	/* an error before it: it is ignored like the rest */
	t = start();
	ask(t, "PQ");
	ANSWER("E", "-2 e1");
	CHECK(verdict_is(t, "Q", ASK_IGNORE));
	ask(t, "S");
	ANSWER("Z", "p3");
	ENDS();
	t = start();
	ask(t, "PQFBS");
	ANSWER("EZ", "-4 -3 -2 e1 p5");
	ENDS();
}

/* ---- asks of ours, asks that are made ---- */

TEST(ours_are_swallowed)
{
	Script	   *t = start();

	ask(t, "~C~PB~DE~SS");
	ANSWER("312tTCZZ", "s1 s2 p3 s s4 p5 s6 p7");
	ENDS();
	t = start();
	ask(t, "~P~B~ES");
	ANSWER("12DC", "s1 s2 s s3");
	CHECK(!t->x.begun);
	ANSWER("Z", "p4");
	ENDS();
	/* an error of ours is the client's */
	t = start();
	ask(t, "~PBES");
	ANSWER("EZ", "-3 -2 e1 p4");
	ENDS();
}

TEST(made_in_order)
{
	Script	   *t = start();
	Ask			out;

	/* first: at once */
	ask(t, "*P");
	CHECK(exchange_made(&t->x, &out));
	CHECK_EQ_INT(out.number, 1);
	CHECK_EQ_INT(out.kind, ASK_PARSE);
	CHECK(!exchange_made(&t->x, &out));
	CHECK(t->x.begun && exchange_waits_for_client(&t->x));
	ask(t, "BES");
	ANSWER("2CZ", "p2 p3 p4");
	ENDS();

	/* behind others, and several */
	t = start();
	ask(t, "B*P*CE*CS");
	CHECK(!exchange_made(&t->x, &out));
	ANSWER("2", "p1 m2 m3");
	ANSWER("CZ", "p4 m5 p6");
	ENDS();

	/* dropped by an error */
	t = start();
	ask(t, "B*PE*CS");
	ANSWER("E", "-4 -3 -2 e1");
	ANSWER("Z", "p5");
	ENDS();
	t = start();
	ask(t, "B*P");
	ANSWER("E", "-2 e1");
	CHECK(t->x.skipping);
	exchange_free(&t->x);
}

TEST(made_are_not_the_origins)
{
	Script	   *t = start();

	ask(t, "*PS");
	answer_one(t, '1', 0);
	CHECK(strcmp(t->line, "v ") == 0);
	exchange_free(&t->x);
	t = start();
	ask(t, "*PS");
	answer_one(t, 'E', 0);
	CHECK(strcmp(t->line, "v ") == 0);
	exchange_free(&t->x);
}

TEST(what_an_ask_carries)
{
	Exchange	x;
	Ask			out;
	bool		answered;
	int			note;

	exchange_init(&x);
	CHECK(exchange_add(&x, ASK_PARSE, ASK_FOR_CLIENT, 7, 4000000000u, &note));
	CHECK_EQ_INT(exchange_answered(&x, ANS_ERROR, 0, &out, &answered, on_dropped, NULL), ANSWER_PASS_ERROR);
	CHECK(answered && out.note == &note && out.flags == 7 && out.number == 4000000000u && out.kind == ASK_PARSE);
	exchange_free(&x);
}

/* ---- COPY ---- */

TEST(copy_out)
{
	Script	   *t = start();

	ask(t, "Q");
	ANSWER("HdddcCZ", "p p p p p p p1");
	ENDS();
	t = start();
	ask(t, "BES");
	ANSWER("2HddcCZ", "p1 p p p p p2 p3");
	ENDS();
	t = start();
	ask(t, "BES");
	ANSWER("2HdEZ", "p1 p p e2 p3");
	ENDS();
}

TEST(copy_in_simple)
{
	Script	   *t = start();

	ask(t, "Q");
	ANSWER("G", "p");
	CHECK(t->x.copy_in && !t->x.copy_ended);
	ask(t, "dddc");
	CHECK(t->x.copy_ended);
	CHECK(!exchange_waits_for_client(&t->x));
	ANSWER("C", "p");
	CHECK(!t->x.copy_in);
	ANSWER("Z", "p1");
	ENDS();

	/* CopyFail */
	t = start();
	ask(t, "Q");
	ANSWER("G", "p");
	ask(t, "c");
	ANSWER("EZ", "e p1");
	ENDS();
}

TEST(copy_in_two_in_one_query)
{
	Script	   *t = start();

	ask(t, "Q");
	ANSWER("G", "p");
	ask(t, "dc");
	ANSWER("CG", "p p");
	CHECK(t->x.copy_in && !t->x.copy_ended);
	ask(t, "dc");
	ANSWER("CTDCZ", "p p p p p1");
	ENDS();

	/* both sent ahead */
	t = start();
	ask(t, "Qdcdc");
	ANSWER("G", "p");
	CHECK(t->x.copy_ended);
	ANSWER("CG", "p p");
	CHECK(t->x.copy_ended);
	ANSWER("CZ", "p p1");
	ENDS();

	/* sent ahead, and the first fails: the rest is dropped by the origin */
	t = start();
	ask(t, "Qdcdc");
	ANSWER("GEZ", "p e p1");
	ENDS();
	t = start();
	ask(t, "Qdcdc");
	ANSWER("EZ", "e p1");
	ENDS();
}

TEST(copy_in_extended)
{
	Script	   *t = start();

	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "ddcS");
	ANSWER("CZ", "p2 p4");
	ENDS();

	/* two of them in one batch, sent ahead */
	t = start();
	ask(t, "BEdcBEdcS");
	ANSWER("2GC2GCZ", "p1 p p2 p4 p p5 p7");
	ENDS();
}

/* Execute, Sync, CopyData, CopyDone, Sync in one write: the first Sync is read by the copy and ignored. */
TEST(copy_in_pipelined_behind_a_sync)
{
	Script	   *t = start();

	ask(t, "BES");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_CLOSED);
	CHECK(verdict_is(t, "d", ASK_FORWARD));
	ask(t, "d");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_OPEN);
	CHECK(verdict_is(t, "cS", ASK_FORWARD));
	ask(t, "c");
	ask(t, "S");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_CLOSED);
	ANSWER("2GCZ", "p1 p p2 p5");
	CHECK_EQ_INT(t->x.unsure, 0);
	ENDS();

	/* the answer comes in between */
	t = start();
	ask(t, "BES");
	ANSWER("2G", "p1 p");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_OPEN);
	CHECK(verdict_is(t, "Q", ASK_FORWARD));
	ask(t, "dc");
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	ask(t, "S");
	ANSWER("CZ", "p2 p5");
	ENDS();
	t = start();
	ask(t, "BESd");
	ANSWER("2G", "p1 p");
	ask(t, "dcS");
	ANSWER("CZ", "p2 p5");
	ENDS();
	t = start();
	ask(t, "BESdSSc");
	ANSWER("2GC", "p1 p p2");
	ask(t, "S");
	ANSWER("Z", "p7");
	ENDS();

	/* it is no copy at all: both are answered, and the data was dropped */
	t = start();
	ask(t, "BESdcS");
	ANSWER("2CZ", "p1 p2 p3");
	CHECK(!exchange_done(&t->x));
	ANSWER("Z", "p5");
	ENDS();

	/* an error before it */
	t = start();
	ask(t, "BESdcS");
	ANSWER("E", "-2 e1");
	ANSWER("ZZ", "p3 p5");
	ENDS();
	t = start();
	ask(t, "BESd");
	ANSWER("2EZ", "p1 e2 p3");
	ENDS();
}

/* Two Syncs with nothing in between, and one behind a simple Query. */
TEST(syncs_that_a_copy_swallows)
{
	Script	   *t = start();

	ask(t, "BES");
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	ask(t, "S");
	ANSWER("2G", "p1 p");
	ask(t, "dcS");
	ANSWER("CZ", "p2 p6");
	ENDS();
	t = start();
	ask(t, "BESS");
	ANSWER("2CZZ", "p1 p2 p3 p4");
	ENDS();

	t = start();
	ask(t, "QS");
	ANSWER("G", "p");
	ask(t, "dc");
	CHECK_EQ_INT(t->x.phase, EXCHANGE_CLOSED);
	ANSWER("CZ", "p p1");
	ENDS();
	t = start();
	ask(t, "QS");
	ANSWER("CZZ", "p p1 p2");
	ENDS();
	t = start();
	ask(t, "PQSdcS");
	ANSWER("1GCZZ", "p1 p p p2 p5");
	ENDS();
}

TEST(copy_in_fails)
{
	Script	   *t = start();

	/* simple: what is still streamed is dropped by the origin until it is known */
	ask(t, "Q");
	ANSWER("G", "p");
	ask(t, "dd");
	ANSWER("E", "e");
	CHECK(!t->x.copy_in);
	CHECK(verdict_is(t, "dc", ASK_FORWARD));
	ask(t, "dc");
	ANSWER("Z", "p1");
	CHECK(verdict_is(t, "dcf", ASK_IGNORE));
	ENDS();

	/* extended */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "d");
	ANSWER("E", "e2");
	CHECK(verdict_is(t, "dcfHPQ", ASK_IGNORE));
	CHECK(verdict_is(t, "S", ASK_FORWARD));
	ask(t, "S");
	ANSWER("Z", "p3");
	CHECK_EQ_INT(t->x.unsure, 0);
	ENDS();

	/* the end was sent before the error came */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "dcS");
	ANSWER("EZ", "e2 p4");
	ENDS();
}

/* A Sync sent during a copy is answered or not when that fails: what comes behind tells. */
TEST(sync_during_copy)
{
	Script	   *t = start();

	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "s");
	CHECK_EQ_INT(t->x.unsure, 1);
	ask(t, "dcS");
	ANSWER("C", "p2");
	CHECK_EQ_INT(t->x.unsure, 0);
	ANSWER("Z", "p4");
	ENDS();

	/* it failed, and the Sync was read after that */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "s");
	ANSWER("E", "e2");
	ANSWER("Z", "p");
	ENDS();

	/* or before: the client's next one is answered, and no other */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "s");
	ANSWER("E", "e2");
	ask(t, "S");
	ANSWER("Z", "p3");
	CHECK(exchange_is_unsure(&t->x) && !exchange_done(&t->x));
	CHECK(verdict_is(t, "QFPBDECS", ASK_NEXT));
	CHECK(!exchange_over_by(&t->x, 'Z', on_dropped, t));
	CHECK(exchange_over_by(&t->x, '3', on_dropped, t));
	ENDS();

	/* both */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "sS");
	ANSWER("EZZ", "e2 p3 p");
	ENDS();

	/* a simple Query ends itself, and the Syncs are answered behind it */
	t = start();
	ask(t, "Q");
	ANSWER("G", "p");
	ask(t, "dss");
	ANSWER("EZ", "e p1");
	CHECK(exchange_is_unsure(&t->x));
	ANSWER("Z", "p");
	CHECK(exchange_is_unsure(&t->x));
	ANSWER("Z", "p");
	ENDS();

	/* sent ahead of the copy, which then fails */
	t = start();
	ask(t, "BESdcS");
	ANSWER("2GE", "p1 p e2");
	ANSWER("Z", "p5");
	CHECK(exchange_is_unsure(&t->x));
	ANSWER("Z", "p");
	ENDS();
	t = start();
	CHECK(!exchange_over_by(&t->x, '3', on_dropped, t));
	ask(t, "Q");
	CHECK(!exchange_over_by(&t->x, 'C', on_dropped, t));
	ANSWER("CZZ", "p p1 v");
	exchange_free(&t->x);
}

/* What was asked behind data behind a Sync is answered if that was read when the copy had failed, and else skipped: what comes behind the first ReadyForQuery tells. */
TEST(requests_behind_a_sync_during_copy)
{
	Script	   *t = start();

	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "sdPBS");
	CHECK(exchange_is_doubtful(&t->x) && exchange_mark(&t->x) == ANS_CLOSE_COMPLETE);
	ANSWER("EZ", "e2 p");
	CHECK(exchange_is_unsure(&t->x) && exchange_wants_mark(&t->x) && !exchange_done(&t->x));
	CHECK(!exchange_over_by(&t->x, ANS_PARSE_COMPLETE, on_dropped, t));
	ANSWER("12Z", "p3 p4 p5");
	ENDS();

	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "sdCBS");
	CHECK(exchange_mark(&t->x) == ANS_PARSE_COMPLETE);
	ANSWER("EZ", "e2 p");
	CHECK(exchange_over_by(&t->x, ANS_PARSE_COMPLETE, on_dropped, t));
	ANSWER("", "-5 -4 -3");
	ENDS();

	/* two are answered, and one was sent during the copy */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "sdPSS");
	ANSWER("EZ", "e2 p");
	ANSWER("Z", "-3 p5");
	ENDS();

	/* what ends the batch has not been sent, so that was not it */
	t = start();
	ask(t, "BE");
	ANSWER("2G", "p1 p");
	ask(t, "ssd~P");
	ANSWER("EZ", "e2 p");
	CHECK(!exchange_is_unsure(&t->x));
	ask(t, "S");
	ANSWER("Z1Z", "p s3 p4");
	ENDS();

	/* a made answer waits until it is known whether it is due */
	t = start();
	ask(t, "BESd*CS");
	ANSWER("2GE", "p1 p e2");
	ANSWER("Z", "p");
	CHECK(exchange_is_unsure(&t->x));
	exchange_free(&t->x);

	/* nothing is sent where another copy might swallow it */
	t = start();
	ask(t, "BESd");
	exchange_may_copy(&t->x);
	ask(t, "BES");
	ANSWER("2GEZ", "p1 p e2 p");
	CHECK(exchange_is_unsure(&t->x) && !exchange_wants_mark(&t->x));
	exchange_free(&t->x);
}

/* ---- the ring ---- */

TEST(ring_grows)
{
	size_t		before = mem_used();
	Script	   *t = start();
	int			i;

	ask(t, "PB");
	ANSWER("1", "p1");			/* the head is no longer at the first place when it grows */
	for (i = 0; i < 40; i++)
		ask(t, "E*C");
	ask(t, "S");
	ANSWER("2", "p2");
	for (i = 0; i < 40; i++)
	{
		char		expected[32];

		snprintf(expected, sizeof(expected), "p%d m%d", 3 + 2 * i, 4 + 2 * i);
		ANSWER("C", expected);
	}
	ANSWER("Z", "p83");
	ENDS();
	CHECK_EQ_INT(mem_used(), before);
}

/* At every fill of the ring, around its end many times. */
TEST(ring_wraps)
{
	for (int fill = 1; fill <= 13; fill++)
	{
		Script	   *t = start();
		int			i;

		for (i = 0; i < fill; i++)
			ask(t, "B");
		for (i = 1; i <= 100; i++)
		{
			char		expected[16];

			snprintf(expected, sizeof(expected), "p%d", i);
			ask(t, "B");
			ANSWER("2", expected);
			CHECK_EQ_INT(t->x.count, fill);
		}
		ask(t, "S");
		t->line[0] = '\0';
		answer_one(t, 'E', 0);
		CHECK_EQ_INT(t->x.count, 1);
		t->line[0] = '\0';
		answer_one(t, 'Z', TX_OPEN);
		CHECK(exchange_done(&t->x) && t->x.status == TX_OPEN);
		exchange_free(&t->x);
	}
}

/* Marks and Syncs are taken out of the middle wherever the ring begins. */
TEST(ring_wraps_at_a_copy)
{
	for (int shift = 0; shift < 14; shift++)
	{
		Script	   *t = start();

		for (int i = 0; i < shift; i++)
		{
			ask(t, "B");
			answer_one(t, '2', 0);
		}
		t->line[0] = '\0';
		t->numbered = 0;
		ask(t, "BESdScS");
		ANSWER("2GCZ", "p1 p p2 p6");
		ENDS();
	}
}

TEST(limit)
{
	size_t		before = mem_used();
	Exchange	x;
	int			i;

	exchange_init(&x);
	x.may_copy = true;
	for (i = 0; i < EXCHANGE_MAX_ASKS; i++)
		if (!exchange_add(&x, ASK_EXECUTE, ASK_FOR_CLIENT, 0, 0, NULL))
			break;
	CHECK_EQ_INT(i, EXCHANGE_MAX_ASKS);
	CHECK(!exchange_add(&x, ASK_SYNC, ASK_FOR_CLIENT, 0, 0, NULL));
	CHECK(!exchange_add(&x, ASK_COPY_END, ASK_FOR_CLIENT, 0, 0, NULL));
	CHECK_EQ_INT(x.count, EXCHANGE_MAX_ASKS);
	CHECK_EQ_INT(x.phase, EXCHANGE_OPEN);
	exchange_free(&x);
	CHECK_EQ_INT(mem_used(), before);
}

TEST(copy_end_without_a_copy_takes_no_place)
{
	Script	   *t = start();

	ask(t, "c");
	CHECK_EQ_INT(t->x.count, 0);
	CHECK_EQ_INT(t->x.phase, EXCHANGE_EMPTY);
	ask(t, "PcS");
	ANSWER("1Z", "p2 p4");
	ENDS();
}

TEST(drop_all)
{
	Script	   *t = start();

	ask(t, "PB~C*PE");
	ANSWER("1", "p1");
	exchange_drop_all(&t->x, on_dropped, t);
	ANSWER("", "-5 -4 -3 -2");
	CHECK_EQ_INT(t->x.count, 0);
	exchange_drop_all(&t->x, on_dropped, t);
	ANSWER("", "");
	exchange_free(&t->x);
	t = start();
	for (int i = 0; i < 9; i++)
		ask(t, "B");
	exchange_drop_all(&t->x, on_dropped, t);
	ANSWER("", "-9 -8 -7 -6 -5 -4 -3 -2 -1");
	exchange_free(&t->x);
}

/* ---- what the origin may not say ---- */

/* An exchange of ours that has no Sync ends with its last answer, or with an error. */
TEST(without_a_sync)
{
	Script	   *t = start();

	ask(t, "~P~B~E~C");
	ANSWER("12C", "s1 s2 s3");
	exchange_end_without_sync(&t->x);
	CHECK(!exchange_done(&t->x));
	ANSWER("3", "s4");
	CHECK(!exchange_done(&t->x));
	exchange_end_without_sync(&t->x);
	ENDS();

	t = start();
	ask(t, "~P~B~E");
	ANSWER("1Z", "s1 v");
	ANSWER("E", "-3 e2");
	exchange_end_without_sync(&t->x);
	CHECK(exchange_done(&t->x));
	exchange_free(&t->x);
}

TEST(violations)
{
	/* what each ask may be answered with, at first */
	static const struct
	{
		const char *asks;
		const char *allowed;
	}			cases[] = {
		{"", ""},
		{"Q", "TDCIGHdcEZ"},
		{"F", "VEZ"},
		{"S", "EZ"},
		{"P", "1E"},
		{"B", "2E"},
		{"D", "tTnE"},
		{"O", "TnE"},
		{"E", "DCIsGHdcE"},
		{"C", "3E"},
		{"*P", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int type = 0; type < 256; type++)
		{
			Script	   *t = start();
			bool		allowed = type != 0 && strchr(cases[i].allowed, type) != NULL;

			ask(t, cases[i].asks);
			answer_one(t, (uint8_t) type, TX_IDLE);
			if (!CHECK((strcmp(t->line, "v ") == 0) != allowed))
				printf("# ask %s, answer 0x%02x: %s\n", cases[i].asks, (unsigned) type, t->line);
			if (!allowed)
				CHECK_EQ_INT(t->x.count, strlen(cases[i].asks) > 0 ? 1 : 0);
			exchange_free(&t->x);
		}
}

TEST(violations_of_state)
{
	Script	   *t = start();

	/* a status that is none */
	ask(t, "Q");
	answer_one(t, 'Z', 0);
	answer_one(t, 'Z', 'X');
	ANSWER("", "v v");
	/* two copies at once; the end of a Query whose copy goes on */
	ANSWER("GGZ", "p v v");
	exchange_free(&t->x);

	/* ready without a Sync */
	t = start();
	ask(t, "P");
	ANSWER("1Z", "p1 v");
	exchange_free(&t->x);

	/* anything once it is done */
	t = start();
	ask(t, "Q");
	ANSWER("CZCZE", "p p1 v v v");
	exchange_free(&t->x);
}

/* ---- the property: random clients against a model of PostgresMain ---- */

static uint32_t random_state;

static uint32_t
roll(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % n;
}

#include "exchange_play.h"

static void
tell_play(const Play *p, uint32_t seed)
{
	printf("# seed %u\n", seed);
	play_tell(p, stdout);
}

/* One play; true if all went as it must. */
static bool
play(uint32_t seed, int *doubts, int *exchanges)
{
	static Play p;
	bool		good;

	random_state = seed * 2654435761u + 12345;
	good = play_all(&p);
	if (!good)
		tell_play(&p, seed);
	*doubts += p.doubts;
	*exchanges += p.head;
	play_free(&p);
	return good;
}

TEST(property_against_a_model)
{
	size_t		before = mem_used();
	int			bad = 0;
	int			doubts = 0;
	int			exchanges = 0;
	uint32_t	seed;

	for (seed = 1; seed <= 60000 && bad < 3; seed++)
		bad += !play(seed, &doubts, &exchanges);
	CHECK_EQ_INT(bad, 0);
	CHECK(exchanges > 100000);
	CHECK(doubts > 200);
	CHECK_EQ_INT(mem_used(), before);
}

/* No order of calls, and no byte of an origin, may do harm. */
TEST(anything_goes)
{
	static const char answers[] = "TDCIsGHdcEZ123tnV";
	size_t		before = mem_used();
	int			drops = 0;

	random_state = 99;
	for (int round = 0; round < 3000; round++)
	{
		Exchange	x;
		Ask			out;
		bool		answered;

		exchange_init(&x);
		x.may_copy = roll(4) > 0;
		for (int i = 0; i < 120; i++)
			switch (roll(9))
			{
				case 8:
					exchange_over_by(&x, (uint8_t) answers[roll(sizeof(answers) - 1)], no_drop, &drops);
					break;
				case 0:
				case 1:
				case 2:
					exchange_add(&x, (AskKind) roll(ASK_COPY_END + 1), (AskFor) roll(3), 0, 0, NULL);
					break;
				case 3:
					exchange_copy_data(&x);
					exchange_ask(&x, (uint8_t) roll(256));
					if (roll(5) == 0)
						exchange_sync_in_copy(&x);
					break;
				case 4:
					exchange_made(&x, &out);
					break;
				default:
					exchange_answered(&x, (uint8_t) answers[roll(sizeof(answers) - 1)], TX_IDLE, &out, &answered, no_drop, &drops);
					break;
			}
		exchange_drop_all(&x, no_drop, &drops);
		CHECK_EQ_INT(x.count, 0);
		exchange_free(&x);
	}
	CHECK_EQ_INT(mem_used(), before);
}
