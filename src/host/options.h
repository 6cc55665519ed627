/*
 * host/options.h - what do the options of an origin mean?                         floor 5
 *
 * Hyperpool's own options of a foreign server: names, defaults, bounds, how a text becomes a value of DirectoryOrigin. Every other
 * option is one of libpq's. Never: reads a catalog, connects.
 */
#ifndef HYPERPOOL_HOST_OPTIONS_H
#define HYPERPOOL_HOST_OPTIONS_H

#include "postgres.h"
#include "host/directory.h"

typedef enum OriginOptionKind
{
	OPTION_COUNT, OPTION_SIZE, OPTION_INTERVAL /* 0: no limit */ , OPTION_AGE /* 0: none */ , OPTION_BOOLEAN, OPTION_POOL_MODE, OPTION_RULES
} OriginOptionKind;

typedef struct OriginOption
{
	const char *name;
	OriginOptionKind kind;
	size_t		offset;			/* in DirectoryOrigin */
	const char *initial;		/* the value where the option is absent */
	int64		least;
	int64		most;
} OriginOption;

/* NULL: not one of ours, so a connection option. */
extern const OriginOption *option_of(const char *name);
/* All of ours at their initial values; nothing else is touched. */
extern void options_set_initial(DirectoryOrigin *origin);
/* ERROR 22023 when the text is no such value or out of bounds. */
extern void option_set(DirectoryOrigin *origin, const OriginOption *option, const char *value);
/* "15s", "10min", "1h", "250ms", "0": what is stored and read back. palloc'd. */
extern char *option_interval_text(int64 microseconds);

/*
 * The option "rules", as set_rule() writes it: relation "public"."orders" cache=off max_age=5s; function "audit" writes=no
 * A schema may be missing: any. palloc'd, strings too; ERROR 22023 when the text is no such list.
 */
#define RULES_MAX	1000		/* of one origin */
#define RULES_TEXT_MAX	(RULES_MAX * 512)	/* two names of 63 quotes have half of it */

extern CacheRule *option_rules(const char *text, int *n);
extern char *option_rules_text(const CacheRule *rules, int n);

#endif
