/* SPDX-License-Identifier: Apache-2.0 */
/* Extents and egroups: who is where, in which state, and what it takes of its device (I1-I3). */
#include "store/own.h"
#include <stdlib.h>

#define ULL(v) ((unsigned long long)(v))

static const struct sm_state states[] = {
	[EXTENT_WRITING] = { "writing", TO(EXTENT_SEALED) | TO(EXTENT_DROPPED) },
	[EXTENT_SEALED] = { "sealed", TO(EXTENT_DROPPED) },
	[EXTENT_DROPPED] = { "dropped", 0 },
};
static const char *const tier_names[] = { "dram", "flash", "disk" };

/* ---- the account of a device ---- */
static uint64_t unusable(const struct device *d)
{
	return device_is_dram(d) ? d->capacity % d->egroup_bytes : 0;
}

uint64_t device_reserved(const struct device *d)
{
	return d->writing + d->around + d->volume.dead_bytes + unusable(d);
}

uint64_t device_free(const struct device *d)
{
	uint64_t taken = d->used + d->pinned + device_reserved(d);

	if (device_is_dram(d))
		return arenas_free(d);
	return d->capacity > taken ? d->capacity - taken : 0;
}

/* Adds what the extent takes in its present state (sign 1), or takes it out again (-1). */
static void account(const struct extent *e, int sign)
{
	struct egroup *g = e->egroup;
	struct device *d = g->device;
	uint64_t one = (uint64_t)(int64_t)sign;

	switch ((enum extent_state)e->state.now) {
	case EXTENT_WRITING:
		d->writing += one * e->room;
		break;
	case EXTENT_SEALED:
		d->used += one * e->len;
		d->around += one * (e->room - e->len);
		g->used_bytes += one * e->len;
		break;
	case EXTENT_DROPPED:
		d->pinned += one * e->room;
		g->pinned_bytes += one * e->room;
		break;
	}
	g->room_bytes += one * e->room;
}

static void move(struct extent *e, enum extent_state to)
{
	account(e, -1);
	sm_move(&e->state, to);
	account(e, 1);
}

/* ---- egroups ---- */
struct egroup *egroup_get(struct store *st, uint64_t id)
{
	struct table_node *n = table_get(&st->egroups, id, 0);

	return n != NULL ? container_of(n, struct egroup, node) : NULL;
}

int egroup_make(struct store *st, uint64_t id, uint64_t job, struct device *d,
	struct egroup **ret_g)
{
	struct egroup *g = calloc(1, sizeof *g);

	if (g == NULL)
		return E_NOMEM;
	g->id = id;
	g->job = job;
	g->device = d;
	list_init(&g->extents);
	list_init(&g->grants);
	list_init(&g->file.lru);
	waitq_init(&g->file.changed);
	list_push(&d->egroups, &g->link);
	d->n_egroups++;
	table_put(&st->egroups, &g->node, id, 0);
	*ret_g = g;
	return 0;
}

void egroup_fence(struct store *st, uint64_t id) { fence_put(st, id, 0); }

void egroup_drop(struct egroup *g)
{
	struct store *st = g->device->store;

	check(!g->dropped);
	/* Only the caller's egroup_forget() frees it, not the last of its extents. */
	list_each_safe(it, &g->extents) {
		struct extent *e = container_of(it, struct extent, in_egroup);

		e->erased = true; /* its file goes as a whole */
		if (!extent_is(e, EXTENT_DROPPED))
			extent_drop(e);
		else if (!list_empty(&e->dead)) {
			list_remove(&e->dead);
			extent_free(e);
		}
	}
	g->dropped = true;
	table_remove(&st->egroups, &g->node);
	fence_put(st, g->id, 0);
}

struct egroup *egroup_leaving(struct store *st, uint64_t id)
{
	for (unsigned i = 0; i < st->n_devices; i++) {
		if (st->devices[i].volume.n_leaving == 0)
			continue;
		list_each(it, &st->devices[i].egroups) {
			struct egroup *g = container_of(it, struct egroup, link);

			if (g->id == id && g->file.leaving)
				return g;
		}
	}
	return NULL;
}

void egroup_forget(struct egroup *g)
{
	struct device *d = g->device;

	if (!g->dropped || g->file.exists || g->n_extents > 0 || g->file.users > 0 ||
		g->file.f != NULL)
		return;
	check(g->room_bytes == 0);
	grants_end(g);
	d->volume.dead_bytes -= g->file.dead;
	d->n_egroups--;
	list_remove(&g->link);
	free(g);
}

/* ---- beginning ---- */
static int ask_check(const struct store *st, const struct extent_ask *a, struct err_note *note)
{
	const struct device *d;
	uint64_t max;

	if (a->device >= st->n_devices)
		return err_set(note, E_INVALID, "there is no device %u", a->device);
	d = &st->devices[a->device];
	max = device_is_dram(d) ? LIMIT_EXTENT_DRAM_BYTES_MAX : LIMIT_EXTENT_FILE_BYTES_MAX;
	if (max > d->egroup_bytes)
		max = d->egroup_bytes;
	if (a->egroup == 0 || a->extent == 0 || a->len == 0)
		return err_set(note, E_INVALID, "an extent without id or without bytes");
	if (a->len > max)
		return err_set(note, E_TOOBIG, "extent of %llu bytes, at most %llu in %s",
			ULL(a->len), ULL(max), tier_names[d->tier]);
	if (a->count == 0 || a->count > ROOM_EXTENTS_PER_GRANT)
		return err_set(note, E_INVALID, "a grant of %u ids", a->count);
	if (a->extent < a->first || a->extent - a->first >= a->count)
		return err_set(note, E_DENIED, "extent %llu is not of this grant", ULL(a->extent));
	return 0;
}

static int room_check(const struct egroup *g, const struct grant *t, uint64_t room,
	struct err_note *note)
{
	const struct device *d = g->device;
	uint64_t spent = device_is_dram(d) ? g->room_bytes - g->pinned_bytes
					   : g->file.end + g->file.promised;

	check(t->spent_bytes <= t->credit_bytes);
	if (room > t->credit_bytes - t->spent_bytes)
		return err_set(note, E_FULL, "the grant has %llu of %llu bytes left, not %llu",
			ULL(t->credit_bytes - t->spent_bytes), ULL(t->credit_bytes), ULL(room));
	if (room > d->egroup_bytes || spent > d->egroup_bytes - room)
		return err_set(note, E_FULL, "egroup %llu holds %llu of %llu bytes, asked for %llu",
			ULL(g->id), ULL(spent), ULL(d->egroup_bytes), ULL(room));
	if (!device_is_dram(d) && g->file.broken)
		return err_set(note, E_IO, "a sync of egroup %llu failed", ULL(g->id));
	if (room > device_free(d))
		return err_set(note, E_FULL, "%s (device %u) has %llu of %llu bytes free",
			tier_names[d->tier], d->id, ULL(device_free(d)), ULL(d->capacity));
	return 0;
}

static struct extent *extent_new(struct egroup *g, uint64_t id, uint64_t len)
{
	struct extent *e = calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	e->egroup = g;
	e->id = id;
	e->len = len;
	e->room = room_of(g->device->tier, len);
	sm_init(&e->state, states, EXTENT_WRITING);
	list_init(&e->in_client);
	list_init(&e->dead);
	list_init(&e->in_bad);
	return e;
}

static void enter(struct extent *e)
{
	struct egroup *g = e->egroup;

	list_push(&g->extents, &e->in_egroup);
	g->n_extents++;
	g->device->n_extents++;
	if (!e->apart)
		table_put(&g->device->store->extents, &e->node, g->id, e->id);
	account(e, 1);
}

/* Room in an arena, and for the sums. */
static int place_in_memory(struct extent *e, struct err_note *note)
{
	int rc;

	e->sums = calloc(sums_count(e->len), sizeof *e->sums);
	if (e->sums == NULL)
		return err_set(note, E_NOMEM, "the sums of extent %llu", ULL(e->id));
	rc = arenas_take(e->egroup->device, e->egroup->job, e->room, &e->arena, &e->slot, note);
	if (rc == 0)
		e->offset = e->slot->offset;
	return rc;
}

/* 0 when neither the extent nor a memory of it is here. */
static int find_known(struct store *st, const struct extent_ask *a, struct extent **ret_e,
	struct err_note *note)
{
	struct table_node *n = table_get(&st->extents, a->egroup, a->extent);
	struct extent *e = n != NULL ? container_of(n, struct extent, node) : NULL;

	if (e == NULL && (fence_has(st, a->egroup, 0) || fence_has(st, a->egroup, a->first)
		|| fence_has(st, a->egroup, a->extent)))
		return err_set(note, E_GONE, "extent %llu was dropped", ULL(a->extent));
	if (e == NULL)
		return 0;
	if (e->egroup->job != a->job)
		return err_set(note, E_DENIED, "egroup %llu is another job's", ULL(a->egroup));
	if (extent_is(e, EXTENT_WRITING))
		return err_set(note, E_BUSY, "extent %llu is being written", ULL(a->extent));
	*ret_e = e;
	return err_set(note, E_EXISTS, "extent %llu is there", ULL(a->extent));
}

/* The egroup of the request, made at its first extent. */
static int find_egroup(struct store *st, const struct extent_ask *a, struct egroup **ret_g,
	struct err_note *note)
{
	struct egroup *g = egroup_get(st, a->egroup);

	if (g == NULL && egroup_make(st, a->egroup, a->job, &st->devices[a->device], &g) < 0)
		return err_set(note, E_NOMEM, "egroup %llu", ULL(a->egroup));
	if (g->jobless) {
		g->job = a->job;
		g->jobless = false;
	}
	if (g->job != a->job)
		return err_set(note, E_DENIED, "egroup %llu is another job's", ULL(g->id));
	if (g->device->id != a->device)
		return err_set(note, E_INVALID, "egroup %llu is on device %u", ULL(g->id),
			g->device->id);
	*ret_g = g;
	return 0;
}

int extent_begin(struct store *st, const struct extent_ask *a, struct extent **ret_e,
	struct err_note *note)
{
	struct egroup *g = NULL;
	struct grant *t = NULL;
	struct extent *e;
	int rc;

	if ((rc = ask_check(st, a, note)) < 0 || (rc = find_known(st, a, ret_e, note)) < 0)
		return rc;
	if ((rc = find_egroup(st, a, &g, note)) < 0 || (rc = grant_take(g, a, &t, note)) < 0)
		return rc;
	if (grant_used(t, a->extent)) /* ids are used once (I2) */
		return err_set(note, E_GONE, "extent %llu was dropped", ULL(a->extent));
	if ((rc = room_check(g, t, room_of(g->device->tier, a->len), note)) < 0)
		return rc;
	e = extent_new(g, a->extent, a->len);
	if (e == NULL)
		return err_set(note, E_NOMEM, "extent %llu", ULL(a->extent));
	if (device_is_dram(g->device) && (rc = place_in_memory(e, note)) < 0) {
		free(e->sums);
		free(e);
		return rc;
	}
	grant_begin(e, t);
	if (!device_is_dram(g->device))
		g->file.promised += e->room;
	e->refs = 1;
	enter(e);
	*ret_e = e;
	return 0;
}

/* Whole again: the successor of a bad extent may find its group full, by as much as is punched when
 * it is there. */
static int copy_fits(const struct egroup *g, uint64_t room, bool again, struct err_note *note)
{
	const struct device *d = g->device;
	uint64_t spent = g->file.end + g->file.promised;

	if (!device_is_dram(d) && g->file.broken)
		return err_set(note, E_IO, "a sync of egroup %llu failed", ULL(g->id));
	if (room > device_free(d))
		return err_set(note, E_FULL, "%s (device %u) has %llu of %llu bytes free",
			tier_names[d->tier], d->id, ULL(device_free(d)), ULL(d->capacity));
	if (!device_is_dram(d) && !again && spent > 2 * d->egroup_bytes)
		return err_set(note, E_FULL, "egroup %llu holds %llu bytes", ULL(g->id),
			ULL(spent));
	return 0;
}

int extent_begin_copy(struct store *st, const struct extent_ask *a, struct extent *again,
	struct extent **ret_e, struct err_note *note)
{
	struct table_node *n = table_get(&st->extents, a->egroup, a->extent);
	struct extent *e = n != NULL ? container_of(n, struct extent, node) : NULL;
	struct egroup *g = NULL;
	int rc;

	if ((rc = ask_check(st, a, note)) < 0)
		return rc;
	check(again == NULL || !device_is_dram(&st->devices[a->device]));
	if (e != again) {
		*ret_e = e;
		return extent_is(e, EXTENT_SEALED) ? E_EXISTS
			: err_set(note, E_BUSY, "extent %llu is being written", ULL(a->extent));
	}
	if ((rc = find_egroup(st, a, &g, note)) < 0)
		return rc;
	if ((rc = copy_fits(g, room_of(g->device->tier, a->len), again != NULL, note)) < 0)
		return rc;
	if ((e = extent_new(g, a->extent, a->len)) == NULL)
		return err_set(note, E_NOMEM, "extent %llu", ULL(a->extent));
	if (device_is_dram(g->device) && (rc = place_in_memory(e, note)) < 0) {
		free(e->sums);
		free(e);
		return rc;
	}
	e->copied = true;
	e->apart = again != NULL;
	if (!device_is_dram(g->device))
		g->file.promised += e->room;
	e->refs = 1;
	enter(e);
	*ret_e = e;
	return 0;
}

bool extent_succeed(struct extent *e, struct extent *bad)
{
	struct store *st = e->egroup->device->store;

	check(e->apart);
	check(extent_is(e, EXTENT_SEALED));
	if (extent_is(bad, EXTENT_DROPPED)) {
		extent_drop(e);
		return false;
	}
	extent_drop(bad);
	e->apart = false;
	table_put(&st->extents, &e->node, e->egroup->id, e->id);
	return true;
}

int extent_found(struct egroup *g, uint64_t id, uint64_t offset, uint64_t len, uint32_t root,
	bool synced)
{
	struct extent *e;

	struct table_node *n = table_get(&g->device->store->extents, g->id, id);

	if (n != NULL) { /* its successor: what it replaced was bad, and not yet erased */
		e = container_of(n, struct extent, node);
		if (e->egroup != g || e->len != len || e->root != root)
			return E_EXISTS;
		volume_dead(g, e->room);
		e->offset = offset;
		e->synced = synced;
		return 0;
	}
	e = extent_new(g, id, len);
	if (e == NULL)
		return E_NOMEM;
	e->offset = offset;
	e->root = root;
	e->synced = synced;
	e->placed = true;
	enter(e);
	move(e, EXTENT_SEALED);
	return 0;
}

int extent_find(struct store *st, uint64_t egroup, uint64_t id, uint64_t job,
	struct extent **ret_e, struct err_note *note)
{
	struct table_node *n = table_get(&st->extents, egroup, id);
	struct extent *e = n != NULL ? container_of(n, struct extent, node) : NULL;

	if (e == NULL || e->egroup->job != job || !extent_is(e, EXTENT_SEALED))
		return err_set(note, E_GONE, "extent %llu of egroup %llu is not here", ULL(id),
			ULL(egroup));
	*ret_e = e;
	return 0;
}

/* ---- ending ---- */
void extent_seal(struct extent *e)
{
	check(e->writer == NULL);
	move(e, EXTENT_SEALED);
	grant_left(e);
	e->egroup->device->written_bytes += e->len;
}

void extent_free(struct extent *e)
{
	struct egroup *g = e->egroup;

	check(extent_is(e, EXTENT_DROPPED));
	check(e->refs == 0);
	check(e->writer == NULL);
	account(e, -1);
	if (e->slot != NULL)
		arenas_give(e->arena, e->slot);
	else if (!e->placed)
		g->file.promised -= e->room;
	list_remove(&e->in_egroup);
	check(g->n_extents > 0);
	g->n_extents--;
	g->device->n_extents--;
	free(e->sums);
	free(e);
	egroup_forget(g);
}

/* What is on a file goes through the sweeper, which may park. */
static void unused(struct extent *e)
{
	struct volume *v = &e->egroup->device->volume;

	if (e->slot != NULL || e->erased || !e->placed) {
		extent_free(e);
		return;
	}
	list_push(&v->dead, &e->dead);
	waitq_wake_all(&v->sweep);
}

void extent_drop(struct extent *e)
{
	move(e, EXTENT_DROPPED);
	extent_sound(e); /* nobody's concern any more */
	grant_left(e);
	if (!e->apart)
		table_remove(&e->egroup->device->store->extents, &e->node);
	if (e->refs == 0)
		unused(e);
}

void extent_unref(struct extent *e)
{
	check(e->refs > 0);
	if (--e->refs == 0 && extent_is(e, EXTENT_DROPPED))
		unused(e);
}

void extent_abort(struct extent *e)
{
	if (extent_is(e, EXTENT_WRITING)) {
		if (!e->copied)
			grant_return(e);
		extent_drop(e);
	}
	extent_unref(e);
}

struct extent *extent_drop_id(struct store *st, uint64_t egroup, uint64_t id,
	struct drop_run *run)
{
	struct table_node *n = table_get(&st->extents, egroup, id);
	struct egroup *g = egroup_get(st, egroup);
	struct grant *t = g != NULL ? grant_of(g, id) : NULL;
	struct extent *e;

	if (n != NULL) {
		e = container_of(n, struct extent, node);
		extent_ref(e);
		extent_drop(e);
		return e;
	}
	if (t != NULL) {
		grant_use(g, t, id);
		return NULL;
	}
	if (run->egroup != egroup || run->next != id)
		fence_put(st, egroup, id);
	*run = (struct drop_run){ egroup, id + 1 };
	return NULL;
}

void extents_free_all(struct store *st)
{
	struct table_node *n;

	while ((n = table_any(&st->egroups)) != NULL) {
		struct egroup *g = container_of(n, struct egroup, node);

		egroup_drop(g);
		check(g->n_extents == 0);
		g->file.exists = false; /* here; the next start finds it */
		egroup_forget(g);
	}
	for (unsigned i = 0; i < st->n_devices; i++)
		list_each_safe(it, &st->devices[i].egroups) {
			struct egroup *g = container_of(it, struct egroup, link);

			g->file.exists = false;
			egroup_forget(g);
		}
	fences_end(st);
}

/* ---- audit ---- */
struct tally { uint64_t used, pinned, writing, around, promised; uint32_t n; };

static void tally_extent(struct tally *t, const struct extent *e, const struct store *st)
{
	bool indexed = table_get(&st->extents, e->egroup->id, e->id) == &e->node;

	check(indexed == (!extent_is(e, EXTENT_DROPPED) && !e->apart)); /* (I2) */
	check((e->grant != NULL) == (extent_is(e, EXTENT_WRITING) && !e->copied));
	check(e->writer == NULL || e->refs > 0);
	check(e->len <= e->room);
	check(e->bad == !list_empty(&e->in_bad));
	check(!e->bad || extent_is(e, EXTENT_SEALED));
	t->promised += e->slot == NULL && !e->placed ? e->room : 0;
	switch ((enum extent_state)e->state.now) {
	case EXTENT_WRITING:
		check(e->refs > 0);
		t->writing += e->room;
		break;
	case EXTENT_SEALED:
		t->used += e->len;
		t->around += e->room - e->len;
		break;
	case EXTENT_DROPPED:
		check(e->refs > 0 || !list_empty(&e->dead));
		t->pinned += e->room;
		break;
	}
	t->n++;
}

static void audit_device(const struct device *d)
{
	struct tally t = { 0 };
	uint64_t dead = 0;
	uint32_t n_egroups = 0;

	list_each(it, &d->egroups) {
		const struct egroup *g = container_of(it, struct egroup, link);
		uint64_t promised = t.promised;
		uint32_t before = t.n;

		list_each(ext, &g->extents)
			tally_extent(&t, container_of(ext, struct extent, in_egroup), d->store);
		check(t.n - before == g->n_extents);
		check(t.promised - promised == g->file.promised);
		check(g->used_bytes <= g->room_bytes);
		dead += g->file.dead;
		n_egroups++;
	}
	check(t.used == d->used);
	check(t.pinned == d->pinned);
	check(t.writing == d->writing);
	check(t.around == d->around);
	check(t.n == d->n_extents);
	check(dead == d->volume.dead_bytes);
	check(n_egroups == d->n_egroups);
}

void extents_audit(const struct store *st)
{
	for (unsigned i = 0; i < st->n_devices; i++)
		audit_device(&st->devices[i]);
}
