/*
 * origin/probe.h - can this origin be reached, and if not, why?                   floor 5
 *
 * Really connects, step by step, for an ordinary backend that may wait: resolve, TCP, TLS, authentication, a test query. What went
 * wrong is found out by looking (the resolver's code, errno, one byte of answer, the SQLSTATE, a second try with less
 * verification), never by matching message texts, which are translated. Owns nothing after it returns.
 */
#ifndef HYPERPOOL_ORIGIN_PROBE_H
#define HYPERPOOL_ORIGIN_PROBE_H

#include "postgres.h"

typedef enum ProbeStep { PROBE_RESOLVE, PROBE_TCP, PROBE_TLS, PROBE_AUTHENTICATION, PROBE_QUERY, PROBE_STEPS } ProbeStep;

typedef struct ProbeTarget
{
	const char *origin;			/* its name, for messages */
	int			noptions;		/* libpq options, no user or password among them */
	const char **names;
	const char **values;
	const char *user;
	const char *password;		/* or NULL */
	const char *sslpassword;	/* or NULL */
	bool		require_password;	/* the password must have been used */
	int64		timeout;		/* microseconds for everything; 0 = none */
} ProbeTarget;

typedef struct ProbeResult		/* texts are palloc'd */
{
	bool		done[PROBE_STEPS];	/* the step was begun */
	double		milliseconds[PROBE_STEPS];
	const char *notes[PROBE_STEPS];	/* what was found, or NULL */
	int			failed;			/* the step that failed, or PROBE_STEPS */
	int			sqlstate;
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
	int			version;		/* of the origin, as PQserverVersion */
	bool		pooled;			/* it is itself behind a pooler */
	bool		gateway;		/* it is itself a hyperpool, and keeps its clients' sessions */
} ProbeResult;

/* Interruptible; nothing stays open, also when it raises. True: everything went well. */
extern bool probe_origin(const ProbeTarget *target, ProbeResult *result);
extern const char *probe_step_name(ProbeStep step);

#endif
