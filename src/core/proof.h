/*
 * core/proof.h - what the facts of a database make of a text.                     floor 2
 *
 * Answers: may the answer to this text be kept, on which version slots does it hang, and what does the text write? Owns the image in which
 * the facts of a database lie (one piece of memory, no pointers): it is made from a draft, checked once, and looked up by name.
 * Names are not resolved: a name stands for everything of that name, the worst of it decides, the versions of all of it are remembered.
 * Never: asks a database, parses SQL, trusts an image.
 */
#ifndef HYPERPOOL_CORE_PROOF_H
#define HYPERPOOL_CORE_PROOF_H

#include "core/statement.h"

/* What a function, operator, type or cast of a user is to us; from best to worst. */
typedef enum NameClass
{
	NAME_DETERMINISTIC,			/* immutable, and in C or internal: a function of its arguments */
	NAME_IMMUTABLE,				/* immutable in another language: its body may read tables, so it hangs on the whole database */
	NAME_STABLE,				/* not cacheable; writes nothing, as it declares */
	NAME_VOLATILE				/* not cacheable; may write anything */
} NameClass;

#define RELATION_SLOTS	16		/* a relation, or a text, of more hangs on the database's any-slot */

typedef struct RelationFacts
{
	const char *schema;
	const char *name;
	uint8_t		reason;			/* REASON_CACHEABLE, or why what is read from it cannot be kept */
	bool		whole;			/* readers hang on the database's any-slot: too many relations, or immutable functions of users behind it */
	bool		catalog_rows;	/* readers hang on the slot of the catalog's rows too */
	bool		reads_write;	/* to read it may change anything: a view or policy with a volatile function of a user */
	bool		reads_dirty;	/* to read it may leave session state behind: such a function again, or a built-in that sets something */
	bool		writes_anything;	/* a write to it may change anything (triggers, rules, volatile defaults …) */
	bool		harmless;		/* a write to it leaves no session state behind */
	int			nreads;			/* version slots of all it is read from; more than RELATION_SLOTS: taken as `whole` */
	const uint32_t *reads;
	int			nwrites;		/* version slots of all that a write to it changes; more than RELATION_SLOTS: taken as writes_anything */
	const uint32_t *writes;
} RelationFacts;

/* The slots that a database has beside those of its relations (host/versions). */
typedef struct DatabaseSlots
{
	uint32_t	cluster;
	uint32_t	catalog;
	uint32_t	catalog_rows;
	uint32_t	any;
} DatabaseSlots;

#define PROOF_SLOT_GLOBAL	0	/* host/versions' SLOT_GLOBAL */
#define PROOF_EVENT_FUNCTION	""	/* schema and name of a function that whoever writes the catalog calls: no other has none */
#define PROOF_TEMP_FUNCTION		" " /* name, in that schema, of one that is there if some function may make something temporary … */
#define PROOF_TEMP_VIEW_FUNCTION	"  " /* … and of one that is there if that may be a view, or what else runs functions when it is read */

/* ---- the draft ---- */

typedef struct ProofDraft ProofDraft;

/* NULL = out of memory. Names and slots are copied. A draft that has found no memory remembers it: then no image can be made. */
extern ProofDraft *proof_draft_create(void);
extern void proof_draft_destroy(ProofDraft *draft);	/* NULL is fine */
extern void proof_draft_relation(ProofDraft *draft, const RelationFacts *relation);
extern void proof_draft_function(ProofDraft *draft, const char *schema, const char *name, NameClass c);
extern void proof_draft_operator(ProofDraft *draft, const char *schema, const char *name, NameClass c);
extern void proof_draft_type(ProofDraft *draft, const char *schema, const char *name, NameClass c);
extern void proof_draft_field(ProofDraft *draft, const char *name, NameClass c);
extern void proof_draft_builtin(ProofDraft *draft, const char *name);	/* there is a function of pg_catalog of this name, not made by a user */
/* Puts the image into `out`, which is empty. False: no memory. The draft is sorted by it, and may be used again. */
extern bool proof_draft_image(ProofDraft *draft, const DatabaseSlots *slots, ByteBuffer *out);

/* ---- the image ---- */

typedef struct Facts Facts;

/* The facts in an image, which must be aligned to 4 bytes and outlive them; NULL if it is not a whole and consistent image. Every offset in it is checked here. */
extern const Facts *proof_facts(const void *image, size_t size);

/*
 * Draws the proof: may the answer to a text of this kind, with these effects and mentions, be kept; on which slots it hangs; what it writes.
 * Pure. facts NULL: everything is unknown; then `written` is empty and WRITES_ANYTHING is of whatever database that may be.
 * generation and origin_slot are the caller's to set. culprit (may be NULL): the name at fault, or "".
 */
#define CULPRIT_SIZE	128
extern void proof_draw(const Facts *facts, const StatementFacts *statement, const CacheRule *rules, int nrules, Proof *proof, char culprit[CULPRIT_SIZE]);
/* Is there one of the functions PROOF_TEMP_…? Of an unknown catalog: there may be. */
extern bool proof_knows_maker(const Facts *facts, const char *maker);

typedef struct FactsRelation
{
	const char *schema;
	const char *name;
	uint8_t		reason;			/* CacheReason */
	bool		harmless;
} FactsRelation;

/* The relations that a text may mean, one by one. *at starts at 0; false: no more. Names of which nothing is known are left out. */
extern bool proof_next_relation(const Facts *facts, const StatementFacts *statement, uint32_t *at, FactsRelation *out);
/*
 * The slots to be moved for everything that was read from relations of this name (schema NULL = any): theirs and the any-slot; the cluster's alone where they
 * would not fit. How many; 0 = there is no such relation. max is at least 1.
 */
extern int	proof_slots_of_relation(const Facts *facts, const char *schema, const char *name, uint32_t *slots, int max);

#endif
