/*
 * host/analyze_mentions.c - the names a raw tree speaks of.
 *
 * Answers: which relations, functions, operators, types and fields stand in this text, and what else in it decides
 * whether its answer may be kept? Owns the one walk over raw trees. Never: resolves a name, opens a catalog.
 *
 * A name that a WITH defines is no relation where that WITH can be seen: in the statement it is attached to, in
 * the CTEs behind it, and in all of them when it is RECURSIVE. What is written is never the name of a CTE.
 * Operators that the grammar implies (IN, BETWEEN, NULLIF, JOIN USING, CASE x WHEN) are mentioned too; those of
 * sorting and grouping go by the type, and so are the type's affair.
 */
#include "postgres.h"

#include "host/analyze_internal.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"

#define FIRST_SIZE			1024
#define MAX_COMPARISONS		1000000

/* ---- the draft ---- */

void
names_init(NameDraft *names)
{
	names->flags = 0;
	names->count = 0;
	names->len = 0;
	names->size = 0;
	names->comparisons = 0;
	names->bytes = NULL;
}

static bool
is_relation_kind(uint8 kind)
{
	return kind == MENTION_READS || kind == MENTION_WRITES;
}

/* Relations that are read and written have one mention, so their kinds count as one here. */
static bool
same_mention(const char *a, const char *b, uint32 len)
{
	return (a[0] == b[0] || (is_relation_kind(a[0]) && is_relation_kind(b[0]))) &&
		a[1] == b[1] && a[2] == b[2] && memcmp(a + 3, b + 3, len - 3) == 0;
}

/* The slot of the mention of len bytes at `bytes`, or the free one where it belongs. */
static uint16 *
find_slot(NameDraft *names, const char *mention, uint32 len)
{
	uint32		i = hash_bytes((const unsigned char *) mention + 1, len - 1) & (NAME_SLOTS - 1);

	while (names->slots[i] != 0)
	{
		const char *other = names->bytes + names->offsets[names->slots[i] - 1];

		if (same_mention(mention, other, len))
			break;
		i = (i + 1) & (NAME_SLOTS - 1);
	}
	return &names->slots[i];
}

static void
make_room(NameDraft *names, uint32 len)
{
	if (names->bytes == NULL)
	{
		names->size = FIRST_SIZE;
		names->bytes = palloc(names->size);
		memset(names->slots, 0, sizeof(names->slots));
	}
	if (names->size - names->len < len)
	{
		names->size *= 2;
		names->bytes = repalloc(names->bytes, names->size);
	}
}

/* As long as a name can be, and not of ASCII at its end: the origin, which knows where characters end, may have cut it earlier. */
static bool
may_be_cut(const char *name, size_t len)
{
	return len >= NAMEDATALEN - 1 && ((name[len - 1] | name[len - 2] | name[len - 3]) & 0x80) != 0;
}

static void
add_name(NameDraft *names, MentionKind kind, const char *schema, const char *name)
{
	const char *qualifier = schema != NULL ? schema : "";
	size_t		qualifier_len = strlen(qualifier);
	size_t		name_len = strlen(name);
	uint32		len = (uint32) (3 + qualifier_len + name_len);
	char	   *mention;
	uint16	   *slot;

	if (qualifier_len > UINT8_MAX || name_len > UINT8_MAX || may_be_cut(name, name_len) || may_be_cut(qualifier, qualifier_len))
	{
		names->flags |= TEXT_TOO_MUCH;
		return;
	}
	make_room(names, len);
	mention = names->bytes + names->len;
	mention[0] = (char) kind;
	mention[1] = (char) qualifier_len;
	mention[2] = (char) name_len;
	memcpy(mention + 3, qualifier, qualifier_len);
	memcpy(mention + 3 + qualifier_len, name, name_len);
	slot = find_slot(names, mention, len);
	if (*slot != 0)
	{
		if (kind == MENTION_WRITES)
			names->bytes[names->offsets[*slot - 1]] = MENTION_WRITES;
	}
	else if (names->count == MENTIONS_MAX)
		names->flags |= TEXT_TOO_MUCH;
	else
	{
		names->offsets[names->count++] = names->len;
		*slot = (uint16) names->count;
		names->len += len;
	}
}

bool
names_finish(const NameDraft *names, Mentions **out)
{
	size_t		size = sizeof(Mentions) + names->len;
	Mentions   *m;

	*out = NULL;
	if (names->count == 0 && names->flags == 0)
		return true;
	m = mem_alloc(size);
	if (m == NULL)
		return false;
	m->size = (uint32_t) size;
	m->count = names->count;
	m->flags = names->flags;
	if (names->len > 0)
		memcpy(m->bytes, names->bytes, names->len);
	*out = m;
	return true;
}

/* ---- kinds of names ---- */

/* Its last part, and the schema before it. */
void
analyze_mention_name(NameDraft *names, MentionKind kind, List *parts)
{
	int			n = list_length(parts);
	Node	   *name = n > 0 ? llast(parts) : NULL;
	Node	   *schema = n > 1 ? list_nth(parts, n - 2) : NULL;

	if (name == NULL || !IsA(name, String))
		return;
	add_name(names, kind, schema != NULL && IsA(schema, String) ? strVal(schema) : NULL, strVal(name));
}

void
analyze_mention_relation(NameDraft *names, MentionKind kind, const RangeVar *relation)
{
	if (relation != NULL && relation->relname != NULL)
		add_name(names, kind, relation->schemaname, relation->relname);
}

static bool
is_cte(const Findings *found, const char *name)
{
	const CteScope *scope;
	int			i;

	for (scope = found->scope; scope != NULL; scope = scope->outer)
	{
		for (i = 0; i < scope->visible; i++)
		{
			found->names->comparisons++;
			if (strcmp(((CommonTableExpr *) list_nth(scope->ctes, i))->ctename, name) == 0)
				return true;
		}
	}
	return false;
}

static void
mention_range(const RangeVar *range, Findings *found)
{
	if (range == found->target)
		return;
	if (found->names->comparisons > MAX_COMPARISONS)
		found->names->flags |= TEXT_TOO_MUCH;
	else if (range->schemaname != NULL || !is_cte(found, range->relname))
		analyze_mention_relation(found->names, MENTION_READS, range);
}

/* The built-in times of day with a zone take the zone's offset of today. */
static void
mention_type(const TypeName *type, NameDraft *names)
{
	analyze_mention_name(names, MENTION_TYPE, type->names);
	if (type->names != NIL && IsA(llast(type->names), String) && strcmp(strVal(llast(type->names)), "timetz") == 0)
		names->flags |= TEXT_TIME;
}

static void
mention_operator(const A_Expr *expr, NameDraft *names)
{
	switch (expr->kind)
	{
		case AEXPR_BETWEEN:
		case AEXPR_BETWEEN_SYM:
			add_name(names, MENTION_OPERATOR, NULL, ">=");
			add_name(names, MENTION_OPERATOR, NULL, "<=");
			break;
		case AEXPR_NOT_BETWEEN:
		case AEXPR_NOT_BETWEEN_SYM:
			add_name(names, MENTION_OPERATOR, NULL, "<");
			add_name(names, MENTION_OPERATOR, NULL, ">");
			break;
		default:
			analyze_mention_name(names, MENTION_OPERATOR, expr->name);
			break;
	}
}

/* a.b may call the function b on a; a name alone never does. */
static void
mention_column(const ColumnRef *column, NameDraft *names)
{
	if (list_length(column->fields) > 1 && IsA(llast(column->fields), String))
		add_name(names, MENTION_FIELD, NULL, strVal(llast(column->fields)));
}

static void
mention_indirection(const A_Indirection *indirection, NameDraft *names)
{
	ListCell   *cell;

	foreach(cell, indirection->indirection)
	{
		if (IsA(lfirst(cell), String))
			add_name(names, MENTION_FIELD, NULL, strVal(lfirst(cell)));
	}
}

static void
mention_value_function(const SQLValueFunction *value, NameDraft *names)
{
	if (value->op >= SVFOP_CURRENT_DATE && value->op <= SVFOP_LOCALTIMESTAMP_N)
		names->flags |= TEXT_TIME;
	else if (value->op == SVFOP_CURRENT_SCHEMA)
		add_name(names, MENTION_FUNCTION, "pg_catalog", "current_schema");
}

static void
look_at_constant(const A_Const *constant, NameDraft *names)
{
	Node	   *value = (Node *) &constant->val;

	if (!constant->isnull && IsA(value, String) && analyze_has_date_word(bytes_str(strVal(value))))
		names->flags |= TEXT_TIME;
}

/* ---- statements ---- */

static void
look_at_select(const SelectStmt *select, NameDraft *names)
{
	if (select->lockingClause != NIL)
		names->flags |= TEXT_LOCKING;
	if (select->intoClause != NULL)
		names->flags |= TEXT_INTO;
}

static WithClause *
with_clause_of(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
			return ((SelectStmt *) stmt)->withClause;
		case T_InsertStmt:
			return ((InsertStmt *) stmt)->withClause;
		case T_UpdateStmt:
			return ((UpdateStmt *) stmt)->withClause;
		case T_DeleteStmt:
			return ((DeleteStmt *) stmt)->withClause;
		case T_MergeStmt:
			return ((MergeStmt *) stmt)->withClause;
		default:
			return NULL;
	}
}

static const RangeVar *
target_of(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_InsertStmt:
			return ((InsertStmt *) stmt)->relation;
		case T_UpdateStmt:
			return ((UpdateStmt *) stmt)->relation;
		case T_DeleteStmt:
			return ((DeleteStmt *) stmt)->relation;
		case T_MergeStmt:
			return ((MergeStmt *) stmt)->relation;
		default:
			return NULL;
	}
}

/* CYCLE compares with = and yields constants that the walker does not look at. */
static void
walk_cycle(const CTECycleClause *cycle, Findings *found)
{
	if (cycle == NULL)
		return;
	add_name(found->names, MENTION_OPERATOR, NULL, "=");
	add_name(found->names, MENTION_OPERATOR, NULL, "<>");
	analyze_walk(cycle->cycle_mark_value, found);
	analyze_walk(cycle->cycle_mark_default, found);
}

/* Each CTE's own body, seeing what it may see; then all of them are visible in *scope. */
static void
walk_with(const WithClause *with, CteScope *scope, Findings *found)
{
	ListCell   *cell;

	scope->ctes = with->ctes;
	scope->visible = with->recursive ? list_length(with->ctes) : 0;
	scope->outer = found->scope;
	found->scope = scope;
	foreach(cell, with->ctes)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);

		analyze_walk(cte->ctequery, found);
		walk_cycle(cte->cycle_clause, found);
		if (!with->recursive)
			scope->visible++;
	}
}

static bool visit(Node *node, void *arg);

/* A statement and all in it, in a scope of its own. */
static bool
visit_statement(Node *stmt, Findings *found)
{
	const CteScope *scope = found->scope;
	const RangeVar *target = found->target;
	WithClause *with = with_clause_of(stmt);
	CteScope	own;

	if (with != NULL)
		walk_with(with, &own, found);
	found->target = target_of(stmt);
	analyze_mention_relation(found->names, MENTION_WRITES, found->target);
	(void) raw_expression_tree_walker(stmt, visit, found);
	found->target = target;
	found->scope = scope;
	return false;
}

static void
mention_node(Node *node, NameDraft *names)
{
	switch (nodeTag(node))
	{
		case T_SelectStmt:
			look_at_select((SelectStmt *) node, names);
			break;
		case T_FuncCall:
			analyze_mention_name(names, MENTION_FUNCTION, ((FuncCall *) node)->funcname);
			break;
		case T_RangeTableSample:
			analyze_mention_name(names, MENTION_FUNCTION, ((RangeTableSample *) node)->method);
			break;
		case T_A_Expr:
			mention_operator((A_Expr *) node, names);
			break;
		case T_SubLink:
			if (((SubLink *) node)->operName != NIL)
				analyze_mention_name(names, MENTION_OPERATOR, ((SubLink *) node)->operName);
			else if (((SubLink *) node)->subLinkType == ANY_SUBLINK)
				add_name(names, MENTION_OPERATOR, NULL, "=");
			break;
		case T_SortBy:
			analyze_mention_name(names, MENTION_OPERATOR, ((SortBy *) node)->useOp);
			break;
		case T_JoinExpr:
			if (((JoinExpr *) node)->isNatural || ((JoinExpr *) node)->usingClause != NIL)
				add_name(names, MENTION_OPERATOR, NULL, "=");
			break;
		case T_CaseExpr:
			if (((CaseExpr *) node)->arg != NULL)
				add_name(names, MENTION_OPERATOR, NULL, "=");
			break;
		case T_TypeName:
			mention_type((TypeName *) node, names);
			break;
		case T_ColumnRef:
			mention_column((ColumnRef *) node, names);
			break;
		case T_A_Indirection:
			mention_indirection((A_Indirection *) node, names);
			break;
		case T_SQLValueFunction:
			mention_value_function((SQLValueFunction *) node, names);
			break;
		case T_A_Const:
			look_at_constant((A_Const *) node, names);
			break;
		default:
			break;
	}
}

/* A walker of raw trees. It only looks; the recursion is PostgreSQL's, and checks the stack. */
static bool
visit(Node *node, void *arg)
{
	Findings   *found = (Findings *) arg;

	if (node == NULL)
		return false;
	analyze_node_effects(node, found);
	mention_node(node, found->names);
	switch (nodeTag(node))
	{
		case T_RangeVar:
			mention_range((RangeVar *) node, found);
			return false;
		case T_RangeTableFuncCol:
			/* the walker of some versions passes the type by */
			(void) visit((Node *) ((RangeTableFuncCol *) node)->typeName, found);
			return raw_expression_tree_walker(node, visit, arg);
		case T_WithClause:		/* walked before the statement it belongs to */
		case T_LockingClause:	/* names of what FROM holds */
		case T_IntoClause:		/* what is made, not read */
			return false;
		case T_SelectStmt:
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			check_stack_depth();
			return visit_statement(node, found);
		default:
			return raw_expression_tree_walker(node, visit, arg);
	}
}

void
analyze_walk(Node *node, Findings *found)
{
	(void) visit(node, found);
}
