/*
 * host/directory_write.c - the manager's draft, and the image it becomes.         floor 4
 *
 * Answers: what is to be published, what of it differs from what was, and how does it lie in the image? The manager alone is here.
 *
 * Owns: the draft with its copies of texts and secrets, the encoding, the generations of origins and credentials. Never: touches a
 * catalog, takes a lock, writes into the half that readers copy, decides when a half becomes current.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "host/directory_internal.h"
#include "host/gucs.h"

/* ---- the manager: drafts ---- */

DirectoryDraft *
directory_draft(void)
{
	DirectoryDraft *draft = palloc0(sizeof(DirectoryDraft));

	draft->context = CurrentMemoryContext;
	return draft;
}

static const char *
copy_text(const char *text)
{
	return text != NULL ? pstrdup(text) : NULL;
}

static Bytes
copy_bytes(Bytes view)
{
	char	   *copy;

	if (view.data == NULL)
		return view;
	copy = palloc(view.len + 1);
	memcpy(copy, view.data, view.len);
	copy[view.len] = '\0';
	return bytes_of(copy, view.len);
}

static CacheRule *
copy_rules(const CacheRule *rules, int n)
{
	CacheRule  *copy = palloc0(sizeof(CacheRule) * (n + 1));
	int			i;

	for (i = 0; i < n; i++)
	{
		copy[i] = rules[i];
		copy[i].schema = pstrdup(rules[i].schema);
		copy[i].name = pstrdup(rules[i].name);
	}
	return copy;
}

void
directory_draft_origin(DirectoryDraft *draft, const DirectoryOrigin *origin)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryOrigin *copy = palloc(sizeof(DirectoryOrigin));
	int			i;

	*copy = *origin;
	copy->name = pstrdup(origin->name);
	copy->rules = copy_rules(origin->rules, origin->nrules);
	copy->options = palloc0(sizeof(DirectoryOption) * (origin->noptions + 1));
	for (i = 0; i < origin->noptions; i++)
	{
		copy->options[i].name = pstrdup(origin->options[i].name);
		copy->options[i].value = pstrdup(origin->options[i].value);
	}
	draft->origins = lappend(draft->origins, copy);
	MemoryContextSwitchTo(before);
}

void
directory_draft_credential(DirectoryDraft *draft, const DirectoryCredential *credential)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryCredential *copy = palloc(sizeof(DirectoryCredential));

	*copy = *credential;
	copy->user = copy_text(credential->user);
	copy->password = copy_text(credential->password);
	copy->sslpassword = copy_text(credential->sslpassword);
	draft->credentials = lappend(draft->credentials, copy);
	MemoryContextSwitchTo(before);
}

void
directory_draft_role(DirectoryDraft *draft, const DirectoryRole *role)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryRole *copy = palloc(sizeof(DirectoryRole));

	*copy = *role;
	copy->name = pstrdup(role->name);
	copy->verifier = copy_text(role->verifier);
	draft->roles = lappend(draft->roles, copy);
	MemoryContextSwitchTo(before);
}

static void
add_pair(DirectoryDraft *draft, OidPair **pairs, int *n, int *size, OidPair pair)
{
	if (*n == *size)
	{
		*size = *size == 0 ? 64 : *size * 2;
		if (*pairs == NULL)
			*pairs = MemoryContextAllocHuge(draft->context, sizeof(OidPair) * *size);
		else
			*pairs = repalloc_huge(*pairs, sizeof(OidPair) * *size);
	}
	(*pairs)[(*n)++] = pair;
}

void
directory_draft_member(DirectoryDraft *draft, Oid role, Oid group)
{
	add_pair(draft, &draft->members, &draft->nmembers, &draft->members_size, (OidPair) {role, group});
}

void
directory_draft_right(DirectoryDraft *draft, Oid role, Oid origin)
{
	add_pair(draft, &draft->rights, &draft->nrights, &draft->rights_size, (OidPair) {role, origin});
}

static HbaToken *
copy_tokens(const HbaToken *tokens, uint32 n)
{
	HbaToken   *copy = palloc0(sizeof(HbaToken) * (n + 1));
	uint32		i;

	for (i = 0; i < n; i++)
	{
		copy[i].kind = tokens[i].kind;
		copy[i].text = copy_bytes(tokens[i].text);
	}
	return copy;
}

GatewayHbaLine *
directory_copy_hba(const GatewayHbaLine *line)
{
	GatewayHbaLine *copy = palloc(sizeof(GatewayHbaLine));

	*copy = *line;
	copy->method_name = copy_bytes(line->method_name);
	copy->map = copy_bytes(line->map);
	copy->databases = copy_tokens(line->databases, line->ndatabases);
	copy->users = copy_tokens(line->users, line->nusers);
	return copy;
}

void
directory_draft_hba(DirectoryDraft *draft, const GatewayHbaLine *line)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);

	draft->lines = lappend(draft->lines, directory_copy_hba(line));
	MemoryContextSwitchTo(before);
}

void
directory_draft_hba_usable(DirectoryDraft *draft, bool usable)
{
	draft->hba_usable = usable;
}

static void
wipe_text(const char *text)
{
	if (text != NULL)
		explicit_bzero((char *) text, strlen(text));
}

void
directory_wipe_draft(DirectoryDraft *draft)
{
	ListCell   *cell;

	foreach(cell, draft->credentials)
	{
		wipe_text(((DirectoryCredential *) lfirst(cell))->password);
		wipe_text(((DirectoryCredential *) lfirst(cell))->sslpassword);
	}
	foreach(cell, draft->roles)
		wipe_text(((DirectoryRole *) lfirst(cell))->verifier);
}

bool
directory_draft_has_origin(const DirectoryDraft *draft, Oid oid)
{
	ListCell   *cell;

	foreach(cell, draft->origins)
	{
		if (((DirectoryOrigin *) lfirst(cell))->oid == oid)
			return true;
	}
	return false;
}

/* ---- the manager: generations of origins and credentials ---- */

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static bool
same_options(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	int			i;

	if (a->noptions != b->noptions)
		return false;
	for (i = 0; i < a->noptions; i++)
	{
		if (!same_text(a->options[i].name, b->options[i].name) || !same_text(a->options[i].value, b->options[i].value))
			return false;
	}
	return true;
}

static bool
same_rules(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	int			i;

	if (a->nrules != b->nrules)
		return false;
	for (i = 0; i < a->nrules; i++)
	{
		const CacheRule *x = &a->rules[i];
		const CacheRule *y = &b->rules[i];

		if (x->function != y->function || x->quiet != y->quiet || x->cache_off != y->cache_off || x->max_age != y->max_age ||
			!same_text(x->schema, y->schema) || !same_text(x->name, y->name))
			return false;
	}
	return true;
}

static bool
same_origin(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	return same_text(a->name, b->name) && a->slot == b->slot && a->pool_size == b->pool_size && a->min_pool_size == b->min_pool_size &&
		a->pool_mode == b->pool_mode && a->queue_timeout == b->queue_timeout && a->idle_timeout == b->idle_timeout &&
		a->max_lifetime == b->max_lifetime && a->query_timeout == b->query_timeout &&
		a->idle_transaction_timeout == b->idle_transaction_timeout && a->connect_timeout == b->connect_timeout &&
		a->allow_trust == b->allow_trust && a->pooled == b->pooled && a->gateway == b->gateway && a->cache == b->cache && a->max_age == b->max_age &&
		a->stale_while_revalidate == b->stale_while_revalidate && a->stale_if_error == b->stale_if_error &&
		a->max_result_size == b->max_result_size && a->share == b->share && a->share_depth == b->share_depth && same_rules(a, b) && same_options(a, b);
}

static bool
same_credential(const DirectoryCredential *a, const DirectoryCredential *b)
{
	return same_text(a->user, b->user) && same_text(a->password, b->password) && same_text(a->sslpassword, b->sslpassword) &&
		a->require_password == b->require_password;
}

static uint32
next_change(void)
{
	if (++directory_shared->changes == 0)
		directory_shared->changes = 1;
	return directory_shared->changes;
}

static int
count_credentials(const DirectoryDraft *draft, int origin)
{
	ListCell   *cell;
	int			n = 0;

	foreach(cell, draft->credentials)
		n += ((DirectoryCredential *) lfirst(cell))->origin == origin ? 1 : 0;
	return n;
}

static int
count_published_credentials(const Directory *was, int origin)
{
	int			n = 0;
	int			i;

	for (i = 0; i < was->ncredentials; i++)
		n += was->credentials[i].origin == origin ? 1 : 0;
	return n;
}

/* Gives generations to the credentials of one origin; true if none of them is new, changed or gone. */
static bool
number_credentials(DirectoryDraft *draft, int number, const Directory *was, int was_number)
{
	ListCell   *cell;
	bool		same = was_number >= 0 && count_credentials(draft, number) == count_published_credentials(was, was_number);

	foreach(cell, draft->credentials)
	{
		DirectoryCredential *credential = lfirst(cell);
		const DirectoryCredential *before;

		if (credential->origin != number)
			continue;
		before = was_number >= 0 ? directory_find_credential(was, was_number, credential->role) : NULL;
		if (before != NULL && same_credential(before, credential))
			credential->generation = before->generation;
		else
		{
			credential->generation = next_change();
			same = false;
		}
	}
	return same;
}

static const char *
connection_option(const DirectoryOrigin *origin, const char *name)
{
	int			i;

	for (i = 0; i < origin->noptions; i++)
	{
		if (strcmp(origin->options[i].name, name) == 0)
			return origin->options[i].value;
	}
	return NULL;
}

/* The addresses found belong to these three. */
static bool
same_place(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	return same_text(connection_option(a, "host"), connection_option(b, "host")) &&
		same_text(connection_option(a, "hostaddr"), connection_option(b, "hostaddr")) &&
		same_text(connection_option(a, "port"), connection_option(b, "port"));
}

void
directory_number_draft(DirectoryDraft *draft, const Directory *was)
{
	ListCell   *cell;
	int			number = 0;

	foreach(cell, draft->origins)
	{
		DirectoryOrigin *origin = lfirst(cell);
		const DirectoryOrigin *before = directory_origin_by_oid(was, origin->oid);
		bool		same = number_credentials(draft, number, was, before != NULL ? (int) (before - was->origins) : -1);

		if (before != NULL && same && same_origin(before, origin))
			origin->generation = before->generation;
		else
			origin->generation = next_change();
		if (before != NULL && !same_place(before, origin))
			draft->moved = lappend_int(draft->moved, origin->slot);
		number++;
	}
}

/* ---- the manager: encoding into the half that is not current ---- */

typedef struct ImageWriter
{
	uint8	   *at;
	uint8	   *end;
	bool		full;			/* it did not fit; nothing more is written */
} ImageWriter;

static void
put(ImageWriter *w, const void *data, size_t n)
{
	if (w->full || n > (size_t) (w->end - w->at))
	{
		w->full = true;
		return;
	}
	if (n > 0)
		memcpy(w->at, data, n);
	w->at += n;
}

static void
put_u32(ImageWriter *w, uint32 value)
{
	uint8		bytes[4];

	set_u32(bytes, value);
	put(w, bytes, 4);
}

static void
put_u64(ImageWriter *w, uint64 value)
{
	put_u32(w, (uint32) (value >> 32));
	put_u32(w, (uint32) value);
}

static void
put_bytes(ImageWriter *w, Bytes view)
{
	if (view.data == NULL)
	{
		put_u32(w, 0);
		return;
	}
	put_u32(w, (uint32) view.len + 1);
	put(w, view.data, view.len);
	put(w, "", 1);
}

static void
put_text(ImageWriter *w, const char *text)
{
	put_bytes(w, text != NULL ? bytes_str(text) : bytes_of(NULL, 0));
}

static void
encode_rules(ImageWriter *w, const DirectoryOrigin *origin)
{
	int			i;

	put_u32(w, (uint32) origin->nrules);
	for (i = 0; i < origin->nrules; i++)
	{
		const CacheRule *rule = &origin->rules[i];

		put_u32(w, (rule->function ? 1 : 0) | (rule->quiet ? 2 : 0) | (rule->cache_off ? 4 : 0));
		put_text(w, rule->schema);
		put_text(w, rule->name);
		put_u64(w, (uint64) rule->max_age);
	}
}

static void
encode_origin(ImageWriter *w, const DirectoryOrigin *origin)
{
	int			i;

	put_text(w, origin->name);
	put_u32(w, origin->oid);
	put_u32(w, (uint32) origin->slot);
	put_u32(w, origin->generation);
	put_u32(w, (uint32) origin->pool_size);
	put_u32(w, (uint32) origin->min_pool_size);
	put_u32(w, (uint32) origin->pool_mode);
	put_u64(w, (uint64) origin->queue_timeout);
	put_u64(w, (uint64) origin->idle_timeout);
	put_u64(w, (uint64) origin->max_lifetime);
	put_u64(w, (uint64) origin->query_timeout);
	put_u64(w, (uint64) origin->idle_transaction_timeout);
	put_u64(w, (uint64) origin->connect_timeout);
	put_u32(w, (origin->allow_trust ? 1 : 0) | (origin->pooled ? 2 : 0) | (origin->cache ? 4 : 0) |
			(origin->share ? 8 : 0) | (origin->gateway ? 16 : 0));
	put_u64(w, (uint64) origin->max_age);
	put_u64(w, (uint64) origin->stale_while_revalidate);
	put_u64(w, (uint64) origin->stale_if_error);
	put_u64(w, (uint64) origin->max_result_size);
	put_u32(w, (uint32) origin->share_depth);
	encode_rules(w, origin);
	put_u32(w, (uint32) origin->noptions);
	for (i = 0; i < origin->noptions; i++)
	{
		put_text(w, origin->options[i].name);
		put_text(w, origin->options[i].value);
	}
}

static void
encode_credential(ImageWriter *w, const DirectoryCredential *credential)
{
	put_u32(w, (uint32) credential->origin);
	put_u32(w, credential->role);
	put_u32(w, credential->generation);
	put_text(w, credential->user);
	put_text(w, credential->password);
	put_text(w, credential->sslpassword);
	put_u32(w, credential->require_password ? 1 : 0);
}

static void
encode_role(ImageWriter *w, const DirectoryRole *role)
{
	put_text(w, role->name);
	put_u32(w, role->oid);
	put_u32(w, role->can_login ? 1 : 0);
	put_u32(w, (uint32) role->connection_limit);
	put_u64(w, (uint64) role->valid_until);
	put_text(w, role->verifier);
}

static void
encode_pairs(ImageWriter *w, const OidPair *pairs, int n)
{
	int			i;

	put_u32(w, (uint32) n);
	for (i = 0; i < n; i++)
	{
		put_u32(w, pairs[i].a);
		put_u32(w, pairs[i].b);
	}
}

static void
encode_tokens(ImageWriter *w, const HbaToken *tokens, uint32 n)
{
	uint32		i;

	put_u32(w, n);
	for (i = 0; i < n; i++)
	{
		put_u32(w, tokens[i].kind);
		put_bytes(w, tokens[i].text);
	}
}

static void
encode_line(ImageWriter *w, const GatewayHbaLine *line)
{
	uint8		small[6] = {line->type, line->method, line->address, line->family, line->clientcert, line->clientname_dn ? 1 : 0};

	put(w, small, sizeof(small));
	put(w, line->addr, HBA_ADDR_MAX);
	put(w, line->mask, HBA_ADDR_MAX);
	put_u32(w, (uint32) line->line_number);
	put_bytes(w, line->method_name);
	put_bytes(w, line->map);
	encode_tokens(w, line->databases, line->ndatabases);
	encode_tokens(w, line->users, line->nusers);
}

static void
encode(ImageWriter *w, const DirectoryDraft *draft)
{
	ListCell   *cell;

	put_u32(w, IMAGE_MAGIC);
	put_u32(w, draft->hba_usable ? 1 : 0);
	put_u32(w, (uint32) list_length(draft->origins));
	foreach(cell, draft->origins)
		encode_origin(w, lfirst(cell));
	put_u32(w, (uint32) list_length(draft->credentials));
	foreach(cell, draft->credentials)
		encode_credential(w, lfirst(cell));
	put_u32(w, (uint32) list_length(draft->roles));
	foreach(cell, draft->roles)
		encode_role(w, lfirst(cell));
	encode_pairs(w, draft->members, draft->nmembers);
	encode_pairs(w, draft->rights, draft->nrights);
	put_u32(w, (uint32) list_length(draft->lines));
	foreach(cell, draft->lines)
		encode_line(w, lfirst(cell));
}

/* Writes the draft into the idle half; returns its size, or raises with the idle half wiped. */
Size
directory_write_half(const DirectoryDraft *draft, int idle)
{
	ImageWriter w = {directory_shared->halves[idle], directory_shared->halves[idle] + directory_shared->half_size, false};

	encode(&w, draft);
	if (w.full)
	{
		explicit_bzero(directory_shared->halves[idle], directory_shared->half_size);
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("origins, roles and pg_hba.conf lines do not fit into the directory of hyperpool"),
						errdetail("%d origins, %d credentials, %d roles and %d lines are to be published; the former ones stay in force.",
								  list_length(draft->origins), list_length(draft->credentials), list_length(draft->roles), list_length(draft->lines)),
						errhint("Raise hyperpool.directory_size (now %d kB) and restart the server.", hyperpool_directory_size)));
	}
	return (Size) (w.at - directory_shared->halves[idle]);
}
