/* SPDX-License-Identifier: Apache-2.0 */
/* With other replicas the bytes of small files do not depend on one process: new ones are in rows,
 * and those in memory are moved there while the shard works, all of them, and nothing is counted
 * twice or forgotten. */
#include "meta/kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FILES = 600, JOB = 9 };

static uint64_t flat, tree, dir, job_bucket;

static uint64_t slab_files(void)
{
	struct shard_status st;

	shard_status(kit.sh, &st);
	return st.slab.files;
}

/* Lengths on both sides of every border. */
static struct bytes text_of(int i)
{
	static const size_t lens[] = { 1, 17, 999, 1000, 1001, 2500, 4095, 4096, 0 };
	static uint8_t room[4096];
	size_t len = lens[i % 9];

	for (size_t k = 0; k < len; k++)
		room[k] = (uint8_t)(i * 7 + (int)k);
	return bytes_of(room, len);
}

static const char *name_of(int i)
{
	static char name[32];

	snprintf(name, sizeof name, "file-%05d", i);
	return name;
}

static uint64_t bucket_of(int i, uint64_t *ret_parent)
{
	*ret_parent = i % 3 == 1 ? dir : 0;
	return i % 3 == 0 ? flat : i % 3 == 1 ? tree : job_bucket;
}

static void put_one(int i)
{
	uint64_t parent, b = bucket_of(i, &parent);

	check(kit_put_at(b, parent, name_of(i), text_of(i), 0, 0, i % 5 == 0 ? 3600000 : 0) == 0);
}

static int get_one(int i)
{
	uint64_t parent, b = bucket_of(i, &parent);
	struct msg_get m = { .bucket = b, .parent = parent, .name = kit_text(name_of(i)) };
	int rc = shard_get(kit.sh, &kit.c, &m, &kit.get, &kit.data);

	check(rc < 0 || bytes_equal(kit.data, text_of(i)));
	return rc;
}

static void furnish(void)
{
	struct msg_bucket_create t = { .name = BYTES("t"), .kind = BUCKET_TREE,
		.protection = PROTECT_NONE };
	struct msg_bucket_create j = { .name = BYTES("j"), .job = JOB, .lifetime = LIFETIME_JOB };

	check(shard_job_begin(kit.sh, JOB, 0, true) == 0);
	flat = kit_bucket("b");
	tree = kit_bucket_of(&t);
	check((int64_t)tree > 0);
	job_bucket = kit_bucket_of(&j);
	check((int64_t)job_bucket > 0);
	check(kit_mkdir(tree, 0, "d") == 0);
	dir = kit.put.inode;
	for (int i = 0; i < FILES; i++)
		put_one(i);
}

static uint64_t held_dram(void)
{
	return shard_use(kit.sh, JOB)->meters[TIER_DRAM].held_bytes;
}

static void all_survive_the_process(void)
{
	struct shard_status before, after;

	furnish();
	shard_status(kit.sh, &before);
	check(before.slab.files == FILES - FILES / 9);
	check(held_dram() > 0);
	kit.spread = true;
	kit_sleep(2000);
	check(slab_files() == 0);
	check(held_dram() == 0);
	shard_audit(kit.sh);
	shard_status(kit.sh, &after);
	check(after.files == before.files);
	check(after.used_bytes == before.used_bytes);
	for (int i = 0; i < FILES; i++)
		check(get_one(i) == 0);
	put_one(0);
	check(slab_files() == 0); /* and no new one comes */
	check(!kit.c.sync);       /* nor does anybody wait for a sync */
	kit_stop();
	kit_lead();
	for (int i = 0; i < FILES; i++)
		check(get_one(i) == 0);
}

static void alone_they_are_in_memory(void)
{
	furnish();
	kit_sleep(2000);
	check(slab_files() == FILES - FILES / 9);
	kit_restart();
	check(get_one(0) == E_LOST);
	check(get_one(8) == 0); /* an empty one */
}

/* While it goes on: names move before and behind the walk, files come, go and are read. */
static void the_work_goes_on(void)
{
	uint64_t consumed, before;

	furnish();
	kit_client(1);
	check(kit_get(flat, name_of(3), GET_CONSUME) == 0);
	consumed = kit.get.inode;
	before = slab_files();
	kit.spread = true;
	while (slab_files() == before) /* until the walk has begun */
		check(fiber_sleep(sys_now_ns(kit.sys) + 1) == 0);
	check(slab_files() > FILES / 2);
	for (int i = FILES - 3; i >= 0; i -= 3) {
		char to[32];

		if (i % 2 == 1) /* the others to the front, where the walk has been */
			continue;
		snprintf(to, sizeof to, "a-%05d", i);
		check(kit_rename(flat, 0, name_of(i), 0, to, 0) == 0);
		check(kit_delete(tree, dir, name_of(i + 1)) == 0);
		if (i % 150 == 0)
			check(fiber_sleep(sys_now_ns(kit.sys) + 1) == 0);
		if (i % 90 == 0)
			shard_audit(kit.sh);
	}
	kit_sleep(2000);
	check(slab_files() == 0);
	shard_audit(kit.sh);
	for (int i = 2; i < FILES; i += 3)
		check(get_one(i) == 0);
	check(kit_done(flat, consumed) == 0);
	kit_leave();
}

static void a_dropped_bucket_is_let_be(void)
{
	furnish();
	check(kit_drop(flat) == 0);
	kit.spread = true;
	kit_sleep(5000);
	check(slab_files() == 0);
}

static void run(void **state) { kit_run(*state); }

#define TEST(body) { #body, run, NULL, NULL, body }

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_survive_the_process),
		TEST(alone_they_are_in_memory),
		TEST(the_work_goes_on),
		TEST(a_dropped_bucket_is_let_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
