/* SPDX-License-Identifier: Apache-2.0 */
/* coord_sim.h: the simulated twin of etcd: one linearizable store beside a simulated world, asked
 * from all of its nodes.  Only sim/ and tests include it.
 *
 * A question travels, is applied in one step at its arrival, and its answer travels back.  Each way
 * may take long or be lost; a question that is on its way is applied whatever becomes of the node
 * that asked: after its deadline, after its crash, after later reads of others.  All chance comes
 * from a stream of its own. */
#ifndef COORD_COORD_SIM_H
#define COORD_COORD_SIM_H
#include "coord/coord.h"
#include "sys/sim/sim.h"

struct coord_sim_faults {
	uint64_t delay_min_ns, delay_max_ns; /* each way */
	uint32_t question_lost_ppm, answer_lost_ppm;
	uint32_t refused_ppm; /* nobody could be asked: E_UNAVAILABLE at once */
	uint32_t broken_ppm;  /* the asker is told at once that the connection broke */
	uint32_t late_ppm;    /* a question takes up to late_max_ns */
	uint64_t late_max_ns;
	uint32_t hint_lost_ppm; /* a change is not hinted at */
	uint32_t down_ppm;      /* a question finds the store stopped for up to down_max_ns */
	uint64_t down_max_ns;
};
extern const struct coord_sim_faults coord_sim_quiet, coord_sim_rough;

struct coord_sim;
struct coord_sim *coord_sim_new(struct sim *w, uint64_t seed, const struct coord_sim_faults *f);
void coord_sim_free(struct coord_sim *cs); /* every struct coord of it is closed */
void coord_sim_faults_set(struct coord_sim *cs, const struct coord_sim_faults *f);
/* Until that moment of the world nothing is answered: what arrives meanwhile is lost, or applied
 * when the store is back. */
void coord_sim_stop(struct coord_sim *cs, uint64_t until_ns);
/* What a node asks does not arrive, and what it asked is not answered. */
void coord_sim_cut(struct coord_sim *cs, const char *node_name, bool cut);

/* A node's way to the store; node_name as in sim_node_add().  Close it before the process ends,
 * also in the unwinding of a crash. */
int coord_sim_open(struct coord_sim *cs, struct sys *s, const char *node_name, struct coord **ret_c,
	struct err_note *note);

/* Folds the stream's state and what is stored: equal in equal runs. */
uint64_t coord_sim_sum(const struct coord_sim *cs);
struct coord_sim_counts {
	uint64_t questions, swaps_done, swaps_refused, unknown;
	uint64_t applied_unheard; /* swaps that succeeded when nobody waited for them any more */
	uint64_t stops;
};
struct coord_sim_counts coord_sim_counts(const struct coord_sim *cs);
#endif
