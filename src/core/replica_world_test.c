/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas of one shard under all faults at once, many seeds a second.
 *
 *     replica_world_test [--seed S] [--seeds N] [--ms REAL] [--scenario any|three|five] [--first]
 *         [--verbose]
 *
 * Runs N seeds from S on, or as many as the time allows.  Prints one line for each seed in which
 * something did not hold, and a summary; fails when there was one. */
#include "base/check.h"
#include "core/replica_world_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEAL_MS = 2000, FORCE_MS = 1200, MOST_MS = 6000 };
struct jump {
	jmp_buf buf;
};

/* ---- time ---- */
static bool before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->seq < b->seq;
}

static struct event *push(struct world *w, const struct event *e)
{
	uint32_t i = w->n_heap++;

	check(w->n_heap < EVENTS_MAX);
	while (i > 0 && before(e, &w->heap[(i - 1) / 2])) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = *e;
	return &w->heap[i];
}

struct event *world_at(struct world *w, uint64_t delay_ns, enum event_kind kind, uint32_t node)
{
	struct event e = {
		.at_ns = w->now_ns + delay_ns, .seq = w->seq++, .kind = kind, .node = node
	};

	e.life = node < NODES_MAX ? w->nodes[node].life : 0;
	return push(w, &e);
}

static struct event pop(struct world *w)
{
	struct event out = w->heap[0], last = w->heap[--w->n_heap];
	uint32_t i = 0;

	for (;;) {
		uint32_t k = 2 * i + 1;

		if (k >= w->n_heap)
			break;
		if (k + 1 < w->n_heap && before(&w->heap[k + 1], &w->heap[k]))
			k++;
		if (!before(&w->heap[k], &last))
			break;
		w->heap[i] = w->heap[k];
		i = k;
	}
	w->heap[i] = last;
	return out;
}

static void release(struct world *w, const struct event *e)
{
	if (e->packet != NULL) {
		uint32_t large = e->packet->cap > 2;

		e->packet->next = w->free_packets[large];
		w->free_packets[large] = e->packet;
	}
}

/* ---- for the other files ---- */
uint32_t world_node_of(const struct world *w, uint64_t id)
{
	for (uint32_t i = 0; i < w->n_nodes; i++)
		if (w->nodes[i].id == id)
			return i;
	return NODES_MAX;
}

void world_say(struct world *w, const char *format, ...)
{
	va_list ap;

	if (!w->verbose)
		return;
	printf("[%9.3f] ", (double)w->now_ns / 1e6);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
}

void world_broken(struct world *w, const char *rule)
{
	w->rule = rule;
	longjmp(w->out->buf, 1);
}

/* ---- faults ---- */
enum fault {
	FAULT_KILL,
	FAULT_POWER,
	FAULT_POWER_ALL,
	FAULT_CUT,
	FAULT_CUT_NODE,
	FAULT_PAUSE,
	FAULT_SLOW,
	FAULT_COORD_DOWN,
	FAULT_WIPE,
	FAULT_HANDOVER,
	FAULT_ROT,
	FAULT_LEAVE,
	FAULT_ORPHAN,
	FAULT_TARGET,
	FAULTS
};

static void crash(struct world *w, uint32_t i, bool power)
{
	bool quick = prng_odds(&w->fault, 1, 2);
	uint64_t ms = 1 + prng_below(&w->fault, quick ? 60 : 400);

	if (!w->nodes[i].up)
		return;
	node_crash(w, i, power);
	world_at(w, ms * MS, EV_RESTART, i);
}

static void heal_later(struct world *w, uint32_t i, uint32_t k)
{
	struct event *e;
	bool brief = prng_odds(&w->fault, 1, 2);
	uint64_t ms = 3 + prng_below(&w->fault, brief ? 100 : 500);

	w->cut[i][k] = true;
	e = world_at(w, ms * MS, EV_HEAL_LINK, NODES_MAX);
	e->peer = i;
	e->peer_life = k;
}

static void signal_node(struct world *w, uint32_t i, enum replica_event_kind kind, uint64_t peer)
{
	struct replica_event ev = { .kind = kind, .peer = peer };

	if (w->nodes[i].up && w->nodes[i].paused_until_ns <= w->now_ns)
		node_step(w, i, &ev);
}

/* In the middle of something: a process or a host dies within a moment. */
void world_sudden(struct world *w, uint32_t i, uint64_t within_ms)
{
	uint64_t us = prng_below(&w->fault, within_ms * 1000);
	bool power = prng_odds(&w->fault, 1, 2);

	world_at(w, us * 1000, EV_STOP, i)->n = power;
}

/* A member and the primary lose sight of each other; one of them may have another accident. */
static void orphan(struct world *w, uint32_t i)
{
	uint64_t sides = prng_below(&w->fault, 3), then = prng_below(&w->fault, 6);
	uint64_t ms = prng_below(&w->fault, 150);
	uint32_t p = world_node_of(w, w->coord.primary.id);

	if (p == NODES_MAX || p == i)
		return;
	if (sides != 0)
		heal_later(w, i, p);
	if (sides != 1)
		heal_later(w, p, i);
	if (then < 2)
		crash(w, i, then == 1);
	else if (then == 2)
		world_sudden(w, i, 200);
	else if (then == 3)
		world_sudden(w, p, 200);
	else if (then == 4)
		w->coord_down_until_ns = w->now_ns + ms * MS;
}

static void one_fault(struct world *w, enum fault f, uint32_t i, uint32_t k)
{
	uint64_t ms = 20 + prng_below(&w->fault, 400);
	uint64_t sides = prng_below(&w->fault, 3), size = prng_below(&w->fault, w->n_nodes);
	struct replica_event target = { .kind = REPLICA_EV_TARGET, .size = (uint32_t)size + 1 };

	world_say(w, "fault %d on %u, %u", f, i, k);
	switch (f) {
	case FAULT_KILL:
	case FAULT_POWER:
		crash(w, i, f == FAULT_POWER);
		break;
	case FAULT_POWER_ALL:
		for (uint32_t n = 0; n < w->n_nodes; n++)
			crash(w, n, true);
		break;
	case FAULT_CUT:
		heal_later(w, i, k);
		break;
	case FAULT_CUT_NODE:
		for (uint32_t n = 0; n < w->n_nodes; n++) {
			if (n != i && sides != 0)
				heal_later(w, i, n);
			if (n != i && sides != 1)
				heal_later(w, n, i);
		}
		break;
	case FAULT_PAUSE:
		w->nodes[i].paused_until_ns = w->now_ns + ms * MS;
		break;
	case FAULT_SLOW:
		w->nodes[i].slow_until_ns = w->now_ns + ms * 3 * MS;
		break;
	case FAULT_COORD_DOWN:
		w->coord_down_until_ns = w->now_ns + ms * MS;
		break;
	case FAULT_WIPE:
		if (w->nodes[i].up) {
			node_wipe(w, i);
			if (!w->nodes[i].up) {
				world_at(w, ms * MS, EV_RESTART, i);
				node_peers(w);
				if (sides == 0)
					world_sudden(w, k, 20);
			}
		}
		break;
	case FAULT_HANDOVER:
		for (uint32_t n = 0; n < w->n_nodes; n++)
			signal_node(w, n, REPLICA_EV_HANDOVER, w->nodes[k].id);
		break;
	case FAULT_LEAVE:
		signal_node(w, i, REPLICA_EV_LEAVE, 0);
		world_at(w, ms * MS, EV_STOP, i);
		break;
	case FAULT_ROT:
		if (w->nodes[i].up && w->nodes[i].paused_until_ns <= w->now_ns)
			node_rot(w, i);
		break;
	case FAULT_TARGET:
		if (w->nodes[i].up && w->nodes[i].paused_until_ns <= w->now_ns)
			node_step(w, i, &target);
		break;
	case FAULT_ORPHAN:
		orphan(w, i);
		break;
	default:
		break;
	}
}

static void next_fault(struct world *w)
{
	uint32_t sum = 0, f = 0;
	uint64_t gap = prng_below(&w->fault, 2 * w->fault_ms + 1);
	uint64_t dice, i = prng_below(&w->fault, w->n_nodes);
	uint64_t k = prng_below(&w->fault, w->n_nodes - 1);

	for (uint32_t n = 0; n < FAULTS; n++)
		sum += w->odds[n];
	dice = prng_below(&w->fault, sum);
	while (dice >= w->odds[f])
		dice -= w->odds[f++];
	w->n_faults++;
	one_fault(w, (enum fault)f, (uint32_t)i, (uint32_t)(k + (k >= i)));
	world_at(w, (gap + 1) * MS, EV_FAULT, NODES_MAX);
}

/* ---- one run ---- */
static uint32_t level(struct world *w, uint32_t most)
{
	bool off = prng_odds(&w->fault, 1, 3);
	uint64_t some = prng_below(&w->fault, most + 1);

	return off ? 0 : (uint32_t)some;
}

static void draw(struct world *w)
{
	static const uint8_t most[FAULTS] = { 8, 4, 2, 8, 6, 4, 3, 4, 2, 3, 1, 1, 12, 2 };
	uint64_t five = prng_below(&w->fault, 4);

	w->n_nodes = w->always_nodes != 0 ? w->always_nodes : five == 0 ? 5 : 3;
	w->loss_permille = level(w, 300);
	w->double_permille = level(w, 100);
	w->delay_us = 100 + level(w, 8000);
	w->coord_loss_permille = level(w, 300);
	w->coord_late_permille = level(w, 300);
	w->load_us = 1000 + level(w, 9000);
	w->writes_us = 50 + level(w, 3000);
	w->fault_ms = 15 + level(w, 250);
	for (uint32_t i = 0; i < FAULTS; i++)
		w->odds[i] = level(w, most[i]);
	w->odds[FAULT_KILL]++;
	w->odds[15] = level(w, 30); /* rot is found at a start */
	w->odds[17] = level(w, 30); /* dies when it begins to lead */
	w->odds[16] = level(w, 10); /* dies when it has asked for a swap */
	w->heal_at_ns = 1500 * MS + level(w, 2500) * MS;
}

static void begin(struct world *w, uint64_t seed)
{
	w->net = prng_fork(seed, 1);
	w->disk = prng_fork(seed, 2);
	w->fault = prng_fork(seed, 3);
	w->load = prng_fork(seed, 4);
	w->clock = prng_fork(seed, 5);
	w->store = prng_fork(seed, 6);
	w->seed = seed;
	w->now_ns = w->seq = w->healed_at = w->swapped_at_ns = 0;
	w->healed = w->forced = false;
	w->next_id = w->next_value = w->next_boot = 0;
	memset(w->cut, 0, sizeof w->cut);
	w->coord_down_until_ns = 0;
	memset(w->primary_of, 0, sizeof w->primary_of);
	w->acked = w->synced = w->forgiven_epoch = w->server_fence = w->server_acked = 0;
	w->truth[0] = (struct replica_place){ 0 };
	w->rule = NULL;
	w->n_heap = 0;
	draw(w);
	w->coord = (struct replica_config){ .revision = 1, .target_size = w->n_nodes };
	for (uint32_t i = 0; i < w->n_nodes; i++) {
		node_begin(w, i);
		w->coord.in_sync.ids[i] = w->nodes[i].id;
	}
	w->coord.in_sync.n = w->n_nodes;
	w->before = w->coord;
	for (uint32_t i = 0; i < w->n_nodes; i++)
		world_at(w, prng_below(&w->fault, 20 * MS), EV_RESTART, i);
	world_at(w, 400 * MS, EV_FAULT, NODES_MAX);
	world_at(w, MS, EV_LOAD, NODES_MAX);
}

static void heal(struct world *w)
{
	w->healed = true;
	w->healed_at = w->acked;
	w->coord_down_until_ns = 0;
	memset(w->cut, 0, sizeof w->cut);
	world_say(w, "heals");
	for (uint32_t i = 0; i < w->n_nodes; i++) {
		w->nodes[i].paused_until_ns = w->nodes[i].slow_until_ns = 0;
		if (w->nodes[i].up && w->nodes[i].r.leaving)
			node_crash(w, i, false);
		if (!w->nodes[i].up)
			node_start(w, i);
	}
}

static void explain(struct world *w, const char *rule)
{
	for (uint32_t i = 0; i < w->n_nodes; i++) {
		const struct replica *r = &w->nodes[i].r;

		world_say(w, "%u is %s%s, epoch %llu, config %llu, op %llu%s%s%s, handing %llu", i,
			w->nodes[i].up ? sm_name(&r->state) : "down", r->rotten ? " (rot)" : "",
			(unsigned long long)r->mark.epoch, (unsigned long long)r->config.revision,
			(unsigned long long)r->op, r->swapping ? " swapping" : "",
			r->asking ? " asking" : "", r->mark_under_way ? " marking" : "",
			(unsigned long long)r->handing);
		for (uint32_t k = 0; k < r->n_peers; k++)
			world_say(w,
				"  peer %llu: found %d copy %d %d join %d flags %x matched %llu "
				"written %llu synced %llu back-off %lld ms",
				(unsigned long long)r->peers[k].id, r->peers[k].found,
				r->peers[k].needs_copy, r->peers[k].copying, r->peers[k].joining,
				r->peers[k].flags, (unsigned long long)r->peers[k].matched,
				(unsigned long long)r->peers[k].written,
				(unsigned long long)r->peers[k].synced,
				((long long)r->peers[k].backoff_until_ns - (long long)r->now_ns) /
					(long long)MS);
	}
	world_broken(w, rule);
}

/* The operator comes only when a member is gone for good and nothing moves (R13). */
static void force(struct world *w)
{
	uint32_t best = 0, n_gone = 0, n_rotten = 0, n_sound = 0;

	for (uint32_t k = 0; k < w->coord.in_sync.n; k++) {
		uint32_t i = world_node_of(w, w->coord.in_sync.ids[k]);

		if (i == NODES_MAX)
			n_gone++;
		else if (w->nodes[i].rotten)
			n_rotten++;
		else
			n_sound += w->nodes[i].mark.sound_boot == w->nodes[i].boot;
	}
	if (n_sound > 0 || (n_gone == 0 && n_rotten < w->coord.in_sync.n))
		explain(w, "no commit although somebody could lead");
	for (uint32_t i = 0; i < w->n_nodes; i++)
		if (judge_agrees(w, i) > judge_agrees(w, best))
			best = i;
	world_say(w, "force on %u", best);
	w->forced = true;
	w->reached[REACHED_FORCED]++;
	w->heal_at_ns = w->now_ns;
	signal_node(w, best, REPLICA_EV_FORCE, 0);
}

static bool alive(struct world *w)
{
	/* a swap from before may still come, and is a fault until then */
	uint64_t quiet_at = w->swapped_at_ns > w->heal_at_ns &&
					    w->now_ns < w->heal_at_ns + MOST_MS * MS
				    ? w->swapped_at_ns
				    : w->heal_at_ns;
	uint64_t since = w->now_ns - quiet_at;

	if (!w->healed) {
		if (w->now_ns >= w->heal_at_ns)
			heal(w);
		return true;
	}
	if (w->acked > w->healed_at + 3 || (w->forced && w->acked > w->healed_at))
		return false;
	if (!w->forced && since > FORCE_MS * MS && w->acked <= w->healed_at)
		force(w);
	if (since > HEAL_MS * MS)
		explain(w, "no commit within 2 seconds");
	return true;
}

static void handle(struct world *w, const struct event *e)
{
	struct node *n = e->node < NODES_MAX ? &w->nodes[e->node] : NULL;

	if (n != NULL && n->up && n->paused_until_ns > w->now_ns && e->kind != EV_COORD_ARRIVES) {
		struct event later = *e;

		later.at_ns = n->paused_until_ns + 1;
		push(w, &later);
		return;
	}
	switch (e->kind) {
	case EV_RESTART:
		if (!n->up && e->life == n->life)
			node_start(w, e->node);
		break;
	case EV_STOP:
		if (!w->healed && n->up && e->life == n->life)
			crash(w, e->node, e->n != 0);
		break;
	case EV_LOAD:
		world_at(w, w->load_us * 1000, EV_LOAD, NODES_MAX);
		for (uint32_t i = 0; i < w->n_nodes; i++)
			node_load(w, i);
		break;
	case EV_FAULT:
		if (!w->healed)
			next_fault(w);
		break;
	case EV_HEAL_LINK:
		w->cut[e->peer][e->peer_life] = false;
		break;
	case EV_COORD_ARRIVES:
	case EV_COORD_ANSWERS:
	case EV_COORD_DEADLINE:
		coord_event(w, e);
		break;
	default:
		node_event(w, e);
		break;
	}
	release(w, e);
}

static bool run(struct world *w, uint64_t seed)
{
	static struct jump out;

	begin(w, seed);
	w->out = &out;
	if (setjmp(out.buf) == 0)
		while (alive(w)) {
			struct event e = pop(w);

			check(e.at_ns >= w->now_ns);
			w->now_ns = e.at_ns;
			w->n_events++;
			handle(w, &e);
		}
	for (uint32_t i = 0; i < w->n_heap; i++) {
		release(w, &w->heap[i]);
		free(w->heap[i].coord);
	}
	return w->rule == NULL;
}

/* ---- the program ---- */
static struct world *the_world;
static uint64_t n_seeds, n_bad, simulated_ns;

static const char *const reached_texts[REACHED_COUNT] = {
#define REACHED(name, text) [REACHED_##name] = text,
#include "core/replica_reached_test.def"
#undef REACHED
};

/* A run of many seeds that never met something does not show much. */
static void look_for_gaps(const struct world *w)
{
	for (int i = 0; i < REACHED_COUNT; i++)
		if (n_seeds >= 1000 && w->reached[i] == 0) {
			n_bad++;
			printf("never: %s\n", reached_texts[i]);
		}
}

static void summary(void)
{
	const struct world *w = the_world;

	printf("%llu simulated seconds, %llu events, %llu faults, %llu reigns, %llu records, "
	       "%llu reads\n",
		(unsigned long long)(simulated_ns / SEC), (unsigned long long)w->n_events,
		(unsigned long long)w->n_faults, (unsigned long long)w->n_reigns,
		(unsigned long long)w->n_acked, (unsigned long long)w->n_reads);
	for (int i = 0; i < REACHED_COUNT; i++)
		printf("%9llu %s\n", (unsigned long long)w->reached[i], reached_texts[i]);
	printf("%llu seeds, %llu violations\n", (unsigned long long)n_seeds,
		(unsigned long long)n_bad);
	fflush(stdout);
}

static void broken(const char *rule)
{
	n_bad++;
	printf("seed %llu at %llu ms: rule: %s\n", (unsigned long long)the_world->seed,
		(unsigned long long)(the_world->now_ns / MS), rule);
}

static void stopped(void *arg)
{
	n_seeds++;
	broken("a check of the core");
	summary();
}

static uint64_t real_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / MS;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, seeds = UINT64_MAX, ms = 4000;
	bool first = false;
	struct world *w = the_world = calloc(1, sizeof *w);
	uint64_t begun;

	check(w != NULL);
	w->heap = calloc(EVENTS_MAX, sizeof *w->heap);
	check(w->heap != NULL);
	check_on_failure(stopped, NULL);
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "--seed") == 0 && more)
			seed = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0 && more)
			seeds = strtoull(argv[++i], NULL, 10), ms = UINT64_MAX;
		else if (strcmp(argv[i], "--ms") == 0 && more)
			ms = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--scenario") == 0 && more)
			i++, w->always_nodes = strcmp(argv[i], "three") == 0  ? 3
					       : strcmp(argv[i], "five") == 0 ? 5
									      : 0;
		else if (strcmp(argv[i], "--first") == 0)
			first = true;
		else if (strcmp(argv[i], "--verbose") == 0)
			w->verbose = true;
		else
			return 2;
	}
	begun = real_ms();
	for (; n_seeds < seeds; n_seeds++) {
		if (ms != UINT64_MAX && real_ms() - begun >= ms)
			break;
		if (!run(w, seed + n_seeds))
			broken(w->rule);
		simulated_ns += w->now_ns;
		if (n_bad > 0 && first) {
			n_seeds++;
			break;
		}
	}
	look_for_gaps(w);
	summary();
	for (uint32_t i = 0; i < 2; i++)
		for (struct packet *p = w->free_packets[i], *next; p != NULL; p = next) {
			next = p->next;
			free(p);
		}
	free(w->heap);
	free(w);
	return n_bad == 0 ? 0 : 1;
}
