/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.h: load, faults and a checker, composed in one function per file.
 *
 * scenario_NAME(sc) builds nodes in sc->w, drives them for some simulated time and calls
 * violation() for each rule it sees broken.  Everything it draws comes from sc->p.  The caller ends
 * the world; what the nodes' mains point to must therefore outlive the function: take it from
 * scenario_alloc(). */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H
#include "sys/sim/sim.h"

struct scenario {
	struct sim *w;
	struct prng *p; /* the workload's own stream */
	uint64_t seed;
	const char *name;
	uint32_t violations;
	void *mem; /* of scenario_alloc() */
	void (*at_end)(struct scenario *sc); /* when the world is no more; NULL: nothing */
	void *at_end_arg;
	uint64_t operations, failovers;    /* for the summary */
	uint32_t rounds_asked, rounds_max; /* scenario_rounds(); 0: no bound */
	uint64_t workers, idle_workers;    /* one bit each: those there are; who does nothing */
};

typedef void scenario_fn(struct scenario *sc);

/* rule: a sentence that should have held; fmt: what was seen instead. */
void violation(struct scenario *sc, const char *rule, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A rule was looked at: so that the end can say which were, and how often. */
void scenario_checked(const char *held_rule);
void *scenario_alloc(struct scenario *sc, size_t bytes); /* zeroed; freed after the world */
/* Faults of this run: each kind of sim_all_faults is on in about half of the seeds, so that one
 * fault does not hide behind another. */
struct sim_faults scenario_swarm(struct scenario *sc);
/* How many rounds a scenario goes: n, or less when a failure is being minimised. */
uint32_t scenario_rounds(struct scenario *sc, uint32_t n);
void scenario_run(struct scenario *sc, uint64_t ns); /* lets that much time pass */
/* Up to so many single steps more (drawn), so that what follows happens in the middle of things. */
void scenario_steps(struct scenario *sc, uint32_t max);
void scenario_say(struct scenario *sc, const char *fmt, ...) /* a line in the trace */
	__attribute__((format(printf, 2, 3)));

#define SCENARIO(name, weight, text) scenario_fn scenario_##name;
#include "sim/scenarios.def"
#undef SCENARIO
#endif
