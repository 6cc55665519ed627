/*
 * origin/catalog_closure.c - what can a name reach?
 *
 * Answers, from what was read of a catalog: on which version slots does hang what is read from a relation, and what can a write to
 * it change? Walks views, policies, families of
 * partitions and children, foreign keys that cascade, triggers and rules; the worst that is met decides. Publishes by host/facts.
 *
 * What is looked up and not there (it was made in a temporary schema, or the catalog is damaged) counts as the worst. All walks together have a budget of steps: a
 * catalog knotted on purpose costs no more than that, and what was not walked is not cacheable and writes anything.
 * Never: asks.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "origin/catalog_internal.h"

#define WALK_SLOTS		16		/* relations a reader hangs on by themselves */
#define WALK_STEPS		UINT64CONST(20000000)	/* of all walks of one publication */

/* What a walk has met. */
typedef struct Reach
{
	uint8		reason;			/* the first that was met */
	bool		whole;			/* hangs on everything */
	bool		overflow;		/* more slots than are kept one by one */
	bool		catalog_rows;
	bool		writes;			/* may write anything */
	bool		harmless;
	bool		dirty;			/* a function that may leave anything behind in its session, or is there to */
	int			nslots;
	uint32		slots[WALK_SLOTS];
} Reach;

typedef struct Walk
{
	bool		writing;		/* the slots that matter are those written */
	Reach		reach;
} Walk;

/* ---- families: union-find, the smallest OID represents ---- */

static CatalogRelation *
head_of(const Closure *c, CatalogRelation *r)
{
	while (r->family != r->oid)
	{
		CatalogRelation *up = closure_find_relation(c, r->family);

		r->family = up->family; /* halves the way for the next */
		r = up;
	}
	return r;
}

static int
compare_member(const void *a, const void *b)
{
	const CatalogRelation *x = *(CatalogRelation *const *) a;
	const CatalogRelation *y = *(CatalogRelation *const *) b;

	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	return (x->oid > y->oid) - (x->oid < y->oid);
}

static void
join_families(Closure *c)
{
	uint32		i;

	for (i = 0; i < c->read->relations.count; i++)
	{
		c->relations[i].family = c->relations[i].oid;
		c->relations[i].written = NULL;
	}
	for (i = 0; i < c->read->edges.count; i++)
	{
		CatalogRelation *a;
		CatalogRelation *b;

		if (c->edges[i].purpose != PURPOSE_INHERITS)
			continue;
		a = closure_find_relation(c, c->edges[i].from);
		b = closure_find_relation(c, c->edges[i].to);
		if (a == NULL || b == NULL)
			continue;
		a = head_of(c, a);
		b = head_of(c, b);
		if (a->oid < b->oid)
			b->family = a->oid;
		else
			a->family = b->oid;
	}
	for (i = 0; i < c->read->relations.count; i++)
		c->members[i] = &c->relations[i];
	for (i = 0; i < c->read->relations.count; i++)
	{
		CatalogRelation *head = head_of(c, &c->relations[i]);

		c->relations[i].family = head->oid;
		head->foreign |= c->relations[i].kind == 'f';
	}
	if (c->read->relations.count > 1)
		qsort(c->members, c->read->relations.count, sizeof(CatalogRelation *), compare_member);
}

/* The place of the family's first member among the members. */
static uint32
first_member(const Closure *c, Oid family)
{
	uint32		low = 0;
	uint32		high = c->read->relations.count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (c->members[middle]->family < family)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

#define FOR_FAMILY(c, i, id) \
	for ((i) = first_member(c, id); (i) < (c)->read->relations.count && (c)->members[i]->family == (id); (i)++)

/* ---- a walk ---- */

static void
reach_reason(Reach *reach, CacheReason reason)
{
	if (reach->reason == REASON_CACHEABLE)
		reach->reason = reason;
}

/* Nothing is known of what was met. */
static void
reach_worst(Reach *reach, CacheReason reason)
{
	reach_reason(reach, reason);
	reach->writes = true;
	reach->harmless = false;
	reach->dirty = true;
}

static void
reach_slot(Reach *reach, uint32 slot)
{
	int			i;

	for (i = 0; i < reach->nslots; i++)
	{
		if (reach->slots[i] == slot)
			return;
	}
	if (reach->nslots == WALK_SLOTS)
		reach->overflow = true;
	else
		reach->slots[reach->nslots++] = slot;
}

static void
reach_builtin(Reach *reach, const CatalogFunction *f)
{
	BuiltinClass b = closure_class_of_builtin(f);

	if (closure_builtin_leaves_state(f, b))
		reach->harmless = false;
	if (closure_builtin_sets_state(f))
		reach->dirty = true;
	switch (b)
	{
		case BUILTIN_IMMUTABLE:
		case BUILTIN_SETTINGS:
			break;
		case BUILTIN_CATALOG:
			reach->catalog_rows = true;
			break;
		case BUILTIN_TIME:
			reach_reason(reach, REASON_TIME);
			break;
		case BUILTIN_SESSION:
		case BUILTIN_OTHER:
			reach_reason(reach, REASON_FUNCTION);
			break;
		case BUILTIN_WRITES:
			reach_worst(reach, REASON_FUNCTION);
			break;
	}
}

static void
reach_class(Reach *reach, NameClass class, CacheReason reason)
{
	switch (class)
	{
		case NAME_DETERMINISTIC:
			break;
		case NAME_IMMUTABLE:
			reach->whole = true;
			break;
		case NAME_STABLE:
			reach_reason(reach, reason);
			break;
		case NAME_VOLATILE:
			reach_worst(reach, reason);
			break;
	}
}

static void
reach_function(Closure *c, Reach *reach, Oid oid)
{
	const CatalogFunction *f = closure_find_function(c, oid);

	if (f == NULL)
		reach_worst(reach, REASON_UNKNOWN_FUNCTION);
	else if (oid < FIRST_USER_OID)
		reach_builtin(reach, f);
	else if (f->c == NAME_VOLATILE && closure_is_quiet(c, f))
	{
		reach_reason(reach, REASON_FUNCTION);
		reach->harmless = false;
		reach->dirty = true;
	}
	else
		reach_class(reach, f->c, REASON_FUNCTION);
}

static void
reach_operator(Closure *c, Reach *reach, Oid oid)
{
	const CatalogOperator *o = closure_find_operator(c, oid);

	if (o != NULL)
		reach_function(c, reach, o->function);
	else if (oid >= FIRST_USER_OID)
		reach_worst(reach, REASON_OPERATOR);
	/* the built-in ones that are not immutable depend on settings alone */
}

/* Types whose input is a function of the text and the settings. */
static bool
is_plain_type(Oid oid)
{
	static const Oid plain[] = {16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 28, 29, 114, 142, 600, 601, 602, 603, 604, 628, 650, 700, 701, 718, 774, 790,
		829, 869, 1042, 1043, 1186, 1560, 1562, 1700, 2950, 3220, 3614, 3615, 3802, 3904, 3906, 3926, 4072, 5069,
		/* arrays */
		199, 143, 651, 775, 791, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1017, 1018, 1019, 1020, 1021, 1022, 1027, 1028, 1040, 1041,
		1187, 1231, 1561, 1563, 2951, 3643, 3645, 3807, 3905, 3907, 3927, 4073,
		/* multiranges of numbers */
		4451, 4532, 4536};
	size_t		i;

	for (i = 0; i < lengthof(plain); i++)
	{
		if (plain[i] == oid)
			return true;
	}
	return false;
}

/* regproc, regclass, regtype and their kin look names up. */
static bool
is_name_type(Oid oid)
{
	return oid == 24 || (oid >= 2202 && oid <= 2206) || oid == 3734 || oid == 3769 || oid == 4089 || oid == 4096 || oid == 4191;
}

static void
reach_from_text(Closure *c, Reach *reach, Oid oid)
{
	const CatalogType *t = closure_find_type(c, oid);

	if (oid >= FIRST_USER_OID)
	{
		reach_class(reach, t == NULL ? NAME_VOLATILE : (NameClass) t->full, REASON_TYPE);
		if (t != NULL && t->has_time)
			reach_reason(reach, REASON_TIME);
	}
	else if (is_name_type(oid))
		reach->catalog_rows = true;
	else if (!is_plain_type(oid))
		reach_reason(reach, REASON_TIME);
}

static void
reach_domain(Closure *c, Reach *reach, Oid oid)
{
	const CatalogType *t = closure_find_type(c, oid);

	/* a domain of the information schema has checks of built-ins alone */
	if (oid >= FIRST_USER_OID)
		reach_class(reach, t == NULL ? NAME_VOLATILE : (NameClass) t->full, REASON_TYPE);
}

/* To be visited, if this walk has not been there. */
static void
push(Closure *c, Walk *walk, CatalogRelation *r, bool written)
{
	uint32		place = r - c->relations;

	if (written ? c->visited_writes[place] == c->walk : r->visited == c->walk)
		return;
	if (written)
		c->visited_writes[place] = c->walk;
	else
		r->visited = c->walk;
	if (c->depth == c->room)	/* there is room for each relation twice */
		reach_worst(&walk->reach, REASON_RELATION_KIND);
	else
	{
		c->stack[c->depth] = r;
		c->stack_writes[c->depth++] = written;
	}
}

static void
push_oid(Closure *c, Walk *walk, Oid oid, bool written)
{
	CatalogRelation *r = closure_find_relation(c, oid);

	if (r == NULL)
		reach_worst(&walk->reach, REASON_UNKNOWN_RELATION);
	else
		push(c, walk, r, written);
}

static bool
may_step(Closure *c, Walk *walk)
{
	if (c->steps > 0)
	{
		c->steps--;
		return true;
	}
	reach_worst(&walk->reach, REASON_RELATION_KIND);
	return false;
}

static void
walk_trees(Closure *c, Walk *walk, char purpose, Oid holder, bool written)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, purpose, holder)
	{
		if (!may_step(c, walk))
			return;
		switch (e->tag)
		{
			case TAG_FUNCTION:
				reach_function(c, &walk->reach, e->to);
				break;
			case TAG_OPERATOR:
				reach_operator(c, &walk->reach, e->to);
				break;
			case TAG_RELATION:
				push_oid(c, walk, e->to, written);
				break;
			case TAG_FROM_TEXT:
				reach_from_text(c, &walk->reach, e->to);
				break;
			case TAG_DOMAIN:
				reach_domain(c, &walk->reach, e->to);
				break;
			case TAG_TIME:
				if (e->to <= 8)	/* SVFOP_LOCALTIMESTAMP_N; behind it are role, user, catalog, schema */
					reach_reason(&walk->reach, REASON_TIME);
				break;
			default:
				reach_worst(&walk->reach, REASON_FUNCTION);
		}
	}
}

/*
 * What a query does to a column of that type unasked. A literal beside it becomes a value of that type, and all in it is made anew: the domains in an array, a row or a range check it. A bare
 * domain does not: it is compared as what it is made of.
 */
static NameClass
class_of_read_column(const Closure *c, Oid type)
{
	uint8		class = NAME_DETERMINISTIC;
	int			depth;

	for (depth = 0; depth < 32; depth++)
	{
		const CatalogType *t = closure_find_type(c, type);

		if (t == NULL)
			return type < FIRST_USER_OID ? (NameClass) class : NAME_VOLATILE;
		if (t->kind != 'd')
			return (NameClass) Max(class, t->array || strchr("crm", t->kind) != NULL ? t->full : t->read);
		class = Max(class, t->read);
		type = t->base;
	}
	return NAME_VOLATILE;
}

static void
walk_columns(Closure *c, Walk *walk, Oid relation, bool written)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_COLUMN, relation)
	{
		const CatalogType *t = closure_find_type(c, e->to);
		NameClass	class = t == NULL ? NAME_VOLATILE : (NameClass) t->full;

		if (!may_step(c, walk))
			return;
		reach_class(&walk->reach, written ? class : class_of_read_column(c, e->to), REASON_TYPE);
	}
}

/* ---- reading ---- */

/* Statistics and large objects change outside of what any version tells. */
static bool
is_restless_catalog(const char *name)
{
	return strncmp(name, "pg_statistic", 12) == 0 || strncmp(name, "pg_largeobject", 14) == 0;
}

static void
read_table(Closure *c, Walk *walk, CatalogRelation *r)
{
	if (r->schema == PG_CATALOG_OID && r->oid < FIRST_USER_OID)
	{
		if (is_restless_catalog(r->name))
			reach_reason(&walk->reach, REASON_RELATION_KIND);
		walk->reach.catalog_rows = true;
		return;
	}
	if (!walk->writing)
		reach_slot(&walk->reach, version_slot_relation(c->database, r->family));
	/* a foreign table among the children: what is read through the parent comes from elsewhere */
	if (closure_find_relation(c, r->family)->foreign)
		reach_reason(&walk->reach, REASON_RELATION_KIND);
	if (r->row_security)
		walk_trees(c, walk, PURPOSE_POLICY, r->oid, false);
	walk_trees(c, walk, PURPOSE_VIRTUAL, r->oid, false);
	walk_columns(c, walk, r->oid, false);
}

static void
visit_read(Closure *c, Walk *walk, CatalogRelation *r)
{
	switch (r->kind)
	{
		case 'r':
		case 'p':
		case 'm':
			read_table(c, walk, r);
			break;
		case 'v':
			walk_trees(c, walk, PURPOSE_VIEW, r->oid, false);
			walk_columns(c, walk, r->oid, false);
			break;
		default:
			reach_reason(&walk->reach, REASON_RELATION_KIND);
	}
}

/* ---- writing ---- */

static void
walk_triggers(Closure *c, Walk *walk, Oid relation)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_TRIGGER, relation)
	{
		const CatalogFunction *f = closure_find_function(c, e->to);

		if (!may_step(c, walk))
			return;
		/* those of initdb write nothing but the row: suppress_redundant_updates_trigger, tsvector_update_trigger, RI_FKey_* */
		if (f != NULL && f->oid < FIRST_USER_OID)
			continue;
		/* nor do those that put the time into it */
		if (f != NULL && f->stamps && !c->time_is_shadowed)
			continue;
		walk->reach.harmless = false;
		/* a trigger function that is declared stable is run read-only */
		if (f == NULL || (f->c == NAME_VOLATILE && !closure_is_quiet(c, f)))
			walk->reach.writes = true;
	}
}

static void
walk_cascades(Closure *c, Walk *walk, Oid relation)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_CASCADE, relation)
	{
		if (!may_step(c, walk))
			return;
		push_oid(c, walk, e->to, true);
	}
}

static void
walk_rules(Closure *c, Walk *walk, Oid relation)
{
	const CatalogEdge *e = closure_first_edge(c, PURPOSE_RULE, relation);

	if (closure_edge_goes_on(c, e, PURPOSE_RULE, relation))
		walk->reach.harmless = false;
	walk_trees(c, walk, PURPOSE_RULE, relation, true);
}

static void
write_member(Closure *c, Walk *walk, CatalogRelation *r)
{
	if (!may_step(c, walk))
		return;
	walk_triggers(c, walk, r->oid);
	walk_rules(c, walk, r->oid);
	walk_cascades(c, walk, r->oid);
	walk_columns(c, walk, r->oid, true);
	walk_trees(c, walk, PURPOSE_DEFAULT, r->oid, false);
	walk_trees(c, walk, PURPOSE_VIRTUAL, r->oid, false);
	walk_trees(c, walk, PURPOSE_CHECK, r->oid, false);
	walk_trees(c, walk, PURPOSE_WHEN, r->oid, false);
	if (r->row_security)
		walk_trees(c, walk, PURPOSE_POLICY, r->oid, false);
	if (r->kind != 'r' && r->kind != 'p' && r->kind != 'v')
		reach_worst(&walk->reach, REASON_RELATION_KIND);
}

/* Rows move between members, and each member's triggers fire: the family is written as one. */
static void
visit_write(Closure *c, Walk *walk, CatalogRelation *r)
{
	uint32		i;

	if (r->schema == PG_CATALOG_OID && r->oid < FIRST_USER_OID)
		reach_worst(&walk->reach, REASON_RELATION_KIND);	/* allow_system_table_mods */
	if (r->kind == 'v')
	{
		write_member(c, walk, r);
		/* an updatable view: whatever it shows may be what is written. Without rules or triggers it cannot be written otherwise. */
		walk_trees(c, walk, PURPOSE_VIEW, r->oid, true);
		return;
	}
	reach_slot(&walk->reach, version_slot_relation(c->database, r->family));
	if (r->family != r->oid)
	{
		CatalogRelation *head = closure_find_relation(c, r->family);

		push(c, walk, head, true);
		return;
	}
	FOR_FAMILY(c, i, r->family)
		write_member(c, walk, c->members[i]);
}

static void
walk_from(Closure *c, Walk *walk, CatalogRelation *r, bool writing)
{
	memset(walk, 0, sizeof(*walk));
	walk->writing = writing;
	walk->reach.harmless = true;
	c->walk++;
	c->depth = 0;
	push(c, walk, r, writing);
	while (c->depth > 0)
	{
		CatalogRelation *next;
		bool		written;

		c->depth--;
		next = c->stack[c->depth];
		written = c->stack_writes[c->depth];
		if (!may_step(c, walk))
			break;
		if (written)
			visit_write(c, walk, next);
		else
			visit_read(c, walk, next);
	}
}

/* A family is written as one, so it is walked once for all of its members: thousands of partitions would use up the budget of everything else. */
static void
walk_written(Closure *c, Walk *walk, CatalogRelation *r)
{
	CatalogRelation *head = closure_find_relation(c, r->family);
	Reach	   *met;

	if (head->written != NULL)
	{
		walk->reach = *head->written;
		return;
	}
	walk_from(c, walk, head, true);
	met = MemoryContextAlloc(c->read->context, sizeof(Reach));
	*met = walk->reach;
	head->written = met;
}

/* ---- the draft ---- */

static void
put_reads(RelationFacts *facts, const Closure *c, const Walk *walk)
{
	const Reach *reach = &walk->reach;

	facts->reason = reach->reason;
	facts->whole = reach->whole || reach->overflow || c->everywhere == NAME_IMMUTABLE;
	if (c->everywhere >= NAME_STABLE && facts->reason == REASON_CACHEABLE)
		facts->reason = REASON_TYPE;
	facts->catalog_rows = reach->catalog_rows;
	facts->reads_write = reach->writes || c->everywhere == NAME_VOLATILE;
	facts->reads_dirty = reach->dirty;
	facts->nreads = facts->whole ? 0 : reach->nslots;
	facts->reads = reach->slots;
}

static void
put_writes(RelationFacts *facts, const Closure *c, const Walk *walk)
{
	const Reach *reach = &walk->reach;

	facts->writes_anything = reach->writes || reach->overflow || c->everywhere == NAME_VOLATILE;
	facts->harmless = reach->harmless && !facts->writes_anything;
	facts->nwrites = facts->writes_anything ? 0 : reach->nslots;
	facts->writes = reach->slots;
}

static void
draft_relation(Closure *c, FactsDraft *draft, CatalogRelation *r)
{
	RelationFacts facts;
	Walk		read;
	Walk		written;

	memset(&facts, 0, sizeof(facts));
	facts.schema = closure_schema_name(c, r->schema);
	if (facts.schema == NULL)
		return;
	facts.name = r->name;
	walk_from(c, &read, r, false);
	walk_written(c, &written, r);
	put_reads(&facts, c, &read);
	put_writes(&facts, c, &written);
	facts_draft_relation(draft, &facts);
}

/* A value of a composite type, or of a domain over one; and those that take whatever they are given. */
static bool
takes_a_row(const Closure *c, Oid type)
{
	int			depth;

	for (depth = 0; depth < 32; depth++)
	{
		const CatalogType *t;

		if (type < FIRST_USER_OID)
			return type == 2249 || type == 2276 || type == 2283 || type == 2776 || type == 5077 || type == 5079;
		t = closure_find_type(c, type);
		if (t == NULL || t->kind == 'c')
			return true;
		if (t->kind != 'd')
			return false;
		type = t->base;
	}
	return true;
}

static void
draft_function(const Closure *c, FactsDraft *draft, const CatalogFunction *f)
{
	const char *schema = closure_schema_name(c, f->schema);
	NameClass	class = closure_class_of_function(c, f->oid);

	if (f->oid < FIRST_USER_OID && f->schema == PG_CATALOG_OID)
	{
		facts_draft_builtin(draft, f->name);
		return;
	}
	if (schema != NULL)
		facts_draft_function(draft, schema, f->name, class);
	if (f->first_argument != InvalidOid && takes_a_row(c, f->first_argument))
		facts_draft_field(draft, f->name, class);
}

static void
draft_operator(const Closure *c, FactsDraft *draft, const CatalogOperator *o)
{
	const char *schema = closure_schema_name(c, o->schema);
	const CatalogType *left = closure_find_type(c, o->left);
	const CatalogType *right = closure_find_type(c, o->right);
	uint8		class = closure_class_of_function(c, o->function);

	if (left != NULL)
		class = Max(class, left->full);
	if (right != NULL)
		class = Max(class, right->full);
	if (schema != NULL)
		facts_draft_operator(draft, schema, o->name, (NameClass) class);
}

/* An array goes by the name of its element, which is of the same class. Names like _name are written by nobody but for their own sake: those that are worse are kept. */
static void
draft_type(const Closure *c, FactsDraft *draft, const CatalogType *t)
{
	const char *schema = closure_schema_name(c, t->schema);

	if (t->oid < FIRST_USER_OID && t->schema == PG_CATALOG_OID)
	{
		facts_draft_builtin(draft, t->name);	/* type(x) is a cast */
		if (t->full != NAME_DETERMINISTIC && schema != NULL)	/* a user has made one to it */
			facts_draft_type(draft, schema, t->name, (NameClass) t->full);
	}
	else if (schema != NULL && !(t->array && t->full == NAME_DETERMINISTIC))
		facts_draft_type(draft, schema, t->name, (NameClass) t->full);
}

/* Whoever makes something, if it is a temporary table, runs the event triggers unasked. */
static void
draft_events(const Closure *c, FactsDraft *draft)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_EVENT, InvalidOid)
	{
		const CatalogFunction *f = closure_find_function(c, e->to);

		if (f == NULL || !closure_is_quiet(c, f))
			facts_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_EVENT_FUNCTION, closure_class_of_function(c, e->to));
	}
}

static void
draft_temporary(const Closure *c, FactsDraft *draft)
{
	const CatalogEdge *e;
	bool		any = false;
	bool		view = false;

	FOR_EDGES(c, e, PURPOSE_TEMPORARY, InvalidOid)
	{
		any = true;
		view |= e->tag == TAG_WHEN_READ;
	}
	if (any)
		facts_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_TEMP_FUNCTION, NAME_VOLATILE);
	if (view)
		facts_draft_function(draft, PROOF_EVENT_FUNCTION, PROOF_TEMP_VIEW_FUNCTION, NAME_VOLATILE);
}

static void
draft_all(Closure *c, FactsDraft *draft)
{
	uint32		i;

	for (i = 0; i < c->read->relations.count; i++)
		draft_relation(c, draft, &c->relations[i]);
	for (i = 0; i < c->read->functions.count; i++)
		draft_function(c, draft, &c->functions[i]);
	for (i = 0; i < c->read->operators.count; i++)
		draft_operator(c, draft, &c->operators[i]);
	for (i = 0; i < c->read->types.count; i++)
		draft_type(c, draft, &c->types[i]);
	draft_events(c, draft);
	draft_temporary(c, draft);
}

/* ---- all of it ---- */

static void *
array_of(CatalogRead *read, Size item, uint32 n)
{
	return MemoryContextAllocExtended(read->context, item * Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
closure_init(Closure *c, CatalogRead *read)
{
	uint32		n = read->relations.count;

	c->read = read;
	c->steps = WALK_STEPS;
	c->relations = closure_sort_list(&read->relations, sizeof(CatalogRelation));
	c->functions = closure_sort_list(&read->functions, sizeof(CatalogFunction));
	c->types = closure_sort_list(&read->types, sizeof(CatalogType));
	c->operators = closure_sort_list(&read->operators, sizeof(CatalogOperator));
	c->schemas = closure_sort_list(&read->schemas, sizeof(CatalogSchema));
	c->edges = read->edges.items;
	if (read->edges.count > 1)
		qsort(c->edges, read->edges.count, sizeof(CatalogEdge), closure_compare_edge);
	c->members = array_of(read, sizeof(CatalogRelation *), n);
	c->visited_writes = array_of(read, sizeof(uint32), n);
	c->room = 2 * n;
	c->stack = array_of(read, sizeof(CatalogRelation *), c->room);
	c->stack_writes = array_of(read, sizeof(bool), c->room);
}

/* A damaged catalog: whichever of the two is found, the other may be worse. */
static bool
has_twice(const CatalogRead *read)
{
	return closure_has_twice(&read->relations, sizeof(CatalogRelation)) || closure_has_twice(&read->functions, sizeof(CatalogFunction)) ||
		closure_has_twice(&read->types, sizeof(CatalogType)) || closure_has_twice(&read->operators, sizeof(CatalogOperator)) ||
		closure_has_twice(&read->schemas, sizeof(CatalogSchema));
}

const char *
catalog_publish(CatalogRead *read, int slot, const DirectoryOrigin *origin, const FactsIdentity *identity)
{
	MemoryContext former = MemoryContextSwitchTo(read->context);
	Closure		closure = {.origin = origin, .database = {identity->system, identity->database}};
	const char *failure = NULL;

	closure_init(&closure, read);
	if (has_twice(read))
		failure = "the catalog has two objects of one OID";
	else if (closure_settle_classes(&closure))
	{
		FactsDraft *draft = facts_draft();

		closure_settle_plain_casts(&closure);
		join_families(&closure);
		draft_all(&closure, draft);
		if (!facts_publish(draft, slot, origin->oid, read->print.all))
			failure = "what is known of the origin's catalog does not fit (hyperpool.facts_size)";
	}
	else
		failure = "the functions and types of the catalog hang together in too many steps";
	MemoryContextSwitchTo(former);
	return failure;
}
