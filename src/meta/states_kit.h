/* SPDX-License-Identifier: Apache-2.0 */
/* states_kit.h: for tests: every state of a disk that a power cut may leave, at every point of a
 * script of operations.
 *
 * A *point* is an operation of the disk that had its effect.  At each, a copy of the writer's disk
 * is cut by all choices of what got there (where they are more than 2^STATES_BITS: all prefixes,
 * all but one, only one, and drawn ones), and opened in a world of its own.  A state that was seen
 * before is judged by what it opened to then. */
#ifndef META_STATES_KIT_H
#define META_STATES_KIT_H
#include "base/prng.h"
#include "sys/sim/sim.h"

enum { STATES_BITS = 6, STATES_DRAWN = 8, STATES_SCRIPT_MAX = 24, STATES_OPS_MAX = 3 };

/* What was found when a state was opened. */
struct states_found {
	uint64_t key;  /* of the state; 0: free slot */
	uint64_t sign; /* of the history that it holds */
	uint64_t also; /* the test's own: an epoch */
};
struct states {
	struct sim *a, *b;
	struct sim_node *writer, *reader;
	struct prng p;
	uint64_t salt; /* of what opening depends on beside the disk */
	struct states_found found;
	char script[STATES_SCRIPT_MAX];
	const char *at; /* in it: the operation that is next */
	bool ending;    /* set by the writer: it is to be killed now */
	bool power;     /* the process ended for a power cut */
	bool kept;      /* there was none since what was answered */
	uint64_t n_points, n_cuts, n_seen;
	int how;        /* the cut under way */
	uint64_t mask;
	uint32_t only;
};
struct states_test {
	const char *operations; /* one letter each; beside them 'k', killed, and 'w', a power cut */
	const char *const *setups; /* before each script; ends with NULL */
	uint64_t disk_bytes;
	uint32_t sample_of[2]; /* every so-many-th sequence of two, of three, beside all of one */
	uint64_t least;        /* states that are to be seen then */
	void (*begin)(struct states *st); /* nothing has happened yet */
	sim_main_fn *write; /* one life of the writer: from st->at to the end, or to 'k' or 'w' */
	sim_main_fn *open;  /* sets st->found */
	sim_main_fn *go;    /* opens, changes something, durably: sets st->found to that */
	/* kept: nothing that was answered may be missing. */
	void (*judge)(struct states *st, const struct states_found *f, bool kept);
};
/* argv: [OPERATIONS [SEEDS]]: sequences of so many, each so often, with other draws; without them
 * what sample_of says.  The program's exit code. */
int states_main(int argc, char **argv, const struct states_test *t);
extern struct states *the_states;
_Noreturn void states_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#endif
