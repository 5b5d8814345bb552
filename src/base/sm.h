/* SPDX-License-Identifier: Apache-2.0 */
/* sm.h: a state machine declared as a table.  sm_move() is the only way to change state, so an
 * illegal transition stops the process where it happens. */
#ifndef BASE_SM_H
#define BASE_SM_H
#include "base/check.h"
#include <stdint.h>

struct sm_state { const char *name; uint32_t next; }; /* next: one bit for each allowed state */
struct sm { const struct sm_state *table; unsigned now; };

#define TO(s) (1u << (s))

static inline void sm_init(struct sm *m, const struct sm_state *table, unsigned first)
{
	*m = (struct sm){ table, first };
}

static inline void sm_move(struct sm *m, unsigned to)
{
	check(to < 32);
	check(m->table[m->now].next & TO(to));
	m->now = to;
}

static inline const char *sm_name(const struct sm *m) { return m->table[m->now].name; }
#endif
