/* SPDX-License-Identifier: Apache-2.0 */
/* The world: time, chance and whose turn it is. */
#include "sys/sim/world.h"
#include "base/check.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct sim_faults sim_no_faults = {
	.net_delay_min_ns = 20 * SYS_US,
	.net_delay_max_ns = 100 * SYS_US,
	.disk_op_max_ns = 100 * SYS_US,
};

const struct sim_faults sim_all_faults = {
	.net_lose_ppm = 300,
	.net_delay_min_ns = 20 * SYS_US,
	.net_delay_max_ns = 5 * SYS_MS,
	.net_stall_ppm = 500,
	.net_split_ppm = 100000,
	.disk_io_ppm = 100,
	.disk_torn_ppm = 500000,
	.disk_rot_ppm = 100,
	.disk_slow_ppm = 500,
	.disk_op_max_ns = 3 * SYS_MS,
	.clock_late_ppm = 2000,
	.clock_jump_ppm = 1000,
	.buggify_ppm = 20000,
	.shuffle = true,
};

bool sim_odds(struct sim *w, enum stream s, uint32_t ppm)
{
	return ppm > 0 && prng_odds(stream(w, s), ppm, 1000000);
}

__attribute__((format(printf, 3, 0)))
static void note(struct sim *w, const struct sim_node *n, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof text, fmt, ap);
	w->trace(w->trace_arg, w->now_ns, n != NULL ? n->name : "", text);
}

void sim_note(struct sim *w, const struct sim_node *n, const char *fmt, ...)
{
	va_list ap;

	if (w->trace == NULL)
		return;
	va_start(ap, fmt);
	note(w, n, fmt, ap);
	va_end(ap);
}

void sim_fault(struct sim *w, const struct sim_node *n, const char *fmt, ...)
{
	va_list ap;

	w->counts.faults++;
	cover_fault(fmt);
	if (w->trace == NULL)
		return;
	va_start(ap, fmt);
	note(w, n, fmt, ap);
	va_end(ap);
}

bool sim_misfortune(struct sim *w, const struct sim_node *n, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	if (w->spare != NULL &&
		w->spare(w->spare_arg, w->n_misfortunes++, w->now_ns, n->name, what))
		return false;
	w->counts.faults++;
	cover_fault(fmt);
	sim_note(w, n, "%s", what);
	return true;
}

void sim_spare(struct sim *w,
	bool (*spare)(void *arg, uint32_t i, uint64_t now_ns, const char *node, const char *what),
	void *arg)
{
	w->spare = spare;
	w->spare_arg = arg;
}

struct sim *sim_new(uint64_t seed, const struct sim_faults *f)
{
	struct sim *w = calloc(1, sizeof *w);

	check(w != NULL);
	w->seed = seed;
	w->faults = *f;
	memset(&w->most, 0xff, sizeof w->most);
	w->most.shuffle = true;
	w->stack_pattern = -1;
	for (int i = 0; i < STREAM_N; i++)
		w->streams[i] = prng_fork(seed, (uint64_t)i + 1);
	heap_init(&w->heap);
	list_init(&w->conns);
	return w;
}

void sim_free(struct sim *w)
{
	check(w->running == NULL);
	for (uint32_t i = 0; i < w->n_nodes; i++)
		if (w->nodes[i]->sys != NULL)
			node_end(w->nodes[i], END_KILL);
	net_free(w);
	for (uint32_t i = 0; i < w->n_nodes; i++) {
		heap_drop(&w->heap, &w->nodes[i]->resume);
		disk_free(&w->nodes[i]->disk);
		free(w->nodes[i]);
	}
	heap_free(&w->heap); /* checks that no event is left */
	free(w);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

void sim_faults_set(struct sim *w, const struct sim_faults *f)
{
	const struct sim_faults *most = &w->most;

	w->faults = *f;
	w->faults.net_lose_ppm = least(f->net_lose_ppm, most->net_lose_ppm);
	w->faults.net_stall_ppm = least(f->net_stall_ppm, most->net_stall_ppm);
	w->faults.net_split_ppm = least(f->net_split_ppm, most->net_split_ppm);
	w->faults.disk_io_ppm = least(f->disk_io_ppm, most->disk_io_ppm);
	w->faults.disk_torn_ppm = least(f->disk_torn_ppm, most->disk_torn_ppm);
	w->faults.disk_rot_ppm = least(f->disk_rot_ppm, most->disk_rot_ppm);
	w->faults.disk_slow_ppm = least(f->disk_slow_ppm, most->disk_slow_ppm);
	w->faults.clock_late_ppm = least(f->clock_late_ppm, most->clock_late_ppm);
	w->faults.clock_jump_ppm = least(f->clock_jump_ppm, most->clock_jump_ppm);
	w->faults.buggify_ppm = least(f->buggify_ppm, most->buggify_ppm);
	w->faults.shuffle = f->shuffle && most->shuffle;
}

void sim_faults_most(struct sim *w, const struct sim_faults *most)
{
	struct sim_faults now = w->faults;

	w->most = *most;
	sim_faults_set(w, &now);
}

void sim_fill_stacks(struct sim *w, int pattern)
{
	check(pattern < 256);
	check(w->counts.steps == 0);
	w->stack_pattern = pattern;
}

struct sim_node *sim_node_add(struct sim *w, const char *name, uint64_t disk_bytes)
{
	struct sim_node *n = calloc(1, sizeof *n);

	check(n != NULL);
	check(w->n_nodes < SIM_NODES_MAX);
	check(strlen(name) < NODE_NAME_MAX);
	check(strchr(name, ':') == NULL);
	n->w = w;
	n->index = w->n_nodes;
	snprintf(n->name, sizeof n->name, "%s", name);
	disk_init(&n->disk, disk_bytes);
	node_init(n);
	w->nodes[w->n_nodes++] = n;
	return n;
}

/* ---- steps ---- */
static struct sim_node *draw_ready(struct sim *w, uint64_t mask)
{
	uint64_t skip = 0;

	if ((mask & (mask - 1)) != 0)
		skip = prng_below(stream(w, STREAM_SCHED), (uint64_t)__builtin_popcountll(mask));
	while (skip-- > 0)
		mask &= mask - 1;
	return w->nodes[__builtin_ctzll(mask)];
}

bool sim_step(struct sim *w)
{
	uint64_t mask = w->ready & ~w->paused, due_ns = heap_due_ns(&w->heap);
	struct event *e;

	check(w->running == NULL);
	if (mask != 0) {
		w->counts.steps++;
		node_run(draw_ready(w, mask));
		return true;
	}
	e = heap_pop(&w->heap);
	if (e == NULL)
		return false;
	w->counts.steps++;
	if (due_ns > w->now_ns)
		w->now_ns = due_ns;
	e->fire(e);
	return true;
}

void sim_run(struct sim *w, uint64_t until_ns)
{
	while ((w->ready & ~w->paused) != 0 || (w->heap.n > 0 && heap_due_ns(&w->heap) <= until_ns))
		sim_step(w);
	if (until_ns != FOREVER && until_ns > w->now_ns)
		w->now_ns = until_ns;
}

uint64_t sim_now_ns(const struct sim *w)
{
	return w->now_ns;
}
struct prng *sim_workload(struct sim *w)
{
	return stream(w, STREAM_WORKLOAD);
}

uint64_t sim_unseed(const struct sim *w)
{
	uint64_t sum = w->digest;

	for (int i = 0; i < STREAM_N; i++)
		for (int k = 0; k < 4; k++)
			sum = sim_fold(sum, w->streams[i].s[k]);
	sum = sim_fold(sum, w->now_ns);
	return sim_fold(sum, w->counts.steps);
}

void sim_trace(struct sim *w,
	void (*line)(void *arg, uint64_t now_ns, const char *node, const char *text), void *arg)
{
	w->trace = line;
	w->trace_arg = arg;
}

struct sim_counts sim_counts(const struct sim *w)
{
	return w->counts;
}

void sim_net_cut(struct sim_node *from, struct sim_node *to, bool cut)
{
	struct sim *w = from->w;
	uint64_t bit = UINT64_C(1) << to->index, was = w->cut[from->index];

	check(from != to);
	if (((was & bit) != 0) == cut)
		return;
	if (cut && !sim_misfortune(w, from, "net: cut to %s", to->name))
		return;
	w->cut[from->index] = was ^ bit;
	if (cut)
		return;
	sim_note(w, from, "net: healed to %s", to->name);
	net_healed(w);
}
