/*
 * origin/catalog_classes.c - how much is each function, operator and type of a user to be trusted?
 *
 * Answers by what they declare, by the table of built-ins, and by what they are made of: types and functions hang on one another, so their classes are raised until
 * nothing moves. And finds things in what was read: lists by OID, edges by purpose and origin. What is not there counts as the worst.
 */
#include "postgres.h"

#include "origin/catalog_internal.h"

#define SETTLE_ROUNDS	64		/* of settling the classes; as many as types and functions hang on one another, real catalogs need five */

/* ---- look-up ---- */

/* All items begin with their OID. */
static int
compare_oid(const void *a, const void *b)
{
	Oid			x = *(const Oid *) a;
	Oid			y = *(const Oid *) b;

	return (x > y) - (x < y);
}

void *
closure_sort_list(CatalogList *list, Size item)
{
	if (list->count > 1)
		qsort(list->items, list->count, item, compare_oid);
	return list->items;
}

bool
closure_has_twice(const CatalogList *list, Size item)
{
	for (uint32 i = 1; i < list->count; i++)
	{
		const char *one = (const char *) list->items + item * (i - 1);

		if (compare_oid(one, one + item) == 0)
			return true;
	}
	return false;
}

static void *
closure_find_oid(const CatalogList *list, Size item, Oid oid)
{
	return list->count == 0 ? NULL : bsearch(&oid, list->items, list->count, item, compare_oid);
}

CatalogRelation *
closure_find_relation(const Closure *c, Oid oid)
{
	return closure_find_oid(&c->read->relations, sizeof(CatalogRelation), oid);
}

CatalogFunction *
closure_find_function(const Closure *c, Oid oid)
{
	return closure_find_oid(&c->read->functions, sizeof(CatalogFunction), oid);
}

CatalogType *
closure_find_type(const Closure *c, Oid oid)
{
	return closure_find_oid(&c->read->types, sizeof(CatalogType), oid);
}

CatalogOperator *
closure_find_operator(const Closure *c, Oid oid)
{
	return closure_find_oid(&c->read->operators, sizeof(CatalogOperator), oid);
}

/* NULL: of a schema that is nobody else's business. */
const char *
closure_schema_name(const Closure *c, Oid oid)
{
	const CatalogSchema *s = closure_find_oid(&c->read->schemas, sizeof(CatalogSchema), oid);

	return s == NULL ? NULL : s->name;
}

int
closure_compare_edge(const void *a, const void *b)
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

/* The first edge of that purpose and origin, and behind it the others: see closure_edge_goes_on. */
const CatalogEdge *
closure_first_edge(const Closure *c, char purpose, Oid from)
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

bool
closure_edge_goes_on(const Closure *c, const CatalogEdge *e, char purpose, Oid from)
{
	return e < c->edges + c->read->edges.count && e->purpose == purpose && e->from == from;
}

/* ---- functions ---- */

/* What initdb made. In pg_catalog the table of builtins knows; what it does not know (a newer version's) is taken at its word. */
BuiltinClass
closure_class_of_builtin(const CatalogFunction *f)
{
	BuiltinClass known = f->schema == PG_CATALOG_OID ? builtin_class(bytes_str(f->name)) : BUILTIN_IMMUTABLE;

	if (known != BUILTIN_IMMUTABLE || f->volatility == 'i')
		return known;
	if (f->schema != PG_CATALOG_OID)
		return f->volatility == 's' ? BUILTIN_CATALOG : BUILTIN_OTHER;	/* of the information schema: they read catalogs */
	return f->volatility == 's' ? BUILTIN_OTHER : BUILTIN_WRITES;
}

/* Is there to change the session it runs in. */
bool
closure_builtin_sets_state(const CatalogFunction *f)
{
	return strcmp(f->name, "set_config") == 0 || strcmp(f->name, "setseed") == 0 ||
		strncmp(f->name, "pg_advisory", 11) == 0 || strncmp(f->name, "pg_try_advisory", 15) == 0;
}

/* May change it. */
bool
closure_builtin_leaves_state(const CatalogFunction *f, BuiltinClass b)
{
	static const char *const plain[] = {"nextval", "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"};
	size_t		i;

	if (closure_builtin_sets_state(f))
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

NameClass
closure_class_of_function(const Closure *c, Oid oid)
{
	const CatalogFunction *f = closure_find_function(c, oid);

	if (f == NULL)
		return NAME_VOLATILE;
	return oid < FIRST_USER_OID ? class_by_builtin(closure_class_of_builtin(f)) : (NameClass) f->c;
}

/* A user has said that it writes nothing (set_rule). */
bool
closure_is_quiet(const Closure *c, const CatalogFunction *f)
{
	const char *schema = closure_schema_name(c, f->schema);
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
			return closure_class_of_function(c, e->to);
		case TAG_OPERATOR:
			o = closure_find_operator(c, e->to);
			return o != NULL ? closure_class_of_function(c, o->function) : e->to < FIRST_USER_OID ? NAME_DETERMINISTIC : NAME_VOLATILE;
		case TAG_FROM_TEXT:
		case TAG_DOMAIN:
			t = closure_find_type(c, e->to);
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
		moved |= raise_class(&f->c, closure_class_of_function(c, e->to));
	/* run by the call that leaves the argument out, however little the function itself does */
	FOR_EDGES(c, e, PURPOSE_FILL, f->oid)
		moved |= raise_class(&f->c, class_of_tree_edge(c, e));
	/* a value of that type may be made for the call unasked, by a cast or of a literal: then what a domain checks is checked */
	FOR_EDGES(c, e, PURPOSE_ARGUMENT, f->oid)
	{
		const CatalogType *t = closure_find_type(c, e->to);

		moved |= raise_class(&f->c, t == NULL ? NAME_VOLATILE : t->full);
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
	p = closure_find_type(c, part);
	if (p == NULL)
	{
		moved = raise_class(&t->read, NAME_VOLATILE);
		moved |= raise_class(&t->full, NAME_VOLATILE);
		return moved;
	}
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
		moved |= raise_class(&t->read, closure_class_of_function(c, e->to));
		moved |= raise_class(&t->full, closure_class_of_function(c, e->to));
	}
	FOR_EDGES(c, e, PURPOSE_MAKE, t->oid)
		moved |= raise_class(&t->full, closure_class_of_function(c, e->to));
	FOR_EDGES(c, e, PURPOSE_TYPE, t->oid)
		moved |= raise_class(&t->full, class_of_tree_edge(c, e));
	FOR_EDGES(c, e, PURPOSE_PART, t->oid)
		moved |= raise_by_part(c, t, e->to);
	return moved;
}

/* False: more rounds than anything real takes. */
bool
closure_settle_classes(Closure *c)
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

void
closure_settle_plain_casts(Closure *c)
{
	const CatalogEdge *e;

	FOR_EDGES(c, e, PURPOSE_PLAIN_CAST, InvalidOid)
		(void) raise_class(&c->everywhere, closure_class_of_function(c, e->to));
}
