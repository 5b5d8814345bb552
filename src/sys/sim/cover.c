/* SPDX-License-Identifier: Apache-2.0 */
/* Points of bad luck and rare paths, counted for the whole process.  A point is known by its text;
 * the table from addresses is only a short cut and never decides anything. */
#include "base/check.h"
#include "base/hash.h"
#include "sys/sim/world.h"
#include <string.h>

enum { CACHE_SLOTS = 4096, ACTIVE_OF = 4, KINDS_MAX = 64, KIND_BYTES = 40 };
enum point_state { POINT_UNDRAWN, POINT_QUIET, POINT_ACTIVE };

static struct point {
	const char *name;
	bool buggify;
	uint64_t count;
} points[POINTS_MAX];
static unsigned n_points;
static struct {
	const char *at;
	unsigned point;
} cache[CACHE_SLOTS];

static unsigned point_of(const char *name, bool buggify)
{
	uintptr_t slot = (uintptr_t)name / 8 % CACHE_SLOTS;
	unsigned i = 0;

	if (cache[slot].at == name && points[cache[slot].point].buggify == buggify &&
		strcmp(points[cache[slot].point].name, name) == 0)
		return cache[slot].point;
	while (i < n_points && (points[i].buggify != buggify || strcmp(points[i].name, name) != 0))
		i++;
	check(i < POINTS_MAX);
	if (i == n_points) {
		points[i] = (struct point){ strdup(name), buggify, 0 };
		check(points[i].name != NULL);
		n_points++;
	}
	cache[slot].at = name;
	cache[slot].point = i;
	return i;
}

/* Only some points are active in one run: luck that is bad everywhere hides what one point does. */
bool cover_active(struct sim *w, unsigned point)
{
	struct prng own;

	if (w->point_state[point] == POINT_UNDRAWN) {
		own = prng_fork(w->seed, hash64(0, points[point].name, strlen(points[point].name)));
		w->point_state[point] = prng_below(&own, ACTIVE_OF) == 0 ? POINT_ACTIVE
									 : POINT_QUIET;
	}
	return w->point_state[point] == POINT_ACTIVE || w->faults.buggify_ppm >= 1000000;
}

bool sys_buggify(struct sys *s, const char *point)
{
	struct sim *w = s->w;
	unsigned i;

	if (s->dead || w->faults.buggify_ppm == 0)
		return false;
	i = point_of(point, true);
	if (!cover_active(w, i) || !sim_odds(w, STREAM_BUGGIFY, w->faults.buggify_ppm))
		return false;
	points[i].count++;
	sim_fault(w, s->node, "buggify: %s", point);
	return true;
}

void sys_reached(struct sys *s, const char *path)
{
	points[point_of(path, false)].count++;
	sim_note(s->w, s->node, "reached: %s", path);
}

/* A kind of fault is known by what its words begin with. */
static struct kind {
	char what[KIND_BYTES];
	uint64_t count;
} kinds[KINDS_MAX];
static unsigned n_kinds;

void cover_fault(const char *fmt)
{
	size_t len = strcspn(fmt, "%");
	unsigned i = 0;

	while (len > 0 && strchr(" :", fmt[len - 1]) != NULL)
		len--;
	len = len < KIND_BYTES ? len : KIND_BYTES - 1;
	while (i < n_kinds && (strncmp(kinds[i].what, fmt, len) != 0 || kinds[i].what[len] != '\0'))
		i++;
	check(i < KINDS_MAX);
	if (i == n_kinds)
		memcpy(kinds[n_kinds++].what, fmt, len);
	kinds[i].count++;
}

void sim_fault_kinds(void (*each)(void *arg, const char *what, uint64_t count), void *arg)
{
	for (unsigned i = 0; i < n_kinds; i++)
		each(arg, kinds[i].what, kinds[i].count);
}

void sim_coverage(void (*each)(void *arg, const char *what, uint64_t count), void *arg)
{
	for (unsigned i = 0; i < n_points; i++)
		each(arg, points[i].name, points[i].count);
}
