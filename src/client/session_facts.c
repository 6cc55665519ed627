/*
 * client/session_facts.c - what does this text do to a session?  Remembered, so that a text is parsed once.
 *
 * Owns the table of simple queries seen. The facts themselves are host/analyze's.
 */
#include "postgres.h"

#include <ctype.h>

#include "host/analyze.h"

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
	Digest128	digest;
	bool		known;
} RememberedQuery;

static RememberedQuery remembered[REMEMBERED_QUERIES];

static bool
joins_a_word(uint8 c)
{
	return c >= 0x80 || isalnum(c) || strchr("_$.\"'", c) != NULL;
}

/*
 * The text with every number that stands by itself as 0: queries that differ in them alone do the same to a session, and programs that
 * put values into texts send them by the thousand. What touches a letter, a quote or a dot is left as it is. Valid until the next call.
 */
static Bytes
without_numbers(Bytes text)
{
	static uint8 masked[1024];
	size_t		n = 0;

	/* a backslash may begin an escape whose digits are letters of a name */
	if (text.len > sizeof(masked) || memchr(text.data, '\\', text.len))
		return text;
	for (size_t i = 0; i < text.len;)
	{
		size_t		from = i++;

		if (isdigit(text.data[from]) && (from == 0 || !joins_a_word(text.data[from - 1])))
		{
			while (i < text.len && isdigit(text.data[i]))
				i++;
			if (i == text.len || !joins_a_word(text.data[i]))
			{
				masked[n++] = '0';
				continue;
			}
		}
		memcpy(masked + n, text.data + from, i - from);
		n += i - from;
	}
	return bytes_of(masked, n);
}

const QueryFacts *
session_query_facts(const ClientSession *s, Bytes text)
{
	static RememberedQuery unsafe;
	Digest128	digest = digest_of(without_numbers(text));
	RememberedQuery *row = s->safe_encoding ? &remembered[digest.lo & (REMEMBERED_QUERIES - 1)] : &unsafe;
	StatementFacts facts = {0};

	if (row != &unsafe && row->known && digest_equal(row->digest, digest))
		return &row->facts;
	analyze_text(text, s->safe_encoding, &facts);
	row->digest = digest;
	row->facts.effects = facts.effects | reaches_ours(&facts);
	mem_free_str(facts.target);
	row->facts.kind = facts.kind;
	row->known = true;
	return &row->facts;
}

uint32
session_effects_of(const ClientSession *s, Statement *statement)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	return facts->effects | reaches_ours(facts);
}
