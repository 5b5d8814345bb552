/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing; a delete moves later entries of its run back, so there are no tombstones. */
#include "base/map64.h"
#include "base/check.h"
#include <stdlib.h>

enum { CAP_FIRST = 16 };

static size_t home(const struct map64 *m, uint64_t key)
{
	return (size_t)((key ^ (key >> 29)) * 0x9e3779b97f4a7c15u >> 20) & (m->cap - 1);
}

void map64_init(struct map64 *m)
{
	*m = (struct map64){ 0 };
}

void map64_fini(struct map64 *m)
{
	free(m->slots);
	map64_init(m);
}

static struct map64_slot *find(const struct map64 *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->slots[i].used && m->slots[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

uint32_t *map64_get(const struct map64 *m, uint64_t key)
{
	struct map64_slot *s;

	if (m->n == 0)
		return NULL;
	s = find(m, key);
	return s->used ? &s->value : NULL;
}

static void grow(struct map64 *m)
{
	struct map64 old = *m;

	m->cap = old.cap == 0 ? CAP_FIRST : old.cap * 2;
	m->slots = calloc(m->cap, sizeof *m->slots);
	check(m->slots != NULL);
	for (size_t i = 0; i < old.cap; i++)
		if (old.slots[i].used)
			*find(m, old.slots[i].key) = old.slots[i];
	free(old.slots);
}

void map64_put(struct map64 *m, uint64_t key, uint32_t value)
{
	struct map64_slot *s;

	if ((m->n + 1) * 4 > m->cap * 3)
		grow(m);
	s = find(m, key);
	m->n += !s->used;
	*s = (struct map64_slot){ key, value, true };
}

bool map64_delete(struct map64 *m, uint64_t key)
{
	struct map64_slot *s = m->n == 0 ? NULL : find(m, key);
	size_t hole, i;

	if (s == NULL || !s->used)
		return false;
	hole = (size_t)(s - m->slots);
	for (i = (hole + 1) & (m->cap - 1); m->slots[i].used; i = (i + 1) & (m->cap - 1)) {
		size_t from = home(m, m->slots[i].key);

		/* an entry may move back to the hole unless its home lies behind the hole */
		if (((i - from) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].used = false;
	m->n--;
	return true;
}
