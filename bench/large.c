/* SPDX-License-Identifier: Apache-2.0 */
/* large.c: values above LIMIT_INLINE_BYTES_MAX: one thread and one client for each connection, one
 * object at a time.  What differs between the protocols is behind struct large_proto. */
#include "base/check.h"
#include "base/prng.h"
#include "bench/large.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct worker {
	struct large *l;
	pthread_t thread;
	struct hist *hist;
	uint64_t ops, errors;
	uint32_t number;
};

static atomic_bool measuring, stopping;

/* In order, the keys of a worker are every conns-th one. */
static bool next_key(struct worker *w, struct prng *random, uint64_t *at, char to[KEY_BYTES])
{
	const struct bench_opts *o = &w->l->b->o;
	uint64_t i = *at * o->conns + w->number;

	if (!o->in_order)
		i = prng_below(random, o->keys);
	if (i >= o->keys || atomic_load_explicit(&stopping, memory_order_relaxed))
		return false;
	(*at)++;
	key_of(o->first + i, to);
	return true;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct large_proto *proto = w->l->proto;
	struct prng random = prng_fork(w->l->b->o.seed, 100 + w->number);
	void *client = proto->open(w->l);
	char key[KEY_BYTES];
	uint64_t at = 0;

	if (client == NULL)
		w->errors++;
	while (client != NULL && w->errors == 0 && next_key(w, &random, &at, key)) {
		uint64_t began = now_ns();
		int rc = w->l->b->o.op == BENCH_GET ? proto->get(client, key) :
			proto->put(client, key);

		if (rc < 0)
			w->errors++;
		else if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
			w->ops++;
			hist_add(w->hist, now_ns() - began);
		}
	}
	if (client != NULL)
		proto->close(client);
	return NULL;
}

static void nap(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	nanosleep(&t, NULL);
}

static void join(struct worker *w, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		pthread_join(w[i].thread, NULL);
}

static void window(struct large *l, struct worker *w, struct bench_result *ret_r)
{
	const struct bench_opts *o = &l->b->o;
	uint64_t began, cpu;

	if (!o->in_order)
		nap(o->warm_ns);
	atomic_store(&measuring, true);
	began = now_ns();
	cpu = cpu_ns_of(o->pids);
	if (o->in_order)
		join(w, o->conns);
	else
		nap(o->run_ns);
	atomic_store(&measuring, false);
	ret_r->wall_ns = now_ns() - began;
	ret_r->cpu_ns = cpu_ns_of(o->pids) - cpu;
	atomic_store(&stopping, true);
	if (!o->in_order)
		join(w, o->conns);
}

int large_run(struct bench *b, struct bench_result *ret_r)
{
	struct large l = { .b = b };
	struct worker *w = calloc(b->o.conns, sizeof *w);
	struct hist *all = calloc(1, sizeof *all);

	check(w != NULL && all != NULL);
	l.proto = b->proto == &proto_redis ? &large_redis : &large_wadi;
	for (uint32_t i = 0; i < b->o.conns; i++) {
		w[i] = (struct worker){ .l = &l, .number = i, .hist = calloc(1, sizeof *all) };
		check(w[i].hist != NULL);
		check(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
	}
	window(&l, w, ret_r);
	for (uint32_t i = 0; i < b->o.conns; i++) {
		ret_r->ops += w[i].ops;
		ret_r->errors += w[i].errors;
		for (unsigned k = 0; k < sizeof all->at / sizeof all->at[0]; k++)
			all->at[k] += w[i].hist->at[k];
		all->n += w[i].hist->n;
		all->max = all->max > w[i].hist->max ? all->max : w[i].hist->max;
		free(w[i].hist);
	}
	ret_r->p50_ns = hist_quantile(all, 0.5);
	ret_r->p99_ns = hist_quantile(all, 0.99);
	ret_r->max_ns = all->max;
	free(all);
	free(w);
	return 0;
}
