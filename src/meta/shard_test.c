/* SPDX-License-Identifier: Apache-2.0 */
/* Each request does what shard.h says, and refuses what it says, with no effect. */
#include "meta/kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char long_text[8192];
static uint64_t b;

static void eq(const char *got, const char *want)
{
	if (strcmp(got, want) != 0)
		fprintf(stderr, "got  %s\nwant %s\n", got, want);
	check(strcmp(got, want) == 0);
}

static struct slab_status slab(void)
{
	struct shard_status st;

	shard_status(kit.sh, &st);
	return st.slab;
}

/* ---- files ---- */

static void puts_and_gets(void)
{
	uint64_t first;

	b = kit_bucket("b");
	check(kit_get(b, "x", 0) == E_NOTFOUND);
	check(kit_put(b, "x", "one", 0) == 0);
	first = kit.put.version;
	check(kit_holds(b, "x", "one"));
	check(kit.get.version == first);
	check(kit_put(b, "x", "two!", 0) == 0);
	check(kit.put.version > first);
	check(kit_holds(b, "x", "two!"));
	check(kit_put(b, "empty", "", 0) == 0);
	check(kit_holds(b, "empty", ""));
	check(slab().used_bytes == 4);
	check(kit_stat(b, 0, "x") == 0);
	check(kit.stat.size == 4);
	check(kit.stat.kind == ENTRY_FILE);
	check(kit.stat.expires_ms == 0);
	check(kit.stat.mtime_ms == sys_wall_ms(kit.sys));
	check(kit_delete(b, 0, "x") == 0);
	check(kit_delete(b, 0, "x") == E_NOTFOUND);
	check(kit_stat(b, 0, "x") == E_NOTFOUND);
	check(slab().used_bytes == 0);
}

static void sizes_have_a_limit(void)
{
	b = kit_bucket("b");
	check(kit_put_at(b, 0, "most", bytes_of(long_text, 4096), 0, 0, 0) == 0);
	check(kit_put_at(b, 0, "more", bytes_of(long_text, 4097), 0, 0, 0) == E_TOOBIG);
	for (size_t len = 900; len < 4096; len += 90) {
		check(kit_put_at(b, 0, "d", bytes_of(long_text, len), PUT_DURABLE, 0, 0) == 0);
		check(kit_get(b, "d", 0) == 0);
		check(bytes_equal(kit.data, bytes_of(long_text, len)));
	}
}

static void inodes_are_gone_once_replaced(void)
{
	struct msg_get m = { .flags = 0 };
	struct msg_get_ok ok;
	struct bytes data;

	b = kit_bucket("b");
	check(kit_put(b, "x", "one", 0) == 0);
	m.bucket = b;
	m.inode = kit.put.inode;
	m.name = kit_text("x");
	check(shard_get(kit.sh, &kit.c, &m, &ok, &data) == 0);
	check(bytes_equal(data, kit_text("one")));
	m.name = bytes_of(NULL, 0); /* there is no row of its number */
	check(shard_get(kit.sh, &kit.c, &m, &ok, &data) == E_GONE);
	m.name = kit_text("x");
	check(kit_put(b, "x", "two", 0) == 0);
	check(shard_get(kit.sh, &kit.c, &m, &ok, &data) == E_GONE);
	m.bucket = kit_bucket("other");
	m.inode = kit.put.inode;
	check(shard_get(kit.sh, &kit.c, &m, &ok, &data) == E_GONE); /* of another bucket */
}

static void conditions_hold_or_refuse(void)
{
	struct msg_delete d = { .flags = PUT_IF_VERSION, .name = BYTES("x") };
	uint64_t v;

	d.bucket = b = kit_bucket("b");
	check(kit_put_at(b, 0, "x", kit_text("1"), PUT_IF_VERSION, 0, 0) == E_CONFLICT);
	check(kit_put(b, "x", "1", PUT_IF_ABSENT) == 0);
	v = kit.put.version;
	check(kit_put(b, "x", "2", PUT_IF_ABSENT) == E_EXISTS);
	check(kit_put_at(b, 0, "x", kit_text("3"), PUT_IF_VERSION, v + 1, 0) == E_CONFLICT);
	check(kit_put_at(b, 0, "x", kit_text("3"), PUT_IF_VERSION, v, 0) == 0);
	check(kit_put_at(b, 0, "x", kit_text("4"), PUT_IF_VERSION, v, 0) == E_CONFLICT);
	check(kit_holds(b, "x", "3"));
	d.if_version = v;
	check(shard_delete(kit.sh, &kit.c, &d) == E_CONFLICT);
	d.if_version = kit.get.version;
	check(shard_delete(kit.sh, &kit.c, &d) == 0);
	check(kit_put(b, "x", "5", PUT_IF_ABSENT | PUT_IF_VERSION) == E_INVALID);
	check(kit_put(b, "x", "5", PUT_MORE) == E_INVALID);
	check(kit_put(b, "x", "5", 0x8000) == E_INVALID);
	check(kit_get(b, "x", 0x8000) == E_INVALID);
}

static void put_name(const char *p, size_t len, int want)
{
	struct msg_put m = { .bucket = b, .name = bytes_of(p, len) };
	int rc = shard_put(kit.sh, &kit.c, &m, BYTES("v"), &kit.put);

	if (rc != want)
		fprintf(stderr, "%.*s: %s\n", (int)len, p, err_name(rc));
	check(rc == want);
}

static void names_are_text(void)
{
	b = kit_bucket("b");
	put_name("", 0, E_INVALID);
	put_name(long_text, 1024, 0);
	put_name(long_text, 1025, E_TOOBIG);
	put_name("a\0b", 3, E_INVALID);
	put_name("12345678\0", 9, E_INVALID);
	put_name("1234567\0", 8, E_INVALID);
	put_name("\xc3\xa4", 2, 0);
	put_name("1234567\xc3\xa4", 9, 0);
	put_name("\xf0\x9f\x8f\x9c", 4, 0);
	put_name("\xc3", 1, E_INVALID);
	put_name("\xc0\x80", 2, E_INVALID);         /* NUL in two bytes */
	put_name("\xe0\x80\x80", 3, E_INVALID);     /* and in three */
	put_name("\xed\xa0\x80", 3, E_INVALID);     /* a surrogate */
	put_name("\xf4\x90\x80\x80", 4, E_INVALID); /* beyond the last character */
	put_name("\xf5\x80\x80\x80", 4, E_INVALID);
	put_name("\xe1\x80\xc0", 3, E_INVALID);
	put_name("\x80", 1, E_INVALID);
	put_name("\xff\xfe", 2, E_INVALID);
	put_name("a", 1, 0);
	put_name("a/b", 3, 0);
	put_name("a//b", 4, 0);
	put_name("a/", 2, 0);
	put_name("..", 2, 0);
	eq(kit_list(b, 0, "a", 0, "", 0), "a a/ a//b a/b");
}

static void a_full_slab_refuses_and_recovers(void)
{
	char name[16];
	int n = 0, rc;

	b = kit_bucket("b");
	for (rc = 0; rc == 0; n += rc == 0) {
		snprintf(name, sizeof name, "%d", n);
		rc = kit_put_at(b, 0, name, bytes_of(long_text, 4096), 0, 0, 0);
	}
	check(rc == E_FULL);
	check(n == 1 << 20 >> 12);
	check(kit_stat(b, 0, name) == E_NOTFOUND);
	check(kit_put(b, "durable", "fits", PUT_DURABLE) == 0);
	check(kit_put(b, "empty", "", 0) == 0);
	check(kit_put_at(b, 0, "0", bytes_of(long_text, 4096), 0, 0, 0) == E_FULL);
	check(kit_get(b, "0", 0) == 0); /* what it would have replaced is still there */
	check(kit_delete(b, 0, "0") == 0);
	check(kit_put_at(b, 0, "0", bytes_of(long_text, 4096), 0, 0, 0) == 0);
}

static void quotas_count_what_is_replaced(void)
{
	struct msg_bucket_create m = {
		.name = BYTES("q"), .quota_bytes = 10, .protection = PROTECT_NONE
	};

	b = kit_bucket_of(&m);
	check(kit_put(b, "x", "12345678", 0) == 0);
	check(kit_put(b, "y", "123", 0) == E_FULL);
	check(kit_put(b, "y", "12", 0) == 0);
	check(kit_put(b, "x", "1234567", 0) == 0);
	check(kit_put(b, "x", "123456789", 0) == E_FULL);
	check(kit_holds(b, "x", "1234567"));
	check(kit_delete(b, 0, "x") == 0);
	check(kit_put(b, "z", "12345678", PUT_DURABLE) == 0);
}

static void what_is_durable_survives(void)
{
	struct msg_bucket_create m = { .name = BYTES("d"), .protection = PROTECT_COPIES };
	uint64_t d;

	b = kit_bucket("b");
	d = kit_bucket_of(&m);
	check(kit_put(b, "memory", "goes", 0) == 0);
	check(!kit.c.sync);
	check(kit_put(b, "empty", "", 0) == 0);
	check(kit_put(b, "durable", "stays", PUT_DURABLE) == 0);
	check(kit.c.sync);
	check(kit_put_at(b, 0, "long", bytes_of(long_text, 3000), PUT_PERSIST, 0, 0) == 0);
	check(kit.c.sync);
	check(kit_put(d, "by policy", "stays", 0) == 0);
	check(kit.c.sync);
	check(kit_put(b, "later", "stays", 0) == 0);
	check(kit_persist(b, "later", 0) == 0);
	check(kit.c.sync);
	check(kit_put_at(b, 0, "later long", bytes_of(long_text, 2000), 0, 0, 0) == 0);
	check(kit_persist(b, "later long", 0) == 0);
	check(kit_stat(b, 0, "later long") == 0);
	check(kit.stat.flags == (PUT_PERSIST | PUT_DURABLE));
	check(slab().used_bytes == 4);
	kit_restart();
	check(slab().used_bytes == 0);
	check(kit_get(b, "memory", 0) == E_LOST);
	check(kit_persist(b, "memory", 0) == E_LOST);
	check(kit_stat(b, 0, "memory") == 0);
	check(kit.stat.size == 4);
	check(kit_holds(b, "empty", ""));
	check(kit_holds(b, "durable", "stays"));
	check(kit_holds(b, "later", "stays"));
	check(kit_holds(d, "by policy", "stays"));
	check(kit_get(b, "long", 0) == 0);
	check(bytes_equal(kit.data, bytes_of(long_text, 3000)));
	check(kit_get(b, "later long", 0) == 0);
	check(bytes_equal(kit.data, bytes_of(long_text, 2000)));
	check(kit_put(b, "memory", "again", 0) == 0);
	check(kit_holds(b, "memory", "again"));
	check(kit_delete(b, 0, "durable") == 0);
	check(kit.c.sync);
	check(kit_persist(b, "nothing", 0) == E_NOTFOUND);
}

static struct bytes name_value(struct row_name *name, const struct row_inode *row, uint8_t *to)
{
	static uint8_t file[ROW_inode_VALUE_MAX];

	name->file = row_inode_put(row, file);
	return row_name_put(name, to);
}

/* Rot in memory or in a row is an error, not other bytes. */
static void changed_bytes_are_found(void)
{
	struct row_inode row;
	struct spot spot;
	struct bytes at;

	b = kit_bucket("b");
	check(kit_put(b, "x", "0123456789", 0) == 0);
	check(spot_find(kit.sh, &kit.c, b, 0, kit_text("x"), &spot) == 0);
	check(spot_inside(&spot));
	row = spot.inode;
	at = slab_get(kit.sh->slab, row.slot, row.size);
	((uint8_t *)(uintptr_t)at.p)[3] ^= 1;
	check(kit_get(b, "x", 0) == E_CORRUPT);
	check(kit_persist(b, "x", 0) == E_CORRUPT);
	check(kit_get(b, "x", GET_CONSUME) < 0);
	((uint8_t *)(uintptr_t)at.p)[3] ^= 1;
	check(kit_holds(b, "x", "0123456789"));
	row.slot += 5; /* no slot in use */
	{
		struct row_name name = { .parent = b, .name = kit_text("x"), .kind = ENTRY_FILE,
			.inode = row.inode };
		uint8_t key[ROW_name_KEY_MAX], value[ROW_name_VALUE_MAX];
		struct bytes k = row_name_key(&name, key), v = name_value(&name, &row, value);

		db_put(kit.sh->db, k, v);
		check(kit_get(b, "x", 0) == E_CORRUPT);
		check(kit_delete(b, 0, "x") == E_CORRUPT);
		row.slot -= 5;
		v = name_value(&name, &row, value);
		db_put(kit.sh->db, k, bytes_of(value, v.len - 1));
		check(kit_get(b, "x", 0) == E_CORRUPT);
		db_put(kit.sh->db, k, v);
	}
	check(kit_delete(b, 0, "x") == 0);
}

/* ---- buckets ---- */

static int create(const char *name, struct msg_bucket_create m)
{
	int64_t id;

	m.name = kit_text(name);
	id = (int64_t)kit_bucket_of(&m);
	return id < 0 ? (int)id : 0;
}

static void policies_that_contradict_are_refused(void)
{
	check(create("a", (struct msg_bucket_create){ .kind = 2 }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .lifetime = 4 }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .protection = 4 }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .tiers = 8 }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .lifetime = LIFETIME_JOB }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .lifetime = LIFETIME_TTL }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .ttl_ms = 5 }) == E_INVALID);
	check(create("a", (struct msg_bucket_create){ .protection = PROTECT_COPIES,
				  .tiers = TIER_BIT(TIER_DRAM) }) == E_INVALID);
	check(create("", (struct msg_bucket_create){ .kind = 0 }) == E_INVALID);
	check(create("a/b", (struct msg_bucket_create){ .kind = 0 }) == E_INVALID);
	long_text[256] = 0;
	check(create(long_text, (struct msg_bucket_create){ .kind = 0 }) == E_TOOBIG);
	long_text[255] = 0;
	check(create(long_text, (struct msg_bucket_create){ .kind = 0 }) == 0);
	long_text[255] = long_text[256] = 'x';
	check(create("a", (struct msg_bucket_create){ .kind = BUCKET_TREE }) == 0);
	check(create("a", (struct msg_bucket_create){ .kind = BUCKET_TREE }) == E_EXISTS);
	check(create("a", (struct msg_bucket_create){ .exists_ok = 1 }) == E_CONFLICT);
	check(create("a", (struct msg_bucket_create){ .kind = BUCKET_TREE, .exists_ok = 1 }) == 0);
}

static const char *buckets(uint64_t job, uint64_t after, uint32_t max, uint64_t *ret_next)
{
	static char out[512];
	struct msg_bucket_list m = { .job = job, .after = after, .max = max };
	struct msg_bucket_list_ok ok;
	struct sub_bucket_info info;
	size_t n = 0;

	check(shard_bucket_list(kit.sh, &kit.c, &m, &ok) == 0);
	for (out[0] = 0; sub_bucket_info_next(&ok.buckets, &info);)
		n += (size_t)snprintf(out + n, sizeof out - n, "%.*s ", (int)info.name.len,
			(const char *)info.name.p);
	*ret_next = ok.next;
	return out;
}

static void buckets_are_listed_in_pages(void)
{
	uint64_t next;

	kit_bucket("c");
	kit_bucket("a");
	check(create("j", (struct msg_bucket_create){ .job = 9 }) == 0);
	kit_bucket("b");
	eq(buckets(UINT64_MAX, 0, 0, &next), "c a j b ");
	check(next == 0);
	eq(buckets(0, 0, 0, &next), "c a b ");
	eq(buckets(9, 0, 0, &next), "j ");
	eq(buckets(UINT64_MAX, 0, 3, &next), "c a j ");
	eq(buckets(UINT64_MAX, next, 3, &next), "b ");
	check(next == 0);
	eq(buckets(0, UINT64_MAX, 3, &next), "");
	kit_restart();
	eq(buckets(UINT64_MAX, 0, 0, &next), "c a j b ");
}

static void open_finds_by_job_and_name(void)
{
	struct msg_bucket_open m = { .name = BYTES("x") };
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;

	check(shard_bucket_open(kit.sh, &kit.c, &m, &ok) == E_NOTFOUND);
	check(create("x", (struct msg_bucket_create){
				  .job = 9, .ttl_ms = 1000, .lifetime = LIFETIME_TTL }) == 0);
	check(shard_bucket_open(kit.sh, &kit.c, &m, &ok) == E_NOTFOUND);
	m.job = 9;
	check(shard_bucket_open(kit.sh, &kit.c, &m, &ok) == 0);
	check(sub_bucket_info_next(&ok.bucket, &info));
	check(info.job == 9);
	check(info.ttl_ms == 1000);
	check(info.lifetime == LIFETIME_TTL);
	check(info.protection == PROTECT_NONE);
	check(kit_put(info.bucket, "f", "12345", 0) == 0);
	check(shard_bucket_open(kit.sh, &kit.c, &m, &ok) == 0);
	check(sub_bucket_info_next(&ok.bucket, &info));
	check(info.files == 1);
	check(info.used_bytes == 5);
}

static void a_job_sees_its_own_buckets(void)
{
	struct msg_bucket_open open = { .job = 9, .name = BYTES("x") };
	struct msg_bucket_create m = { .job = 9, .name = BYTES("x") };
	struct msg_bucket_list list = { .job = 9 };
	struct msg_bucket_list_ok list_ok;
	uint64_t own, other, next;
	struct msg_bucket_ok ok;

	other = kit_bucket_of(&m);
	check(kit_put(other, "secret", "s", 0) == 0);
	kit.c.who = (struct principal){ .admin = false, .job = 4 };
	check(kit_get(other, "secret", 0) == E_DENIED);
	check(kit_put(other, "secret", "s", 0) == E_DENIED);
	check(kit_delete(other, 0, "secret") == E_DENIED);
	check(kit_drop(other) == E_DENIED);
	eq(kit_list(other, 0, "", 0, "", 0), "DENIED");
	check(shard_bucket_open(kit.sh, &kit.c, &open, &ok) == E_DENIED);
	check(shard_bucket_list(kit.sh, &kit.c, &list, &list_ok) == E_DENIED);
	check((int)kit_bucket_of(&m) == E_DENIED);
	m.job = 0;
	own = kit_bucket_of(&m);
	check(own != other);
	check(kit_put(own, "f", "1", 0) == 0);
	open.job = 4;
	check(shard_bucket_open(kit.sh, &kit.c, &open, &ok) == 0);
	eq(buckets(UINT64_MAX, 0, 0, &next), "x ");
	kit.c.who = (struct principal){ .admin = true };
	check(kit_holds(own, "f", "1"));
}

static void fill(uint64_t bucket, int from, int to)
{
	char name[16];

	for (int i = from; i < to; i++) {
		snprintf(name, sizeof name, "%06d", i);
		check(kit_put(bucket, name, "some bytes", i % 3 == 0 ? PUT_DURABLE : 0) == 0);
	}
}

static uint64_t dropping(void)
{
	struct shard_status st;

	shard_status(kit.sh, &st);
	check(st.files >= st.dropping || st.files == 0);
	return st.dropping;
}

/* A dropped bucket is gone at once, its room soon after, and a restart in between changes nothing.
 */
static void drop_gives_everything_back(void)
{
	uint64_t other = kit_bucket("other"), again;
	struct shard_status st;

	b = kit_bucket("b");
	fill(b, 0, 3 * RECLAIM_STEP + 7);
	check(kit_put(other, "stays", "here", 0) == 0);
	check(kit_drop(b) == 0);
	check(kit_drop(b) == E_GONE);
	check(kit_get(b, "000001", 0) == E_GONE);
	check(dropping() == 1);
	shard_audit(kit.sh);
	again = kit_bucket("b"); /* its name is free */
	check(again != b);
	check(bucket_reclaim(kit.sh));
	shard_audit(kit.sh);
	kit_restart();
	check(dropping() == 1);
	for (int i = 0; i < 100 && dropping() > 0; i++)
		kit_sleep(1000);
	check(dropping() == 0);
	shard_status(kit.sh, &st);
	check(st.files == 1);
	check(st.used_bytes == 4);
	check(st.buckets == 2);
	eq(kit_list(again, 0, "", 0, "", 0), "");
	check(kit_stat(other, 0, "stays") == 0);
}

static void drop_gives_trees_back(void)
{
	struct msg_bucket_create m = {
		.name = BYTES("t"), .kind = BUCKET_TREE, .protection = PROTECT_NONE
	};
	struct shard_status st;
	uint64_t dir;

	b = kit_bucket_of(&m);
	check(kit_mkdir(b, 0, "d") == 0);
	dir = kit.put.inode;
	for (int i = 0; i < RECLAIM_STEP; i++) {
		char name[16];

		snprintf(name, sizeof name, "%d", i);
		check(kit_put_at(b, dir, name, BYTES("1"), 0, 0, i % 2 * 100000) == 0);
	}
	check(kit_mkdir(b, dir, "e") == 0);
	check(kit_put_at(b, kit.put.inode, "f", BYTES("12"), PUT_DURABLE, 0, 0) == 0);
	check(kit_drop(b) == 0);
	shard_audit(kit.sh);
	while (bucket_reclaim(kit.sh))
		shard_audit(kit.sh);
	shard_status(kit.sh, &st);
	check(st.files == 0);
	check(st.used_bytes == 0);
	check(st.slab.used_bytes == 0);
}

/* ---- directories ---- */

static uint64_t tree(void)
{
	struct msg_bucket_create m = {
		.name = BYTES("t"), .kind = BUCKET_TREE, .protection = PROTECT_NONE
	};

	return kit_bucket_of(&m);
}

static uint64_t dir(uint64_t parent, const char *name)
{
	check(kit_mkdir(b, parent, name) == 0);
	return kit.put.inode;
}

static void trees_have_directories(void)
{
	uint64_t d, e;

	b = kit_bucket("flat");
	check(kit_mkdir(b, 0, "d") == E_INVALID);
	check(kit_put_at(b, 1, "d", BYTES("1"), 0, 0, 0) == E_INVALID);
	b = tree();
	d = dir(0, "d");
	check(kit_mkdir(b, 0, "d") == E_EXISTS);
	e = dir(d, "e");
	check(kit_put_at(b, e, "f", BYTES("1"), 0, 0, 0) == 0);
	check(kit_put_at(b, kit.put.inode, "f", BYTES("1"), 0, 0, 0) == E_NOTFOUND); /* a file */
	check(kit_put_at(b, 12345678, "f", BYTES("1"), 0, 0, 0) == E_NOTFOUND);
	check(kit_put_at(b, 0, "d", BYTES("1"), 0, 0, 0) == E_CONFLICT);
	check(kit_get(b, "d", 0) == E_INVALID);
	check(kit_persist(b, "d", 0) == E_INVALID);
	put_name("a/b", 3, E_INVALID);
	put_name(".", 1, E_INVALID);
	put_name("..", 2, E_INVALID);
	put_name("...", 3, 0);
	put_name(long_text, 255, 0);
	put_name(long_text, 256, E_TOOBIG);
	eq(kit_list(b, d, "", 0, "", 0), "e:");
	check(kit_delete(b, d, "e") == E_NOTEMPTY);
	check(kit_delete(b, e, "f") == 0);
	check(kit_delete(b, d, "e") == 0);
	check(kit_put_at(b, e, "f", BYTES("1"), 0, 0, 0) == E_NOTFOUND);
	eq(kit_list(b, e, "", 0, "", 0), "NOTFOUND");
	check(kit_stat(b, 0, "d") == 0);
	check(kit.stat.kind == ENTRY_DIR);
	check(kit.stat.inode == d);
}

static void rename_moves_and_replaces(void)
{
	struct msg_rename cross = { .from = BYTES("x"), .to = BYTES("y") };
	uint64_t v;

	cross.bucket = b = kit_bucket("b");
	cross.to_bucket = kit_bucket("c");
	check(kit_rename(b, 0, "x", 0, "y", 0) == E_NOTFOUND);
	check(kit_put(b, "x", "one", 0) == 0);
	v = kit.put.version;
	check(shard_rename(kit.sh, &kit.c, &cross, &kit.put) == E_CROSS);
	check(kit_rename(b, 0, "x", 0, "y", 0) == 0);
	check(kit.put.version == v);
	check(kit_get(b, "x", 0) == E_NOTFOUND);
	check(kit_holds(b, "y", "one"));
	check(kit_put(b, "z", "other", PUT_DURABLE) == 0);
	check(kit_rename(b, 0, "y", 0, "z", PUT_IF_ABSENT) == E_EXISTS);
	check(kit_rename(b, 0, "y", 0, "z", 0) == 0);
	check(kit.c.sync); /* what it replaced was durable */
	check(kit_holds(b, "z", "one"));
	check(kit_rename(b, 0, "z", 0, "z", 0) == 0);
	check(kit_holds(b, "z", "one"));
	check(kit_put_at(b, 0, "t", BYTES("1"), 0, 0, 100000) == 0);
	check(kit_rename(b, 0, "t", 0, "u", 0) == 0);
	shard_audit(kit.sh);
	kit_sleep(200000);
	check(kit_stat(b, 0, "u") == E_NOTFOUND);
}

/* Bytes in a row are borrowed from it, and go with it. */
static void rename_moves_bytes_in_rows(void)
{
	b = kit_bucket("b");
	check(kit_put_at(b, 0, "x", bytes_of(long_text, 1000), PUT_DURABLE, 0, 0) == 0);
	check(kit_put_at(b, 0, "y", bytes_of(long_text, 900), PUT_DURABLE, 0, 0) == 0);
	check(kit_put_at(b, 0, "p", bytes_of(long_text, 3000), PUT_DURABLE, 0, 0) == 0);
	check(kit_rename(b, 0, "x", 0, "y", 0) == 0);
	check(kit_get(b, "y", 0) == 0);
	check(bytes_equal(kit.data, bytes_of(long_text, 1000)));
	check(kit_rename(b, 0, "p", 0, "y", 0) == 0);
	check(kit_get(b, "y", 0) == 0);
	check(bytes_equal(kit.data, bytes_of(long_text, 3000)));
	eq(kit_list(b, 0, "", 0, "", 0), "y");
}

/* As the first version wrote them: the name's row without the inode, which has one of its own. */
static void part(const char *text)
{
	struct spot at;
	struct row_name name = { .parent = b, .name = kit_text(text), .kind = ENTRY_FILE };
	uint8_t key[ROW_name_KEY_MAX], value[ROW_name_VALUE_MAX];

	check(kit_put(b, text, text, 0) == 0);
	check(spot_find(kit.sh, &kit.c, b, 0, name.name, &at) == 0);
	check(spot_inside(&at));
	inode_add(kit.sh, &at.inode);
	name.inode = at.inode.inode;
	db_put(kit.sh->db, row_name_key(&name, key), row_name_put(&name, value));
	shard_audit(kit.sh);
	check(kit_holds(b, text, text));
}

static void rows_of_the_first_version_are_read(void)
{
	struct msg_get m = { .flags = 0 };
	struct msg_get_ok ok;
	struct bytes data;

	b = m.bucket = kit_bucket("b");
	part("delete");
	check(kit_delete(b, 0, "delete") == 0);
	part("replace");
	m.inode = kit.put.inode;
	check(shard_get(kit.sh, &kit.c, &m, &ok, &data) == 0);
	check(kit_put(b, "replace", "new", 0) == 0);
	check(kit_holds(b, "replace", "new"));
	part("move");
	check(kit_rename(b, 0, "move", 0, "replace", 0) == 0);
	check(kit_holds(b, "replace", "move"));
	part("persist");
	check(kit_persist(b, "persist", 100000) == 0);
	check(kit_holds(b, "persist", "persist"));
	shard_audit(kit.sh);
	kit_sleep(200000);
	eq(kit_list(b, 0, "", 0, "", 0), "replace");
	check(kit_drop(b) == 0);
	kit_sleep(1000);
	check(dropping() == 0);
}

/* What persists is found name by name, and a name may be as long as names are. */
static void long_names_are_kept(void)
{
	struct msg_bucket_create m = { .job = 7, .name = BYTES("j") };
	struct shard_freed freed;

	b = kit_bucket_of(&m);
	long_text[LIMIT_NAME_BYTES_MAX] = 0;
	check(kit_put(b, long_text, "kept", PUT_PERSIST) == 0);
	check(kit_put(b, "y", "not", 0) == 0);
	check(shard_job_drop(kit.sh, &kit.c, 7, &freed) == 0);
	check(freed.files == 1);
	for (int i = 0; i < 100 && shard_job_dropping(kit.sh, 7) > 0; i++)
		kit_sleep(1000);
	check(shard_job_dropping(kit.sh, 7) == 0);
	check(kit_holds(b, long_text, "kept"));
	check(kit_stat(b, 0, "y") == E_NOTFOUND);
	check(kit_drop(b) == 0);
	kit_sleep(1000);
	check(dropping() == 0);
	long_text[LIMIT_NAME_BYTES_MAX] = 'x';
}

static void directories_move_but_not_into_themselves(void)
{
	uint64_t d, e, f;

	b = tree();
	d = dir(0, "d");
	e = dir(d, "e");
	f = dir(e, "f");
	check(kit_rename(b, 0, "d", f, "d", 0) == E_CONFLICT);
	check(kit_rename(b, 0, "d", d, "d", 0) == E_CONFLICT);
	check(kit_put_at(b, f, "file", BYTES("1"), 0, 0, 0) == 0);
	check(kit_rename(b, d, "e", 0, "g", 0) == 0);
	eq(kit_list(b, 0, "", 0, "", 0), "d: g:");
	check(kit_rename(b, 0, "d", f, "d", 0) == 0); /* now it can */
	check(kit_rename(b, 0, "g", d, "g", 0) == E_CONFLICT);
	eq(kit_list(b, f, "", 0, "", 0), "d: file");
	check(kit_mkdir(b, 0, "h") == 0);
	check(kit_rename(b, 0, "g", 0, "h", 0) == 0); /* onto an empty one */
	check(kit_mkdir(b, 0, "i") == 0);
	check(kit_rename(b, 0, "i", 0, "h", 0) == E_NOTEMPTY);
	check(kit_rename(b, f, "file", 0, "i", 0) == E_CONFLICT);
	check(kit_rename(b, 0, "i", f, "file", 0) == E_CONFLICT);
	kit_restart();
	eq(kit_list(b, f, "", 0, "", 0), "d: file");
}

static void depth_is_limited(void)
{
	uint64_t at = 0, top;

	b = tree();
	top = at = dir(0, "top");
	for (int i = 1; i < LIMIT_DEPTH_MAX - 1; i++)
		at = dir(at, "d");
	check(kit_mkdir(b, at, "one more") == 0);
	at = kit.put.inode;
	check(kit_mkdir(b, at, "too many") == E_TOOBIG);
	check(kit_mkdir(b, 0, "other") == 0);
	check(kit_rename(b, 0, "other", at, "too many", 0) == E_TOOBIG);
	check(kit_rename(b, 0, "top", top, "t", 0) == E_CONFLICT);
}

static void run(void **state)
{
	kit_run(*state);
}

static void run_small(void **state)
{
	kit.slab_bytes = 1 << 20;
	kit_run(*state);
}

#define TEST(body)                                                                                 \
	{                                                                                          \
#body, run, NULL, NULL, body                                                       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(puts_and_gets),
		TEST(sizes_have_a_limit),
		TEST(inodes_are_gone_once_replaced),
		TEST(conditions_hold_or_refuse),
		TEST(names_are_text),
		{ "a_full_slab_refuses_and_recovers", run_small, NULL, NULL,
			a_full_slab_refuses_and_recovers },
		TEST(quotas_count_what_is_replaced),
		TEST(what_is_durable_survives),
		TEST(changed_bytes_are_found),
		TEST(policies_that_contradict_are_refused),
		TEST(buckets_are_listed_in_pages),
		TEST(open_finds_by_job_and_name),
		TEST(a_job_sees_its_own_buckets),
		TEST(drop_gives_everything_back),
		TEST(drop_gives_trees_back),
		TEST(trees_have_directories),
		TEST(rename_moves_and_replaces),
		TEST(rename_moves_bytes_in_rows),
		TEST(rows_of_the_first_version_are_read),
		TEST(long_names_are_kept),
		TEST(directories_move_but_not_into_themselves),
		TEST(depth_is_limited),
	};

	memset(long_text, 'x', sizeof long_text);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
