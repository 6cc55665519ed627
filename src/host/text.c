/*
 * host/text.c - what others have said, as this database can hold it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "host/text.h"

const char *
text_clean(const char *s)
{
	char	   *clean;

	if (s == NULL || pg_verify_mbstr(GetDatabaseEncoding(), s, (int) strlen(s), true))
		return s;
	clean = pstrdup(s);
	for (char *p = clean; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
	return clean;
}

char *
text_start(const char *s, int bytes)
{
	return pnstrdup(s, pg_mbcliplen(s, (int) strlen(s), bytes));
}
