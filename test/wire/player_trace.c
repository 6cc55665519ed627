/*
 * player_trace.c: decodes answers and prints them.
 *
 * It answers: what does this message say, field by field? It owns the text of a trace. It takes no field on trust: what is truncated, or too much, is shown as
 * such. It never judges an answer (run.pl compares two traces), and knows no socket.
 */
#define _GNU_SOURCE
#include "player_trace.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_VALUE 96			/* longer values are traced as length, hash and their first bytes */
#define SHOWN_PREFIX 40
#define HASH_START UINT64_C(14695981039346656037)

/*
 * What follows the type of a message. Fields: %b Byte1 as a number, %c as a letter, %h Int16, %d Int32, %u the same unsigned, %s String, %q String in quotes,
 * %v a value with its length, %f formats with their number, %e fields of an error, %k a cancel key. What stands behind * or # comes so many times as an
 * Int16 or Int32 says. The other types are empty, or nothing is known of them.
 */
static const char *const shapes[256] = {
	['A'] = " pid=%u%q%q",
	['C'] = "%q",
	['D'] = "*%v",
	['E'] = "%e",
	['G'] = " format=%b%f",
	['H'] = " format=%b%f",
	['K'] = "%k",
	['N'] = "%e",
	['R'] = " code=%d",
	['S'] = " %s =%q",
	['T'] = "* [%s table=%u.%h type=%u size=%h modifier=%d format=%h]",
	['V'] = "%v",
	['W'] = " format=%b%f",
	['Z'] = " %c",
	['t'] = "* type=%u",
	['v'] = " minor=%d#%q",
};

/* ---- printing ---- */

static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(1099511628211);
	return hash;
}

static void
print_quoted(FILE *f, const unsigned char *p, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len; i++)
	{
		if (p[i] == '"' || p[i] == '\\')
			fprintf(f, "\\%c", p[i]);
		else if (p[i] == '\n')
			fputs("\\n", f);
		else if (p[i] < 0x20 || p[i] >= 0x7f)
			fprintf(f, "\\x%02x", p[i]);
		else
			fputc(p[i], f);
	}
	fputc('"', f);
}

static void
print_value(FILE *f, const unsigned char *p, size_t len)
{
	if (len <= SHOWN_VALUE)
	{
		print_quoted(f, p, len);
		return;
	}
	fprintf(f, "%zu:%016llx:", len, (unsigned long long) hash_bytes(HASH_START, p, len));
	print_quoted(f, p, SHOWN_PREFIX);
	fputs("...", f);
}

/* ---- decoding ---- */

static void
decode_string(FILE *f, Cursor *c)
{
	const char *s;

	if (c->bad)
		return;
	s = get_string(c);
	fputc(' ', f);
	print_value(f, (const unsigned char *) s, strlen(s));
}

static void
decode_value(FILE *f, Cursor *c)
{
	int32_t		len = get32(c);

	if (len == -1)
	{
		fputs(" null", f);
		return;
	}
	if (c->bad || len < 0 || len > c->end - c->p)
	{
		c->bad = true;
		return;
	}
	fputc(' ', f);
	print_value(f, c->p, len);
	c->p += len;
}

static void
decode_formats(FILE *f, Cursor *c)
{
	fputs(" [", f);
	for (int n = get16(c); n > 0 && !c->bad; n--)
		fprintf(f, "%d%s", get16(c), n > 1 ? " " : "");
	fputs("]", f);
}

static void
decode_error(FILE *f, Cursor *c)
{
	unsigned	field;
	const char *text;

	while ((field = get_uint(c, 1)) != 0)
	{
		text = get_string(c);
		fprintf(f, " %c=", field);
		print_quoted(f, (const unsigned char *) text, strlen(text));
	}
}

static void
decode_key(FILE *f, Cursor *c)
{
	uint32_t	pid = get_uint(c, 4);
	size_t		len = c->bad ? 0 : (size_t) (c->end - c->p);

	fprintf(f, " pid=%u key=%zu bytes:", pid, len);
	print_quoted(f, c->p, len);
	c->p = c->end;
}

static void
decode_field(FILE *f, Cursor *c, char kind)
{
	switch (kind)
	{
		case 'b': fprintf(f, "%u", get_uint(c, 1)); break;
		case 'c': fputc((int) get_uint(c, 1), f); break;
		case 'h': fprintf(f, "%d", get16(c)); break;
		case 'd': fprintf(f, "%d", get32(c)); break;
		case 'u': fprintf(f, "%u", get_uint(c, 4)); break;
		case 's': fputs(get_string(c), f); break;
		case 'q': decode_string(f, c); break;
		case 'v': decode_value(f, c); break;
		case 'f': decode_formats(f, c); break;
		case 'e': decode_error(f, c); break;
		case 'k': decode_key(f, c); break;
	}
}

static void
decode(FILE *f, Cursor *c, const char *shape)
{
	for (; *shape != '\0' && *shape != '*' && *shape != '#'; shape++)
		if (*shape == '%')
			decode_field(f, c, *++shape);
		else
			fputc(*shape, f);
	if (*shape != '\0')
		for (int32_t n = *shape == '*' ? get16(c) : get32(c); n > 0 && !c->bad; n--)
			decode(f, c, shape + 1);
}

/* ---- the trace ---- */

void
trace_open(Trace *t, const char *name, bool brief)
{
	*t = (Trace) {.brief = brief};
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->file = open_memstream(&t->text, &t->len);
	if (t->file == NULL)
		fail("out of memory");
}

void
trace_close(Trace *t)
{
	fclose(t->file);
	free(t->text);
}

void
trace_end_run(Trace *t)
{
	if (t->run_count > 0)
		fprintf(t->file, "%s< %c times %ld hash %016llx\n", t->name, t->run_type, t->run_count, (unsigned long long) t->run_hash);
	t->run_count = 0;
}

void
trace_sent(Trace *t, const char *line)
{
	if (!t->brief)
		fprintf(t->file, "%s> %.110s\n", t->name, line);
}

static bool
join_run(Trace *t, char type, Cursor body)
{
	size_t		len = body.end - body.p;

	if (!t->brief || (type != 'D' && type != 'd'))
	{
		trace_end_run(t);
		return false;
	}
	if (t->run_count > 0 && t->run_type != type)
		trace_end_run(t);
	if (t->run_count++ == 0)
		t->run_hash = HASH_START;
	t->run_type = type;
	t->run_hash = hash_bytes(hash_bytes(t->run_hash, &len, sizeof(len)), body.p, len);
	return true;
}

void
trace_answer(Trace *t, char type, Cursor body)
{
	if (join_run(t, type, body))
		return;
	fprintf(t->file, "%s< %c", t->name, type);
	if (shapes[(unsigned char) type])
		decode(t->file, &body, shapes[(unsigned char) type]);
	if (type == 'd' || body.p < body.end)
	{
		fputs(type == 'd' ? " " : " and more: ", t->file);
		print_value(t->file, body.p, body.end - body.p);
	}
	fputs(body.bad ? " malformed\n" : "\n", t->file);
}

void
trace_event(Trace *t, const char *format,...)
{
	va_list		args;

	trace_end_run(t);
	fprintf(t->file, "%s< ", t->name);
	va_start(args, format);
	vfprintf(t->file, format, args);
	va_end(args);
	fputc('\n', t->file);
}

void
trace_closed(Trace *t, const Buffer *left)
{
	if (left->start == left->len)
	{
		trace_event(t, "closed");
		return;
	}
	trace_end_run(t);
	fprintf(t->file, "%s< closed inside a message: ", t->name);
	print_value(t->file, (unsigned char *) left->data + left->start, left->len - left->start);
	fputc('\n', t->file);
}

void
trace_print(Trace *t)
{
	trace_end_run(t);
	fflush(t->file);
	fwrite(t->text + t->shown, 1, t->len - t->shown, stdout);
	t->shown = t->len;
}
