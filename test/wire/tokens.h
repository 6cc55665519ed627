/*
 * tokens.h: many clients at once: one client, and the run they are all in.
 *
 * tokens.c owns the run, and what becomes of a client; tokens_client.c its connection; tokens_requests.c what it may say. A client belongs to its thread, but for
 * its cancel key.
 */
#ifndef WIRE_TOKENS_H
#define WIRE_TOKENS_H

#include "login.h"

#include <pthread.h>
#include <stdatomic.h>

#define CLIENTS_MAX		200
#define THROUGH_MAX		16
#define TOKEN_LEN		24
#define FIRST_NUMBER	100		/* so that each has three digits */
#define ZONES			4
#define STYLES			3
#define PLACES			2
#define POSSIBLE_MAX	4		/* values that a row may have after a write of unknown outcome */
#define ROLES			5
#define MOMENT			"timestamptz '2024-02-03 04:05:06+00'"

typedef enum Role
{
	STEADY, VICTIM, STALLER, LEAVER, LOCKER
} Role;

typedef struct Client
{
	int			number;
	Role		role;
	const Target *target;
	uint64_t	random;
	Stream		stream;
	Login		login;
	CancelKey	key;			/* read by others under keys_lock */
	Buffer		wanted;			/* the answer of the pipeline, a line a message */
	Buffer		said;			/* the pipeline, as a script */
	int			zone;
	int			style;
	int			place;
	bool		prepared;
	long		requests;
	char		token[TOKEN_LEN];
	char		expression[64]; /* of SQL, for the token: texts that differ in numbers alone may be one statement to a gateway */
	char		status;			/* as it must be after what has been asked so far */
	int			row;			/* its own; another one after a loss: who was lost may write to the old one late */
	char		own[TOKEN_LEN];	/* what its row holds, as far as its transaction sees */
	char		committed[TOKEN_LEN];
	char		possible[POSSIBLE_MAX][TOKEN_LEN];
	int			possible_count;	/* 0: committed is certain */
	int			exchanges;		/* asked in this pipeline */
} Client;

typedef struct Run
{
	Target		direct;
	Target		through[THROUGH_MAX];
	int			through_count;
	Client		clients[CLIENTS_MAX];
	int			client_count;
	long		count_of[ROLES];
	uint64_t	seed;
	long		seconds;
	long		patience_ms;
	long		kill_every_ms;
	long		reset_every_ms;
	const char *control_fifo;
	bool		losses_allowed;
	char		moments[ZONES][STYLES][64]; /* what a direct connection says of MOMENT */
	atomic_bool stopping;
	atomic_long violations, answered, lost, cancelled, reconnected, cancels_sent, kills;
	pthread_mutex_t keys_lock;
	pthread_mutex_t report_lock;
} Run;

extern Run	run;
extern const char *const zones[ZONES];
extern const char *const styles[STYLES];
extern const char *const places[PLACES];

/* tokens.c */
extern void violation(Client *c, const char *format,...) __attribute__((format(printf, 2, 3)));

/* tokens_client.c; false: the connection has ended */
extern uint32_t chance(Client *c, uint32_t below);
extern void say(Client *c, const char *format,...) __attribute__((format(printf, 2, 3)));	/* lines of a script */
extern bool send_out(Client *c, size_t most);
extern bool receive(Client *c);
extern bool next_line(Client *c, char *line, size_t size);
extern bool log_in(Client *c);
extern void hang_up(Client *c);

/* tokens_requests.c */
extern void ask_something(Client *c);
extern void add_possible(Client *c, const char *value);

#endif
