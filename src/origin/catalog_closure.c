/*
 * origin/catalog_closure.c - what can a name reach?
 *
 * Answers, from what was read of a catalog: on which version slots does hang what is read from a relation, what can a write to
 * it change, and how much is each function, operator and type of a user to be trusted? Walks views, policies, families of
 * partitions and children, foreign keys that cascade, triggers and rules; the worst that is met decides. Publishes by host/facts.
 *
 * What is looked up and not there (it was made in a temporary schema, or the catalog is damaged) counts as the worst. All walks together have a budget of steps: a
 * catalog knotted on purpose costs no more than that, and what was not walked is not cacheable and writes anything.
 * Never: asks.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "core/builtin.h"
#include "origin/catalog_internal.h"

#define WALK_SLOTS		16		/* relations a reader hangs on by themselves */
#define WALK_STEPS		UINT64CONST(20000000)	/* of all walks of one publication */
#define SETTLE_ROUNDS	64		/* of settling the classes; as many as types and functions hang on one another, real catalogs need five */

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

typedef struct Closure
{
	CatalogRead *read;
	const DirectoryOrigin *origin;	/* its rules */
	DatabaseId	database;
	CatalogRelation *relations; /* sorted by oid */
	CatalogFunction *functions;
	CatalogType *types;
	CatalogOperator *operators;
	CatalogSchema *schemas;
	CatalogEdge *edges;			/* sorted by purpose, from */
	CatalogRelation **members;	/* the relations by family, then oid */
	uint64		steps;
	uint32		walk;			/* number of the walk, see `visited` */
	CatalogRelation **stack;	/* of the walk: what is still to be visited */
	bool	   *stack_writes;	/* as written, else as read */
	uint32	   *visited_writes; /* by place, as `visited` for what is read */
	uint32		depth;
	uint32		room;
	uint8		everywhere;		/* NameClass of unasked casts between built-in types */
	bool		time_is_shadowed;	/* a user has a function called like one that tells the time */
} Closure;

typedef struct Walk
{
	bool		writing;		/* the slots that matter are those written */
	Reach		reach;
} Walk;

/* ---- look-up ---- */

/* All items begin with their OID. */
static int
compare_oid(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return (x > y) - (x < y);
}

static void *
sort_list(CatalogList *list, Size item)
{
	if (list->count > 1)
		qsort(list->items, list->count, item, compare_oid);
	return list->items;
}

static void *
find_oid(const CatalogList *list, Size item, Oid oid)
{
	return list->count == 0 ? NULL : bsearch(&oid, list->items, list->count, item, compare_oid);
}

static CatalogRelation *
find_relation(const Closure *c, Oid oid)
{
	return find_oid(&c->read->relations, sizeof(CatalogRelation), oid);
}

static CatalogFunction *
find_function(const Closure *c, Oid oid)
{
	return find_oid(&c->read->functions, sizeof(CatalogFunction), oid);
}

static CatalogType *
find_type(const Closure *c, Oid oid)
{
	return find_oid(&c->read->types, sizeof(CatalogType), oid);
}

static CatalogOperator *
find_operator(const Closure *c, Oid oid)
{
	return find_oid(&c->read->operators, sizeof(CatalogOperator), oid);
}

/* NULL: of a schema that is nobody else's business. */
static const char *
schema_name(const Closure *c, Oid oid)
{
	const CatalogSchema *s = find_oid(&c->read->schemas, sizeof(CatalogSchema), oid);

	return s == NULL ? NULL : s->name;
}

static int
compare_edge(const void *a, const void *b)
{
	const CatalogEdge *x = a;
	const CatalogEdge *y = b;

	if (x->purpose != y->purpose)
		return (unsigned char) x->purpose < (unsigned char) y->purpose ? -1 : 1;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	return (x->tag > y->tag) - (x->tag < y->tag);
}

/* The first edge of that purpose and origin, and behind it the others: see edge_goes_on. */
static const CatalogEdge *
first_edge(const Closure *c, char purpose, Oid from)
{
	uint32		low = 0;
	uint32		high = c->read->edges.count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		const CatalogEdge *e = &c->edges[middle];

		if ((unsigned char) e->purpose < (unsigned char) purpose || (e->purpose == purpose && e->from < from))
			low = middle + 1;
		else
			high = middle;
	}
	return &c->edges[low];
}

static bool
edge_goes_on(const Closure *c, const CatalogEdge *e, char purpose, Oid from)
{
	return e < c->edges + c->read->edges.count && e->purpose == purpose && e->from == from;
}

#define FOR_EDGES(c, e, purpose, from) \
	for (e = first_edge(c, purpose, from); edge_goes_on(c, e, purpose, from); e++)

/* ---- functions ---- */

/* What initdb made. In pg_catalog the table of builtins knows; what it does not know (a newer version's) is taken at its word. */
static BuiltinClass
class_of_builtin(const CatalogFunction *f)
{
	BuiltinClass known = f->schema == PG_CATALOG_OID ? builtin_class(bytes_str(f->name)) : BUILTIN_IMMUTABLE;

	if (known != BUILTIN_IMMUTABLE || f->volatility == 'i')
		return known;
	if (f->schema != PG_CATALOG_OID)
		return f->volatility == 's' ? BUILTIN_CATALOG : BUILTIN_OTHER;	/* of the information schema: they read catalogs */
	return f->volatility == 's' ? BUILTIN_OTHER : BUILTIN_WRITES;
}

/* Is there to change the session it runs in. */
static bool
builtin_sets_state(const CatalogFunction *f)
{
	return strcmp(f->name, "set_config") == 0 || strcmp(f->name, "setseed") == 0 ||
		strncmp(f->name, "pg_advisory", 11) == 0 || strncmp(f->name, "pg_try_advisory", 15) == 0;
}

/* May change it. */
static bool
builtin_leaves_state(const CatalogFunction *f, BuiltinClass b)
{
	static const char *const plain[] = {"nextval", "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"};
	size_t		i;

	if (builtin_sets_state(f))
		return true;
	for (i = 0; i < lengthof(plain); i++)
	{
		if (strcmp(f->name, plain[i]) == 0)
			return false;
	}
	return b >= BUILTIN_OTHER;
}

static NameClass
class_by_builtin(BuiltinClass b)
{
	if (b == BUILTIN_WRITES)
		return NAME_VOLATILE;
	return b <= BUILTIN_SETTINGS ? NAME_DETERMINISTIC : NAME_STABLE;
}

/*
 * Functions of well-known extensions that are volatile because their results differ, and write nothing that a query can read. Who may make a function in C
 * may do anything.
 */
static bool
is_known_quiet(const CatalogFunction *f)
{
	static const char *const names[] = {"gen_random_bytes", "gen_random_uuid", "gen_salt", "insert_username", "moddatetime", "normal_rand",
		"pg_buffercache_pages", "pg_stat_statements", "pg_stat_statements_info", "pgp_pub_encrypt", "pgp_pub_encrypt_bytea", "pgp_sym_encrypt",
	"pgp_sym_encrypt_bytea", "pgrowlocks", "pgstattuple", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"};
	size_t		i;

	for (i = 0; f->native && i < lengthof(names); i++)
	{
		if (strcmp(f->name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Such a name may mean a user's function, by search_path: then the text of a trigger does not say what it calls. */
static bool
shadows_time(const CatalogFunction *f)
{
	static const char *const names[] = {"clock_timestamp", "now", "statement_timestamp", "timezone", "transaction_timestamp"};
	size_t		i;

	for (i = 0; f->oid >= FIRST_USER_OID && i < lengthof(names); i++)
	{
		if (strcmp(f->name, names[i]) == 0)
			return true;
	}
	return false;
}

static NameClass
class_declared(const CatalogFunction *f)
{
	if (f->kind == 'p')
		return NAME_VOLATILE;
	switch (f->volatility)
	{
		case 'i':
			return f->native ? NAME_DETERMINISTIC : NAME_IMMUTABLE;
		case 's':
			return NAME_STABLE;
		default:
			return is_known_quiet(f) ? NAME_STABLE : NAME_VOLATILE;
	}
}

static NameClass
class_of_function(const Closure *c, Oid oid)
{
	const CatalogFunction *f = find_function(c, oid);

	if (f == NULL)
		return NAME_VOLATILE;
	return oid < FIRST_USER_OID ? class_by_builtin(class_of_builtin(f)) : (NameClass) f->c;
}

/* A user has said that it writes nothing (set_rule). */
static bool
is_quiet(const Closure *c, const CatalogFunction *f)
{
	const char *schema = schema_name(c, f->schema);
	int			i;

	for (i = 0; i < c->origin->nrules; i++)
	{
		const CacheRule *r = &c->origin->rules[i];

		if (r->function && r->quiet && strcmp(r->name, f->name) == 0 &&
			(r->schema == NULL || r->schema[0] == '\0' || (schema != NULL && strcmp(r->schema, schema) == 0)))
			return true;
	}
	return false;
}

/* ---- the classes of functions and types of users, which hang on one another: raised until nothing moves ---- */

static bool
raise_class(uint8 *at, uint8 to)
{
	if (*at >= to)
		return false;
	*at = to;
	return true;
}

/* date, time, timestamp and their arrays, ranges: text in them may say 'now'. */
static bool
is_time_type(Oid oid)
{
	static const Oid times[] = {1082, 1083, 1114, 1184, 1266, 1182, 1183, 1115, 1185, 1270, 3908, 3909, 3910, 3911, 3912, 3913,
	4533, 4534, 4535, 6152, 6153, 6155};
	size_t		i;

	for (i = 0; i < lengthof(times); i++)
	{
		if (times[i] == oid)
			return true;
	}
	return false;
}

/* A domain's checks and default, a function's defaults. */
static NameClass
class_of_tree_edge(const Closure *c, const CatalogEdge *e)
{
	const CatalogOperator *o;
	const CatalogType *t;

	switch (e->tag)
	{
		case TAG_FUNCTION:
			return class_of_function(c, e->to);
		case TAG_OPERATOR:
			o = find_operator(c, e->to);
			return o != NULL ? class_of_function(c, o->function) : e->to < FIRST_USER_OID ? NAME_DETERMINISTIC : NAME_VOLATILE;
		case TAG_FROM_TEXT:
		case TAG_DOMAIN:
			t = find_type(c, e->to);
			if (t != NULL)
				return t->has_time ? Max(t->full, NAME_STABLE) : t->full;
			return e->to >= FIRST_USER_OID ? NAME_VOLATILE : is_time_type(e->to) ? NAME_STABLE : NAME_DETERMINISTIC;
		case TAG_TIME:
			return e->to <= 8 ? NAME_STABLE : NAME_DETERMINISTIC;
		default:
			return NAME_STABLE; /* a relation: checks cannot have any */
	}
}

static bool
raise_function(Closure *c, CatalogFunction *f)
{
	const CatalogEdge *e;
	bool		moved = false;

	FOR_EDGES(c, e, PURPOSE_AGGREGATE, f->oid)
		moved |= raise_class(&f->c, class_of_function(c, e->to));
	/* run by the call that leaves the argument out, however little the function itself does */
	FOR_EDGES(c, e, PURPOSE_FILL, f->oid)
		moved |= raise_class(&f->c, class_of_tree_edge(c, e));
	/* a value of that type may be made for the call unasked, by a cast */
	FOR_EDGES(c, e, PURPOSE_ARGUMENT, f->oid)
	{
		const CatalogType *t = find_type(c, e->to);

		moved |= raise_class(&f->c, t == NULL ? NAME_VOLATILE : t->read);
	}
	return moved;
}

static bool
raise_by_part(Closure *c, CatalogType *t, Oid part)
{
	const CatalogType *p;
	bool		moved = false;

	if (part < FIRST_USER_OID)
	{
		moved = !t->has_time && is_time_type(part);
		t->has_time |= moved;
		return moved;
	}
	p = find_type(c, part);
	if (p == NULL)
		return raise_class(&t->read, NAME_VOLATILE) | raise_class(&t->full, NAME_VOLATILE);
	moved = !t->has_time && p->has_time;
	t->has_time |= moved;
	moved |= raise_class(&t->read, p->read);
	moved |= raise_class(&t->full, p->full);
	return moved;
}

static bool
raise_type(Closure *c, CatalogType *t)
{
	const CatalogEdge *e;
	bool		moved = false;

	FOR_EDGES(c, e, PURPOSE_SHOW, t->oid)
	{
		moved |= raise_class(&t->read, class_of_function(c, e->to));
		moved |= raise_class(&t->full, class_of_function(c, e->to));
	}
	FOR_EDGES(c, e, PURPOSE_MAKE, t->oid)
		moved |= raise_class(&t->full, class_of_function(c, e->to));
	FOR_EDGES(c, e, PURPOSE_TYPE, t->oid)
		moved |= raise_class(&t->full, class_of_tree_edge(c, e));
	FOR_EDGES(c, e, PURPOSE_PART, t->oid)
		moved |= raise_by_part(c, t, e->to);
	return moved;
}

/* False: more rounds than anything real takes. */
static bool
settle_classes(Closure *c)
{
	bool		moved = true;
	int			round;
	uint32		i;

	for (i = 0; i < c->read->functions.count; i++)
	{
		c->functions[i].c = class_declared(&c->functions[i]);
		c->time_is_shadowed |= shadows_time(&c->functions[i]);
	}
	for (i = 0; i < c->read->types.count; i++)
		c->types[i].has_time = is_time_type(c->types[i].oid);
	for (round = 0; moved && round < SETTLE_ROUNDS; round++)
	{
		moved = false;
		for (i = 0; i < c->read->types.count; i++)
			moved |= raise_type(c, &c->types[i]);
		for (i = 0; i < c->read->functions.count; i++)
		{
			if (c->functions[i].oid >= FIRST_USER_OID)
				moved |= raise_function(c, &c->functions[i]);
		}
	}
	return !moved;
}

static void
settle_plain_casts(Closure *c)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_PLAIN_CAST, InvalidOid)
		(void) raise_class(&c->everywhere, class_of_function(c, e->to));
}

/* ---- families: union-find, the smallest OID represents ---- */

static CatalogRelation *
head_of(const Closure *c, CatalogRelation *r)
{
	while (r->family != r->oid)
	{
		CatalogRelation *up = find_relation(c, r->family);

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
		c->relations[i].family = c->relations[i].oid;
	for (i = 0; i < c->read->edges.count; i++)
	{
		CatalogRelation *a;
		CatalogRelation *b;

		if (c->edges[i].purpose != PURPOSE_INHERITS)
			continue;
		a = find_relation(c, c->edges[i].from);
		b = find_relation(c, c->edges[i].to);
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
	for (i = first_member(c, id); i < (c)->read->relations.count && (c)->members[i]->family == (id); i++)

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
	BuiltinClass b = class_of_builtin(f);

	if (builtin_leaves_state(f, b))
		reach->harmless = false;
	if (builtin_sets_state(f))
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
	const CatalogFunction *f = find_function(c, oid);

	if (f == NULL)
		reach_worst(reach, REASON_UNKNOWN_FUNCTION);
	else if (oid < FIRST_USER_OID)
		reach_builtin(reach, f);
	else if (f->c == NAME_VOLATILE && is_quiet(c, f))
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
	const CatalogOperator *o = find_operator(c, oid);

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
	const CatalogType *t = find_type(c, oid);

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
	const CatalogType *t = find_type(c, oid);

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
	CatalogRelation *r = find_relation(c, oid);

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

static void
walk_columns(Closure *c, Walk *walk, Oid relation, bool written)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_COLUMN, relation)
	{
		const CatalogType *t = find_type(c, e->to);

		if (!may_step(c, walk))
			return;
		reach_class(&walk->reach, t == NULL ? NAME_VOLATILE : (NameClass) (written ? t->full : t->read), REASON_TYPE);
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
	if (find_relation(c, r->family)->foreign)
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
		const CatalogFunction *f = find_function(c, e->to);

		/* those of initdb write nothing but the row: suppress_redundant_updates_trigger, tsvector_update_trigger, RI_FKey_* */
		if (f != NULL && f->oid < FIRST_USER_OID)
			continue;
		/* nor do those that put the time into it */
		if (f != NULL && f->stamps && !c->time_is_shadowed)
			continue;
		walk->reach.harmless = false;
		/* a trigger function that is declared stable is run read-only */
		if (f == NULL || (f->c == NAME_VOLATILE && !is_quiet(c, f)))
			walk->reach.writes = true;
	}
}

static void
walk_cascades(Closure *c, Walk *walk, Oid relation)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_CASCADE, relation)
		push_oid(c, walk, e->to, true);
}

static void
walk_rules(Closure *c, Walk *walk, Oid relation)
{
	const CatalogEdge *e = first_edge(c, PURPOSE_RULE, relation);

	if (edge_goes_on(c, e, PURPOSE_RULE, relation))
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
		CatalogRelation *head = find_relation(c, r->family);

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
	facts.schema = schema_name(c, r->schema);
	if (facts.schema == NULL)
		return;
	facts.name = r->name;
	walk_from(c, &read, r, false);
	walk_from(c, &written, r, true);
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
		t = find_type(c, type);
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
	const char *schema = schema_name(c, f->schema);
	NameClass	class = class_of_function(c, f->oid);

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
	const char *schema = schema_name(c, o->schema);
	const CatalogType *left = find_type(c, o->left);
	const CatalogType *right = find_type(c, o->right);
	uint8		class = class_of_function(c, o->function);

	if (left != NULL)
		class = Max(class, left->read);
	if (right != NULL)
		class = Max(class, right->read);
	if (schema != NULL)
		facts_draft_operator(draft, schema, o->name, (NameClass) class);
}

/* An array goes by the name of its element, which is of the same class. Names like _name are written by nobody but for their own sake: those that are worse are kept. */
static void
draft_type(const Closure *c, FactsDraft *draft, const CatalogType *t)
{
	const char *schema = schema_name(c, t->schema);

	if (t->oid < FIRST_USER_OID && t->schema == PG_CATALOG_OID)
	{
		facts_draft_builtin(draft, t->name);	/* type(x) is a cast */
		if (t->full != NAME_DETERMINISTIC && schema != NULL)	/* a user has made one to it */
			facts_draft_type(draft, schema, t->name, (NameClass) t->full);
	}
	else if (schema != NULL && !(t->array && t->full == NAME_DETERMINISTIC))
		facts_draft_type(draft, schema, t->name, (NameClass) t->full);
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
	c->relations = sort_list(&read->relations, sizeof(CatalogRelation));
	c->functions = sort_list(&read->functions, sizeof(CatalogFunction));
	c->types = sort_list(&read->types, sizeof(CatalogType));
	c->operators = sort_list(&read->operators, sizeof(CatalogOperator));
	c->schemas = sort_list(&read->schemas, sizeof(CatalogSchema));
	c->edges = read->edges.items;
	if (read->edges.count > 1)
		qsort(c->edges, read->edges.count, sizeof(CatalogEdge), compare_edge);
	c->members = array_of(read, sizeof(CatalogRelation *), n);
	c->visited_writes = array_of(read, sizeof(uint32), n);
	c->room = 2 * n;
	c->stack = array_of(read, sizeof(CatalogRelation *), c->room);
	c->stack_writes = array_of(read, sizeof(bool), c->room);
}

const char *
catalog_publish(CatalogRead *read, int slot, const DirectoryOrigin *origin, const FactsIdentity *identity)
{
	MemoryContext former = MemoryContextSwitchTo(read->context);
	Closure		closure = {.origin = origin, .database = {identity->system, identity->database}};
	const char *failure = NULL;

	closure_init(&closure, read);
	if (settle_classes(&closure))
	{
		FactsDraft *draft = facts_draft();

		settle_plain_casts(&closure);
		join_families(&closure);
		draft_all(&closure, draft);
		if (!facts_publish(draft, slot, origin->oid))
			failure = "what is known of the origin's catalog does not fit (hyperpool.facts_size)";
	}
	else
		failure = "the functions and types of the catalog hang together in too many steps";
	MemoryContextSwitchTo(former);
	return failure;
}
