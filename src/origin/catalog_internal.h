/*
 * origin/catalog_internal.h - between the parts of catalog*.c; nobody else includes it.
 *
 * catalog.c: when what is done. catalog_connect.c: the connection. catalog_look.c: what is asked, and what follows; these three share catalog_watch.h.
 * catalog_ask.c: the texts of the questions, and rows into a CatalogRead.
 * catalog_classes.c: how much its functions and types are to be trusted. catalog_closure.c: what a CatalogRead means, published. catalog_doubt.c: writes whose outcome is not known.
 */
#ifndef HYPERPOOL_ORIGIN_CATALOG_INTERNAL_H
#define HYPERPOOL_ORIGIN_CATALOG_INTERNAL_H

#include "postgres.h"
#include "libpq-fe.h"

#include "core/builtin.h"
#include "host/facts.h"
#include "host/versions.h"
#include "origin/catalog.h"

#define FIRST_USER_OID		16384	/* what initdb makes lies below: FirstNormalObjectId of every version */
#define PG_CATALOG_OID		11

/* ---- what was read ---- */

/* Letters of tables that can be read or written by name; others are not asked for. */
typedef struct CatalogRelation
{
	Oid			oid;
	Oid			schema;
	char		kind;
	bool		row_security;
	bool		foreign;		/* of the first of a family: there is a foreign table in it */
	const char *name;
	Oid			family;			/* the smallest OID of its inheritance family */
	uint32		visited;		/* the walk that has come by here */
	const struct Reach *written;	/* of the first of a family: what is met by who writes any of it; NULL: not walked yet */
} CatalogRelation;

typedef struct CatalogFunction
{
	Oid			oid;
	Oid			schema;
	Oid			first_argument; /* of those that can be called with one argument; 0 = none */
	char		volatility;
	char		kind;
	bool		native;			/* in C or internal */
	bool		stamps;			/* a trigger function that only puts the time and constants into the new row, going by its text */
	uint8		c;				/* NameClass; of users' only */
	const char *name;
} CatalogFunction;

typedef struct CatalogType
{
	Oid			oid;
	Oid			schema;
	char		kind;			/* typtype */
	bool		array;			/* a true array */
	bool		has_time;		/* text in it may be 'now' */
	uint8		read;			/* NameClass of what runs when a value is shown */
	uint8		full;			/* and when it is made: checks, defaults, casts */
	Oid			base;
	const char *name;
} CatalogType;

typedef struct CatalogOperator
{
	Oid			oid;
	Oid			schema;
	Oid			function;
	Oid			left;
	Oid			right;
	const char *name;
} CatalogOperator;

typedef struct CatalogSchema
{
	Oid			oid;
	const char *name;
} CatalogSchema;

/* From one object to another: `purpose` says which expression or relationship it comes from, `tag` what stands there. */
typedef struct CatalogEdge
{
	char		purpose;
	char		tag;
	Oid			from;
	Oid			to;
} CatalogEdge;

#define PURPOSE_VIEW		'V' /* trees: the rule _RETURN */
#define PURPOSE_RULE		'R' /* other rules */
#define PURPOSE_POLICY		'P'
#define PURPOSE_DEFAULT		'D' /* and stored generated columns */
#define PURPOSE_VIRTUAL		'G' /* virtual generated columns: computed when read */
#define PURPOSE_CHECK		'C'
#define PURPOSE_WHEN		'W' /* of a trigger */
#define PURPOSE_TYPE		'T' /* checks and default of a domain */
#define PURPOSE_INHERITS	'h' /* child, parent */
#define PURPOSE_CASCADE		'k' /* referenced, referencing */
#define PURPOSE_COLUMN		'c' /* relation, type of a user, or of time */
#define PURPOSE_TRIGGER		't' /* relation, function */
#define PURPOSE_ARGUMENT	'a' /* function of a user, type of a user */
#define PURPOSE_AGGREGATE	'g' /* aggregate of a user, its functions */
#define PURPOSE_FILL		'A' /* defaults of a function's arguments */
#define PURPOSE_SHOW		'i' /* type of a user, functions of users that show, compare or read it, or cast from it, or to it unasked */
#define PURPOSE_MAKE		'x' /* type, functions of users of the other casts to it */
#define PURPOSE_PART		'e' /* type of a user, what it is made of */
#define PURPOSE_PLAIN_CAST	's' /* 0, function of a user that casts between built-in types unasked */
#define PURPOSE_EVENT		'v' /* 0, function of an event trigger */
#define PURPOSE_TEMPORARY	'm' /* 0, function that may make something temporary, going by its text */

#define TAG_FUNCTION		'f'
#define TAG_OPERATOR		'o'
#define TAG_RELATION		'r'
#define TAG_FROM_TEXT		'y' /* a type whose input function is run when the expression is */
#define TAG_DOMAIN			'd'
#define TAG_TIME			'n'
#define TAG_WHEN_READ		'w' /* of PURPOSE_TEMPORARY: a view, or what else runs functions when it is read */

#define SCHEMAS_MAX			100000
#define RELATIONS_MAX		200000
#define FUNCTIONS_MAX		300000
#define TYPES_MAX			500000
#define OPERATORS_MAX		100000
#define EDGES_MAX			3000000

typedef struct CatalogList
{
	void	   *items;
	uint32		count;
	uint32		size;
} CatalogList;

/* The fingerprint of the catalogs. */
typedef struct CatalogPrint
{
	uint64		all;
	uint64		defaults;		/* of it: what ALTER ROLE and ALTER DATABASE have SET for links to come */
} CatalogPrint;

typedef struct CatalogRead
{
	MemoryContext context;		/* all of it */
	CatalogList schemas;
	CatalogList relations;
	CatalogList functions;
	CatalogList types;
	CatalogList operators;
	CatalogList edges;
	CatalogPrint print;			/* of the same snapshot */
} CatalogRead;

/* ---- questions: catalog_ask.c ---- */

typedef enum CatalogQuestion
{
	ASK_LOOK,					/* who is it, and how much has been written to its catalogs? */
	ASK_LOOK_AND_READ,			/* ASK_LOOK, then ASK_READ */
	ASK_PRINT,					/* the fingerprint */
	ASK_READ,					/* the fingerprint and everything */
	ASK_DOUBTS
} CatalogQuestion;

typedef struct CatalogLook
{
	bool		answered;
	uint64		system;
	uint32		timeline;
	Oid			database;
	int64		started;		/* of the postmaster, by the origin's clock; for equality only */
	int			version;
	bool		recovering;
	bool		counts;			/* track_counts */
	char		sum[64];
} CatalogLook;

extern char *catalog_look_text(bool whole);	/* all palloc'd; not whole: identity alone */
extern char *catalog_print_text(int version);
extern char *catalog_read_text(int version);

/* Rows. What they return is NULL, or what is wrong with the row. */
extern const char *catalog_take_look(CatalogLook *look, const PGresult *row);
extern const char *catalog_take_print(CatalogPrint *print, const PGresult *row);
extern CatalogRead *catalog_read_begin(MemoryContext parent);
extern const char *catalog_take_read(CatalogRead *read, int question, const PGresult *row);
extern bool catalog_read_is_whole(int questions);	/* that many results have ended */
extern void catalog_read_free(CatalogRead *read);	/* NULL is fine */
extern bool catalog_field_int64(const PGresult *row, int column, int64 *out);

/* ---- what it means: catalog_classes.c, catalog_closure.c ---- */

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

/* catalog_classes.c */
extern void *closure_sort_list(CatalogList *list, Size item);
extern bool closure_has_twice(const CatalogList *list, Size item);	/* a sorted one: an OID */
extern CatalogRelation *closure_find_relation(const Closure *c, Oid oid);
extern CatalogFunction *closure_find_function(const Closure *c, Oid oid);
extern CatalogType *closure_find_type(const Closure *c, Oid oid);
extern CatalogOperator *closure_find_operator(const Closure *c, Oid oid);
extern const char *closure_schema_name(const Closure *c, Oid oid);
extern const CatalogEdge *closure_first_edge(const Closure *c, char purpose, Oid from);
extern bool closure_edge_goes_on(const Closure *c, const CatalogEdge *e, char purpose, Oid from);
extern BuiltinClass closure_class_of_builtin(const CatalogFunction *f);
extern bool closure_builtin_sets_state(const CatalogFunction *f);
extern bool closure_builtin_leaves_state(const CatalogFunction *f, BuiltinClass b);
extern NameClass closure_class_of_function(const Closure *c, Oid oid);
extern bool closure_is_quiet(const Closure *c, const CatalogFunction *f);
extern bool closure_settle_classes(Closure *c);
extern void closure_settle_plain_casts(Closure *c);
extern int closure_compare_edge(const void *a, const void *b);
#define FOR_EDGES(c, e, purpose, from) \
	for ((e) = closure_first_edge(c, purpose, from); closure_edge_goes_on(c, e, purpose, from); (e)++)

/* catalog_closure.c: works it out and publishes; NULL, or why not. */
extern const char *catalog_publish(CatalogRead *read, int slot, const DirectoryOrigin *origin, const FactsIdentity *identity);

/* ---- doubts: catalog_doubt.c ---- */

#define DOUBTS_MAX		64
#define DOUBT_STARTERS	1024	/* transactions waited for at a pooled origin */

typedef struct CatalogDoubts
{
	int			count;			/* in the question that is out */
	Doubt		asked[DOUBTS_MAX];
	bool		seen[DOUBTS_MAX];	/* is still there */
	int64		asked_at;
	bool		waiting;		/* for the end of `starters` */
	int64		waiting_since;
	int			nstarters;
	uint64		starters[DOUBT_STARTERS];
	int			nrunning;		/* of the answer being read */
	uint64		running[DOUBT_STARTERS];
	bool		too_many;
} CatalogDoubts;

/* Doubts of the slot from `born` on, before `ended`; how many. */
extern int	catalog_doubts_of(int slot, int64 born, int64 ended, Doubt *out, int max);
extern char *catalog_doubts_text(CatalogDoubts *doubts, int slot, int64 born, int64 ended, int64 now);
extern const char *catalog_take_doubt(CatalogDoubts *doubts, const PGresult *row);
extern void catalog_doubts_answered(CatalogDoubts *doubts);
extern void catalog_doubts_settle_all(CatalogDoubts *doubts, int slot, int64 born, int64 ended);

#endif
