/*
 * host/analyze_scan.c - what is read off a text without the parser.
 *
 * Answers: which token is the name behind DEALLOCATE or EXECUTE, what do the hints of the leading comments say, does this
 * text hold a word that means a day? Pure functions of bytes. Never: parses SQL, allocates but into the caller's buffer.
 */
#include "postgres.h"

#include "host/analyze_internal.h"

#include "mb/pg_wchar.h"

/* ---- renaming ---- */

typedef struct NameScanner
{
	const uint8_t *at;
	const uint8_t *end;
} NameScanner;

static uint8_t
look(const NameScanner *s, size_t ahead)
{
	return (size_t) (s->end - s->at) > ahead ? s->at[ahead] : 0;
}

/* Behind a comment of either form; the bracketed one nests. False: it does not end. */
static bool
skip_comment(NameScanner *s)
{
	int			depth = 0;

	if (look(s, 0) == '-')
	{
		while (s->at < s->end && *s->at != '\n' && *s->at != '\r')
			s->at++;
		return true;
	}
	do
	{
		if (s->at >= s->end)
			return false;
		if (look(s, 0) == '/' && look(s, 1) == '*')
		{
			depth++;
			s->at += 2;
		}
		else if (look(s, 0) == '*' && look(s, 1) == '/')
		{
			depth--;
			s->at += 2;
		}
		else
			s->at++;
	} while (depth > 0);
	return true;
}

static bool
skip_blanks(NameScanner *s)
{
	for (;;)
	{
		uint8_t		c = look(s, 0);

		if (c == ' ' || (c >= '\t' && c <= '\r' && c != '\v'))
			s->at++;
		else if ((c == '-' && look(s, 1) == '-') || (c == '/' && look(s, 1) == '*'))
		{
			if (!skip_comment(s))
				return false;
		}
		else
			return true;
	}
}

static bool
is_name_byte(uint8_t c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80 ||
		(!first && ((c >= '0' && c <= '9') || c == '$'));
}

/* An unquoted word; empty if there is none here. */
static Bytes
scan_word(NameScanner *s)
{
	const uint8_t *start = s->at;

	while (s->at < s->end && is_name_byte(*s->at, s->at == start))
		s->at++;
	return bytes_of(start, s->at - start);
}

static bool
word_is(Bytes word, const char *keyword)
{
	return word.len == strlen(keyword) &&
		pg_strncasecmp((const char *) word.data, keyword, word.len) == 0;
}

/* A quoted identifier, quotes included; empty if it does not end. */
static Bytes
scan_quoted(NameScanner *s)
{
	const uint8_t *start = s->at;

	for (s->at++; s->at < s->end; s->at++)
	{
		if (*s->at != '"')
			continue;
		s->at++;
		if (look(s, 0) != '"')
			return bytes_of(start, s->at - start);
	}
	return bytes_of(start, 0);
}

/* Is this token the target? Names are cut at NAMEDATALEN - 1 bytes, perhaps earlier, within a character. */
static bool
token_is_target(Bytes token, const char *target)
{
	bool		quoted = token.len > 0 && token.data[0] == '"';
	size_t		end = quoted ? token.len - 1 : token.len;
	size_t		len = strlen(target);
	size_t		i;
	size_t		n = 0;

	for (i = quoted ? 1 : 0; i < end; i++)
	{
		uint8_t		c = token.data[i];

		if (n == len)
			return len > NAMEDATALEN - 1 - MAX_MULTIBYTE_CHAR_LEN;
		if (quoted && c == '"')
			i++;
		if (!quoted && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != (uint8_t) target[n++])
			return false;
	}
	return n == len && len > 0;
}

/* The token of the name behind DEALLOCATE [PREPARE] or EXECUTE; empty if not found. */
static Bytes
scan_statement_name(NameScanner *s)
{
	Bytes		none = bytes_of(s->at, 0);
	Bytes		word;
	bool		deallocate;

	do
	{
		if (!skip_blanks(s))
			return none;
	} while (look(s, 0) == ';' && s->at++ < s->end);
	word = scan_word(s);
	deallocate = word_is(word, "deallocate");
	if (!(deallocate || word_is(word, "execute")) || !skip_blanks(s))
		return none;
	if (look(s, 0) == '"')
		return scan_quoted(s);
	word = scan_word(s);
	if ((look(s, 0) == '&' && look(s, 1) == '"') || !skip_blanks(s))
		return none;			/* U&"..." */
	/* PREPARE is no reserved word: alone it is the name */
	if (!deallocate || !word_is(word, "prepare") || s->at >= s->end || look(s, 0) == ';')
		return word;
	if (look(s, 0) == '"')
		return scan_quoted(s);
	word = scan_word(s);
	return look(s, 0) == '&' ? none : word;
}

static void
put_quoted(ByteBuffer *out, Bytes name)
{
	size_t		i;

	buffer_put_u8(out, '"');
	for (i = 0; i < name.len; i++)
	{
		if (name.data[i] == '"')
			buffer_put_u8(out, '"');
		buffer_put_u8(out, name.data[i]);
	}
	buffer_put_u8(out, '"');
}

bool
analyze_rename(Bytes text, const char *target, Bytes link_name, ByteBuffer *out)
{
	NameScanner scanner = {text.data, text.data + text.len};
	Bytes		token;

	if (target == NULL || text.len == 0)
		return false;
	token = scan_statement_name(&scanner);
	if (token.len == 0 || !token_is_target(token, target))
		return false;
	buffer_put(out, text.data, token.data - text.data);
	put_quoted(out, link_name);
	buffer_put(out, token.data + token.len, text.data + text.len - (token.data + token.len));
	return !out->failed;
}

/* ---- hints ---- */

#define HINT_WORD		"hyperpool:"
#define HINT_MAX_AGE	INT64CONST(31536000000000)	/* a year */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void
skip_spaces(NameScanner *s)
{
	while (s->at < s->end && is_blank(*s->at))
		s->at++;
}

/* Microseconds of "250ms", "5s", "1.5 min" …; -1 = cannot be read. */
static int64_t
hint_age(Bytes value)
{
	static const struct
	{
		const char *name;
		int64_t		us;
	}			units[] = {{"", 1000000}, {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"min", 60000000}, {"h", INT64CONST(3600000000)}, {"d", INT64CONST(86400000000)}};
	double		number = 0;
	double		place = 1;
	size_t		i = 0;
	bool		fraction = false;
	int			u;

	for (; i < value.len && ((value.data[i] >= '0' && value.data[i] <= '9') || (value.data[i] == '.' && !fraction)); i++)
	{
		if (value.data[i] == '.')
			fraction = true;
		else if (fraction)
			number += (value.data[i] - '0') * (place /= 10);
		else
			number = number * 10 + (value.data[i] - '0');
	}
	if (i == (fraction ? 1 : 0))
		return -1;
	while (i < value.len && is_blank(value.data[i]))
		i++;
	for (u = 0; u < (int) lengthof(units); u++)
	{
		if (word_is(bytes_of(value.data + i, value.len - i), units[u].name))
			return number * units[u].us < HINT_MAX_AGE ? (int64_t) (number * units[u].us + 0.5) : HINT_MAX_AGE;
	}
	return -1;
}

static void
take_hint(Bytes key, Bytes value, TextHints *out)
{
	int64_t		age;

	if (word_is(key, "cache") && (word_is(value, "off") || word_is(value, "on")))
		out->cache_off = word_is(value, "off");
	else if (word_is(key, "max_age"))
	{
		age = hint_age(value);
		if (age >= 0)
			out->max_age = age;
	}
}

/* From start to end without the blanks on either side. */
static Bytes
trimmed(const uint8_t *start, const uint8_t *end)
{
	while (start < end && is_blank(*start))
		start++;
	while (end > start && is_blank(end[-1]))
		end--;
	return bytes_of(start, end - start);
}

/* The inside of a comment: hyperpool: key=value, key=value */
static void
read_hints(NameScanner s, TextHints *out)
{
	size_t		len = strlen(HINT_WORD);
	const uint8_t *part_end;
	const uint8_t *equals;

	skip_spaces(&s);
	if ((size_t) (s.end - s.at) < len || !word_is(bytes_of(s.at, len), HINT_WORD))
		return;
	for (s.at += len; s.at < s.end; s.at = part_end + 1)
	{
		part_end = memchr(s.at, ',', s.end - s.at);
		if (part_end == NULL)
			part_end = s.end;
		equals = memchr(s.at, '=', part_end - s.at);
		if (equals != NULL)
			take_hint(trimmed(s.at, equals), trimmed(equals + 1, part_end), out);
		if (part_end == s.end)
			break;
	}
}

void
analyze_hints(Bytes text, TextHints *out)
{
	NameScanner s = {text.data, text.data + text.len};

	out->cache_off = false;
	out->max_age = -1;
	if (text.len == 0 || !(text.data[0] == '/' || text.data[0] == '-' || is_blank(text.data[0])))
		return;
	for (;;)
	{
		const uint8_t *start;

		skip_spaces(&s);
		start = s.at;
		if (!(look(&s, 0) == '/' && look(&s, 1) == '*') && !(look(&s, 0) == '-' && look(&s, 1) == '-'))
			return;
		if (!skip_comment(&s))
			return;
		if (*start == '/')
			read_hints((NameScanner) {start + 2, s.at - 2}, out);
	}
}

/* ---- words that mean a day ---- */

static bool
is_letter(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Does the word end at text[last], with no letter on either side? Date input takes digits and signs beside a word for another field. */
static bool
word_ends_at(Bytes text, size_t last, const char *word)
{
	size_t		len = strlen(word);

	if (last + 1 < len || (last + 1 > len && is_letter(text.data[last - len])) ||
		(last + 1 < text.len && is_letter(text.data[last + 1])))
		return false;
	return pg_strncasecmp((const char *) text.data + last + 1 - len, word, len) == 0;
}

/* All four words end in w or y: most blocks of most values hold neither. */
#define BLOCK	64

static bool
block_may_hold_end(const uint8_t *p)
{
	uint8_t		hits = 0;
	int			i;

	for (i = 0; i < BLOCK; i++)
		hits |= (uint8_t) ((p[i] | 0x20) == 'w') | (uint8_t) ((p[i] | 0x20) == 'y');
	return hits != 0;
}

bool
analyze_has_date_word(Bytes text)
{
	size_t		i = 0;

	while (i < text.len)
	{
		size_t		end = Min(i + BLOCK, text.len);

		if (end - i == BLOCK && !block_may_hold_end(text.data + i))
		{
			i = end;
			continue;
		}
		for (; i < end; i++)
		{
			uint8_t		c = text.data[i] | 0x20;

			if ((c == 'w' && (word_ends_at(text, i, "now") || word_ends_at(text, i, "tomorrow"))) ||
				(c == 'y' && (word_ends_at(text, i, "today") || word_ends_at(text, i, "yesterday"))))
				return true;
		}
	}
	return false;
}
