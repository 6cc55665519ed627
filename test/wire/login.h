/*
 * login.h: what a client says and answers until it is let in: StartupMessage, trust, password, MD5, SCRAM-SHA-256; and CancelRequest.
 *
 * A Login lasts from the first request for authentication to AuthenticationOk. What is to be said goes to a buffer; the caller sends it.
 */
#ifndef WIRE_LOGIN_H
#define WIRE_LOGIN_H

#include "stream.h"

typedef struct Login
{
	char		first_bare[128];
	unsigned char salted[32];
	char		auth_message[2048];
} Login;

/* Of BackendKeyData. */
typedef struct CancelKey
{
	uint32_t	pid;
	char		key[256];
	size_t		len;
} CancelKey;

/* parameters: names and values, each with its closing zero. */
extern void put_startup(Buffer *out, int major, int minor, const Buffer *parameters);

/* Answers an authentication request; true if it is AuthenticationOk, which wants no answer. */
extern bool login_answer(Login *l, const Target *t, Cursor request, Buffer *out);

extern void get_cancel_key(CancelKey *k, Cursor body);
extern void put_cancel(Buffer *out, const CancelKey *k);

#endif
