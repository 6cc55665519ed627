/*
 * core/proof.c - what the facts of a database make of a text.
 *
 * Answers: may the answer to this text be kept, on which version slots does it hang, and what does the text write?
 *
 * A text is gone through once. Each name in it is looked up; everything of that name is taken for meant, and adds to the drawing: a reason why the answer
 * cannot be kept (the first by rank is told), slots that are read, slots that are written. What is not known is taken for the worst.
 * Two mistakes are weighed differently: a proof that says too much is a stale answer, one that says too little a lost hit.
 *
 * Owns nothing. Never: asks a database, parses SQL, remembers anything.
 */
#include "core/proof_internal.h"

#include <stdio.h>

#include "core/builtin.h"

/* Which of several reasons is told: the lowest. Within a rank the first in the text. */
typedef enum Rank
{
	RANK_TEXT,
	RANK_TIME,
	RANK_FUNCTION,
	RANK_OPERATOR,
	RANK_TYPE,
	RANK_RELATION,
	RANK_NONE
} Rank;

typedef struct SlotSet
{
	int			n;
	bool		overflow;		/* more than fit */
	uint32_t	slots[RELATION_SLOTS];
} SlotSet;

typedef struct Drawing
{
	const Facts *facts;			/* or NULL */
	const StatementFacts *statement;
	const CacheRule *rules;
	int			nrules;
	Proof	   *proof;
	char	   *culprit;
	Rank		rank;			/* of the reason in proof */
	SlotSet		reads;
	SlotSet		writes;
	bool		whole;			/* it reads what its relations do not show */
	bool		catalog_rows;	/* it reads the catalog's rows */
	bool		writes_relations;
	bool		writes_anything;
	bool		unclean;		/* something in it may leave session state behind */
	bool		dirties;		/* a function that its text need not show probably does */
} Drawing;

/* ---- slots ---- */

static void
set_add(SlotSet *set, const uint32_t *slots, int n)
{
	int			i;
	int			k;

	for (i = 0; i < n && !set->overflow; i++)
	{
		for (k = 0; k < set->n && set->slots[k] != slots[i]; k++)
			;
		if (k < set->n)
			continue;
		if (set->n == RELATION_SLOTS)
			set->overflow = true;
		else
			set->slots[set->n++] = slots[i];
	}
}

static void
put_slot(uint32_t *slots, uint8_t *n, uint32_t slot)
{
	int			i;

	for (i = 0; i < *n; i++)
	{
		if (slots[i] == slot)
			return;
	}
	slots[(*n)++] = slot;
}

/* ---- blame ---- */

/* How many bytes of a name go into `room` without cutting a character of UTF-8 in two. */
static int
fitting(Bytes name, size_t room)
{
	size_t		n = name.len;

	if (n > room)
	{
		for (n = room; n > 0 && (name.data[n] & 0xc0) == 0x80; n--)
			;
	}
	return (int) n;
}

static void
name_culprit(Drawing *d, Bytes schema, Bytes name)
{
	int			n = 0;

	if (d->culprit == NULL)
		return;
	if (schema.len > 0)
		n = snprintf(d->culprit, CULPRIT_SIZE, "%.*s.", fitting(schema, CULPRIT_SIZE / 2 - 1), (const char *) schema.data);
	snprintf(d->culprit + n, CULPRIT_SIZE - n, "%.*s", fitting(name, CULPRIT_SIZE - 1 - n), (const char *) name.data);
}

static void
blame(Drawing *d, Rank rank, CacheReason reason, const Mention *mention)
{
	if (rank >= d->rank)
		return;
	d->rank = rank;
	d->proof->reason = (uint8_t) reason;
	if (mention != NULL)
		name_culprit(d, mention->schema, mention->name);
	else if (d->culprit != NULL)
		d->culprit[0] = '\0';
}

/* ---- rules ---- */

static bool
rule_is_of(const CacheRule *rule, bool function, Bytes schema, Bytes name)
{
	return rule->function == function && bytes_equal_str(name, rule->name) &&
		(rule->schema == NULL || rule->schema[0] == '\0' || bytes_equal_str(schema, rule->schema));
}

static bool
function_is_quiet(const Drawing *d, Bytes schema, Bytes name)
{
	int			i;

	for (i = 0; i < d->nrules; i++)
	{
		if (d->rules[i].quiet && rule_is_of(&d->rules[i], true, schema, name))
			return true;
	}
	return false;
}

/* A name without a schema stands for the relation in the rule's, if there is one. */
static bool
is_meant_by(const Drawing *d, const CacheRule *rule, const Mention *mention)
{
	Bytes		schema = mention->schema;
	uint32_t	first;

	if (schema.len == 0 && rule->schema != NULL && bytes_equal_str(mention->name, rule->name) &&
		facts_find(d->facts, SECTION_RELATIONS, bytes_str(rule->schema), mention->name, &first) > 0)
		schema = bytes_str(rule->schema);
	return rule_is_of(rule, false, schema, mention->name);
}

static void
apply_relation_rules(Drawing *d, const Mention *mention)
{
	int			i;

	for (i = 0; i < d->nrules; i++)
	{
		const CacheRule *rule = &d->rules[i];

		if (!is_meant_by(d, rule, mention))
			continue;
		if (rule->cache_off)
			blame(d, RANK_RELATION, REASON_DISABLED_RULE, mention);
		if (rule->max_age >= 0 && (d->proof->max_age < 0 || rule->max_age < d->proof->max_age))
			d->proof->max_age = rule->max_age;
	}
}

/* ---- names ---- */

/* Could a built-in be meant? pg_catalog is searched whether it is named or not. */
static bool
may_be_builtin(const Mention *mention)
{
	return mention->schema.len == 0 || bytes_equal_str(mention->schema, "pg_catalog");
}

static bool
is_one_of(Bytes name, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		if (bytes_equal_str(name, *names))
			return true;
	}
	return false;
}

/* Reading or writing a value of these types looks a name up in the catalogs. */
static bool
is_catalog_type(Bytes name)
{
	static const char *const names[] = {"regclass", "regcollation", "regconfig", "regdatabase", "regdictionary", "regnamespace", "regoper", "regoperator",
		"regproc", "regprocedure", "regrole", "regtype", "aclitem", NULL};

	return is_one_of(name, names);
}

/* Of the built-ins with a result that is not repeatable, those that leave nothing behind in their session; sequences and their kin do. */
static bool
builtin_is_clean(Bytes name, BuiltinClass c)
{
	static const char *const clean[] = {"gen_random_uuid", "random", "random_normal", "uuidv4", "uuidv7", NULL};

	return c <= BUILTIN_SESSION || (c == BUILTIN_OTHER && is_one_of(name, clean));
}

static void
draw_class(Drawing *d, const Mention *mention, Bytes schema, NameClass c, Rank rank, CacheReason reason)
{
	if (c == NAME_DETERMINISTIC)
		return;
	d->unclean = true;
	if (c == NAME_IMMUTABLE)
		d->whole = true;
	else
		blame(d, rank, reason, mention);
	if (c != NAME_VOLATILE)
		return;
	d->dirties = true;
	if (!d->writes_anything && !(rank == RANK_FUNCTION && function_is_quiet(d, schema, mention->name)))
		d->writes_anything = true;
}

/* The users' own of this name in a section. True: there is one. */
static bool
draw_users(Drawing *d, const Mention *mention, FactsSection section, Rank rank, CacheReason reason)
{
	uint32_t	first;
	uint32_t	n = facts_find(d->facts, section, mention->schema, mention->name, &first);
	uint32_t	i;

	for (i = first; i < first + n; i++)
	{
		const NameRow *row = facts_row(d->facts, section, i);

		draw_class(d, mention, facts_text(d->facts, row->schema), (NameClass) row->class, rank, reason);
	}
	return n > 0;
}

static void
draw_builtin(Drawing *d, const Mention *mention)
{
	BuiltinClass c = builtin_class(mention->name);

	if (!builtin_is_clean(mention->name, c))
		d->unclean = true;
	if (c == BUILTIN_CATALOG)
		d->catalog_rows = true;
	else if (c == BUILTIN_TIME)
		blame(d, RANK_TIME, REASON_TIME, mention);
	else if (c > BUILTIN_TIME)
		blame(d, RANK_FUNCTION, REASON_FUNCTION, mention);
	if (c == BUILTIN_WRITES && !function_is_quiet(d, bytes_str("pg_catalog"), mention->name))
		d->writes_anything = true;
}

static bool
is_known(const Drawing *d, FactsSection section, Bytes name)
{
	uint32_t	first;

	return facts_find(d->facts, section, bytes_of(NULL, 0), name, &first) > 0;
}

/* A name that is not immutable is in the table of core/builtin; of the others the scout has seen whether they are there. */
static bool
builtin_exists(const Drawing *d, Bytes name)
{
	return builtin_class(name) != BUILTIN_IMMUTABLE || is_known(d, SECTION_BUILTINS, name);
}

/* False: none of a user's that is worth a word; a built-in type. */
static bool
draw_type(Drawing *d, const Mention *mention)
{
	bool		found = draw_users(d, mention, SECTION_TYPES, RANK_TYPE, REASON_TYPE);

	if (may_be_builtin(mention) && is_catalog_type(mention->name))
	{
		d->catalog_rows = true;
		found = true;
	}
	return found;
}

/* A name that is neither a user's nor a built-in's is one that the origin reads otherwise than we do: cut elsewhere, or folded. */
static void
draw_named_type(Drawing *d, const Mention *mention)
{
	if (draw_type(d, mention) || (may_be_builtin(mention) && is_known(d, SECTION_BUILTINS, mention->name)))
		return;
	blame(d, RANK_TYPE, REASON_TYPE, mention);
	d->writes_anything = d->unclean = true;
}

/* f(x) may be a cast to a type f, too. */
static void
draw_function(Drawing *d, const Mention *mention)
{
	bool		found = draw_users(d, mention, SECTION_FUNCTIONS, RANK_FUNCTION, REASON_FUNCTION);

	if (draw_type(d, mention))
		found = true;
	if (may_be_builtin(mention) && builtin_exists(d, mention->name))
	{
		found = true;
		draw_builtin(d, mention);
	}
	if (found)
		return;
	blame(d, RANK_FUNCTION, REASON_UNKNOWN_FUNCTION, mention);
	d->writes_anything = d->unclean = true;
}

/* Not found: one of the built-ins, which are functions of their arguments and the settings. In another schema it should have been found. */
static void
draw_operator(Drawing *d, const Mention *mention)
{
	if (draw_users(d, mention, SECTION_OPERATORS, RANK_OPERATOR, REASON_OPERATOR) || may_be_builtin(mention))
		return;
	blame(d, RANK_OPERATOR, REASON_OPERATOR, mention);
	d->writes_anything = d->unclean = true;
}

/*
 * a.b may call a function b of one argument that takes the row a. Of the built-ins that take any row, only some named pg_… depend on more than the
 * row and the settings; a column of such a name is rare.
 */
static void
draw_field(Drawing *d, const Mention *mention)
{
	(void) draw_users(d, mention, SECTION_FIELDS, RANK_FUNCTION, REASON_FUNCTION);
	if (mention->name.len > 3 && memcmp(mention->name.data, "pg_", 3) == 0)
		draw_builtin(d, mention);
}

/* ---- relations ---- */

static void
draw_read(Drawing *d, const Mention *mention, const RelationRow *row)
{
	if (row->reason != REASON_CACHEABLE)
		blame(d, RANK_RELATION, (CacheReason) row->reason, mention);
	if (row->flags & RELATION_WHOLE)
		d->whole = true;
	if (row->flags & RELATION_CATALOG_ROWS)
		d->catalog_rows = true;
	if (row->flags & (RELATION_READS_DIRTY | RELATION_READS_WRITE))
		d->dirties = true;
	if (row->flags & RELATION_READS_WRITE)
	{
		blame(d, RANK_RELATION, REASON_FUNCTION, mention);
		d->writes_anything = true;
	}
	/* the reason is the first that was met: behind it there may be functions of any kind */
	if (row->reason != REASON_CACHEABLE || (row->flags & RELATION_WHOLE) != 0)
		d->unclean = true;
	set_add(&d->reads, facts_slots_at(d->facts, row->reads), row->nreads);
}

static void
draw_write(Drawing *d, const RelationRow *row)
{
	/* whatever kind the text is said to be of */
	blame(d, RANK_TEXT, REASON_NOT_A_READ, NULL);
	d->writes_relations = true;
	if (row->flags & RELATION_WRITES_ANYTHING)
		d->writes_anything = true;
	if (!(row->flags & RELATION_HARMLESS))
		d->unclean = true;
	set_add(&d->writes, facts_slots_at(d->facts, row->writes), row->nwrites);
}

static void
draw_relation(Drawing *d, const Mention *mention)
{
	uint32_t	first;
	uint32_t	n = facts_find(d->facts, SECTION_RELATIONS, mention->schema, mention->name, &first);
	uint32_t	i;

	if (n > 0)
		apply_relation_rules(d, mention);
	for (i = first; i < first + n; i++)
	{
		const RelationRow *row = facts_row(d->facts, SECTION_RELATIONS, i);

		draw_read(d, mention, row);
		if (mention->kind == MENTION_WRITES)
			draw_write(d, row);
	}
	if (n > 0)
		return;
	/* made since the last look, perhaps: a view over functions that write */
	blame(d, RANK_RELATION, REASON_UNKNOWN_RELATION, mention);
	d->writes_anything = d->unclean = true;
}

/* ---- the text ---- */

static uint32_t
text_flags(const StatementFacts *statement)
{
	return statement->mentions != NULL ? statement->mentions->flags : 0;
}

static bool
is_unseen(const StatementFacts *statement)
{
	return !statement->known || statement->kind == STATEMENT_UNKNOWN || (statement->effects & EFFECT_UNKNOWN) != 0 ||
		(text_flags(statement) & TEXT_TOO_MUCH) != 0;
}

/* What the text itself says, whatever is in the database. */
static void
draw_text_reason(Drawing *d)
{
	uint32_t	flags = text_flags(d->statement);

	if (is_unseen(d->statement))
		blame(d, RANK_TEXT, REASON_NOT_PARSED, NULL);
	else if (d->statement->kind == STATEMENT_SEVERAL)
		blame(d, RANK_TEXT, REASON_SEVERAL, NULL);
	else if (d->statement->kind != STATEMENT_READ || (flags & (TEXT_INTO | TEXT_WRITES_ANYTHING | TEXT_WRITES_CATALOG)) != 0)
		blame(d, RANK_TEXT, REASON_NOT_A_READ, NULL);
	else if (flags & TEXT_LOCKING)
		blame(d, RANK_TEXT, REASON_LOCKING, NULL);
	else if (flags & TEXT_TIME)
		blame(d, RANK_TIME, REASON_TIME, NULL);
}

static bool
mentions_a_write(const StatementFacts *statement)
{
	uint32_t	at = 0;
	Mention		mention;

	while (statement->mentions != NULL && mentions_next(statement->mentions, &at, &mention))
	{
		if (mention.kind == MENTION_WRITES)
			return true;
	}
	return false;
}

/*
 * A text without mentions that writes all the same: its names were not kept. Of utility statements analysis flags those that write what is read; NOTIFY,
 * LOCK and their kin have an effect but write nothing, and what FETCH runs was told by its DECLARE CURSOR.
 */
static bool
writes_without_names(const StatementFacts *statement)
{
	return statement->mentions == NULL && (statement->effects & EFFECT_WRITES) != 0 && statement->kind != STATEMENT_OTHER;
}

static void
draw_text_writes(Drawing *d)
{
	const StatementFacts *statement = d->statement;
	uint32_t	flags = text_flags(statement);

	if (is_unseen(statement) || (flags & TEXT_WRITES_ANYTHING) != 0 || statement->kind == STATEMENT_EXECUTE || writes_without_names(statement))
		d->writes_anything = true;
	/* SELECT INTO makes a table; a temporary one is rows of the catalog */
	else if ((flags & TEXT_INTO) != 0 && (flags & TEXT_WRITES_CATALOG) == 0)
		d->writes_anything = true;
	else if (statement->kind == STATEMENT_WRITE && !mentions_a_write(statement))
		d->writes_anything = true;
}

/* A temporary table is rows of the catalog alone, but for the event triggers that it sets off. */
static void
draw_event_triggers(Drawing *d)
{
	static const Mention event = {.kind = MENTION_FUNCTION};

	if ((text_flags(d->statement) & TEXT_WRITES_CATALOG) != 0)
		(void) draw_users(d, &event, SECTION_FUNCTIONS, RANK_FUNCTION, REASON_FUNCTION);
}

/* A table is a type too, and a name of pg_catalog no exception. */
static void
draw_temp(Drawing *d, const Mention *mention)
{
	d->proof->makes_temp = true;
	if (is_known(d, SECTION_RELATIONS, mention->name) || is_known(d, SECTION_TYPES, mention->name) || is_known(d, SECTION_BUILTINS, mention->name))
		d->proof->shadows = true;
}

static void
draw_mention(Drawing *d, const Mention *mention)
{
	switch (mention->kind)
	{
		case MENTION_READS:
		case MENTION_WRITES:
			draw_relation(d, mention);
			return;
		case MENTION_FUNCTION:
			draw_function(d, mention);
			return;
		case MENTION_OPERATOR:
			draw_operator(d, mention);
			return;
		case MENTION_TYPE:
			draw_named_type(d, mention);
			return;
		case MENTION_FIELD:
			draw_field(d, mention);
			return;
		case MENTION_TEMP:
			draw_temp(d, mention);
			return;
	}
	/* a kind of which nothing is known here */
	blame(d, RANK_TEXT, REASON_NOT_PARSED, mention);
	d->writes_anything = d->unclean = true;
}

static void
draw_mentions(Drawing *d)
{
	const Mentions *mentions = d->statement->mentions;
	uint32_t	at = 0;
	uint32_t	n = 0;
	Mention		mention;

	if (mentions == NULL)
		return;
	for (; mentions_next(mentions, &at, &mention); n++)
		draw_mention(d, &mention);
	if (n == mentions->count)
		return;
	/* some could not be read, and could have been any */
	blame(d, RANK_TEXT, REASON_NOT_PARSED, NULL);
	d->writes_anything = d->unclean = true;
}

/*
 * Without facts only the names of built-ins mean something. A plain read of relations counts as writing nothing, though a view might hide a function
 * that does: while nothing is known, nothing is kept for this origin.
 */
static void
draw_unknown(Drawing *d)
{
	uint32_t	at = 0;
	Mention		mention;

	blame(d, RANK_RELATION, REASON_FACTS_UNKNOWN, NULL);
	d->unclean = true;
	if ((d->statement->effects & EFFECT_WRITES) != 0 && (d->statement->effects & EFFECT_DIRTY) != 0)
		d->writes_anything = true;
	if (text_flags(d->statement) & TEXT_WRITES_CATALOG)
		d->writes_anything = true;
	while (d->statement->mentions != NULL && mentions_next(d->statement->mentions, &at, &mention))
	{
		if (mention.kind == MENTION_WRITES)
			d->writes_anything = true;
		if (mention.kind == MENTION_TEMP)
			d->proof->makes_temp = d->proof->shadows = true;
		if (mention.kind == MENTION_FUNCTION && may_be_builtin(&mention) && builtin_class(mention.name) == BUILTIN_WRITES)
			d->writes_anything = true;
	}
}

/* ---- the verdict ---- */

bool
proof_knows_maker(const Facts *facts, const char *maker)
{
	uint32_t	first;

	return facts == NULL || facts_find(facts, SECTION_FUNCTIONS, bytes_of(NULL, 0), bytes_str(maker), &first) > 0;
}

/* Functions that speak of temporary things, wherever any function may run. */
static bool
makes_unseen(const Drawing *d, const char *maker)
{
	if (!d->writes_anything)
		return false;
	return is_unseen(d->statement) || (text_flags(d->statement) & TEXT_TEMPORARY) != 0 || proof_knows_maker(d->facts, maker);
}

/* A read that does more to its session than a read: a function did it, and its name should have told. */
static void
draw_effects(Drawing *d)
{
	if ((d->statement->effects & (EFFECT_SETTINGS | EFFECT_BIND | EFFECT_UNBIND | EFFECT_RETIRE | EFFECT_BEGIN | EFFECT_END | EFFECT_COPY)) != 0)
		blame(d, RANK_FUNCTION, REASON_FUNCTION, NULL);
}

static void
conclude_reads(const Drawing *d)
{
	Proof	   *proof = d->proof;
	int			i;

	put_slot(proof->reads, &proof->nreads, PROOF_SLOT_GLOBAL);
	put_slot(proof->reads, &proof->nreads, d->facts->slots.cluster);
	put_slot(proof->reads, &proof->nreads, d->facts->slots.catalog);
	if (d->whole || d->reads.overflow)
		put_slot(proof->reads, &proof->nreads, d->facts->slots.any);
	else
	{
		for (i = 0; i < d->reads.n; i++)
			put_slot(proof->reads, &proof->nreads, d->reads.slots[i]);
	}
	if (d->catalog_rows)
		put_slot(proof->reads, &proof->nreads, d->facts->slots.catalog_rows);
}

static void
conclude_writes(const Drawing *d)
{
	Proof	   *proof = d->proof;
	bool		catalog = (text_flags(d->statement) & TEXT_WRITES_CATALOG) != 0 || d->statement->kind == STATEMENT_DISCARD_ALL;
	int			i;

	if (d->writes_anything || d->writes.overflow)
		proof->writes = WRITES_ANYTHING;
	else if (d->facts != NULL && (d->writes_relations || catalog))
		proof->writes = WRITES_RELATIONS;
	if (d->facts == NULL || proof->writes == WRITES_NOTHING)
		return;
	if (proof->writes == WRITES_ANYTHING)
		put_slot(proof->written, &proof->nwritten, d->facts->slots.cluster);
	else
	{
		for (i = 0; i < d->writes.n; i++)
			put_slot(proof->written, &proof->nwritten, d->writes.slots[i]);
	}
	if (proof->writes == WRITES_ANYTHING || d->writes_relations)
		put_slot(proof->written, &proof->nwritten, d->facts->slots.any);
	if (catalog && proof->writes == WRITES_RELATIONS)
		put_slot(proof->written, &proof->nwritten, d->facts->slots.catalog_rows);
}

/* Every DML counts as dirty, for triggers cannot be seen in a text; here it is known that there is nothing to be seen. */
static bool
is_clean(const Drawing *d)
{
	const uint32_t plain = EFFECT_WRITES | EFFECT_DIRTY | EFFECT_LOCKS | EFFECT_COPY;

	if (d->unclean || d->writes_anything || (d->statement->effects & ~plain) != 0)
		return false;
	return d->statement->kind == STATEMENT_READ || d->statement->kind == STATEMENT_WRITE || d->statement->kind == STATEMENT_COPY;
}

void
proof_draw(const Facts *facts, const StatementFacts *statement, const CacheRule *rules, int nrules, Proof *proof, char culprit[CULPRIT_SIZE])
{
	Drawing		d;

	memset(proof, 0, sizeof(*proof));
	proof->reason = REASON_CACHEABLE;
	proof->max_age = -1;
	if (culprit != NULL)
		culprit[0] = '\0';
	memset(&d, 0, sizeof(d));
	d.facts = facts;
	d.statement = statement;
	d.rules = rules;
	d.nrules = nrules;
	d.proof = proof;
	d.culprit = culprit;
	d.rank = RANK_NONE;
	draw_text_reason(&d);
	draw_text_writes(&d);
	if (facts == NULL)
		draw_unknown(&d);
	else
	{
		draw_mentions(&d);
		draw_event_triggers(&d);
	}
	draw_effects(&d);
	if (d.writes_anything)
		blame(&d, RANK_RELATION, REASON_FUNCTION, NULL);
	if (proof->reason == REASON_CACHEABLE)
		conclude_reads(&d);
	conclude_writes(&d);
	proof->clean = is_clean(&d);
	proof->makes_unseen = makes_unseen(&d, PROOF_TEMP_FUNCTION);
	proof->makes_unseen_view = makes_unseen(&d, PROOF_TEMP_VIEW_FUNCTION);
	/* a relation that nobody has seen yet may be a view */
	proof->dirties = d.dirties || (d.writes_anything && statement->kind == STATEMENT_READ);
}

/* ---- relations, for people ---- */

static bool
next_row(const Facts *facts, Bytes name, Bytes schema, uint32_t *skip, const RelationRow **found)
{
	uint32_t	first;
	uint32_t	n = facts_find(facts, SECTION_RELATIONS, schema, name, &first);

	if (*skip >= n)
	{
		*skip -= n;
		return false;
	}
	*found = facts_row(facts, SECTION_RELATIONS, first + *skip);
	return true;
}

/* *at counts what has been told; a text has few relations, so they are counted anew each time. */
bool
proof_next_relation(const Facts *facts, const StatementFacts *statement, uint32_t *at, FactsRelation *out)
{
	uint32_t	skip = *at;
	uint32_t	place = 0;
	const RelationRow *row;
	Mention		mention;

	while (facts != NULL && statement->mentions != NULL && mentions_next(statement->mentions, &place, &mention))
	{
		if (mention.kind != MENTION_READS && mention.kind != MENTION_WRITES)
			continue;
		if (!next_row(facts, mention.name, mention.schema, &skip, &row))
			continue;
		out->schema = (const char *) facts_text(facts, row->schema).data;
		out->name = (const char *) facts_text(facts, row->name).data;
		out->reason = row->reason;
		out->harmless = (row->flags & RELATION_HARMLESS) != 0;
		(*at)++;
		return true;
	}
	return false;
}

static void
add_slot(uint32_t *slots, int *n, int max, uint32_t slot)
{
	int			i;

	for (i = 0; i < *n && i < max; i++)
	{
		if (slots[i] == slot)
			return;
	}
	if (*n < max)
		slots[*n] = slot;
	(*n)++;
}

/* What a view is read from moves for everybody who reads it: entries do not know by which name they came to a table. */
static void
add_slots_of(const Facts *facts, const RelationRow *row, uint32_t *slots, int *n, int max)
{
	int			i;

	for (i = 0; i < row->nreads; i++)
		add_slot(slots, n, max, facts_slots_at(facts, row->reads)[i]);
	if (row->flags & RELATION_CATALOG_ROWS)
		add_slot(slots, n, max, facts->slots.catalog_rows);
	add_slot(slots, n, max, facts->slots.any);
}

int
proof_slots_of_relation(const Facts *facts, const char *schema, const char *name, uint32_t *slots, int max)
{
	Bytes		wanted = schema != NULL ? bytes_str(schema) : bytes_of(NULL, 0);
	uint32_t	first;
	uint32_t	found;
	int			n = 0;
	uint32_t	i;

	if (facts == NULL)
		return 0;
	found = facts_find(facts, SECTION_RELATIONS, wanted, bytes_str(name), &first);
	for (i = 0; i < found; i++)
		add_slots_of(facts, facts_row(facts, SECTION_RELATIONS, first + i), slots, &n, max);
	if (n <= max)
		return n;
	slots[0] = facts->slots.cluster;
	return 1;
}
