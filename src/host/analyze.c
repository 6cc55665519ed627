/*
 * host/analyze.c - SQL text -> facts, by PostgreSQL's own raw parser.
 *
 * Answers: what does this query string do to a session, a link, the data?
 * Owns nothing that lasts: each text is parsed in a memory context of its own,
 * deleted before returning. Never: runs SQL, opens a catalog, raises an error,
 * keeps the text.
 *
 * Names are not resolved. A function is taken for the built-in of its name when
 * it is unqualified or in pg_catalog (function_effects), and may do anything
 * otherwise; triggers, views and rules cannot be seen from here at all, which is why
 * every writing statement counts as dirty.
 *
 * analyze_mentions.c gathers the names, analyze_scan.c reads texts without the parser.
 *
 * The raw parser works without a transaction and without a database. It raises errors
 * (syntax, "memory exhausted", stack depth), all caught here, and warnings, kept
 * out of the log by raising the levels meanwhile: the text is hostile.
 */
#include "postgres.h"

#include "host/analyze_internal.h"

#include "catalog/pg_class.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "host/analyze_functions.h"

#define EFFECTS_WRITE	(EFFECT_WRITES | EFFECT_LOCKS | EFFECT_DIRTY)
#define EFFECTS_UNSEEN	(EFFECT_UNKNOWN | EFFECTS_WRITE)
#define SCAN_STEPS_MAX	4000000		/* characters looked at once more than they should be: some milliseconds */

/* What is being filled in while a text is read: the facts of one statement, the names of all. */
typedef struct Reading
{
	StatementFacts *facts;
	NameDraft  *names;
} Reading;

static uint32 statement_effects(Node *stmt, const Reading *reading);

/* ---- names ---- */

static bool
is_temp_schema(const char *schema)
{
	return schema != NULL &&
		(strcmp(schema, "pg_temp") == 0 || strncmp(schema, "pg_temp_", 8) == 0);
}

static bool
is_temp_relation(const RangeVar *relation)
{
	return relation != NULL &&
		(relation->relpersistence == RELPERSISTENCE_TEMP || is_temp_schema(relation->schemaname));
}

/* A possibly qualified name as a list of String nodes: does it begin with pg_temp? */
static bool
is_temp_name(List *names)
{
	return list_length(names) > 1 && IsA(linitial(names), String) &&
		is_temp_schema(strVal(linitial(names)));
}

/* The bare name if a built-in may be meant (no schema, or pg_catalog), else NULL. */
static const char *
builtin_name(List *names)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (!IsA(lfirst(cell), String))
			return NULL;
	}
	if (list_length(names) == 1)
		return strVal(linitial(names));
	if (list_length(names) == 2 && strcmp(strVal(linitial(names)), "pg_catalog") == 0)
		return strVal(lsecond(names));
	return NULL;
}

static int
compare_function(const void *key, const void *row)
{
	return strcmp((const char *) key, ((const FunctionEffect *) row)->name);
}

/* ---- what stands inside an expression ---- */

/* The literal true, 't', 'true'::bool ... that makes set_config local. */
static bool
is_true_constant(Node *node)
{
	while (node != NULL && IsA(node, TypeCast))
		node = ((TypeCast *) node)->arg;
	if (node == NULL || !IsA(node, A_Const) || ((A_Const *) node)->isnull)
		return false;
	node = (Node *) &((A_Const *) node)->val;
	if (IsA(node, Boolean))
		return boolVal(node);
	return IsA(node, String) && (strcmp(strVal(node), "t") == 0 || strcmp(strVal(node), "true") == 0);
}

/* set_config with a third argument that is plainly true ends with its transaction. */
static bool
is_local_set_config(const FuncCall *call)
{
	ListCell   *cell;

	if (list_length(call->args) != 3)
		return false;
	foreach(cell, call->args)
	{
		if (IsA(lfirst(cell), NamedArgExpr))
			return false;
	}
	return is_true_constant(lthird(call->args));
}

/* A custom setting (a.b) is not listed in pg_settings and no reset undefines it again: it stays on its link. */
static uint32
custom_setting_binds(const char *name)
{
	return name != NULL && strchr(name, '.') ? EFFECT_BIND : EFFECT_NONE;
}

/*
 * What it is at the time of a Parse decides what the text means, or its literals, and stays in the statement: a plan is made anew when the search_path or the
 * role changes, not for these. NULL: any.
 */
static uint32
setting_rereads(const char *name)
{
	static const char *const names[] = {
		"array_nulls", "backslash_quote", "client_encoding", "datestyle", "intervalstyle", "lc_monetary", "standard_conforming_strings", "timezone",
		"timezone_abbreviations", "transform_null_equals", "xmloption"
	};

	for (int i = 0; name != NULL && i < (int) lengthof(names); i++)
	{
		if (pg_strcasecmp(name, names[i]) == 0)
			return EFFECT_REREADS;
	}
	return name == NULL ? EFFECT_REREADS : EFFECT_NONE;
}

/* The name that a set_config is given, or NULL: it does not stand there. */
static Node *
set_config_argument(const FuncCall *call)
{
	Node	   *name = call->args ? linitial(call->args) : NULL;

	while (name != NULL && IsA(name, TypeCast))
		name = ((TypeCast *) name)->arg;
	return name;
}

static const char *
set_config_name(const FuncCall *call)
{
	Node	   *name = set_config_argument(call);

	if (name == NULL || !IsA(name, A_Const) || ((A_Const *) name)->isnull || !IsA(&((A_Const *) name)->val, String))
		return NULL;
	return strVal(&((A_Const *) name)->val);
}

static uint32
set_config_binds(const FuncCall *call)
{
	Node	   *name = set_config_argument(call);

	if (name != NULL && IsA(name, ParamRef) && ((ParamRef *) name)->number == 1)
		return EFFECT_SETS_NAMED;
	return set_config_name(call) ? custom_setting_binds(set_config_name(call)) : EFFECT_BIND;
}

static uint32
function_call_effects(const FuncCall *call)
{
	const char *name = builtin_name(call->funcname);
	const FunctionEffect *row = NULL;

	if (name != NULL)
		row = bsearch(name, function_effects, FUNCTION_EFFECTS_COUNT, sizeof(FunctionEffect),
					  compare_function);
	if (row == NULL)
		return EFFECTS_WRITE;
	if (strcmp(name, "set_config") == 0)
		return setting_rereads(set_config_name(call)) | (is_local_set_config(call) ? EFFECT_NONE : row->effects | set_config_binds(call));
	return row->effects;
}

/* OPERATOR(schema.+) from anywhere but pg_catalog calls a function of that schema's owner. */
static uint32
operator_effects(List *name)
{
	return list_length(name) > 1 && builtin_name(name) == NULL ? EFFECTS_WRITE : EFFECT_NONE;
}

/* What a new relation changes but for data that nobody has read yet: a temporary one is seen in the catalogs alone. */
static void
note_new_relation(NameDraft *names, const RangeVar *relation)
{
	if (!is_temp_relation(relation))
	{
		names->flags |= TEXT_WRITES_ANYTHING;
		return;
	}
	names->flags |= TEXT_WRITES_CATALOG;
	analyze_mention_relation(names, MENTION_TEMP, relation);
}

/* A temporary table that its transaction drops binds nothing. */
static uint32
new_table_effects(const RangeVar *relation, OnCommitAction on_commit)
{
	if (is_temp_relation(relation) && on_commit != ONCOMMIT_DROP)
		return EFFECT_BIND | EFFECT_WRITES;
	return EFFECT_WRITES | EFFECT_DIRTY;
}

static void
find_in_select(const SelectStmt *select, Findings *found)
{
	if (select->lockingClause != NIL)
		found->effects |= EFFECT_LOCKS | EFFECT_WRITES;
	if (select->intoClause != NULL)
	{
		found->makes_table = true;
		note_new_relation(found->names, select->intoClause->rel);
		found->effects |= new_table_effects(select->intoClause->rel, select->intoClause->onCommit);
	}
}

/* An UPDATE of it is a SET. */
static bool
is_settings_view(const RangeVar *relation)
{
	return strcmp(relation->relname, "pg_settings") == 0 && (relation->schemaname == NULL || strcmp(relation->schemaname, "pg_catalog") == 0);
}

void
analyze_node_effects(Node *node, Findings *found)
{
	switch (nodeTag(node))
	{
		case T_SelectStmt:
			find_in_select((SelectStmt *) node, found);
			break;
		case T_UpdateStmt:
			if (is_settings_view(((UpdateStmt *) node)->relation))
				found->effects |= EFFECT_SETTINGS;
			/* FALLTHROUGH */
		case T_InsertStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			found->writes = true;
			found->effects |= EFFECTS_WRITE;
			break;
		case T_FuncCall:
			found->effects |= function_call_effects((FuncCall *) node);
			break;
		case T_A_Expr:
			found->effects |= operator_effects(((A_Expr *) node)->name);
			break;
		case T_SubLink:
			found->effects |= operator_effects(((SubLink *) node)->operName);
			break;
		case T_SortBy:
			found->effects |= operator_effects(((SortBy *) node)->useOp);
			break;
		case T_RangeTableSample:
			if (builtin_name(((RangeTableSample *) node)->method) == NULL)
				found->effects |= EFFECTS_WRITE;
			break;
		default:
			break;
	}
}

static uint32
walk_effects(Node *node, const Reading *reading)
{
	Findings	found = {.names = reading->names};

	analyze_walk(node, &found);
	return found.effects;
}

/* ---- one statement ---- */

static uint32
dml_effects(Node *stmt, const Reading *reading)
{
	Findings	found = {.names = reading->names};

	analyze_walk(stmt, &found);
	if (found.makes_table)
		reading->facts->kind = STATEMENT_OTHER;
	else
		reading->facts->kind = found.writes ? STATEMENT_WRITE : STATEMENT_READ;
	return found.effects;
}

/* An option of BEGIN that a standby refuses. */
static bool
needs_primary(const DefElem *option)
{
	Node	   *value = option->arg;

	if (value == NULL || !IsA(value, A_Const))
		return true;
	value = (Node *) &((A_Const *) value)->val;
	if (strcmp(option->defname, "transaction_isolation") == 0)
		return !IsA(value, String) || strcmp(strVal(value), "serializable") == 0;
	if (strcmp(option->defname, "transaction_read_only") == 0)
		return !IsA(value, Integer) || intVal(value) == 0;
	return strcmp(option->defname, "transaction_deferrable") != 0;
}

static uint8
begin_traits(const TransactionStmt *stmt)
{
	uint8		traits = BEGIN_ALONE;
	ListCell   *cell;

	if (stmt->kind == TRANS_STMT_START)
		traits |= BEGIN_BY_START;
	foreach(cell, stmt->options)
	{
		if (needs_primary(lfirst(cell)))
			traits |= BEGIN_NOT_ON_STANDBY;
	}
	return traits;
}

static uint32
transaction_effects(const TransactionStmt *stmt, const Reading *reading)
{
	if (stmt->kind == TRANS_STMT_COMMIT_PREPARED)
		reading->names->flags |= TEXT_WRITES_ANYTHING;
	switch (stmt->kind)
	{
		case TRANS_STMT_BEGIN:
		case TRANS_STMT_START:
			reading->facts->begin = begin_traits(stmt);
			return EFFECT_BEGIN;
		case TRANS_STMT_COMMIT:
		case TRANS_STMT_ROLLBACK:
			return EFFECT_END | (stmt->chain ? EFFECT_BEGIN : 0);
		case TRANS_STMT_PREPARE:
		case TRANS_STMT_COMMIT_PREPARED:
		case TRANS_STMT_ROLLBACK_PREPARED:
			return EFFECT_END | EFFECT_WRITES;
		case TRANS_STMT_SAVEPOINT:
		case TRANS_STMT_RELEASE:
		case TRANS_STMT_ROLLBACK_TO:
			return EFFECT_NONE;
	}
	return EFFECTS_WRITE;
}

/* SET TRANSACTION, and the settings that are nothing else, end with the transaction. */
static bool
is_transaction_setting(const char *name)
{
	return name != NULL &&
		(strcmp(name, "TRANSACTION") == 0 || strcmp(name, "TRANSACTION SNAPSHOT") == 0 ||
		 pg_strcasecmp(name, "transaction_isolation") == 0 ||
		 pg_strcasecmp(name, "transaction_read_only") == 0 ||
		 pg_strcasecmp(name, "transaction_deferrable") == 0);
}

/* What a SET or RESET does where it arrives. */
static uint32
set_effects(const VariableSetStmt *stmt)
{
	bool		resets = stmt->kind == VAR_SET_DEFAULT || stmt->kind == VAR_RESET || stmt->kind == VAR_RESET_ALL;

	if (is_transaction_setting(stmt->name))
		return EFFECT_NONE;
	if (stmt->is_local)
		return setting_rereads(stmt->name);
	return EFFECT_SETTINGS | setting_rereads(stmt->name) | custom_setting_binds(stmt->name) | (resets ? EFFECT_RESETS : EFFECT_NONE);
}

/* Settings of ours; the gateway answers those of its sessions itself. */
static bool
is_gateway_setting(const char *name)
{
	return name != NULL && pg_strncasecmp(name, "hyperpool.", 10) == 0;
}

static void
set_target(StatementFacts *facts, StatementKind kind, const char *name)
{
	facts->kind = kind;
	facts->target = name != NULL ? bytes_copy(bytes_str(name)) : NULL;
	/* without memory for the name nothing may be built upon it */
	if (name != NULL && facts->target == NULL)
		facts->kind = STATEMENT_OTHER;
}

/* The two that a session has. They never reach the origin, so they do nothing to a link. */
static bool
stays_here(const char *name)
{
	return strcmp(name, "hyperpool.cache") == 0 || strcmp(name, "hyperpool.max_age") == 0;
}

static uint32
set_statement_effects(const VariableSetStmt *stmt, StatementFacts *facts)
{
	char	   *name;

	if (is_gateway_setting(stmt->name))
	{
		name = asc_tolower(stmt->name, strlen(stmt->name));
		set_target(facts, STATEMENT_SET, name);
		return facts->target != NULL && stays_here(name) ? EFFECT_NONE : set_effects(stmt);
	}
	if (!stmt->is_local && !is_transaction_setting(stmt->name))
		facts->kind = STATEMENT_SET;
	return set_effects(stmt);
}

static void
read_show(const VariableShowStmt *stmt, StatementFacts *facts)
{
	facts->kind = STATEMENT_SHOW;
	if (is_gateway_setting(stmt->name))
		set_target(facts, STATEMENT_SHOW, asc_tolower(stmt->name, strlen(stmt->name)));
}

static uint32
copy_effects(const CopyStmt *stmt, const Reading *reading)
{
	uint32		effects = EFFECT_NONE;

	reading->facts->kind = STATEMENT_COPY;
	if (stmt->filename == NULL)
		effects |= EFFECT_COPY;
	if (stmt->filename != NULL || stmt->is_program || stmt->is_from)
		effects |= EFFECTS_WRITE;
	if (stmt->is_program || (stmt->filename != NULL && !stmt->is_from))
		reading->names->flags |= TEXT_WRITES_ANYTHING;
	analyze_mention_relation(reading->names, stmt->is_from ? MENTION_WRITES : MENTION_READS, stmt->relation);
	return effects | walk_effects(stmt->query, reading) | walk_effects(stmt->whereClause, reading);
}

/* ANALYZE off or false in any spelling; everything else counts as on, 0 too: texts that differ in numbers alone share their facts. */
static bool
option_is_on(const DefElem *option)
{
	bool		value;

	if (option->arg == NULL)
		return true;
	if (IsA(option->arg, String) && parse_bool(strVal(option->arg), &value))
		return value;
	return true;
}

static bool
has_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, name) == 0 && option_is_on(option))
			return true;
	}
	return false;
}

/*
 * The effects of a statement inside another, or beside others; its kind is not
 * told. DEALLOCATE ALL takes the link's own prepared statements with it: where
 * its kind cannot say so, the link must go. A setting of the gateway goes to the
 * origin like any other here.
 */
static uint32
inner_effects(Node *stmt, NameDraft *names)
{
	StatementFacts inner = {0};
	Reading		reading = {&inner, names};
	uint32		effects = statement_effects(stmt, &reading);

	if (inner.kind == STATEMENT_DEALLOCATE && inner.target == NULL)
		effects |= EFFECT_RETIRE;
	if (IsA(stmt, VariableSetStmt))
		effects |= set_effects((VariableSetStmt *) stmt);
	mem_free_str(inner.target);
	return effects;
}

static uint32
table_as_effects(const CreateTableAsStmt *stmt, NameDraft *names)
{
	uint32		effects = EFFECT_LOCKS;

	if (stmt->into != NULL)
		effects |= new_table_effects(stmt->into->rel, stmt->into->onCommit);
	else
		effects |= EFFECTS_WRITE;
	if (stmt->into != NULL)
		note_new_relation(names, stmt->into->rel);
	else
		names->flags |= TEXT_WRITES_ANYTHING;
	return effects | inner_effects(stmt->query, names);
}

/* What a temporary child holds is read and written by the name of its parents too. */
static void
note_parents(NameDraft *names, const CreateStmt *stmt)
{
	ListCell   *cell;

	if (!is_temp_relation(stmt->relation))
		return;
	foreach(cell, stmt->inhRelations)
		analyze_mention_relation(names, MENTION_TEMP, lfirst_node(RangeVar, cell));
}

static bool
note_temp_relation(NameDraft *names, const RangeVar *relation)
{
	if (!is_temp_relation(relation))
		return false;
	analyze_mention_relation(names, MENTION_TEMP, relation);
	return true;
}

static bool
note_temp_name(NameDraft *names, List *parts)
{
	if (!is_temp_name(parts))
		return false;
	analyze_mention_name(names, MENTION_TEMP, parts);
	return true;
}

/* Other objects may live in pg_temp too, and there they last as long as the session. A function there is not found by its bare name. */
static bool
makes_temp_object(Node *stmt, NameDraft *names)
{
	switch (nodeTag(stmt))
	{
		case T_ViewStmt:
			return note_temp_relation(names, ((ViewStmt *) stmt)->view);
		case T_CreateSeqStmt:
			return note_temp_relation(names, ((CreateSeqStmt *) stmt)->sequence);
		case T_CompositeTypeStmt:
			return note_temp_relation(names, ((CompositeTypeStmt *) stmt)->typevar);
		case T_CreateFunctionStmt:
			return is_temp_name(((CreateFunctionStmt *) stmt)->funcname);
		case T_DefineStmt:
			return note_temp_name(names, ((DefineStmt *) stmt)->defnames);
		case T_CreateEnumStmt:
			return note_temp_name(names, ((CreateEnumStmt *) stmt)->typeName);
		case T_CreateRangeStmt:
			return note_temp_name(names, ((CreateRangeStmt *) stmt)->typeName);
		case T_CreateDomainStmt:
			return note_temp_name(names, ((CreateDomainStmt *) stmt)->domainname);
		default:
			return false;
	}
}

/* Objects of the catalogs; a view's query and a function's body are not run. */
static uint32
definition_effects(Node *stmt, NameDraft *names)
{
	if (makes_temp_object(stmt, names))
	{
		names->flags |= TEXT_WRITES_CATALOG;
		return EFFECT_BIND | EFFECT_WRITES | EFFECT_LOCKS;
	}
	names->flags |= TEXT_WRITES_ANYTHING;
	return EFFECTS_WRITE;
}

/* What a DO runs is not read, but looked through. */
static void
note_body(NameDraft *names, const DoStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->args)
	{
		const DefElem *part = lfirst_node(DefElem, cell);
		const char *body = part->arg != NULL && IsA(part->arg, String) ? strVal(part->arg) : "";

		for (; *body != '\0'; body++)
		{
			if (pg_strncasecmp(body, "temp", 4) == 0)
				names->flags |= TEXT_TEMPORARY;
		}
	}
}

/* Utility statements that define something, or are not listed by name. */
static uint32
other_effects(Node *stmt, const Reading *reading)
{
	NameDraft  *names = reading->names;

	switch (nodeTag(stmt))
	{
		case T_CreateStmt:
			note_new_relation(names, ((CreateStmt *) stmt)->relation);
			note_parents(names, (CreateStmt *) stmt);
			return EFFECT_LOCKS | new_table_effects(((CreateStmt *) stmt)->relation,
													((CreateStmt *) stmt)->oncommit);
		case T_CreateTableAsStmt:
			return table_as_effects((CreateTableAsStmt *) stmt, names);
		case T_CallStmt:
			names->flags |= TEXT_WRITES_ANYTHING;
			return EFFECTS_WRITE | walk_effects((Node *) ((CallStmt *) stmt)->funccall, reading);
		case T_DeclareCursorStmt:
			return walk_effects(((DeclareCursorStmt *) stmt)->query, reading) |
				((((DeclareCursorStmt *) stmt)->options & CURSOR_OPT_HOLD) ? EFFECT_BIND : 0);
		case T_ExplainStmt:
			return has_option(((ExplainStmt *) stmt)->options, "analyze") ? inner_effects(((ExplainStmt *) stmt)->query, names) : EFFECT_NONE;
		case T_VacuumStmt:
			/* FULL moves the rows, and ctid tells */
			names->flags |= has_option(((VacuumStmt *) stmt)->options, "full") ? TEXT_WRITES_ANYTHING : TEXT_WRITES_CATALOG;
			return EFFECTS_WRITE;
		case T_ReindexStmt:
			names->flags |= TEXT_WRITES_CATALOG;
			return EFFECTS_WRITE;
		case T_LockStmt:
			return EFFECTS_WRITE;
		case T_DoStmt:
			note_body(names, (DoStmt *) stmt);
			return definition_effects(stmt, names);
		default:
			return definition_effects(stmt, names);
	}
}

/* DISCARD ALL and TEMP drop temporary tables, which the catalogs show. */
static uint32
discard_effects(const DiscardStmt *stmt, const Reading *reading)
{
	if (stmt->target == DISCARD_ALL || stmt->target == DISCARD_TEMP)
		reading->names->flags |= TEXT_WRITES_CATALOG;
	if (stmt->target != DISCARD_ALL)
		return EFFECT_DIRTY;
	reading->facts->kind = STATEMENT_DISCARD_ALL;
	return EFFECT_UNBIND | EFFECT_RESETS;
}

static uint32
utility_effects(Node *stmt, const Reading *reading)
{
	StatementFacts *facts = reading->facts;

	facts->kind = STATEMENT_OTHER;
	switch (nodeTag(stmt))
	{
		case T_TransactionStmt:
			facts->kind = STATEMENT_TRANSACTION;
			return transaction_effects((TransactionStmt *) stmt, reading);
		case T_VariableSetStmt:
			return set_statement_effects((VariableSetStmt *) stmt, facts);
		case T_VariableShowStmt:
			read_show((VariableShowStmt *) stmt, facts);
			return EFFECT_NONE;
		case T_DeallocateStmt:
			set_target(facts, STATEMENT_DEALLOCATE, ((DeallocateStmt *) stmt)->name);
			return EFFECT_NONE;
		case T_ExecuteStmt:
			set_target(facts, STATEMENT_EXECUTE, ((ExecuteStmt *) stmt)->name);
			reading->names->flags |= TEXT_WRITES_ANYTHING;
			return EFFECTS_WRITE | walk_effects((Node *) ((ExecuteStmt *) stmt)->params, reading);
		case T_DiscardStmt:
			return discard_effects((DiscardStmt *) stmt, reading);
		case T_CopyStmt:
			return copy_effects((CopyStmt *) stmt, reading);
		case T_PrepareStmt:
		case T_ListenStmt:
			return EFFECT_BIND;
		case T_UnlistenStmt:
		case T_ConstraintsSetStmt:
			return EFFECT_NONE;
		case T_NotifyStmt:
		case T_CheckPointStmt:
			return EFFECT_WRITES;
		case T_FetchStmt:
		case T_ClosePortalStmt:
			return EFFECT_DIRTY;
		case T_LoadStmt:
			reading->names->flags |= TEXT_WRITES_ANYTHING;
			return EFFECT_RETIRE;
		default:
			return other_effects(stmt, reading);
	}
}

static uint32
statement_effects(Node *stmt, const Reading *reading)
{
	/* EXPLAIN ANALYZE CREATE TABLE AS EXECUTE and the like nest, if not deeply */
	check_stack_depth();
	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			return dml_effects(stmt, reading);
		default:
			return utility_effects(stmt, reading);
	}
}

/* ---- the whole text ---- */

void
analyze_forget(StatementFacts *facts)
{
	mem_free_str(facts->target);
	mentions_free(facts->mentions);
	memset(facts, 0, sizeof(*facts));
}

static void
forget(StatementFacts *facts)
{
	analyze_forget(facts);
	facts->known = true;
	facts->kind = STATEMENT_UNKNOWN;
	facts->effects = EFFECTS_UNSEEN;
}

/* Raises what the walker raises. */
static void
read_statements(List *statements, void *arg)
{
	StatementFacts *facts = arg;
	NameDraft	names;
	Reading		reading = {facts, &names};
	ListCell   *cell;
	uint32		effects = EFFECT_NONE;

	names_init(&names);
	facts->kind = STATEMENT_EMPTY;
	foreach(cell, statements)
	{
		Node	   *stmt = lfirst_node(RawStmt, cell)->stmt;

		if (list_length(statements) == 1)
			effects |= statement_effects(stmt, &reading);
		else
		{
			effects |= inner_effects(stmt, &names);
			facts->kind = STATEMENT_SEVERAL;
		}
	}
	facts->effects = (uint16_t) effects;
	if (!names_finish(&names, &facts->mentions))
		forget(facts);
}

/*
 * The global variables that reading a text depends on or that it could move, set to what a
 * client with standard strings and a safe encoding has at the origin, and restored after.
 */
typedef struct ParserGlobals
{
	bool		standard_strings;
	bool		escape_warning;
	int			backslash;
	int			log_level;
	int			client_level;
	uint32		interrupt_holdoff;
	uint32		cancel_holdoff;
} ParserGlobals;

static ParserGlobals
globals_enter(void)
{
	ParserGlobals saved;

	saved.standard_strings = standard_conforming_strings;
	saved.escape_warning = escape_string_warning;
	saved.backslash = backslash_quote;
	saved.log_level = log_min_messages;
	saved.client_level = client_min_messages;
	saved.interrupt_holdoff = InterruptHoldoffCount;
	saved.cancel_holdoff = QueryCancelHoldoffCount;
	standard_conforming_strings = true;
	escape_string_warning = false;
	backslash_quote = BACKSLASH_QUOTE_ON;
	log_min_messages = ERROR;
	client_min_messages = ERROR;
	return saved;
}

static void
globals_leave(const ParserGlobals *saved)
{
	standard_conforming_strings = saved->standard_strings;
	escape_string_warning = saved->escape_warning;
	backslash_quote = saved->backslash;
	log_min_messages = saved->log_level;
	client_min_messages = saved->client_level;
	/* an error resets these two (errfinish) */
	InterruptHoldoffCount = saved->interrupt_holdoff;
	QueryCancelHoldoffCount = saved->cancel_holdoff;
}

/* Parses the text and has the trees read, in memory that is given back. False: an error was raised, and is gone. */
static bool
read_safely(Bytes text, void (*read) (List *statements, void *arg), void *arg)
{
	ParserGlobals saved = globals_enter();
	MemoryContext before = CurrentMemoryContext;
	MemoryContext volatile parsing = NULL;
	volatile bool well = false;

	PG_TRY();
	{
		parsing = AllocSetContextCreate(before, "hyperpool analyze", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(parsing);
		read(raw_parser(pnstrdup((const char *) text.data, text.len), RAW_PARSE_DEFAULT), arg);
		well = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	if (parsing != NULL)
		MemoryContextDelete(parsing);
	globals_leave(&saved);
	return well;
}

/*
 * In a text of ASCII without a backslash, neither the encoding nor
 * standard_conforming_strings changes where a token ends.
 */
static bool
reads_alike_everywhere(Bytes text)
{
	size_t		i;

	for (i = 0; i < text.len; i++)
		if (text.data[i] == '\\' || text.data[i] >= 0x80)
			return false;
	return true;
}

/*
 * PostgreSQL's scanner matches a run of operator characters whole, and steps back to the first slash-star in it, or behind the first of the signs that end it: at each of
 * them. 64 kB of nothing else would hold up the worker for seconds.
 */
static bool
scans_slowly(Bytes text)
{
	uint64		steps = 0;
	size_t		i = 0;

	if (text.len * text.len <= SCAN_STEPS_MAX)
		return false;
	while (i < text.len)
	{
		size_t		from = i;
		uint64		stops = 0;

		for (; i < text.len && strchr("~!@#^&|`?+-*/%<>=", text.data[i]) != NULL; i++)
			stops += text.data[i] == '+' || text.data[i] == '-' || (text.data[i] == '/' && i + 1 < text.len && text.data[i + 1] == '*');
		steps += stops * (i - from);
		if (i == from)
			i++;
	}
	return steps > SCAN_STEPS_MAX;
}

void
analyze_text(Bytes text, bool safe_encoding, StatementFacts *facts)
{
	memset(facts, 0, sizeof(*facts));
	facts->known = true;
	if (text.len == 0)
		facts->kind = STATEMENT_EMPTY;
	else if (text.len > ANALYZE_MAX_TEXT || memchr(text.data, 0, text.len) != NULL ||
			 !(safe_encoding || reads_alike_everywhere(text)) || scans_slowly(text))
		forget(facts);
	else if (!read_safely(text, read_statements, facts))
		forget(facts);
}

static const StatementFacts unknown_facts = {
	.known = true,
	.kind = STATEMENT_UNKNOWN,
	.effects = EFFECTS_UNSEEN
};

/*
 * Statements are shared by the sessions of a worker, facts with them. So nothing is remembered of
 * a text this session reads otherwise than most, and nothing remembered is told to it.
 */
const StatementFacts *
analyze_facts(Statement *statement, bool safe_encoding)
{
	if (!safe_encoding && !reads_alike_everywhere(statement_text(statement)))
		return &unknown_facts;
	if (!statement->facts.known)
		analyze_text(statement_text(statement), safe_encoding, &statement->facts);
	return &statement->facts;
}

bool
analyze_encoding_is_safe(const char *client_encoding)
{
	int			encoding = client_encoding != NULL ? pg_char_to_encoding(client_encoding) : -1;

	/* an encoding that a database may have keeps ASCII bytes for ASCII characters */
	return PG_VALID_BE_ENCODING(encoding);
}

/* ---- settings of the gateway ---- */

/* Appends one of a SET's values as SHOW would tell it; what does not fit is cut. */
static void
append_value(char *value, Node *node)
{
	size_t		len = strlen(value);
	char	   *at = value + len;
	size_t		room = GATEWAY_VALUE_SIZE - len;
	Node	   *constant;

	if (!IsA(node, A_Const) || ((A_Const *) node)->isnull)
		return;
	constant = (Node *) &((A_Const *) node)->val;
	if (len > 0)
		len = snprintf(at, room, ", ");
	if (len >= room)
		return;
	at = value + strlen(value);
	room = GATEWAY_VALUE_SIZE - strlen(value);
	if (IsA(constant, Integer))
		snprintf(at, room, "%d", intVal(constant));
	else if (IsA(constant, Float))
		strlcpy(at, castNode(Float, constant)->fval, room);
	else if (IsA(constant, String))
		strlcpy(at, strVal(constant), room);
	else if (IsA(constant, Boolean))
		strlcpy(at, boolVal(constant) ? "on" : "off", room);
}

static void
read_set(const VariableSetStmt *stmt, GatewaySetting *out)
{
	ListCell   *cell;

	out->is_local = stmt->is_local;
	switch (stmt->kind)
	{
		case VAR_SET_VALUE:
			out->what = GATEWAY_SET;
			foreach(cell, stmt->args)
				append_value(out->value, lfirst(cell));
			break;
		case VAR_SET_DEFAULT:
		case VAR_RESET:
			out->what = GATEWAY_RESET;
			break;
		default:
			return;
	}
	strlcpy(out->name, asc_tolower(stmt->name, strlen(stmt->name)), sizeof(out->name));
}

static void
read_gateway_setting(List *statements, void *arg)
{
	GatewaySetting *out = arg;
	Node	   *stmt;

	if (list_length(statements) != 1)
		return;
	stmt = linitial_node(RawStmt, statements)->stmt;
	if (IsA(stmt, VariableSetStmt) && is_gateway_setting(((VariableSetStmt *) stmt)->name))
		read_set((VariableSetStmt *) stmt, out);
	else if (IsA(stmt, VariableShowStmt) && is_gateway_setting(((VariableShowStmt *) stmt)->name))
	{
		const char *name = ((VariableShowStmt *) stmt)->name;

		out->what = GATEWAY_SHOW;
		strlcpy(out->name, asc_tolower(name, strlen(name)), sizeof(out->name));
	}
}

bool
analyze_gateway_setting(Bytes text, GatewaySetting *out)
{
	memset(out, 0, sizeof(*out));
	if (text.len == 0 || text.len > ANALYZE_MAX_TEXT || memchr(text.data, 0, text.len) != NULL || scans_slowly(text))
		return false;
	return read_safely(text, read_gateway_setting, out) && out->name[0] != '\0';
}
