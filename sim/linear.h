/* SPDX-License-Identifier: Apache-2.0 */
/* linear.h: is there an order of what clients did in which each of them was told the truth?
 *
 * A history has, for each key, the operations on it with the times between which each took effect.
 * It is linearizable when they can be put in an order that keeps to these times, and in which every
 * outcome is what the operation had to give there.  Keys are looked at one by one.  A rename is two
 * operations, on two keys: LINEAR_DELETE, and LINEAR_PUT of LINEAR_ANY; a listing is one
 * LINEAR_STAT for each key that it may have, present or not.
 *
 * LINEAR_CUT, which concerns all keys, takes back what happened last: everything up to some moment,
 * but not below an operation that was acknowledged as durable before.  What was taken back and not
 * yet answered may happen again, once, or be refused then.
 *
 * Times only have to be comparable; two that are equal are in no order. */
#ifndef SIM_LINEAR_H
#define SIM_LINEAR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	LINEAR_KEY_OPS_MAX = 1024,
	LINEAR_KEY_BYTES_MAX = 128,
	LINEAR_STATES_MAX = 1 << 18, /* of one key's search; more are too hard */
};
#define LINEAR_NEVER UINT64_MAX      /* of an end: it may take effect at any time, or not at all */
#define LINEAR_ANY (UINT64_MAX - 1)  /* a value that nobody knows */

enum linear_kind {
	LINEAR_PUT,     /* value; cond and if_version; version, when it was told */
	LINEAR_DELETE,
	LINEAR_TAKE,    /* a get that deletes: value */
	LINEAR_GET,     /* value, and version when it was told */
	LINEAR_STAT,
	LINEAR_LOST,    /* a get that said that the bytes are gone: put before `value`, a time, and
			 * not durable */
	LINEAR_CUT,
};
enum linear_cond { LINEAR_ALWAYS, LINEAR_IF_ABSENT, LINEAR_IF_VERSION };
/* What it was told.  UNKNOWN: nothing; a change may take effect once, whenever. */
enum linear_outcome { LINEAR_DONE, LINEAR_REFUSED, LINEAR_ABSENT, LINEAR_UNKNOWN };
struct linear_op {
	enum linear_kind kind;
	enum linear_cond cond;
	enum linear_outcome outcome;
	bool durable;
	uint32_t key;
	uint64_t begin, end;
	uint64_t value;      /* a number for each put, or LINEAR_ANY; 0 is absence */
	uint64_t version, if_version; /* 0: not told */
};

struct linear;
struct linear *linear_new(void);
void linear_free(struct linear *l); /* NULL is fine */
/* The number of a key; the same name has the same. */
uint32_t linear_key(struct linear *l, const char *name);
const char *linear_name(const struct linear *l, uint32_t key);
uint32_t linear_keys(const struct linear *l);
/* Returns its number, by which it can be completed: pointers last until the next is added. */
uint32_t linear_add(struct linear *l, const struct linear_op *op);
struct linear_op *linear_at(const struct linear *l, uint32_t i);
uint32_t linear_ops(const struct linear *l);

enum linear_verdict { LINEAR_OK, LINEAR_BROKEN, LINEAR_TOO_HARD };
/* ret_why: a sentence for each verdict but LINEAR_OK. */
enum linear_verdict linear_check(struct linear *l, uint32_t key, char *ret_why, size_t cap);

/* ---- histories as text ----
 *
 * One line for each operation, fields between blanks, `#` for a comment:
 *
 *   BEGIN END put KEY VALUE [durable] [if-absent] [if-version=N] [version=N] OUTCOME
 *   BEGIN END delete KEY [durable] OUTCOME
 *   BEGIN END take|get KEY VALUE [durable] [version=N] | BEGIN END take|get KEY OUTCOME
 *   BEGIN END stat KEY OUTCOME
 *   BEGIN END lost KEY TIME
 *   BEGIN END list PREFIX KEY...     everything it had with this prefix
 *   TIME TIME cut
 *
 * END is `-` when nothing was answered.  VALUE is a number above 0, or `?`.  OUTCOME is ok (may be
 * left out), refused, absent or unknown. */
/* False: ret_why says which line is wrong. */
bool linear_read(struct linear *l, FILE *from, char *ret_why, size_t cap);
void linear_op_text(const struct linear *l, const struct linear_op *op, char *ret, size_t cap);
void linear_write(const struct linear *l, uint32_t key, FILE *to); /* one key's, and the cuts */
#endif
