/*
 * client/session_facts.c - what does this text do to a session?  Remembered, so that a text is parsed once.
 *
 * Owns the table of simple queries seen. The facts themselves are host/analyze's, what the origin's catalog makes of them host/facts'.
 */
#include "postgres.h"

#include "host/analyze.h"
#include "host/querystats.h"

#include "client/session_internal.h"

/* SQL can name what is prepared on the link for everybody: then what we know of the link is no longer true. */
static uint32
reaches_ours(const StatementFacts *facts)
{
	return facts->target && link_name_is_ours(bytes_str(facts->target)) ? EFFECT_RETIRE : EFFECT_NONE;
}

/*
 * A simple Query is not prepared, so its text need not be kept: only what was found out about it is, by digest, in a table where
 * the newer pushes out the older.
 */
#define REMEMBERED_QUERIES	4096	/* a power of two */

typedef struct RememberedQuery
{
	QueryFacts	facts;			/* MUST BE FIRST */
	bool		known;
} RememberedQuery;

static RememberedQuery remembered[REMEMBERED_QUERIES];

enum { TEXT_DIGIT = 1, TEXT_JOINS = 2, TEXT_ESCAPES = 4 };

/* What a byte means to the numbers beside it. */
static const uint8 text_class[256] = {
	['0' ... '9'] = TEXT_DIGIT | TEXT_JOINS,
	['A' ... 'Z'] = TEXT_JOINS,
	['a' ... 'z'] = TEXT_JOINS,
	['_'] = TEXT_JOINS,
	['$'] = TEXT_JOINS,
	['.'] = TEXT_JOINS,
	['\''] = TEXT_JOINS,
	['"'] = TEXT_JOINS | TEXT_ESCAPES,
	['\\'] = TEXT_ESCAPES,
	['&'] = TEXT_ESCAPES,
	[0x80 ... 0xff] = TEXT_JOINS,
};

/*
 * The text with every number that stands by itself as 0: queries that differ in them alone do the same to a session, and programs that
 * put values into texts send them by the thousand. What touches a letter, a quote or a dot is left as it is. A text with a quoted name, which may
 * hold a number ("sales-2024-q1"), with a backslash, or with U& and whatever UESCAPE says, whose digits are letters, is left as a whole. Valid until the next call.
 */
static Bytes
without_numbers(Bytes text)
{
	static uint8 masked[1024];
	size_t		n = 0;
	uint8		before = 0;		/* class of the byte before */

	if (text.len > sizeof(masked))
		return text;
	for (size_t i = 0; i < text.len; i++)
	{
		uint8		c = text.data[i];
		uint8		class = text_class[c];

		if ((class & TEXT_ESCAPES) && (c != '&' || (i + 1 < text.len && text.data[i + 1] == '\'')))
			return text;
		masked[n++] = c;
		if ((class & TEXT_DIGIT) && !(before & TEXT_JOINS))
		{
			size_t		end = i + 1;

			while (end < text.len && (text_class[text.data[end]] & TEXT_DIGIT))
				end++;
			if (end == text.len || !(text_class[text.data[end]] & TEXT_JOINS))
			{
				masked[n - 1] = '0';
				i = end - 1;
			}
		}
		before = class;
	}
	return bytes_of(masked, n);
}

/* The catalog's names are known in UTF-8: others can be looked up only if they are plain ASCII. */
static bool
names_are_ascii(const Mentions *mentions)
{
	uint32		at = 0;
	Mention		mention;

	while (mentions && mentions_next(mentions, &at, &mention))
	{
		for (size_t i = 0; i < mention.schema.len; i++)
		{
			if (mention.schema.data[i] >= 0x80)
				return false;
		}
		for (size_t i = 0; i < mention.name.len; i++)
		{
			if (mention.name.data[i] >= 0x80)
				return false;
		}
	}
	return true;
}

static void
forget(QueryFacts *facts)
{
	if (facts->proof)
		mem_free(facts->proof, sizeof(Proof));
	memset(facts, 0, sizeof(*facts));
}

/* One text is looked at several times on its way, and often comes again: the last one needs no digest. */
static Digest128
digest_of_query(Bytes text)
{
	static uint8 last[512];
	static size_t last_len;
	static Digest128 last_digest;

	if (text.len != last_len || memcmp(text.data, last, last_len) != 0 || last_len == 0)
	{
		last_digest = digest_of(without_numbers(text));
		last_len = text.len <= sizeof(last) ? text.len : 0;
		memcpy(last, text.data, last_len);
	}
	return last_digest;
}

QueryFacts *
session_query_facts(const ClientSession *s, Bytes text)
{
	static RememberedQuery unsafe;
	Digest128	digest = digest_of_query(text);
	RememberedQuery *row = s->safe_encoding ? &remembered[digest.lo & (REMEMBERED_QUERIES - 1)] : &unsafe;
	StatementFacts facts = {0};

	if (row != &unsafe && row->known && digest_equal(row->facts.digest, digest))
		return &row->facts;
	analyze_text(text, s->safe_encoding, &facts);
	forget(&row->facts);
	row->facts.digest = digest;
	row->facts.effects = facts.effects | reaches_ours(&facts);
	row->facts.kind = facts.kind;
	row->facts.begin = facts.begin;
	row->facts.ascii_names = names_are_ascii(facts.mentions);
	row->facts.gateway = facts.target && session_gateway_is(bytes_str(facts.target));
	row->known = true;
	analyze_forget(&facts);
	return &row->facts;
}

uint32
session_effects_of(const ClientSession *s, Statement *statement)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	return facts->effects | reaches_ours(facts);
}

/* ---- what the origin's catalog makes of it ---- */

FactsState
session_facts_state(const ClientSession *s)
{
	int			slot = pool_origin_slot(s->pool);
	int64		now = reactor_now(session_reactor);
	FactsState	state = facts_state(slot, pool_origin_oid(s->pool), now);

	facts_want(slot, now);
	if (state != FACTS_FRESH && state != FACTS_DOWN)
	{
		static int64 woken;

		if (now - woken > 1000000)
		{
			woken = now;
			cancel_wake_scout();
		}
	}
	return state;
}

/* Both what the scout has learnt and the rules of the origin may move. */
static uint64
proof_generation(const ClientSession *s)
{
	return (facts_generation(pool_origin_slot(s->pool)) << 32) + (uint32) directory_generation(session_directory) + 1;
}

static bool
proof_holds(const ClientSession *s, const Proof *proof)
{
	return proof && proof->origin_slot == pool_origin_slot(s->pool) && proof->generation == proof_generation(s);
}

bool
session_proof_is_current(const ClientSession *s, const Proof *proof)
{
	return proof_holds(s, proof);
}

static void
draw(const ClientSession *s, const StatementFacts *facts, Proof *proof)
{
	int			slot = pool_origin_slot(s->pool);
	/* read before the facts: they may be published anew meanwhile, and then the proof is drawn once too often, not too seldom */
	uint64		generation = proof_generation(s);
	const DirectoryOrigin *origin = session_directory ? directory_origin_by_oid(session_directory, pool_origin_oid(s->pool)) : NULL;

	facts_prove(facts_of(slot, pool_origin_oid(s->pool)), facts, origin ? origin->rules : NULL, origin ? origin->nrules : 0, proof, NULL);
	proof->origin_slot = slot;
	proof->generation = generation;
}

/* Of a text whose names cannot be looked up: it may write anything, if only through a view. */
static const Proof unreadable = {.reason = REASON_NOT_PARSED, .writes = WRITES_ANYTHING, .max_age = -1};

const Proof *
session_query_proof(const ClientSession *s, Bytes text, QueryFacts *query)
{
	StatementFacts facts = {0};

	if (!s->utf8 && !query->ascii_names)
		return &unreadable;
	if (proof_holds(s, query->proof))
		return query->proof;
	if (query->proof == NULL && (query->proof = mem_zalloc(sizeof(Proof))) == NULL)
		return NULL;
	analyze_text(text, s->safe_encoding, &facts);
	draw(s, &facts, query->proof);
	analyze_forget(&facts);
	return query->proof;
}

const Proof *
session_statement_proof(const ClientSession *s, Statement *statement)
{
	const StatementFacts *facts;

	facts = analyze_facts(statement, s->safe_encoding);
	/* what holds for this session alone is not remembered */
	if (facts != &statement->facts)
		return NULL;
	if (!s->utf8 && !names_are_ascii(facts->mentions))
		return &unreadable;
	if (proof_holds(s, statement->proof))
		return statement->proof;
	if (statement->proof == NULL && (statement->proof = mem_zalloc(sizeof(Proof))) == NULL)
		return NULL;
	draw(s, facts, statement->proof);
	return statement->proof;
}

/*
 * A write to tables without triggers, rules and the like leaves nothing behind in its session. A read may: by functions behind a view, a policy or an operator, which do
 * not stand in its text; and if those write, it is not to be repeated when its link is lost.
 */
uint32
session_effects_by_proof(const ClientSession *s, uint32 effects, const Proof *proof)
{
	if (proof && proof->dirties)
		effects |= proof->writes == WRITES_ANYTHING ? EFFECT_DIRTY | EFFECT_PERHAPS : EFFECT_DIRTY;
	if (proof && proof->clean && (effects & EFFECT_DIRTY) && session_facts_state(s) == FACTS_FRESH)
		effects &= ~EFFECT_DIRTY;
	return effects;
}

/* ---- statistics ---- */

int32
session_query_stats(const ClientSession *s, Bytes text, QueryFacts *facts)
{
	Oid			origin = pool_origin_oid(s->pool);

	if (!querystats_row_is(facts->stats_row, origin, s->role, facts->digest))
		facts->stats_row = querystats_row(pool_origin_slot(s->pool), origin, s->role, text, facts->digest);
	return facts->stats_row;
}

int32
session_statement_stats(const ClientSession *s, Statement *statement)
{
	Oid			origin = pool_origin_oid(s->pool);

	if (!querystats_row_is(statement->stats_row, origin, s->role, statement->digest))
		statement->stats_row = querystats_row(pool_origin_slot(s->pool), origin, s->role, statement_text(statement), statement->digest);
	return statement->stats_row;
}
