/*
 * core/callers.h - from where do clients come, and how often were they wrong?     floor 1
 *
 * Answers: how many clients of one address are logging in now, and how long is the answer to a failed proof of identity held back? A caller is
 * an IPv4 address or the first 64 bits of an IPv6 address: one customer of a network has all that begin with them.
 *
 * Owns the table of a worker's callers: those with clients that are logging in, and those of whom a proof failed lately, as many as
 * fit. Never: refuses anybody, knows a name or a password.
 */
#ifndef HYPERPOOL_CORE_CALLERS_H
#define HYPERPOOL_CORE_CALLERS_H

#include "core/bytes.h"

typedef struct CallerTable CallerTable;
typedef struct Caller Caller;

/* remembered: how many callers without a client are kept in mind. NULL: no memory. */
extern CallerTable *callers_create(uint32_t remembered);
extern void callers_destroy(CallerTable *table);
extern uint32_t callers_count(const CallerTable *table);

/* One more client of this address (family 4 or 6) begins to log in; limit 0 is none. NULL: so many are, or there is no memory. */
extern Caller *callers_enter(CallerTable *table, uint8_t family, const uint8_t *address, uint32_t limit, int64_t now);
/* It has logged in, or has gone. The pointer is dead then. */
extern void callers_leave(CallerTable *table, Caller *caller, int64_t now);
/* Its proof has failed: so long the answer is held back, twice as long with each one soon after another, up to 16 times. */
extern int64_t callers_failed(Caller *caller, int64_t delay, int64_t now);

#endif
