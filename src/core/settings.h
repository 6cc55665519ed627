/*
 * core/settings.h - the settings vector: all that a session has set.              floor 1
 *
 * Answers: what has this session set, and when are two sessions alike? Vectors are
 * canonical (names folded to lower case and sorted, one value a name) and interned, so
 * equal vectors are the same pointer. Owns the table and its vectors (reference
 * counted). Never: knows which values an origin accepts.
 */
#ifndef HYPERPOOL_CORE_SETTINGS_H
#define HYPERPOOL_CORE_SETTINGS_H

#include "core/bytes.h"

typedef struct SettingsTable SettingsTable;

typedef struct Setting
{
	const char *name;			/* lower case (PostgreSQL folds ASCII only) */
	const char *value;
} Setting;

typedef struct SettingsVector
{
	uint32_t	id;				/* unique while the vector lives, never 0 */
	uint32_t	refs;
	uint32_t	count;
	bool		refused;		/* an origin would not take it lately; the owner's of links to note */
	Digest128	digest;			/* of the canonical bytes: equal across workers */
	void	   *attached;		/* for the pool's use: what is known of this vector; freed by its own owner */
	const Setting *settings;	/* count of them, sorted by name */
} SettingsVector;

/* An origin has refused to be brought into it, or has taken it. */
extern void settings_note_refusal(const SettingsVector *vector, bool refused);

/* max_vectors bounds what hostile clients can make. */
extern SettingsTable *settings_table_create(uint32_t max_vectors);
extern void settings_table_destroy(SettingsTable *table);
extern uint32_t settings_table_count(const SettingsTable *table);

/* A list under construction (zeroed memory is an empty one). Later puts of a name win. */
typedef struct SettingsDraft
{
	ByteBuffer	bytes;
	uint32_t	count;
	bool		failed;			/* out of memory or over 64 kB */
} SettingsDraft;

extern void settings_draft_put(SettingsDraft *draft, Bytes name, Bytes value);
extern void settings_draft_put_vector(SettingsDraft *draft, const SettingsVector *vector);
extern void settings_draft_remove(SettingsDraft *draft, Bytes name);
/* The last value put for a name, as a C string cut at size; false: none was. */
extern bool settings_draft_get(const SettingsDraft *draft, Bytes name, char *value, size_t size);
extern void settings_draft_free(SettingsDraft *draft);
/*
 * The `options` startup parameter: -c name=value, -cname=value, --name=value, with
 * backslash escapes and '-' folded to '_' in names, as PostgreSQL's
 * pg_split_opts and process_postgres_switches read it. False = an option that is not a
 * setting (then *bad views the offending word).
 */
extern bool settings_draft_put_options(SettingsDraft *draft, Bytes options, Bytes *bad);

/* The interned vector of the draft, with one reference for the caller; frees the draft. NULL: table full or no memory. */
extern const SettingsVector *settings_intern(SettingsTable *table, SettingsDraft *draft);
extern void settings_ref(const SettingsVector *vector);
extern void settings_unref(SettingsTable *table, const SettingsVector *vector);
extern const char *settings_get(const SettingsVector *vector, const char *name);	/* or NULL */

/* Calls change(arg, name, value-in-to) for each name of `to` that `from` lacks or has otherwise (from may be NULL = empty). */
extern void settings_difference(const SettingsVector *from, const SettingsVector *to,
								void (*change) (void *arg, const char *name, const char *value), void *arg);
/* True if `from` holds a name that `to` lacks, or a value of which that in `to` may leave a part: applying `to` then needs a reset first. */
extern bool settings_need_reset(const SettingsVector *from, const SettingsVector *to);

#endif
