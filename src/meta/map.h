/* SPDX-License-Identifier: Apache-2.0 */
/* map.h: a hash table in memory from numbers to pointers.  Owns neither.  Its order is nobody's
 * business: whoever walks it must not decide anything by the order. */
#ifndef META_MAP_H
#define META_MAP_H
#include <stdint.h>

struct map_slot {
	uint64_t key;
	void *value;
};
struct map {
	struct map_slot *slots;
	uint32_t n, mask;
};

void map_fini(struct map *m);   /* a zeroed struct map is an empty one */
int map_reserve(struct map *m); /* the next map_put() of a new key cannot fail; E_NOMEM */
int map_put(struct map *m, uint64_t key, void *value); /* value is not NULL; replaces; E_NOMEM */
void *map_remove(struct map *m, uint64_t key);         /* NULL when it was not there */

static inline uint32_t map_home(const struct map *m, uint64_t key)
{
	return (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32) & m->mask;
}

static inline void *map_get(const struct map *m, uint64_t key) /* NULL when it is not there */
{
	if (m->n == 0)
		return (void *)0;
	for (uint32_t i = map_home(m, key);; i = (i + 1) & m->mask)
		if (m->slots[i].value == (void *)0 || m->slots[i].key == key)
			return m->slots[i].value;
}

#define map_each(it, m)                                                                            \
	for (struct map_slot *it = (m)->slots; it != (void *)0 && it <= (m)->slots + (m)->mask;    \
		it++)                                                                              \
		if (it->value != (void *)0)
#endif
