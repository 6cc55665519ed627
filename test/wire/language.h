/*
 * language.h: the words and values of a line of a script (README.md, "The language").
 *
 * A Cursor is the line that is being read; what is read moves it on. What cannot be understood ends the program.
 */
#ifndef WIRE_LANGUAGE_H
#define WIRE_LANGUAGE_H

#include "bytes.h"

extern Cursor line_of(const char *text);
extern bool at_end(Cursor *c);	/* or at a comment */
extern bool take_char(Cursor *c, char wanted);
extern void word(Cursor *c, char *out, size_t size);
extern long number(Cursor *c, long otherwise);
extern bool value(Cursor *c, Buffer *out);	/* appended; false for null */
extern void option(Cursor *c, char *name, size_t size, Buffer *text);	/* name=value; the value with a closing zero */

/* Is this a message's type, in the language? Its body, made of what follows. */
extern bool is_message(const char *name);
extern void message_body(char type, Cursor *c, Buffer *out);

#endif
