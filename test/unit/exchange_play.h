/*
 * test/unit/exchange_play.h - a client, the gateway's exchanges and an origin, played against the same client without a gateway.
 *
 * The origin is a model of PostgresMain and CopyGetData. The client goes by the protocol; all else is chance: what it says, what comes of it, who takes
 * the next step. Who includes this file has a `static uint32_t roll(uint32_t n)` that says what chance will have (0 .. n - 1): test_exchange by a seed,
 * fuzz_exchange by its input.
 */
#ifndef HYPERPOOL_TEST_EXCHANGE_PLAY_H
#define HYPERPOOL_TEST_EXCHANGE_PLAY_H

#include <stdio.h>

#include "core/exchange.h"

/* What a part of a Query, or an Execute, turns out to do. */
typedef enum Outcome
{
	DOES_ROWS, DOES_NOTHING, DOES_SUSPEND, DOES_COPY_OUT, DOES_COPY_IN, DOES_FAIL
} Outcome;

#define MAX_PARTS		3
#define MAX_MESSAGES	200
#define MAX_ANSWERS		4000

/* A message, and what will come of it when it is looked at. */
typedef struct Message
{
	uint8_t		type;
	uint8_t		what;			/* of a Describe */
	uint8_t		nparts;
	Outcome		parts[MAX_PARTS];
	bool		early;			/* its copy fails before any data is read */
	bool		fails;			/* CopyData: where the copy fails */
	uint8_t		status;			/* of the ReadyForQuery that may follow it */
} Message;

typedef struct Answer
{
	uint8_t		type;
	uint8_t		status;
} Answer;

/* An origin: PostgresMain with what it has said so far. */
typedef struct Model
{
	bool		ignoring;		/* ignore_till_sync */
	bool		copying;
	bool		uncommitted;	/* something was done since the last ReadyForQuery, so a Sync may fail */
	bool		lost;			/* its stream is out of step */
	Message		running;		/* whose copy it is */
	int			part;
	int			said;
	Answer		answers[MAX_ANSWERS];
} Model;

static void
model_say(Model *m, const char *types, uint8_t status)
{
	for (; *types && m->said < MAX_ANSWERS; types++)
	{
		/* what we may answer ourselves leaves nothing that could fail */
		if (*types != '1' && *types != '3')
			m->uncommitted = *types != 'Z';
		m->answers[m->said].type = (uint8_t) *types;
		m->answers[m->said++].status = *types == 'Z' ? status : 0;
	}
}

/* ereport(ERROR) */
static void
model_fail(Model *m, const Message *by)
{
	model_say(m, "E", 0);
	m->copying = false;
	if (by->type == MSG_QUERY || by->type == MSG_FUNCTION_CALL || by->type == MSG_SYNC)
		model_say(m, "Z", by->status);
	else
		m->ignoring = true;
}

/* Goes on with the parts of m->running until one waits for copy data. */
static void
model_run(Model *m)
{
	static const char *const simple[] = {"TDDC", "I", "C", "HddcC", "G"};
	static const char *const execute[] = {"DC", "I", "Ds", "HdcC", "G"};
	const char *const *says = m->running.type == MSG_QUERY ? simple : execute;

	while (m->part < m->running.nparts)
	{
		Outcome		outcome = m->running.parts[m->part++];

		if (outcome == DOES_FAIL)
		{
			model_fail(m, &m->running);
			return;
		}
		model_say(m, says[outcome], 0);
		if (outcome == DOES_COPY_IN)
		{
			m->copying = true;
			if (m->running.early)
				model_fail(m, &m->running);
			return;
		}
	}
	if (m->running.type == MSG_QUERY)
		model_say(m, "Z", m->running.status);
}

/* CopyGetData */
static void
model_copy(Model *m, const Message *in)
{
	switch (in->type)
	{
		case MSG_FLUSH:
		case MSG_SYNC:
			break;
		case MSG_COPY_DATA:
			if (in->fails)
				model_fail(m, &m->running);
			break;
		case MSG_COPY_DONE:
			m->copying = false;
			model_say(m, "C", 0);
			model_run(m);
			break;
		case MSG_COPY_FAIL:
			model_fail(m, &m->running);
			break;
		default:
			m->lost = true;
			break;
	}
}

static void
model_take(Model *m, const Message *in)
{
	if (m->copying)
	{
		model_copy(m, in);
		return;
	}
	if (in->type == MSG_SYNC && m->ignoring)
	{
		/* what has failed already cannot fail at its end */
		m->ignoring = false;
		model_say(m, "Z", in->status);
		return;
	}
	if (m->ignoring || (in->fails && in->type == MSG_COPY_DATA))
		return;
	if (in->fails && (in->type != MSG_SYNC || m->uncommitted))
	{
		/* a Describe may have said half of it */
		if (in->type == MSG_DESCRIBE && in->what == 'S' && in->early)
			model_say(m, "t", 0);
		model_fail(m, in);
		return;
	}
	switch (in->type)
	{
		case MSG_QUERY:
		case MSG_EXECUTE:
			m->running = *in;
			m->part = 0;
			model_run(m);
			break;
		case MSG_PARSE:
			model_say(m, "1", 0);
			break;
		case MSG_BIND:
			model_say(m, "2", 0);
			break;
		case MSG_CLOSE:
			model_say(m, "3", 0);
			break;
		case MSG_DESCRIBE:
			model_say(m, in->what == 'S' ? "t" : "", 0);
			model_say(m, in->early ? "T" : "n", 0);
			break;
		case MSG_FUNCTION_CALL:
			model_say(m, "VZ", in->status);
			break;
		case MSG_SYNC:
			model_say(m, "Z", in->status);
			break;
	}
}

/* A client that goes by the protocol: once it has asked for a copy, it sends data until it has ended it, or (gone: there is none, or not any more) for a while. */
static Message
client_says(int *copies_due, bool gone)
{
	static const char usual[] = "QQPPPBBBBDEEEEECCSSSSSSHF";
	static const char copying[] = "dddddcccfHS";
	static const uint8_t statuses[] = {TX_IDLE, TX_OPEN, TX_FAILED};
	Message		m = {0};

	if (gone && roll(4) == 0)
		*copies_due = 0;
	m.type = *copies_due > 0 ? copying[roll(sizeof(copying) - 1)] : usual[roll(sizeof(usual) - 1)];
	m.status = statuses[roll(3)];
	m.what = roll(2) ? 'S' : 'P';
	m.early = roll(2);
	if (m.type != MSG_FLUSH && m.type != MSG_COPY_DONE && m.type != MSG_COPY_FAIL)
		m.fails = roll(m.type == MSG_COPY_DATA ? 5 : 14) == 0;
	if (m.type == MSG_COPY_DONE || m.type == MSG_COPY_FAIL)
		--*copies_due;
	if (m.type == MSG_QUERY || m.type == MSG_EXECUTE)
	{
		m.nparts = m.type == MSG_QUERY ? 1 + roll(MAX_PARTS) : 1;
		m.early = roll(6) == 0;
		for (int i = 0; i < m.nparts; i++)
		{
			m.parts[i] = roll(3) ? DOES_ROWS : (Outcome) roll(DOES_FAIL + 1);
			if (m.parts[i] == DOES_SUSPEND && m.type == MSG_QUERY)
				m.parts[i] = DOES_NOTHING;
			*copies_due += m.parts[i] == DOES_COPY_IN;
		}
		/* an empty query string is all there is */
		if (m.parts[0] == DOES_NOTHING)
			m.nparts = 1, *copies_due = 0;
	}
	return m;
}

/* The gateway: a link with its FIFO of exchanges. */
typedef struct Play
{
	Exchange	fifo[MAX_MESSAGES * 2];
	int			head;
	int			count;			/* ever asked; fifo[head .. count) are in flight */
	bool		has_tail;		/* the newest is not done */
	Message		wire[MAX_MESSAGES * 4];	/* sent and not yet read by the origin */
	int			sent;
	int			read;
	int			taken;			/* answers of the origin taken */
	Model		origin;
	Model		direct;			/* the same client without us */
	Answer		passed[MAX_ANSWERS];	/* what our client has seen */
	int			npassed;
	int			copies_due;
	bool		may_copy;		/* something has been asked that could be a copy: then nothing is made */
	bool		beyond;			/* two copies in one batch, all sent without waiting: nobody knows what is answered if the first fails */
	int			doubts;			/* answers that came while it was not known what is answered */
	int			wrong;
} Play;

static void
pass(Play *p, uint8_t type, uint8_t status)
{
	p->passed[p->npassed].type = type;
	p->passed[p->npassed++].status = status;
}

static void
play_make(Play *p)
{
	Ask			made;

	while (p->head < p->count && exchange_made(&p->fifo[p->head], &made))
		pass(p, made.kind == ASK_PARSE ? '1' : '3', 0);
}

static void
no_drop(void *arg, const Ask *a)
{
	*(int *) arg += a->kind <= ASK_COPY_END;
}

static void
play_done(Play *p)
{
	exchange_free(&p->fifo[p->head++]);
	if (p->head == p->count)
		p->has_tail = false;
}

static Exchange *
play_begin(Play *p)
{
	Exchange   *x = &p->fifo[p->count++];

	exchange_init(x);
	x->may_copy = true;
	p->has_tail = true;
	return x;
}

/* See link_ask_mark. */
static void
play_mark(Play *p)
{
	bool		parses = p->has_tail && exchange_mark(&p->fifo[p->count - 1]) == ANS_PARSE_COMPLETE;
	Exchange   *x = play_begin(p);

	if (parses)
		p->wire[p->sent++] = (Message) {.type = MSG_PARSE};
	p->wire[p->sent++] = (Message) {.type = MSG_CLOSE};
	p->wire[p->sent++] = (Message) {.type = MSG_SYNC, .status = TX_IDLE};
	if ((parses && !exchange_add(x, ASK_PARSE, ASK_FOR_US, 0, 0, NULL)) || !exchange_add(x, ASK_CLOSE, ASK_FOR_US, 0, 0, NULL) ||
		!exchange_add(x, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
		p->wrong++;
}

static void
play_answer(Play *p)
{
	Answer		a = p->origin.answers[p->taken++];
	Exchange   *x = &p->fifo[p->head];
	Ask			out;
	bool		answered;
	int			drops = 0;
	AnswerVerdict verdict;
	uint32_t	before;

	if (p->head == p->count)
	{
		p->wrong++;				/* an answer to nothing */
		return;
	}
	p->doubts += x->in_doubt;
	if (exchange_over_by(x, a.type, no_drop, &drops))
	{
		drops = 0;
		play_done(p);
		play_make(p);
		x = &p->fifo[p->head];
		if (p->head == p->count)
		{
			p->wrong++;
			return;
		}
	}
	before = x->count;
	verdict = exchange_answered(x, a.type, a.status, &out, &answered, no_drop, &drops);
	p->wrong += verdict == ANSWER_VIOLATION;
	p->wrong += a.type == ANS_ERROR && before != x->count + (uint32_t) drops + answered;
	p->wrong += a.type == ANS_ERROR && verdict != ANSWER_PASS_ERROR;
	if (verdict == ANSWER_PASS || verdict == ANSWER_PASS_ERROR)
		pass(p, a.type, a.status);
	if (exchange_done(x))
	{
		p->wrong += a.type != ANS_READY || x->count != 0 || x->status != a.status;
		play_done(p);
	}
	else if (exchange_wants_mark(x) && a.type == ANS_READY && p->head + 1 == p->count)
		play_mark(p);
	play_make(p);
}

static void
play_send(Play *p, Exchange *x, Message m, AskFor whose)
{
	uint8_t		phase;

	if (whose != ASK_MADE)
		p->wire[p->sent++] = m;
	for (int i = 0; i < m.nparts; i++)
		if (m.parts[i] == DOES_COPY_IN)
			exchange_may_copy(x);
	phase = x->phase;
	if (m.type == MSG_COPY_DATA)
		exchange_copy_data(x);
	else if (m.type == MSG_SYNC && exchange_sync_in_copy(x))
		;
	else if (m.type != MSG_FLUSH && !exchange_add(x, exchange_kind_of(m.type, m.what), whose, 0, 0, NULL))
		p->wrong++;
	p->beyond |= x->doubtful && phase == EXCHANGE_CLOSED && x->phase == EXCHANGE_OPEN;
}

/* The session's way with a message: see first_piece in client/session_ask.c. */
static void
play_client(Play *p, Message m)
{
	static const Exchange nothing;
	const Exchange *tail = p->has_tail ? &p->fifo[p->count - 1] : &nothing;
	AskVerdict	verdict = exchange_ask(tail, m.type);
	AskFor		whose = ASK_FOR_CLIENT;
	Message		ours = {.type = MSG_PARSE};

	model_take(&p->direct, &m);
	if (verdict == ASK_IGNORE)
		return;
	if (verdict != ASK_FORWARD && verdict != ASK_NEXT)
	{
		p->wrong++;
		return;
	}
	/* see link_ask_apart */
	if (p->has_tail && verdict == ASK_NEXT && tail->phase == EXCHANGE_CLOSED &&
		(exchange_is_doubtful(tail) || (tail->unsure > 0 && (m.type == MSG_SYNC || m.type == MSG_PARSE || m.type == MSG_CLOSE))))
		play_mark(p);
	if (!p->has_tail || verdict == ASK_NEXT)
		play_begin(p);
	if ((m.type == MSG_BIND || m.type == MSG_DESCRIBE) && roll(3) == 0)
		play_send(p, &p->fifo[p->count - 1], ours, ASK_FOR_US);
	p->may_copy |= p->copies_due > 0;
	if ((m.type == MSG_PARSE || m.type == MSG_CLOSE) && !m.fails && !p->may_copy && roll(2))
		whose = ASK_MADE;
	play_send(p, &p->fifo[p->count - 1], m, whose);
	play_make(p);
}

/* One side or the other does a step, as chance will have it. */
static void
play_step(Play *p, int haste)
{
	if (p->read < p->sent && (int) roll(10) < haste)
		model_take(&p->origin, &p->wire[p->read++]);
	if (p->taken < p->origin.said && (int) roll(10) < haste)
		play_answer(p);
}

static void
play_out(Play *p)
{
	while (!p->beyond && !p->wrong && (p->read < p->sent || p->taken < p->origin.said))
		play_step(p, 10);
}

/* The client has seen what it would have seen without us: all of it, or the front. */
static bool
saw_the_same(const Play *p)
{
	if (p->npassed > p->direct.said || (!p->beyond && p->npassed != p->direct.said))
		return false;
	for (int i = 0; i < p->npassed; i++)
		if (p->passed[i].type != p->direct.answers[i].type || p->passed[i].status != p->direct.answers[i].status)
			return false;
	return true;
}

/* Where there may be another copy nothing is sent to see what has been answered. */
static bool
waits_in_doubt(const Play *p)
{
	const Exchange *x = &p->fifo[p->head];

	return p->head + 1 == p->count && x->in_doubt && x->copies_again;
}

/* What became of it, for people. */
static void
play_tell(const Play *p, FILE *out)
{
	fprintf(out, "# wrong %d, in flight %d\n#   sent   ", p->wrong, p->count - p->head);
	for (int i = 0; i < p->sent; i++)
		fputc(p->wire[i].type, out);
	fprintf(out, "\n#   passed ");
	for (int i = 0; i < p->npassed; i++)
		fputc(p->passed[i].type, out);
	fprintf(out, "\n#   direct ");
	for (int i = 0; i < p->direct.said; i++)
		fputc(p->direct.answers[i].type, out);
	fprintf(out, "\n");
}

/* One play; true if all went as it must. Then play_free. */
static bool
play_all(Play *p)
{
	int			messages = 2 + roll(60);
	int			haste = roll(10);

	memset(p, 0, sizeof(*p));
	for (int i = 0; i < messages && !p->beyond && !p->wrong; i++)
	{
		play_client(p, client_says(&p->copies_due, !p->direct.copying));
		for (int steps = roll(4); steps > 0 && !p->beyond && !p->wrong; steps--)
			play_step(p, haste);
	}
	while (p->copies_due-- > 0 && !p->beyond && !p->wrong)
		play_client(p, (Message) {.type = MSG_COPY_DONE});
	if (!p->beyond && !p->wrong)
		play_client(p, (Message) {.type = MSG_SYNC, .status = TX_IDLE});
	play_out(p);
	return p->wrong == 0 && !p->origin.lost && !p->direct.lost && saw_the_same(p) && (p->beyond || p->head == p->count || waits_in_doubt(p));
}

static void
play_free(Play *p)
{
	for (; p->head < p->count; p->head++)
		exchange_free(&p->fifo[p->head]);
}

#endif
