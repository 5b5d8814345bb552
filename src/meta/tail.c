/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/tail.h"
#include "base/check.h"
#include <stdlib.h>

enum { TAIL_RECORDS_MAX = 4096 };

void tail_ref(struct tail_record *r)
{
	check(r->refs > 0);
	r->refs++;
}

void tail_unref(struct tail_record *r)
{
	if (r == NULL)
		return;
	check(r->refs > 0);
	if (--r->refs == 0)
		free(r);
}

static struct tail_record **slot(const struct tail *t, uint64_t index)
{
	return &t->ring[index & (t->cap - 1)];
}

static void drop(struct tail *t, uint64_t index)
{
	struct tail_record *r = *slot(t, index);

	check(r->index == index);
	check(t->bytes >= r->len);
	t->bytes -= r->len;
	t->n--;
	*slot(t, index) = NULL;
	tail_unref(r);
}

static void drop_first(struct tail *t)
{
	drop(t, t->first);
	t->first++;
}

static void clear(struct tail *t)
{
	while (t->n > 0)
		drop_first(t);
}

void tail_fini(struct tail *t)
{
	clear(t);
	free(t->ring);
	*t = (struct tail){ 0 };
}

void tail_limit(struct tail *t, size_t bytes_max)
{
	t->bytes_max = bytes_max;
	while (t->n > 0 && t->bytes > bytes_max)
		drop_first(t);
	if (bytes_max == 0)
		tail_fini(t);
}

static bool make_ring(struct tail *t)
{
	if (t->ring != NULL)
		return true;
	t->ring = calloc(TAIL_RECORDS_MAX, sizeof *t->ring);
	t->cap = t->ring != NULL ? TAIL_RECORDS_MAX : 0;
	return t->ring != NULL;
}

void tail_add(struct tail *t, uint64_t index, struct bytes payload)
{
	struct tail_record *r;

	if (t->bytes_max == 0)
		return;
	if (t->n > 0 && index != t->first + t->n)
		clear(t);
	while (t->n > 0 && (t->n == t->cap || t->bytes + payload.len > t->bytes_max))
		drop_first(t);
	if (payload.len > t->bytes_max || !make_ring(t) ||
		(r = malloc(sizeof *r + payload.len)) == NULL) {
		clear(t);
		return;
	}
	*r = (struct tail_record){ .index = index, .refs = 1, .len = payload.len };
	if (payload.len > 0)
		memcpy(r->payload, payload.p, payload.len);
	if (t->n == 0)
		t->first = index;
	check(*slot(t, index) == NULL);
	*slot(t, index) = r;
	t->n++;
	t->bytes += r->len;
}

void tail_take_back(struct tail *t, uint64_t index)
{
	while (t->n > 0 && t->first + t->n - 1 > index)
		drop(t, t->first + t->n - 1);
}

struct tail_record *tail_get(const struct tail *t, uint64_t index)
{
	if (t->n == 0 || index < t->first || index - t->first >= t->n)
		return NULL;
	return *slot(t, index);
}
