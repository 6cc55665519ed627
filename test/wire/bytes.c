/*
 * bytes.c: buffers, cursors, the clock.
 *
 * It answers: where do bytes go, what stands next in them, what time is it? It owns nothing: buffers belong to who has them. It never knows what bytes mean.
 */
#define _GNU_SOURCE
#include "bytes.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000L;
}

void
pause_ms(long ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

/* The upper half is the better one. */
uint64_t
next_random(uint64_t *state)
{
	return *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

/* ---- buffers ---- */

void
reserve(Buffer *b, size_t more)
{
	if (b->start == b->len)
		clear(b);
	if (b->cap - b->len >= more)
		return;
	b->cap = (b->len + more) * 2;
	b->data = realloc(b->data, b->cap);
	if (b->data == NULL)
		fail("out of memory");
}

void
clear(Buffer *b)
{
	b->start = b->len = 0;
}

void
put(Buffer *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	reserve(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void
put16(Buffer *b, int value)
{
	uint16_t	n = htons((uint16_t) value);

	put(b, &n, 2);
}

void
put32(Buffer *b, long value)
{
	uint32_t	n = htonl((uint32_t) value);

	put(b, &n, 4);
}

void
put_string(Buffer *b, const char *text)
{
	put(b, text, strlen(text) + 1);
}

void
put_text(Buffer *b, const char *format,...)
{
	char		text[4096];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put(b, text, strlen(text));
}

void
put_message(Buffer *b, char type, const Buffer *body)
{
	put(b, &type, 1);
	put32(b, (long) body->len + 4);
	put(b, body->data, body->len);
}

/* ---- cursors ---- */

Cursor
cursor_of(const void *data, size_t len)
{
	return (Cursor) {data, (const unsigned char *) data + len, false};
}

uint32_t
get_uint(Cursor *c, size_t width)
{
	uint32_t	value = 0;

	if (c->bad || (size_t) (c->end - c->p) < width)
	{
		c->bad = true;
		return 0;
	}
	while (width-- > 0)
		value = value << 8 | *c->p++;
	return value;
}

int
get16(Cursor *c)
{
	return (int16_t) get_uint(c, 2);
}

int32_t
get32(Cursor *c)
{
	return (int32_t) get_uint(c, 4);
}

const char *
get_string(Cursor *c)
{
	const unsigned char *zero = c->bad ? NULL : memchr(c->p, 0, c->end - c->p);
	const char *s = (const char *) c->p;

	if (zero == NULL)
	{
		c->bad = true;
		return "";
	}
	c->p = zero + 1;
	return s;
}
