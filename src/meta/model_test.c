/* SPDX-License-Identifier: Apache-2.0 */
/* Random requests on a few names give what the same requests on a plain array give, with restarts
 * in between; and everything adds up afterwards. */
#include "base/prng.h"
#include "meta/kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DIRS = 6, NAMES = 6, STEPS = 4000, DATA_MAX = 4096 };

/* One name of one directory.  dir: the directory's place in dirs, -1 for a file. */
struct thing {
	bool there, durable, lost;
	int dir;
	uint64_t inode, expires_ms;
	uint32_t len, seed;
};
struct place {
	bool there;
	uint64_t inode; /* 0 for the top */
	int parent;     /* place of the directory above; -1 at the top */
	struct thing things[NAMES];
};

static struct prng prng;
static struct place dirs[DIRS];
static uint64_t b;
static bool tree;
static uint64_t seed;

static const char *name_of(int i)
{
	static const char *const names[NAMES] = { "a", "b", "ab", "ba", "\xc3\xa4", "zz" };

	return names[i];
}

static struct bytes data_of(uint32_t len, uint32_t from)
{
	static uint8_t room[DATA_MAX];
	struct prng p = prng_fork(from, 9);

	for (uint32_t i = 0; i < len; i++)
		room[i] = (uint8_t)prng_next(&p);
	return bytes_of(room, len);
}

static uint32_t any_len(void)
{
	static const uint32_t sizes[] = { 0, 1, 100, 1000, 1001, 4096 };
	uint64_t k = prng_below(&prng, 12);

	return k < 6 ? sizes[k] : (uint32_t)prng_below(&prng, 300);
}

static int any_dir(void)
{
	for (;;) {
		int d = (int)prng_below(&prng, tree ? DIRS : 1);

		if (dirs[d].there)
			return d;
	}
}

static struct thing *any_thing(int *ret_dir, int *ret_name)
{
	*ret_dir = any_dir();
	*ret_name = (int)prng_below(&prng, NAMES);
	return &dirs[*ret_dir].things[*ret_name];
}

static bool there(const struct thing *t)
{
	return t->there && (t->expires_ms == 0 || t->expires_ms > sys_wall_ms(kit.sys));
}

static bool empty(int dir)
{
	for (int i = 0; i < NAMES; i++)
		if (there(&dirs[dir].things[i]))
			return false;
	return true;
}

static void forget(struct thing *t)
{
	if (there(t) && t->dir >= 0)
		dirs[t->dir].there = false;
	t->there = false;
}

/* ---- one of each request, on both ---- */

static void do_put(void)
{
	static const unsigned kinds[] = { 0, 0, 0, PUT_DURABLE, PUT_PERSIST, PUT_IF_ABSENT,
		PUT_IF_VERSION };
	int dir, name, want = 0, rc;
	struct thing *t = any_thing(&dir, &name);
	unsigned flags = kinds[prng_below(&prng, 7)];
	uint64_t version = prng_odds(&prng, 1, 4) ? 1 : t->inode;
	uint64_t ttl_ms = prng_odds(&prng, 1, 6) ? 1 + prng_below(&prng, 5000) : 0;
	uint32_t len = any_len(), from = (uint32_t)prng_next(&prng);

	if ((flags & PUT_IF_ABSENT) && there(t))
		want = E_EXISTS;
	else if ((flags & PUT_IF_VERSION) && (!there(t) || version != t->inode))
		want = E_CONFLICT;
	else if (there(t) && t->dir >= 0)
		want = E_CONFLICT;
	rc = kit_put_at(
		b, dirs[dir].inode, name_of(name), data_of(len, from), flags, version, ttl_ms);
	check(rc == want);
	if (rc < 0)
		return;
	*t = (struct thing){ .there = true,
		.dir = -1,
		.inode = kit.put.inode,
		.len = len,
		.seed = from,
		.durable = (flags & (PUT_DURABLE | PUT_PERSIST)) != 0,
		.expires_ms = ttl_ms != 0 ? sys_wall_ms(kit.sys) + ttl_ms : 0 };
	check(kit.put.version == t->inode);
}

static void do_get(void)
{
	int dir, name, rc, want = 0;
	const struct thing *t = any_thing(&dir, &name);
	struct msg_get m = {
		.bucket = b, .parent = dirs[dir].inode, .name = kit_text(name_of(name))
	};

	if (!there(t))
		want = E_NOTFOUND;
	else if (t->dir >= 0)
		want = E_INVALID;
	else if (t->lost)
		want = E_LOST;
	rc = shard_get(kit.sh, &kit.c, &m, &kit.get, &kit.data);
	check(rc == want);
	if (rc < 0)
		return;
	check(kit.get.inode == t->inode);
	check(kit.get.size == t->len);
	check(bytes_equal(kit.data, data_of(t->len, t->seed)));
}

static void do_stat(void)
{
	int dir, name, rc;
	const struct thing *t = any_thing(&dir, &name);

	rc = kit_stat(b, dirs[dir].inode, name_of(name));
	check(rc == (there(t) ? 0 : E_NOTFOUND));
	if (rc < 0)
		return;
	check(kit.stat.inode == t->inode);
	check(kit.stat.kind == (t->dir >= 0 ? ENTRY_DIR : ENTRY_FILE));
	check(kit.stat.size == t->len);
	check(kit.stat.expires_ms == t->expires_ms);
}

static void do_delete(void)
{
	int dir, name, want = 0;
	struct thing *t = any_thing(&dir, &name);

	if (!there(t))
		want = E_NOTFOUND;
	else if (t->dir >= 0 && !empty(t->dir))
		want = E_NOTEMPTY;
	check(kit_delete(b, dirs[dir].inode, name_of(name)) == want);
	if (want == 0)
		forget(t);
}

static void do_persist(void)
{
	int dir, name, want = 0;
	struct thing *t = any_thing(&dir, &name);
	struct msg_persist m = {
		.bucket = b, .parent = dirs[dir].inode, .name = kit_text(name_of(name))
	};

	if (!there(t))
		want = E_NOTFOUND;
	else if (t->dir >= 0)
		want = E_INVALID;
	else if (t->lost)
		want = E_LOST;
	m.ttl_ms = prng_odds(&prng, 1, 2) ? 1 + prng_below(&prng, 5000) : 0;
	check(shard_persist(kit.sh, &kit.c, &m) == want);
	if (want < 0)
		return;
	t->durable = true;
	t->expires_ms = m.ttl_ms != 0 ? sys_wall_ms(kit.sys) + m.ttl_ms : 0;
}

static void do_mkdir(void)
{
	int dir, name, rc, place = 0;
	struct thing *t = any_thing(&dir, &name);

	while (place < DIRS && dirs[place].there)
		place++;
	if (place == DIRS)
		return;
	rc = kit_mkdir(b, dirs[dir].inode, name_of(name));
	check(rc == (there(t) ? E_EXISTS : 0));
	if (rc < 0)
		return;
	*t = (struct thing){ .there = true, .durable = true, .dir = place, .inode = kit.put.inode };
	dirs[place] = (struct place){ .there = true, .inode = kit.put.inode, .parent = dir };
}

static bool is_above(int dir, int of)
{
	for (; of >= 0; of = dirs[of].parent)
		if (of == dir)
			return true;
	return false;
}

static void do_rename(void)
{
	int from_dir, from_name, to_dir, to_name, want = 0;
	struct thing *from = any_thing(&from_dir, &from_name);
	struct thing *to = any_thing(&to_dir, &to_name), moved;
	unsigned flags = prng_odds(&prng, 1, 4) ? PUT_IF_ABSENT : 0;

	if (!there(from))
		want = E_NOTFOUND;
	else if (flags != 0 && there(to))
		want = E_EXISTS;
	else if (there(to) && (from->dir >= 0) != (to->dir >= 0))
		want = E_CONFLICT;
	else if (from->dir >= 0 && is_above(from->dir, to_dir))
		want = E_CONFLICT;
	else if (there(to) && to->dir >= 0 && from != to && !empty(to->dir))
		want = E_NOTEMPTY;
	check(kit_rename(b, dirs[from_dir].inode, name_of(from_name), dirs[to_dir].inode,
		      name_of(to_name), flags) == want);
	if (want < 0 || from == to)
		return;
	moved = *from;
	forget(to);
	from->there = false;
	*to = moved;
	if (moved.dir >= 0)
		dirs[moved.dir].parent = to_dir;
}

static void do_list(void)
{
	struct wire_list l;
	struct sub_entry e;
	int dir = any_dir(), n = 0;

	(void)kit_list(b, dirs[dir].inode, "", 0, "", 0);
	for (l = kit.list.entries; sub_entry_next(&l, &e); n--) {
		int i = 0;

		while (!bytes_equal(e.name, kit_text(name_of(i))))
			check(++i < NAMES);
		check(there(&dirs[dir].things[i]));
		check(dirs[dir].things[i].inode == e.inode);
	}
	for (int i = 0; i < NAMES; i++)
		n += there(&dirs[dir].things[i]);
	check(n == 0);
}

/* ---- what happens to all of them ---- */

static void do_restart(void)
{
	kit_restart();
	for (int d = 0; d < DIRS; d++) {
		for (int i = 0; i < NAMES; i++) {
			struct thing *t = &dirs[d].things[i];

			if (!t->durable && t->len > 0)
				t->lost = true;
		}
	}
}

static void make_bucket(int n)
{
	struct msg_bucket_create m = { .protection = PROTECT_NONE,
		.kind = tree ? BUCKET_TREE : BUCKET_FLAT };
	char name[16];

	snprintf(name, sizeof name, "b%d", n);
	m.name = kit_text(name);
	b = kit_bucket_of(&m);
	check((int64_t)b > 0);
	memset(dirs, 0, sizeof dirs);
	dirs[0] = (struct place){ .there = true, .parent = -1 };
}

static void play(void)
{
	prng = prng_fork(seed, 1);
	make_bucket(0);
	for (int i = 1; i <= STEPS; i++) {
		static void (*const requests[])(void) = { do_put, do_put, do_put, do_get, do_get,
			do_stat, do_delete, do_persist, do_rename, do_list, do_mkdir };

		requests[prng_below(&prng, tree ? 11 : 10)]();
		if (prng_odds(&prng, 1, 300))
			do_restart();
		if (prng_odds(&prng, 1, 1000)) {
			check(kit_drop(b) == 0);
			make_bucket(i);
		}
		if (prng_odds(&prng, 1, 100))
			kit_sleep(prng_below(&prng, 2000));
		if (prng_odds(&prng, 1, 50))
			shard_audit(kit.sh);
	}
}

static void flat_buckets(void **state)
{
	for (seed = 1; seed <= 20; seed++)
		kit_run(play);
}

static void tree_buckets(void **state)
{
	tree = true;
	for (seed = 1; seed <= 40; seed++)
		kit_run(play);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flat_buckets),
		cmocka_unit_test(tree_buckets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
