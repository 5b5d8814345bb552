/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, at most three quarters full; a removal moves later keys of the run back, so
 * there are no tombstones. */
#include "meta/map.h"
#include "base/check.h"
#include "base/err.h"
#include <stddef.h>
#include <stdlib.h>

enum { MAP_SLOTS_MIN = 16 };

static void insert(struct map *m, uint64_t key, void *value)
{
	uint32_t i = map_home(m, key);

	while (m->slots[i].value != NULL) {
		check(m->slots[i].key != key);
		i = (i + 1) & m->mask;
	}
	m->slots[i] = (struct map_slot){ key, value };
	m->n++;
}

int map_reserve(struct map *m)
{
	struct map bigger = { NULL, 0, 0 };
	uint64_t cap = m->slots == NULL ? 0 : (uint64_t)m->mask + 1;

	if (((uint64_t)m->n + 1) * 4 <= cap * 3)
		return 0;
	cap = cap == 0 ? MAP_SLOTS_MIN : cap * 2;
	check(cap <= UINT32_MAX);
	bigger.slots = calloc(cap, sizeof *bigger.slots);
	if (bigger.slots == NULL)
		return E_NOMEM;
	bigger.mask = (uint32_t)cap - 1;
	map_each (it, m)
		insert(&bigger, it->key, it->value);
	check(bigger.n == m->n);
	free(m->slots);
	*m = bigger;
	return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
	int rc;

	check(value != NULL);
	if (map_get(m, key) != NULL) {
		uint32_t i = map_home(m, key);

		while (m->slots[i].key != key || m->slots[i].value == NULL)
			i = (i + 1) & m->mask;
		m->slots[i].value = value;
		return 0;
	}
	if ((rc = map_reserve(m)) < 0)
		return rc;
	insert(m, key, value);
	return 0;
}

void *map_remove(struct map *m, uint64_t key)
{
	void *value = map_get(m, key);
	uint32_t hole, i;

	if (value == NULL)
		return NULL;
	hole = map_home(m, key);
	while (m->slots[hole].value == NULL || m->slots[hole].key != key)
		hole = (hole + 1) & m->mask;
	for (i = (hole + 1) & m->mask; m->slots[i].value != NULL; i = (i + 1) & m->mask) {
		uint32_t home = map_home(m, m->slots[i].key);

		/* It may move back unless its home lies behind the hole. */
		if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	m->n--;
	return value;
}

void map_fini(struct map *m)
{
	free(m->slots);
	*m = (struct map){ NULL, 0, 0 };
}
