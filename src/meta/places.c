/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/places.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

enum { PLACES_FIRST = 1024 };

void places_begin(struct places *p, uint64_t index, struct place_at at)
{
	p->n = 0;
	p->first = index;
	places_add(p, index, at);
}

void places_fini(struct places *p)
{
	free(p->at);
	*p = (struct places){ 0 };
}

void places_add(struct places *p, uint64_t index, struct place_at at)
{
	check(index == p->first + p->n);
	if (p->n == p->cap) {
		p->cap = p->cap == 0 ? PLACES_FIRST : p->cap * 2;
		p->at = realloc(p->at, p->cap * sizeof *p->at);
		check(p->at != NULL);
	}
	p->at[p->n++] = at;
}

void places_take_back(struct places *p, uint64_t index)
{
	check(index >= p->first);
	check(index < p->first + p->n);
	p->n = (size_t)(index - p->first) + 1;
}

/* Moves what stays only when it is less than what goes: each place is moved once. */
void places_forget(struct places *p, uint64_t index)
{
	uint64_t gone;

	if (p->n == 0 || index <= p->first)
		return;
	gone = index - p->first;
	if (gone > p->n - 1)
		gone = p->n - 1;
	if (gone < p->n / 2)
		return;
	p->n -= (size_t)gone;
	p->first += gone;
	memmove(p->at, p->at + gone, p->n * sizeof *p->at);
}

bool places_get(const struct places *p, uint64_t index, struct place_at *ret_at)
{
	if (index < p->first || index - p->first >= p->n)
		return false;
	*ret_at = p->at[index - p->first];
	return true;
}
