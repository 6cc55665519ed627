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
 * The raw parser works without a transaction and without a database. It raises errors
 * (syntax, "memory exhausted", stack depth), all caught here, and warnings, kept
 * out of the log by raising the levels meanwhile: the text is hostile.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "catalog/pg_class.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "host/analyze_functions.h"

#define EFFECTS_WRITE	(EFFECT_WRITES | EFFECT_LOCKS | EFFECT_DIRTY)
#define EFFECTS_UNSEEN	(EFFECT_UNKNOWN | EFFECTS_WRITE)

/* What a walk over one statement has found. */
typedef struct Findings
{
	uint32		effects;
	bool		writes;			/* an INSERT, UPDATE, DELETE or MERGE, in a CTE perhaps */
	bool		makes_table;	/* SELECT INTO */
} Findings;

static uint32 statement_effects(Node *stmt, StatementFacts *facts);

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

static uint32
set_config_binds(const FuncCall *call)
{
	Node	   *name = call->args ? linitial(call->args) : NULL;

	while (name != NULL && IsA(name, TypeCast))
		name = ((TypeCast *) name)->arg;
	if (name == NULL || !IsA(name, A_Const) || ((A_Const *) name)->isnull || !IsA(&((A_Const *) name)->val, String))
		return EFFECT_BIND;
	return custom_setting_binds(strVal(&((A_Const *) name)->val));
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
		return is_local_set_config(call) ? EFFECT_NONE : row->effects | set_config_binds(call);
	return row->effects;
}

/* OPERATOR(schema.+) from anywhere but pg_catalog calls a function of that schema's owner. */
static uint32
operator_effects(List *name)
{
	return list_length(name) > 1 && builtin_name(name) == NULL ? EFFECTS_WRITE : EFFECT_NONE;
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
		found->effects |= new_table_effects(select->intoClause->rel, select->intoClause->onCommit);
	}
}

/* A walker of raw trees. It only looks; the recursion is PostgreSQL's, and checks the stack. */
static bool
find_effects(Node *node, void *arg)
{
	Findings   *found = (Findings *) arg;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_SelectStmt:
			find_in_select((SelectStmt *) node, found);
			break;
		case T_InsertStmt:
		case T_UpdateStmt:
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
		case T_RangeTableSample:
			if (builtin_name(((RangeTableSample *) node)->method) == NULL)
				found->effects |= EFFECTS_WRITE;
			break;
		default:
			break;
	}
	return raw_expression_tree_walker(node, find_effects, arg);
}

static uint32
walk_effects(Node *node)
{
	Findings	found = {0};

	(void) find_effects(node, &found);
	return found.effects;
}

/* ---- one statement ---- */

static uint32
dml_effects(Node *stmt, StatementFacts *facts)
{
	Findings	found = {0};

	(void) find_effects(stmt, &found);
	if (found.makes_table)
		facts->kind = STATEMENT_OTHER;
	else
		facts->kind = found.writes ? STATEMENT_WRITE : STATEMENT_READ;
	return found.effects;
}

static uint32
transaction_effects(const TransactionStmt *stmt)
{
	switch (stmt->kind)
	{
		case TRANS_STMT_BEGIN:
		case TRANS_STMT_START:
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

static uint32
set_effects(const VariableSetStmt *stmt, StatementFacts *facts)
{
	if (stmt->is_local || is_transaction_setting(stmt->name))
		return EFFECT_NONE;
	facts->kind = STATEMENT_SET;
	return EFFECT_SETTINGS | custom_setting_binds(stmt->name);
}

static uint32
copy_effects(const CopyStmt *stmt, StatementFacts *facts)
{
	uint32		effects = EFFECT_NONE;

	facts->kind = STATEMENT_COPY;
	if (stmt->filename == NULL)
		effects |= EFFECT_COPY;
	if (stmt->filename != NULL || stmt->is_program || stmt->is_from)
		effects |= EFFECTS_WRITE;
	return effects | walk_effects(stmt->query) | walk_effects(stmt->whereClause);
}

/* ANALYZE off, false or 0 in any spelling; everything else counts as on. */
static bool
option_is_on(const DefElem *option)
{
	bool		value;

	if (option->arg == NULL)
		return true;
	if (IsA(option->arg, Integer))
		return intVal(option->arg) != 0;
	if (IsA(option->arg, String) && parse_bool(strVal(option->arg), &value))
		return value;
	return true;
}

static bool
explain_runs(const ExplainStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, "analyze") == 0 && option_is_on(option))
			return true;
	}
	return false;
}

/*
 * The effects of a statement inside another, or beside others; its kind is not
 * told. DEALLOCATE ALL takes the link's own prepared statements with it: where
 * its kind cannot say so, the link must go.
 */
static uint32
inner_effects(Node *stmt)
{
	StatementFacts inner = {0};
	uint32		effects = statement_effects(stmt, &inner);

	if (inner.kind == STATEMENT_DEALLOCATE && inner.target == NULL)
		effects |= EFFECT_RETIRE;
	mem_free_str(inner.target);
	return effects;
}

static uint32
table_as_effects(const CreateTableAsStmt *stmt)
{
	uint32		effects = EFFECT_LOCKS;

	if (stmt->into != NULL)
		effects |= new_table_effects(stmt->into->rel, stmt->into->onCommit);
	else
		effects |= EFFECTS_WRITE;
	return effects | inner_effects(stmt->query);
}

/* Other objects may live in pg_temp too, and there they last as long as the session. */
static bool
makes_temp_object(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_ViewStmt:
			return is_temp_relation(((ViewStmt *) stmt)->view);
		case T_CreateSeqStmt:
			return is_temp_relation(((CreateSeqStmt *) stmt)->sequence);
		case T_CompositeTypeStmt:
			return is_temp_relation(((CompositeTypeStmt *) stmt)->typevar);
		case T_CreateFunctionStmt:
			return is_temp_name(((CreateFunctionStmt *) stmt)->funcname);
		case T_DefineStmt:
			return is_temp_name(((DefineStmt *) stmt)->defnames);
		case T_CreateEnumStmt:
			return is_temp_name(((CreateEnumStmt *) stmt)->typeName);
		case T_CreateRangeStmt:
			return is_temp_name(((CreateRangeStmt *) stmt)->typeName);
		case T_CreateDomainStmt:
			return is_temp_name(((CreateDomainStmt *) stmt)->domainname);
		default:
			return false;
	}
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

/* Utility statements that define something, or are not listed by name. */
static uint32
other_effects(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreateStmt:
			return EFFECT_LOCKS | new_table_effects(((CreateStmt *) stmt)->relation,
													((CreateStmt *) stmt)->oncommit);
		case T_CreateTableAsStmt:
			return table_as_effects((CreateTableAsStmt *) stmt);
		case T_CallStmt:
			return EFFECTS_WRITE | walk_effects((Node *) ((CallStmt *) stmt)->funccall);
		case T_DeclareCursorStmt:
			return walk_effects(((DeclareCursorStmt *) stmt)->query) |
				((((DeclareCursorStmt *) stmt)->options & CURSOR_OPT_HOLD) ? EFFECT_BIND : 0);
		case T_ExplainStmt:
			return explain_runs((ExplainStmt *) stmt) ? inner_effects(((ExplainStmt *) stmt)->query) : EFFECT_NONE;
		default:
			return makes_temp_object(stmt) ? EFFECT_BIND | EFFECT_WRITES | EFFECT_LOCKS : EFFECTS_WRITE;
	}
}

static uint32
utility_effects(Node *stmt, StatementFacts *facts)
{
	facts->kind = STATEMENT_OTHER;
	switch (nodeTag(stmt))
	{
		case T_TransactionStmt:
			facts->kind = STATEMENT_TRANSACTION;
			return transaction_effects((TransactionStmt *) stmt);
		case T_VariableSetStmt:
			return set_effects((VariableSetStmt *) stmt, facts);
		case T_VariableShowStmt:
			facts->kind = STATEMENT_SHOW;
			return EFFECT_NONE;
		case T_DeallocateStmt:
			set_target(facts, STATEMENT_DEALLOCATE, ((DeallocateStmt *) stmt)->name);
			return EFFECT_NONE;
		case T_ExecuteStmt:
			set_target(facts, STATEMENT_EXECUTE, ((ExecuteStmt *) stmt)->name);
			return EFFECTS_WRITE | walk_effects((Node *) ((ExecuteStmt *) stmt)->params);
		case T_DiscardStmt:
			if (((DiscardStmt *) stmt)->target != DISCARD_ALL)
				return EFFECT_DIRTY;
			facts->kind = STATEMENT_DISCARD_ALL;
			return EFFECT_UNBIND;
		case T_CopyStmt:
			return copy_effects((CopyStmt *) stmt, facts);
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
			return EFFECT_RETIRE;
		default:
			return other_effects(stmt);
	}
}

static uint32
statement_effects(Node *stmt, StatementFacts *facts)
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
			return dml_effects(stmt, facts);
		default:
			return utility_effects(stmt, facts);
	}
}

/* ---- the whole text ---- */

static void
forget(StatementFacts *facts)
{
	mem_free_str(facts->target);
	memset(facts, 0, sizeof(*facts));
	facts->known = true;
	facts->kind = STATEMENT_UNKNOWN;
	facts->effects = EFFECTS_UNSEEN;
}

/* Raises what the parser and the walker raise. */
static void
read_statements(const char *text, StatementFacts *facts)
{
	List	   *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	ListCell   *cell;
	uint32		effects = EFFECT_NONE;

	facts->kind = STATEMENT_EMPTY;
	foreach(cell, statements)
	{
		Node	   *stmt = lfirst_node(RawStmt, cell)->stmt;

		if (list_length(statements) == 1)
			effects |= statement_effects(stmt, facts);
		else
		{
			effects |= inner_effects(stmt);
			facts->kind = STATEMENT_SEVERAL;
		}
	}
	facts->effects = (uint16_t) effects;
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

/* read_statements with every error turned into unknown facts, and its memory given back. */
static void
read_statements_safely(Bytes text, StatementFacts *facts)
{
	ParserGlobals saved = globals_enter();
	MemoryContext before = CurrentMemoryContext;
	MemoryContext volatile parsing = NULL;

	PG_TRY();
	{
		parsing = AllocSetContextCreate(before, "hyperpool analyze", ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(parsing);
		read_statements(pnstrdup((const char *) text.data, text.len), facts);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		FlushErrorState();
		forget(facts);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	if (parsing != NULL)
		MemoryContextDelete(parsing);
	globals_leave(&saved);
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

void
analyze_text(Bytes text, bool safe_encoding, StatementFacts *facts)
{
	memset(facts, 0, sizeof(*facts));
	facts->known = true;
	if (text.len == 0)
		facts->kind = STATEMENT_EMPTY;
	else if (text.len > ANALYZE_MAX_TEXT || memchr(text.data, 0, text.len) != NULL ||
			 !(safe_encoding || reads_alike_everywhere(text)))
		forget(facts);
	else
		read_statements_safely(text, facts);
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

void
analyze_statement(Statement *statement, bool safe_encoding)
{
	if (analyze_facts(statement, safe_encoding) == &unknown_facts && !statement->facts.known)
		statement->facts.effects = EFFECTS_UNSEEN;
}

bool
analyze_encoding_is_safe(const char *client_encoding)
{
	int			encoding = client_encoding != NULL ? pg_char_to_encoding(client_encoding) : -1;

	/* an encoding that a database may have keeps ASCII bytes for ASCII characters */
	return encoding >= 0 && PG_VALID_BE_ENCODING(encoding);
}

/* ---- renaming ---- */

typedef struct NameScanner
{
	const uint8_t *at;
	const uint8_t *end;
} NameScanner;

static uint8_t
look(const NameScanner *s, size_t ahead)
{
	return (size_t) (s->end - s->at) > ahead ? s->at[ahead] : 0;
}

/* Behind a comment of either form; the bracketed one nests. False: it does not end. */
static bool
skip_comment(NameScanner *s)
{
	int			depth = 0;

	if (look(s, 0) == '-')
	{
		while (s->at < s->end && *s->at != '\n' && *s->at != '\r')
			s->at++;
		return true;
	}
	do
	{
		if (s->at >= s->end)
			return false;
		if (look(s, 0) == '/' && look(s, 1) == '*')
		{
			depth++;
			s->at += 2;
		}
		else if (look(s, 0) == '*' && look(s, 1) == '/')
		{
			depth--;
			s->at += 2;
		}
		else
			s->at++;
	} while (depth > 0);
	return true;
}

static bool
skip_blanks(NameScanner *s)
{
	for (;;)
	{
		uint8_t		c = look(s, 0);

		if (c == ' ' || (c >= '\t' && c <= '\r' && c != '\v'))
			s->at++;
		else if ((c == '-' && look(s, 1) == '-') || (c == '/' && look(s, 1) == '*'))
		{
			if (!skip_comment(s))
				return false;
		}
		else
			return true;
	}
}

static bool
is_name_byte(uint8_t c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80 ||
		(!first && ((c >= '0' && c <= '9') || c == '$'));
}

/* An unquoted word; empty if there is none here. */
static Bytes
scan_word(NameScanner *s)
{
	const uint8_t *start = s->at;

	while (s->at < s->end && is_name_byte(*s->at, s->at == start))
		s->at++;
	return bytes_of(start, s->at - start);
}

static bool
word_is(Bytes word, const char *keyword)
{
	return word.len == strlen(keyword) &&
		pg_strncasecmp((const char *) word.data, keyword, word.len) == 0;
}

/* A quoted identifier, quotes included; empty if it does not end. */
static Bytes
scan_quoted(NameScanner *s)
{
	const uint8_t *start = s->at;

	for (s->at++; s->at < s->end; s->at++)
	{
		if (*s->at != '"')
			continue;
		s->at++;
		if (look(s, 0) != '"')
			return bytes_of(start, s->at - start);
	}
	return bytes_of(start, 0);
}

/* Is this token the target? Names are cut at NAMEDATALEN - 1 bytes, perhaps earlier, within a character. */
static bool
token_is_target(Bytes token, const char *target)
{
	bool		quoted = token.len > 0 && token.data[0] == '"';
	size_t		end = quoted ? token.len - 1 : token.len;
	size_t		len = strlen(target);
	size_t		i;
	size_t		n = 0;

	for (i = quoted ? 1 : 0; i < end; i++)
	{
		uint8_t		c = token.data[i];

		if (n == len)
			return len > NAMEDATALEN - 1 - MAX_MULTIBYTE_CHAR_LEN;
		if (quoted && c == '"')
			i++;
		if (!quoted && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != (uint8_t) target[n++])
			return false;
	}
	return n == len && len > 0;
}

/* The token of the name behind DEALLOCATE [PREPARE] or EXECUTE; empty if not found. */
static Bytes
scan_statement_name(NameScanner *s)
{
	Bytes		none = bytes_of(s->at, 0);
	Bytes		word;
	bool		deallocate;

	do
	{
		if (!skip_blanks(s))
			return none;
	} while (look(s, 0) == ';' && s->at++ < s->end);
	word = scan_word(s);
	deallocate = word_is(word, "deallocate");
	if (!(deallocate || word_is(word, "execute")) || !skip_blanks(s))
		return none;
	if (look(s, 0) == '"')
		return scan_quoted(s);
	word = scan_word(s);
	if ((look(s, 0) == '&' && look(s, 1) == '"') || !skip_blanks(s))
		return none;			/* U&"..." */
	/* PREPARE is no reserved word: alone it is the name */
	if (!deallocate || !word_is(word, "prepare") || s->at >= s->end || look(s, 0) == ';')
		return word;
	if (look(s, 0) == '"')
		return scan_quoted(s);
	word = scan_word(s);
	return look(s, 0) == '&' ? none : word;
}

static void
put_quoted(ByteBuffer *out, Bytes name)
{
	size_t		i;

	buffer_put_u8(out, '"');
	for (i = 0; i < name.len; i++)
	{
		if (name.data[i] == '"')
			buffer_put_u8(out, '"');
		buffer_put_u8(out, name.data[i]);
	}
	buffer_put_u8(out, '"');
}

bool
analyze_rename(Bytes text, const char *target, Bytes link_name, ByteBuffer *out)
{
	NameScanner scanner = {text.data, text.data + text.len};
	Bytes		token;

	if (target == NULL || text.len == 0)
		return false;
	token = scan_statement_name(&scanner);
	if (token.len == 0 || !token_is_target(token, target))
		return false;
	buffer_put(out, text.data, token.data - text.data);
	put_quoted(out, link_name);
	buffer_put(out, token.data + token.len, text.data + text.len - (token.data + token.len));
	return !out->failed;
}
