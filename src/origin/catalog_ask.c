/*
 * origin/catalog_ask.c - the texts of the questions, and their rows.
 *
 * Answers: how is each thing asked of PostgreSQL 12 to 18, and is this row believable? Every question is one query string that is a
 * transaction of its own (so it works behind a transaction pooler too), read only, and with a search_path of
 * pg_catalog alone: no operator or function of a user can come between. No text has a backslash: standard_conforming_strings may be off.
 *
 * Owns the lists of a CatalogRead while they grow. What arrives is hostile: numbers are bounded, names are cut, rows are counted.
 * Never: knows what the rows mean.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "origin/catalog_internal.h"

#define OPEN_READ	"begin transaction isolation level repeatable read, read only; set local search_path to pg_catalog; "
#define TIMEOUT_LOOK "set local statement_timeout to 10000; "
/* the planner overestimates the node trees: compiling would take longer than the query, and workers are not ours to take */
#define TIMEOUT_READ "set local statement_timeout to 60000; set local jit to off; set local max_parallel_workers_per_gather to 0; "

/* Schemas of temporary objects: what is in them concerns their session alone. */
#define TEMP_SCHEMAS "(select n.oid from pg_namespace n where n.nspname ~ '^pg_(toast_)?temp_')"
#define TEMP_RELATIONS "(select c.oid from pg_class c where c.relpersistence = 't')"

/* ---- a look ---- */

#define LOOK_IDENTITY \
	"select (select s.system_identifier from pg_control_system() s)::text, (select k.timeline_id from pg_control_checkpoint() k)::text, " \
	"(select d.oid from pg_database d where d.datname = current_database())::text, " \
	"(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text, current_setting('server_version_num'), " \
	"pg_is_in_recovery()::int::text, (current_setting('track_counts') = 'on')::int::text, "

#define LOOK_SUM \
	"(select coalesce(sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del), 0)::text from pg_stat_sys_tables t where t.schemaname = 'pg_catalog' " \
	"and t.relname not in ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject', 'pg_largeobject_metadata'))"

char *
catalog_look_text(bool whole)
{
	return psprintf("%s%s%s%s; commit", OPEN_READ, TIMEOUT_LOOK, LOOK_IDENTITY, whole ? LOOK_SUM : "'0'");
}

/* ---- the fingerprint: a catalog's rows by OID and xmin; every change of a row is a new version of it ---- */

typedef struct PrintPart
{
	const char *catalog;
	const char *key;
	const char *where;			/* or NULL: all rows */
} PrintPart;

static const PrintPart print_parts[] = {
	{"pg_namespace", "x.oid", "x.nspname !~ '^pg_(toast_)?temp_'"},
	{"pg_class", "x.oid", "x.relpersistence <> 't'"},
	{"pg_attribute", "x.attrelid::text || '.' || x.attnum", "x.attrelid not in " TEMP_RELATIONS},
	{"pg_proc", "x.oid", "x.pronamespace not in " TEMP_SCHEMAS},
	{"pg_type", "x.oid", "x.typnamespace not in " TEMP_SCHEMAS},
	{"pg_operator", "x.oid", "x.oprnamespace not in " TEMP_SCHEMAS},
	{"pg_cast", "x.oid", NULL},
	{"pg_rewrite", "x.oid", "x.ev_class not in " TEMP_RELATIONS},
	{"pg_policy", "x.oid", "x.polrelid not in " TEMP_RELATIONS},
	{"pg_trigger", "x.oid", "x.tgrelid not in " TEMP_RELATIONS},
	{"pg_event_trigger", "x.oid", NULL},
	{"pg_constraint", "x.oid", "x.connamespace not in " TEMP_SCHEMAS},
	{"pg_inherits", "x.inhrelid::text || '.' || x.inhparent", "x.inhrelid not in " TEMP_RELATIONS},
	{"pg_attrdef", "x.oid", "x.adrelid not in " TEMP_RELATIONS},
	{"pg_enum", "x.oid", NULL},
	{"pg_range", "x.rngtypid", NULL},
	{"pg_aggregate", "x.aggfnoid::oid", NULL},
	{"pg_collation", "x.oid", NULL},
	{"pg_opclass", "x.oid", NULL},
	{"pg_amop", "x.oid", NULL},
	{"pg_amproc", "x.oid", NULL},
	{"pg_ts_config", "x.oid", NULL},
	{"pg_ts_config_map", "x.mapcfg::text || '.' || x.maptokentype || '.' || x.mapseqno", NULL},
	{"pg_ts_dict", "x.oid", NULL},
	{"pg_auth_members", "x.roleid::text || '.' || x.member", NULL},
	{"pg_db_role_setting", "x.setdatabase::text || '.' || x.setrole", NULL},
};

static void
append_print(StringInfo text)
{
	size_t		i;

	for (i = 0; i < lengthof(print_parts); i++)
	{
		const PrintPart *p = &print_parts[i];

		appendStringInfo(text, "select '%s', count(*)::text, coalesce(sum(hashtextextended((%s)::text || ':' || x.xmin::text, 0)::numeric), 0)::text from %s x%s%s union all ",
						 p->catalog, p->key, p->catalog, p->where ? " where " : "", p->where ? p->where : "");
	}
	/* a view: its rows have no xmin */
	appendStringInfoString(text, "select 'pg_roles', count(*)::text, coalesce(sum(hashtextextended(x::text, 0)::numeric), 0)::text from pg_roles x; ");
}

char *
catalog_print_text(int version)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, OPEN_READ TIMEOUT_READ);
	append_print(&text);
	appendStringInfoString(&text, "commit");
	return text.data;
}

/* ---- everything ---- */

#define READ_SCHEMAS \
	"select n.oid::text, n.nspname from pg_namespace n where n.nspname !~ '^pg_(toast|temp)'; "

#define READ_RELATIONS \
	"select c.oid::text, c.relnamespace::text, c.relkind, c.relrowsecurity::int::text, c.relname from pg_class c " \
	"where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' and c.relnamespace <> 99; "

/*
 * The body of the trigger that every second table has: BEGIN NEW.updated_at := now(); RETURN NEW; END. Nothing but such assignments counts.
 */
#define STAMP_COLUMN	"new\\.([a-z_][a-z0-9_]*|\"[^\"]+\")"
#define STAMP_VALUE		"(((pg_catalog\\.)?(now|clock_timestamp|statement_timestamp|transaction_timestamp)\\s*\\(\\s*\\)|current_timestamp|localtimestamp|current_date)" \
	"(\\s+at\\s+time\\s+zone\\s+''[a-z/_]+'')?|null|true|false|[0-9]+|old\\.([a-z_][a-z0-9_]*|\"[^\"]+\"))"
#define STAMP_BODY		"'^\\s*begin\\s+(" STAMP_COLUMN "\\s*:?=\\s*" STAMP_VALUE "\\s*;\\s*)+return\\s+new\\s*;\\s*end\\s*;?\\s*$'"

#define READ_FUNCTIONS \
	"select p.oid::text, p.pronamespace::text, p.provolatile, p.prokind, (p.prolang in (12, 13))::int::text, " \
	"case when p.provariadic <> 0 and p.pronargs = 1 then '2276' " \
	"when p.pronargs >= 1 and (p.pronargs - p.pronargdefaults <= 1 or (p.provariadic <> 0 and p.pronargs <= 2)) then p.proargtypes[0]::text else '0' end, " \
	"(p.prorettype = 2279 and p.proconfig is null and not p.prosecdef and p.prolang = (select l.oid from pg_language l where l.lanname = 'plpgsql') and p.prosrc ~* " STAMP_BODY ")::int::text, " \
	"p.proname " \
	"from pg_proc p where p.pronamespace not in " TEMP_SCHEMAS "; "

/* typsubscript and typanalyze work for the planner and for ANALYZE. */
#define READ_TYPES \
	"select t.oid::text, t.typnamespace::text, t.typtype, (t.typelem <> 0 and t.typlen = -1)::int::text, t.typbasetype::text, t.typname " \
	"from pg_type t where (t.oid >= 16384 or (t.typtype <> 'c' and not (t.typelem <> 0 and t.typlen = -1))) and t.typnamespace not in " TEMP_SCHEMAS "; "

#define READ_OPERATORS \
	"select o.oid::text, o.oprnamespace::text, o.oprcode::oid::text, o.oprleft::text, o.oprright::text, o.oprname from pg_operator o " \
	"where (o.oid >= 16384 or o.oprcode::oid >= 16384) and o.oprnamespace not in " TEMP_SCHEMAS "; "

/* date, time, timestamp, timestamptz, timetz, their arrays, ranges and multiranges */
#define TIME_TYPES "(1082, 1083, 1114, 1184, 1266, 1182, 1183, 1115, 1185, 1270, 3908, 3909, 3910, 3911, 3912, 3913, 4533, 4534, 4535, 6152, 6153, 6155)"

/* purpose, tag, from, to */
#define READ_EDGES_1 \
	"select 'h', '', i.inhrelid::text, i.inhparent::text from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' " \
	"union all select distinct 'k', '', k.confrelid::text, k.conrelid::text from pg_constraint k " \
	"where k.contype = 'f' and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')) " \
	"union all select distinct 'c', '', a.attrelid::text, a.atttypid::text from pg_attribute a join pg_class c on c.oid = a.attrelid " \
	"where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' and a.atttypid >= 16384 " \
	"union all select distinct 't', '', g.tgrelid::text, g.tgfoid::text from pg_trigger g where not g.tgisinternal and g.tgenabled <> 'D' " \
	"union all select distinct 'v', '', '0', e.evtfoid::text from pg_event_trigger e where e.evtenabled <> 'D' and e.evtevent <> 'login' " \
	"union all select 'm', case when p.prosrc ~* 'view|rule|policy|domain' then 'w' else '' end, '0', p.oid::text from pg_proc p where p.oid >= 16384 and p.prolang not in (12, 13) and (p.prosrc ~* 'temp' or p.proconfig::text ~* 'search_path=[^a-z]*pg_temp') " \
	"union all select distinct 'a', '', p.oid::text, u.t::text from pg_proc p cross join lateral unnest(p.proargtypes::oid[]) u(t) where p.oid >= 16384 and u.t >= 16384 " \
	"union all select distinct 'g', '', a.aggfnoid::oid::text, f.f::text from pg_aggregate a cross join lateral (values (a.aggtransfn::oid), (a.aggfinalfn::oid), (a.aggcombinefn::oid), " \
	"(a.aggserialfn::oid), (a.aggdeserialfn::oid), (a.aggmtransfn::oid), (a.aggminvtransfn::oid), (a.aggmfinalfn::oid)) f(f) where a.aggfnoid::oid >= 16384 and f.f <> 0 "

/*
 * Input and output in C that is declared stable depends on the settings alone, as that of the built-in types (citext's is theirs). A multirange's parts are those of its range.
 */
#define READ_EDGES_2 \
	"union all select distinct 'i', '', t.oid::text, f.f::text from pg_type t cross join lateral (values (t.typinput::oid), (t.typoutput::oid), (t.typreceive::oid), (t.typsend::oid), " \
	"(t.typmodin::oid), (t.typmodout::oid)) f(f) join pg_proc p on p.oid = f.f where t.oid >= 16384 and f.f >= 16384 and not (p.prolang in (12, 13) and p.provolatile = 's') " \
	"union all select 'i', '', r.rngtypid::text, r.rngcanonical::oid::text from pg_range r where r.rngtypid >= 16384 and r.rngcanonical::oid >= 16384 " \
	"union all select 'i', '', m.amproclefttype::text, m.amproc::oid::text from pg_amproc m where m.amproclefttype >= 16384 and m.amproc::oid >= 16384 " \
	"union all select distinct case when k.castcontext = 'i' or u.t = k.castsource then 'i' else 'x' end, '', u.t::text, k.castfunc::text from pg_cast k " \
	"cross join lateral (values (k.castsource), (k.casttarget)) u(t) where k.castfunc >= 16384 and u.t >= 16384 " \
	"union all select 'x', '', (case when t.typlen = -1 and t.typelem <> 0 then t.typelem else t.oid end)::text, k.castfunc::text from pg_cast k join pg_type t on t.oid = k.casttarget " \
	"where k.castfunc >= 16384 and k.castcontext = 'e' and k.castsource < 16384 and k.casttarget < 16384 " \
	"union all select distinct 'c', '', c.oid::text, c.reltype::text from pg_cast k join pg_class c on c.reltype = k.castsource where k.castfunc >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't' " \
	"union all select distinct 'i', '', m.amoplefttype::text, o.oprcode::oid::text from pg_amop m join pg_operator o on o.oid = m.amopopr where m.amoplefttype >= 16384 and o.oprcode::oid >= 16384 " \
	"union all select 's', '', '0', k.castfunc::text from pg_cast k where k.castfunc >= 16384 and k.castcontext <> 'e' and k.castsource < 16384 and k.casttarget < 16384 " \
	"union all select 'e', '', t.oid::text, t.typelem::text from pg_type t where t.oid >= 16384 and t.typelem <> 0 " \
	"union all select 'e', '', t.oid::text, t.typbasetype::text from pg_type t where t.oid >= 16384 and t.typbasetype <> 0 " \
	"union all select 'e', '', r.rngtypid::text, r.rngsubtype::text from pg_range r where r.rngtypid >= 16384 " \
	"union all select distinct 'e', '', c.reltype::text, a.atttypid::text from pg_class c join pg_attribute a on a.attrelid = c.oid where c.reltype >= 16384 and c.relpersistence <> 't' " \
	"and a.attnum > 0 and not a.attisdropped and (a.atttypid >= 16384 or a.atttypid in " TIME_TYPES ")"

#define READ_MULTIRANGES \
	"union all select 'e', '', r.rngmultitypid::text, r.rngtypid::text from pg_range r where r.rngmultitypid >= 16384 "

/*
 * The node trees, read on the origin's side. Dependencies on built-in objects are pinned and not in pg_depend. outToken() puts a backslash
 * before the spaces of names, so a column called ":funcid 5" is no match.
 */
#define READ_TREES_1 \
	"with trees(purpose, holder, tree) as materialized (" \
	"select case when w.ev_type = '1' then 'V' else 'R' end, w.ev_class, w.ev_action::text || coalesce(w.ev_qual::text, '') from pg_rewrite w " \
	"union all select 'P', p.polrelid, coalesce(p.polqual::text, '') || coalesce(p.polwithcheck::text, '') from pg_policy p " \
	"union all select 'C', k.conrelid, k.conbin::text from pg_constraint k where k.contype = 'c' and k.conrelid <> 0 " \
	"union all select 'T', k.contypid, k.conbin::text from pg_constraint k where k.contype = 'c' and k.contypid <> 0 " \
	"union all select 'T', t.oid, t.typdefaultbin::text from pg_type t where t.oid >= 16384 and t.typdefaultbin is not null " \
	"union all select 'A', p.oid, p.proargdefaults::text from pg_proc p where p.oid >= 16384 and p.proargdefaults is not null " \
	"union all select 'W', g.tgrelid, g.tgqual::text from pg_trigger g where not g.tgisinternal and g.tgenabled <> 'D' and g.tgqual is not null " \
	"union all select case when a.attgenerated = 'v' then 'G' else 'D' end, d.adrelid, d.adbin::text from pg_attrdef d " \
	"join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum), "

#define READ_TREES_2 \
	"found(purpose, holder, word, number) as (" \
	"select t.purpose, t.holder, m.m[1], m.m[2] from trees t cross join lateral " \
	"regexp_matches(t.tree, ':(funcid|opfuncid|aggfnoid|winfnoid|tsmhandler|opno|eqop|sortop|relid|typid) ([0-9]+)', 'g') m(m) " \
	"union all select t.purpose, t.holder, 'time', m.m[1] from trees t cross join lateral regexp_matches(t.tree, '{SQLVALUEFUNCTION :op ([0-9]+)', 'g') m(m) " \
	"union all select t.purpose, t.holder, 'text', m.m[1] from trees t cross join lateral " \
	"regexp_matches(t.tree, ':resulttype ([0-9]+) :resultcollid [0-9]+ :coerceformat', 'g') m(m) " \
	"union all select t.purpose, t.holder, 'domain', m.m[1] from trees t cross join lateral " \
	"regexp_matches(t.tree, ':resulttype ([0-9]+) :resulttypmod -?[0-9]+ :resultcollid [0-9]+ :coercionformat', 'g') m(m) " \
	"union all select t.purpose, t.holder, m.m[1], n.n from trees t cross join lateral " \
	"regexp_matches(t.tree, ':(opnos|coltypes|funccoltypes) [(]o ([0-9 ]+)[)]', 'g') m(m) cross join lateral regexp_split_to_table(btrim(m.m[2]), ' +') n(n)) "

#define READ_TREES_3 \
	"select distinct f.purpose, case when f.word in ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid', 'tsmhandler') then 'f' when f.word in ('opno', 'opnos', 'eqop', 'sortop') then 'o' " \
	"when f.word = 'relid' then 'r' when f.word in ('text', 'typid', 'coltypes', 'funccoltypes') then 'y' when f.word = 'domain' then 'd' else 'n' end, f.holder::text, f.number " \
	"from found f where f.number <> '0' or f.word = 'time'; "

typedef enum ReadQuestion
{
	READ_PRINT, READ_SCHEMA, READ_RELATION, READ_FUNCTION, READ_TYPE, READ_OPERATOR, READ_EDGE, READ_TREE, READ_LIMIT
} ReadQuestion;

/* In the order of ReadQuestion. One snapshot: the fingerprint is that of what is read. */
char *
catalog_read_text(int version)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, OPEN_READ TIMEOUT_READ);
	append_print(&text);
	appendStringInfoString(&text, READ_SCHEMAS READ_RELATIONS READ_FUNCTIONS READ_TYPES READ_OPERATORS);
	appendStringInfoString(&text, READ_EDGES_1 READ_EDGES_2);
	if (version >= 140000)
		appendStringInfoString(&text, READ_MULTIRANGES);
	appendStringInfoString(&text, "; " READ_TREES_1 READ_TREES_2 READ_TREES_3 "commit");
	return text.data;
}

bool
catalog_read_is_whole(int questions)
{
	return questions == READ_LIMIT;
}

/* ---- fields ---- */

static bool
has_field(const PGresult *row, int column)
{
	return column < PQnfields(row) && !PQgetisnull(row, 0, column);
}

static bool
field_uint64(const PGresult *row, int column, uint64 *out)
{
	const char *text;
	char	   *end;

	if (!has_field(row, column))
		return false;
	text = PQgetvalue(row, 0, column);
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*out = strtou64(text, &end, 10);
	return errno == 0 && *end == '\0';
}

bool
catalog_field_int64(const PGresult *row, int column, int64 *out)
{
	char	   *end;

	if (!has_field(row, column) || PQgetlength(row, 0, column) == 0)
		return false;
	errno = 0;
	*out = strtoi64(PQgetvalue(row, 0, column), &end, 10);
	return errno == 0 && *end == '\0';
}

static bool
field_oid(const PGresult *row, int column, Oid *out)
{
	uint64		value;

	if (!field_uint64(row, column, &value) || value > PG_UINT32_MAX)
		return false;
	*out = (Oid) value;
	return true;
}

static bool
field_bool(const PGresult *row, int column, bool *out)
{
	Oid			value;

	if (!field_oid(row, column, &value) || value > 1)
		return false;
	*out = value == 1;
	return true;
}

/* An empty field is the letter '\0'. */
static bool
field_letter(const PGresult *row, int column, char *out)
{
	if (!has_field(row, column))
		return false;
	*out = PQgetvalue(row, 0, column)[0];
	return true;
}

static bool
field_name(const PGresult *row, int column, MemoryContext context, const char **out)
{
	if (!has_field(row, column))
		return false;
	*out = MemoryContextAlloc(context, Min(PQgetlength(row, 0, column), NAMEDATALEN - 1) + 1);
	strlcpy((char *) *out, PQgetvalue(row, 0, column), Min(PQgetlength(row, 0, column), NAMEDATALEN - 1) + 1);
	return true;
}

/* ---- rows: a look, the fingerprint ---- */

static const char *const strange = "the origin's answer about its catalog is not understood";

const char *
catalog_take_look(CatalogLook *look, const PGresult *row)
{
	Oid			version;

	memset(look, 0, sizeof(*look));
	if (!field_uint64(row, 0, &look->system) || !field_oid(row, 1, &look->timeline) || !field_oid(row, 2, &look->database) ||
		!catalog_field_int64(row, 3, &look->started) || !field_oid(row, 4, &version) || !field_bool(row, 5, &look->recovering) ||
		!field_bool(row, 6, &look->counts) || !has_field(row, 7) || look->system == 0 || look->database == InvalidOid)
		return strange;
	if (version < 120000 || version > 9999999)
		return "the origin is older than PostgreSQL 12";
	look->version = (int) version;
	strlcpy(look->sum, PQgetvalue(row, 0, 7), sizeof(look->sum));
	look->answered = true;
	return NULL;
}

/* The parts come in any order: what is made of them must not depend on it. */
const char *
catalog_take_print(CatalogPrint *print, const PGresult *row)
{
	char		line[256];
	Digest128	digest;

	if (!has_field(row, 0) || !has_field(row, 1) || !has_field(row, 2))
		return strange;
	snprintf(line, sizeof(line), "%s %s %s", PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2));
	digest = digest_of(bytes_str(line));
	print->all += digest.lo;
	if (strcmp(PQgetvalue(row, 0, 0), "pg_db_role_setting") == 0)
		print->defaults = digest.lo;
	return NULL;
}

/* ---- rows: everything ---- */

CatalogRead *
catalog_read_begin(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "hyperpool catalog", ALLOCSET_DEFAULT_SIZES);
	CatalogRead *read = MemoryContextAllocZero(context, sizeof(CatalogRead));

	read->context = context;
	return read;
}

void
catalog_read_free(CatalogRead *read)
{
	if (read != NULL)
		MemoryContextDelete(read->context);
}

/* Room for one more, zeroed; NULL: too many. */
static void *
list_add(CatalogRead *read, CatalogList *list, Size item, uint32 max)
{
	char	   *at;

	if (list->count >= max)
		return NULL;
	if (list->count == list->size)
	{
		uint32		size = list->size == 0 ? 256 : list->size * 2;

		if (list->items == NULL)
			list->items = MemoryContextAlloc(read->context, size * item);
		else
			list->items = repalloc_huge(list->items, size * item);
		list->size = size;
	}
	at = (char *) list->items + list->count * item;
	memset(at, 0, item);
	list->count++;
	return at;
}

static const char *const too_large = "the catalog is too large";

static const char *
take_schema(CatalogRead *read, const PGresult *row)
{
	CatalogSchema *s = list_add(read, &read->schemas, sizeof(CatalogSchema), SCHEMAS_MAX);

	if (s == NULL)
		return too_large;
	return field_oid(row, 0, &s->oid) && field_name(row, 1, read->context, &s->name) ? NULL : strange;
}

static const char *
take_relation(CatalogRead *read, const PGresult *row)
{
	CatalogRelation *r = list_add(read, &read->relations, sizeof(CatalogRelation), RELATIONS_MAX);

	if (r == NULL)
		return too_large;
	return field_oid(row, 0, &r->oid) && field_oid(row, 1, &r->schema) && field_letter(row, 2, &r->kind) &&
		field_bool(row, 3, &r->row_security) && field_name(row, 4, read->context, &r->name) ? NULL : strange;
}

static const char *
take_function(CatalogRead *read, const PGresult *row)
{
	CatalogFunction *f = list_add(read, &read->functions, sizeof(CatalogFunction), FUNCTIONS_MAX);

	if (f == NULL)
		return too_large;
	return field_oid(row, 0, &f->oid) && field_oid(row, 1, &f->schema) && field_letter(row, 2, &f->volatility) &&
		field_letter(row, 3, &f->kind) && field_bool(row, 4, &f->native) && field_oid(row, 5, &f->first_argument) &&
		field_bool(row, 6, &f->stamps) && field_name(row, 7, read->context, &f->name) ? NULL : strange;
}

static const char *
take_type(CatalogRead *read, const PGresult *row)
{
	CatalogType *t = list_add(read, &read->types, sizeof(CatalogType), TYPES_MAX);

	if (t == NULL)
		return too_large;
	return field_oid(row, 0, &t->oid) && field_oid(row, 1, &t->schema) && field_letter(row, 2, &t->kind) &&
		field_bool(row, 3, &t->array) && field_oid(row, 4, &t->base) && field_name(row, 5, read->context, &t->name) ? NULL : strange;
}

static const char *
take_operator(CatalogRead *read, const PGresult *row)
{
	CatalogOperator *o = list_add(read, &read->operators, sizeof(CatalogOperator), OPERATORS_MAX);

	if (o == NULL)
		return too_large;
	return field_oid(row, 0, &o->oid) && field_oid(row, 1, &o->schema) && field_oid(row, 2, &o->function) &&
		field_oid(row, 3, &o->left) && field_oid(row, 4, &o->right) && field_name(row, 5, read->context, &o->name) ? NULL : strange;
}

static const char *
take_edge(CatalogRead *read, const PGresult *row)
{
	CatalogEdge *e = list_add(read, &read->edges, sizeof(CatalogEdge), EDGES_MAX);

	if (e == NULL)
		return too_large;
	return field_letter(row, 0, &e->purpose) && field_letter(row, 1, &e->tag) && field_oid(row, 2, &e->from) &&
		field_oid(row, 3, &e->to) ? NULL : strange;
}

const char *
catalog_take_read(CatalogRead *read, int question, const PGresult *row)
{
	switch ((ReadQuestion) question)
	{
		case READ_PRINT:
			return catalog_take_print(&read->print, row);
		case READ_SCHEMA:
			return take_schema(read, row);
		case READ_RELATION:
			return take_relation(read, row);
		case READ_FUNCTION:
			return take_function(read, row);
		case READ_TYPE:
			return take_type(read, row);
		case READ_OPERATOR:
			return take_operator(read, row);
		case READ_EDGE:
		case READ_TREE:
			return take_edge(read, row);
		case READ_LIMIT:
			break;
	}
	return strange;
}
