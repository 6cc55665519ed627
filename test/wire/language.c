/*
 * language.c: the words and values of a line of a script, and the bodies of messages made of them.
 *
 * It answers: which bytes does this line stand for? It owns nothing. It never sends, and knows no connection.
 */
#include "language.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/*
 * The arguments of a message. s: a value with a closing zero, b: one without, c: a letter, i: Int32, h: Int16, v: (values) with their number and lengths,
 * 2, 4: [numbers] of so many bytes with their number.
 */
static const char *const bodies[256] = {
	['Q'] = "s", ['P'] = "ss4", ['B'] = "ss2v2", ['D'] = "cs", ['C'] = "cs", ['E'] = "si", ['S'] = "", ['H'] = "", ['X'] = "",
	['F'] = "i2vh", ['d'] = "b", ['c'] = "", ['f'] = "s",
};

/* ---- words ---- */

Cursor
line_of(const char *text)
{
	return cursor_of(text, strlen(text));
}

static void
skip_space(Cursor *c)
{
	while (c->p < c->end && (isspace(*c->p) || *c->p == ','))
		c->p++;
}

bool
at_end(Cursor *c)
{
	skip_space(c);
	return c->p >= c->end || *c->p == '#';
}

bool
take_char(Cursor *c, char wanted)
{
	skip_space(c);
	if (c->p >= c->end || *c->p != (unsigned char) wanted)
		return false;
	c->p++;
	return true;
}

void
word(Cursor *c, char *out, size_t size)
{
	size_t		n = 0;

	skip_space(c);
	while (c->p < c->end && !isspace(*c->p) && !strchr(",()[]\"", *c->p) && n + 1 < size)
		out[n++] = *c->p++;
	out[n] = '\0';
}

long
number(Cursor *c, long otherwise)
{
	char		text[32];

	if (at_end(c))
		return otherwise;
	word(c, text, sizeof(text));
	return text[0] ? strtol(text, NULL, 0) : otherwise;
}

/* ---- values ---- */

static int
hex_digit(int ch)
{
	return isdigit(ch) ? ch - '0' : (tolower(ch) - 'a' + 10) & 15;
}

static char
hex_byte(const unsigned char *digits)
{
	return (char) (hex_digit(digits[0]) << 4 | hex_digit(digits[1]));
}

static void
quoted_piece(Cursor *c, Buffer *out)
{
	char		ch;

	for (c->p++; c->p < c->end && *c->p != '"'; c->p++)
	{
		ch = *c->p;
		if (ch == '\\' && c->p + 1 < c->end)
		{
			ch = *++c->p;
			if (ch == 'n')
				ch = '\n';
			else if (ch == 't')
				ch = '\t';
			else if (ch == '0')
				ch = '\0';
			else if (ch == 'x' && c->p + 2 < c->end)
			{
				ch = hex_byte(c->p + 1);
				c->p += 2;
			}
		}
		put(out, &ch, 1);
	}
	if (c->p >= c->end)
		fail("a quote is not closed");
	c->p++;
}

/* fill:SIZE or fill:SIZE:x, SIZE with kB or MB: letters in an order that shows a lost byte. */
static void
fill_piece(const char *text, Buffer *out)
{
	char	   *unit;
	size_t		size = strtoul(text, &unit, 10);

	if (strncmp(unit, "kB", 2) == 0)
		size *= 1024, unit += 2;
	else if (strncmp(unit, "MB", 2) == 0)
		size *= 1024 * 1024, unit += 2;
	reserve(out, size);
	for (size_t i = 0; i < size; i++)
		out->data[out->len + i] = unit[0] == ':' ? unit[1] : (char) ('a' + (i + i / 26) % 26);
	out->len += size;
}

static void
hex_piece(const char *text, Buffer *out)
{
	const unsigned char *digits = (const unsigned char *) text;
	char		ch;

	for (size_t left = strlen(text); left >= 2 && isxdigit(digits[0]) && isxdigit(digits[1]); left -= 2, digits += 2)
	{
		ch = hex_byte(digits);
		put(out, &ch, 1);
	}
}

static void
bare_piece(Cursor *c, Buffer *out)
{
	char		text[4096] = "";

	word(c, text, sizeof(text));
	if (strncmp(text, "fill:", 5) == 0)
		fill_piece(text + 5, out);
	else if (strncmp(text, "hex:", 4) == 0)
		hex_piece(text + 4, out);
	else if (strncmp(text, "i16:", 4) == 0)
		put16(out, (int) strtol(text + 4, NULL, 0));
	else if (strncmp(text, "i32:", 4) == 0)
		put32(out, strtol(text + 4, NULL, 0));
	else if (text[0] == '\0')
		fail("a value is missing");
	else
		put(out, text, strlen(text));
}

/* Pieces joined by "+". */
bool
value(Cursor *c, Buffer *out)
{
	size_t		start = out->len;
	bool		quoted = false;

	do
	{
		skip_space(c);
		if (c->p < c->end && *c->p == '"')
			quoted_piece(c, out), quoted = true;
		else
			bare_piece(c, out);
	} while (take_char(c, '+'));
	if (quoted || out->len - start != 4 || memcmp(out->data + start, "null", 4) != 0)
		return true;
	out->len = start;
	return false;
}

void
option(Cursor *c, char *name, size_t size, Buffer *text)
{
	size_t		n = 0;

	while (c->p < c->end && *c->p != '=' && n + 1 < size)
		name[n++] = *c->p++;
	name[n] = '\0';
	if (!take_char(c, '='))
		fail("name=value expected");
	clear(text);
	value(c, text);
	put(text, "", 1);
}

/* ---- bodies of messages ---- */

/* [n n n]: a count, then each number in the given width; nothing but a zero count if absent. */
static void
number_list(Cursor *c, Buffer *out, int width)
{
	Buffer		items = {0};
	int			n = 0;

	if (take_char(c, '['))
		for (; !take_char(c, ']'); n++)
		{
			if (at_end(c))
				fail("] is missing");
			if (width == 2)
				put16(&items, (int) number(c, 0));
			else
				put32(&items, number(c, 0));
		}
	put16(out, n);
	put(out, items.data, items.len);
	free(items.data);
}

static void
value_list(Cursor *c, Buffer *out)
{
	Buffer		items = {0};
	Buffer		one = {0};
	int			n = 0;

	if (take_char(c, '('))
		for (; !take_char(c, ')'); n++)
		{
			if (at_end(c))
				fail(") is missing");
			clear(&one);
			put32(&items, value(c, &one) ? (long) one.len : -1);
			put(&items, one.data, one.len);
		}
	put16(out, n);
	put(out, items.data, items.len);
	free(items.data);
	free(one.data);
}

bool
is_message(const char *name)
{
	return name[0] != '\0' && name[1] == '\0' && bodies[(unsigned char) name[0]] != NULL;
}

void
message_body(char type, Cursor *c, Buffer *out)
{
	for (const char *field = bodies[(unsigned char) type]; *field; field++)
		switch (*field)
		{
			case 's': value(c, out), put(out, "", 1); break;
			case 'b': value(c, out); break;
			case 'c': skip_space(c), put(out, c->p++, 1); break;
			case 'i': put32(out, number(c, 0)); break;
			case 'h': put16(out, (int) number(c, 0)); break;
			case 'v': value_list(c, out); break;
			default: number_list(c, out, *field - '0'); break;
		}
}
