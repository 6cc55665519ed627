/*
 * host/text.h - what others have said, as this database can hold it.               floor 4
 *
 * Origins and clients send bytes of any encoding, or of none. In a row or a message they must be text of the database's encoding: whoever keeps a row
 * with others could not dump it, and an error that cannot be converted for its client is lost.
 * Owns nothing. Never: converts; that would need to know from what.
 */
#ifndef HYPERPOOL_HOST_TEXT_H
#define HYPERPOOL_HOST_TEXT_H

#include "postgres.h"

/* s itself, or where the database cannot hold it a copy in which bytes beyond ASCII are question marks. NULL is fine. */
extern const char *text_clean(const char *s);
/* Its first characters, as many as fit into so many bytes: a copy. */
extern char *text_start(const char *s, int bytes);

#endif
