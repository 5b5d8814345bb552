/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for an object to appear.  Waiters hang on lists by the hash of their name's key; what
 * makes a file readable wakes those with its hash, who look again: a rare false alarm costs a
 * lookup. */
#include "base/hash.h"
#include "meta/inside.h"

struct waiter {
	struct list link;
	struct shard *sh;
	struct fiber *fiber;
	uint64_t hash;
};

void wait_init(struct shard *sh)
{
	for (unsigned i = 0; i < WAIT_HEADS; i++)
		list_init(&sh->waiters[i]);
}

static uint64_t hash_of(struct shard *sh, const struct spot *at)
{
	struct bytes key = spot_key(sh, at);

	return hash64(sh->seed, key.p, key.len);
}

static void unhook(void *hook)
{
	struct waiter *w = hook;

	list_remove(&w->link);
	w->sh->n_waiting--;
}

static void wake(struct waiter *w)
{
	unhook(w);
	fiber_wake(w->fiber, 0);
}

void wait_wake(struct shard *sh, const struct spot *at)
{
	uint64_t hash;

	if (sh->n_waiting == 0)
		return;
	hash = hash_of(sh, at);
	list_each_safe (it, &sh->waiters[hash % WAIT_HEADS]) {
		struct waiter *w = container_of(it, struct waiter, link);

		if (w->hash == hash)
			wake(w);
	}
}

void wait_wake_all(struct shard *sh)
{
	for (unsigned i = 0; sh->n_waiting > 0 && i < WAIT_HEADS; i++)
		list_each_safe (it, &sh->waiters[i])
			wake(container_of(it, struct waiter, link));
}

static int park(struct shard *sh, const struct spot *at, uint64_t until_ns)
{
	struct waiter w = { .sh = sh, .fiber = fiber_self(), .hash = hash_of(sh, at) };

	list_push(&sh->waiters[w.hash % WAIT_HEADS], &w.link);
	sh->n_waiting++;
	return fiber_park(until_ns, unhook, &w);
}

bool shard_may_appear(struct shard *sh, struct shard_call *c, const struct msg_get *m, int rc)
{
	struct bucket *b;

	/* A missing bucket or directory is final. */
	if (!(m->flags & GET_WAIT) || m->inode != 0 || (rc != E_NOTFOUND && rc != E_CONFLICT))
		return false;
	return bucket_use(sh, c, m->bucket, &b) == 0 && dir_check(sh, b, m->parent, &c->note) == 0;
}

int shard_get_wait(struct shard *sh, struct shard_call *c, const struct msg_get *m,
	struct msg_get_ok *ret, struct bytes *ret_data)
{
	uint32_t wait_ms = m->wait_ms < LIMIT_WAIT_MS_MAX ? m->wait_ms : LIMIT_WAIT_MS_MAX;
	uint64_t until_ns = sys_after(sh->sys, wait_ms * SYS_MS);

	for (;;) {
		struct spot at = { .parent = m->parent != 0 ? m->parent : m->bucket,
			.name = m->name };
		int rc = shard_get(sh, c, m, ret, ret_data);

		if (rc >= 0 || !shard_may_appear(sh, c, m, rc))
			return rc;
		if (sh->n_waiting >= LIMIT_WAITERS_MAX)
			return err_set(&c->note, E_BUSY, "%d clients are waiting already",
				LIMIT_WAITERS_MAX);
		rc = park(sh, &at, until_ns);
		if (rc == E_TIMEOUT)
			return err_set(&c->note, rc, "no such name within %u ms", wait_ms);
		if (rc < 0)
			return err_set(&c->note, rc, "the wait was given up");
	}
}
