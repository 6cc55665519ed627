/*
 * bytes.h: a growing buffer, a cursor over bytes, and the clock: what both programs of the oracle stand on.
 *
 * A Buffer that is all zero is empty; who has one frees its data. A Cursor borrows its bytes; after a read beyond their end it is bad, gives zeros and stands still.
 */
#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Buffer
{
	char	   *data;
	size_t		start;			/* consumed up to here */
	size_t		len;			/* filled up to here */
	size_t		cap;
} Buffer;

typedef struct Cursor
{
	const unsigned char *p;
	const unsigned char *end;
	bool		bad;
} Cursor;

/* Says why on standard error, and ends the program: each has its own. */
extern void fail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

extern long now_ms(void);		/* monotonic */
extern void pause_ms(long ms);
extern uint64_t next_random(uint64_t *state);

extern void reserve(Buffer *b, size_t more);
extern void clear(Buffer *b);
extern void put(Buffer *b, const void *data, size_t len);
extern void put16(Buffer *b, int value);	/* in network order */
extern void put32(Buffer *b, long value);
extern void put_string(Buffer *b, const char *text);	/* with its closing zero */
extern void put_text(Buffer *b, const char *format,...) __attribute__((format(printf, 2, 3)));	/* without */
extern void put_message(Buffer *b, char type, const Buffer *body);

extern Cursor cursor_of(const void *data, size_t len);
extern uint32_t get_uint(Cursor *c, size_t width);
extern int	get16(Cursor *c);
extern int32_t get32(Cursor *c);
extern const char *get_string(Cursor *c);

#endif
