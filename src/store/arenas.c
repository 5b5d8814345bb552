/* SPDX-License-Identifier: Apache-2.0 */
/* A device of memory: arenas, fresh or bound to one job (I5).
 *
 *   made ----> fresh ----> bound to a job ----> empty for ARENA_IDLE_MS ----> destroyed
 *                               ^------------------'  (the job writes again)
 *
 * The keeper destroys what is idle and makes and faults in fresh ones behind it: at once what will
 * be written next, the rest in a share of the time.  A job that finds no fresh arena takes one that
 * is not faulted in yet, or the place of another job's idle one. */
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

static void let_go(struct arena *a)
{
	check(!a->busy);
	sys_shm_close(a->reader);
	sys_shm_close(a->memory);
	free(a);
}

/* Its room is free from now on.  The memory of one that is being faulted in goes when that piece
 * of work ends: nobody is refused meanwhile, and at most one arena is there twice. */
static void arena_free(struct arena *a)
{
	struct arenas *as = &a->device->arenas;

	check(a->n_extents == 0);
	check(!a->left);
	if (a->bound) {
		local_arena_gone(a);
		sys_shm_empty(a->memory); /* clients unmap it when they next look */
		as->n_bound--;
		as->bound_free -= a->slots.free_bytes;
	}
	list_remove(&a->link);
	as->n--;
	slots_fini(&a->slots);
	a->left = true;
	if (!a->busy)
		let_go(a);
}

static int map(struct arena *a, struct err_note *note)
{
	struct store *st = a->device->store;
	char name[48];
	void *at;
	int rc;

	snprintf(name, sizeof name, "wadi-arena-%llu", ULL(a->id));
	rc = sys_shm_new(st->sys, name, a->device->egroup_bytes, &a->memory, note);
	if (rc == 0)
		rc = sys_shm_reader(a->memory, &a->reader, note);
	if (rc == 0)
		rc = sys_shm_map(a->memory, &at, note);
	if (rc == 0)
		a->at = at;
	return rc;
}

static int arena_new(struct device *d, struct arena **ret_a, struct err_note *note)
{
	struct arena *a = calloc(1, sizeof *a);
	int rc;

	if (a == NULL || slots_init(&a->slots, d->egroup_bytes) < 0) {
		free(a);
		return err_set(note, E_NOMEM, "the books of an arena");
	}
	a->device = d;
	a->id = ++d->store->next_arena;
	if ((rc = map(a, note)) < 0) {
		sys_shm_close(a->reader);
		sys_shm_close(a->memory);
		slots_fini(&a->slots);
		free(a);
		return rc;
	}
	list_push(&d->arenas.fresh, &a->link);
	d->arenas.n++;
	*ret_a = a;
	return 0;
}

void arenas_open(struct device *d, uint64_t ready_bytes)
{
	struct arenas *as = &d->arenas;

	list_init(&as->bound);
	list_init(&as->fresh);
	waitq_init(&as->wanted);
	as->max = (uint32_t)(d->capacity / d->egroup_bytes);
	as->ready_goal = ready_bytes != 0 ? ready_bytes : d->capacity;
	check(as->max > 0);
}

void arenas_close(struct device *d)
{
	list_each_safe(it, &d->arenas.fresh)
		arena_free(container_of(it, struct arena, link));
	list_each_safe(it, &d->arenas.bound)
		arena_free(container_of(it, struct arena, link));
	check(d->arenas.n == 0);
	check(d->arenas.n_bound == 0);
}

uint64_t arenas_free(const struct device *d)
{
	const struct arenas *as = &d->arenas;

	return (uint64_t)(as->max - as->n_bound) * d->egroup_bytes + as->bound_free;
}

uint64_t arenas_ready(const struct device *d)
{
	uint64_t ready = 0;

	list_each(it, &d->arenas.bound)
		ready += container_of(it, struct arena, link)->ready_bytes;
	list_each(it, &d->arenas.fresh)
		ready += container_of(it, struct arena, link)->ready_bytes;
	return ready;
}

/* ---- taking ---- */
/* The arena that has been idle longest; NULL when none is. */
static struct arena *idlest(struct device *d)
{
	struct arena *best = NULL;

	list_each(it, &d->arenas.bound) {
		struct arena *a = container_of(it, struct arena, link);

		if (a->n_extents == 0 && (best == NULL || a->idle_ns < best->idle_ns))
			best = a;
	}
	return best;
}

/* The fresh arena of which most is faulted in. */
static struct arena *readiest(struct device *d)
{
	struct arena *best = NULL;

	list_each(it, &d->arenas.fresh) {
		struct arena *a = container_of(it, struct arena, link);

		if (best == NULL || a->ready_bytes > best->ready_bytes)
			best = a;
	}
	return best;
}

static int bind(struct device *d, uint64_t job, struct arena **ret_a, struct err_note *note)
{
	struct arenas *as = &d->arenas;
	struct arena *a = readiest(d), *old;
	int rc;

	if (a == NULL && as->n == as->max) {
		if ((old = idlest(d)) == NULL)
			return err_set(note, E_FULL,
				"dram (device %u): all %u arenas of %llu bytes are in use", d->id,
				as->max, ULL(d->egroup_bytes));
		arena_free(old); /* never recycled for another job (I5) */
	}
	if (a == NULL && (rc = arena_new(d, &a, note)) < 0)
		return rc;
	list_remove(&a->link);
	list_add_before(as->bound.next, &a->link);
	a->bound = true;
	a->job = job;
	as->n_bound++;
	as->bound_free += a->slots.free_bytes;
	waitq_wake_all(&as->wanted);
	*ret_a = a;
	return 0;
}

int arenas_take(struct device *d, uint64_t job, uint64_t room, struct arena **ret_a,
	struct slot **ret_slot, struct err_note *note)
{
	struct slot *slot = NULL;
	struct arena *a = NULL;
	int rc;

	check(room <= d->egroup_bytes);
	list_each(it, &d->arenas.bound) {
		a = container_of(it, struct arena, link);
		if (a->job == job && (slot = slots_take(&a->slots, room)) != NULL)
			break;
	}
	if (slot == NULL) {
		if ((rc = bind(d, job, &a, note)) < 0)
			return rc;
		slot = slots_take(&a->slots, room);
		if (slot == NULL)
			return err_set(note, E_NOMEM, "the books of an arena");
	}
	list_remove(&a->link); /* most recently used first */
	list_add_before(d->arenas.bound.next, &a->link);
	a->n_extents++;
	d->arenas.bound_free -= room;
	*ret_a = a;
	*ret_slot = slot;
	return 0;
}

void arenas_give(struct arena *a, struct slot *slot)
{
	check(a->bound);
	check(a->n_extents > 0);
	a->device->arenas.bound_free += slot->len;
	slots_give(&a->slots, slot);
	if (--a->n_extents == 0)
		a->idle_ns = loop_now_ns(sys_loop(a->device->store->sys));
}

/* ---- keeping ---- */
static void destroy_idle(struct device *d, uint64_t now_ns)
{
	list_each_safe(it, &d->arenas.bound) {
		struct arena *a = container_of(it, struct arena, link);

		if (a->n_extents == 0 && a->idle_ns + ARENA_IDLE_MS * SYS_MS <= now_ns)
			arena_free(a);
	}
}

/* Faults in a piece of an arena, fresh or meanwhile bound.  Parks. */
static PARKS int prefault_step(struct arena *a, uint64_t len_max)
{
	uint64_t len = sys_shm_bytes(a->memory) - a->ready_bytes;
	int rc;

	if (len > len_max)
		len = len_max;
	a->busy = true;
	rc = sys_shm_prefault(a->memory, a->ready_bytes, len);
	a->busy = false;
	if (rc == 0)
		a->ready_bytes += len;
	if (a->left)
		let_go(a);
	return rc;
}

/* An arena to fault in next: one that is being written to already, else a fresh one while fresh
 * memory is short of the goal; NULL when there is nothing to do, or no memory to do it with. */
static struct arena *unready(struct device *d)
{
	struct arenas *as = &d->arenas;
	struct arena *a;
	uint64_t fresh = 0;

	list_each(it, &as->bound) {
		a = container_of(it, struct arena, link);
		if (a->ready_bytes < d->egroup_bytes && a->n_extents > 0)
			return a;
	}
	list_each(it, &as->fresh) {
		a = container_of(it, struct arena, link);
		if (a->ready_bytes < d->egroup_bytes)
			return a;
		fresh += d->egroup_bytes;
	}
	if (as->n == as->max || fresh >= as->ready_goal)
		return NULL;
	return arena_new(d, &a, NULL) == 0 ? a : NULL;
}

/* Who writes soon finds memory that is ready: nothing has to be made at the cost of others. */
static bool unhurried(const struct device *d, const struct arena *a)
{
	uint64_t ready = 0;

	list_each(it, &d->arenas.fresh)
		ready += container_of(it, struct arena, link)->ready_bytes;
	return !a->bound && ready >= READY_SOON_BYTES;
}

/* Making memory ready takes the machine from clients even on another processor: a virtual one
 * stands still while its host looks for pages. */
static bool asked(const struct store *st, uint64_t now_ns)
{
	return st->asked_ns != 0 && now_ns < st->asked_ns + ASKED_MS * SYS_MS;
}

/* One piece; *ret_rest_ns: so long those without hurry wait for the next. */
static PARKS int make_ready(struct device *d, struct arena *a, uint64_t *ret_rest_ns)
{
	struct store *st = d->store;
	uint64_t from_ns = sys_now_ns(st->sys);
	bool yield = unhurried(d, a) && asked(st, from_ns);
	int rc = prefault_step(a, yield ? ASKED_PREFAULT_BYTES : PREFAULT_BYTES);

	*ret_rest_ns = (sys_now_ns(st->sys) - from_ns) * (yield ? ASKED_REST_SHARE : REST_SHARE);
	return rc;
}

int arenas_keep(void *device)
{
	struct device *d = device;
	struct sys *s = d->store->sys;
	struct loop *l = sys_loop(s);
	uint64_t rested_ns = 0; /* from then on there is work again for those without hurry */
	int rc = 0;

	while (rc != E_CANCELED) {
		uint64_t now_ns = loop_now_ns(l), until_ns = sys_after(s, KEEP_EVERY_MS * SYS_MS);
		struct arena *a;

		destroy_idle(d, now_ns);
		a = unready(d);
		if (a != NULL && (now_ns >= rested_ns || !unhurried(d, a))) {
			rc = make_ready(d, a, &rested_ns);
			rested_ns += loop_now_ns(l);
			if (rc == 0)
				continue;
		} else if (a != NULL && rested_ns < until_ns) {
			until_ns = rested_ns;
		}
		if (rc != E_CANCELED)
			rc = waitq_wait(&d->arenas.wanted, until_ns);
	}
	return 0;
}
