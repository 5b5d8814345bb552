/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/kit_test.h"
#include "meta/alone_test.h"
#include "sys/sim/sim.h"
#include <stdio.h>
#include <stdlib.h>

struct kit kit;
static struct alone alone;
static struct sim *world;
static struct sim_node *node;
static void (*running)(void);

static void must(int rc, const struct err_note *note)
{
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", err_name(rc), note->text);
	check(rc == 0);
}

static bool spread(void *arg) { return kit.spread; }

static void open_shard(void)
{
	/* Small enough for merges and cuts to happen, and for a restart to be quick. */
	static const struct db_opts db = { .memtable_bytes_max = 8 << 20,
		.merge_every_ns = 50 * SYS_MS,
		.log_segment_bytes = 1 << 18 };
	struct shard_opts o = { .slab_bytes = kit.slab_bytes, .epoch = 1, .spread = spread };
	struct err_note note;

	must(alone_open(&alone, kit.sys, "/meta", &db, &o, &note), &note);
	kit.sh = alone.sh;
}

static int main_fiber(struct sys *s, void *arg)
{
	struct err_note note;

	kit.sys = s;
	kit.c = (struct shard_call){ .who = { .admin = true }, .version = WIRE_VERSION };
	must(sys_mkdir(s, "/meta", &note), &note);
	open_shard();
	running();
	shard_audit(kit.sh);
	must(alone_close(&alone, &note), &note);
	return 0;
}

void kit_run(void (*body)(void))
{
	if (kit.slab_bytes == 0)
		kit.slab_bytes = 16 << 20;
	running = body;
	world = sim_new(1, &sim_no_faults);
	node = sim_node_add(world, "a", UINT64_C(1) << 32);
	sim_node_start(node, main_fiber, NULL);
	sim_run(world, UINT64_MAX);
	check(!sim_node_up(node));
	check(sim_node_result(node) == 0);
	sim_free(world);
	kit.slab_bytes = 0;
	kit.spread = false;
}

void kit_restart(void)
{
	struct err_note note;

	shard_audit(kit.sh);
	must(alone_close(&alone, &note), &note);
	kit.c.session = NULL;
	open_shard();
	shard_audit(kit.sh);
}

void kit_stop(void)
{
	kit_sleep(10); /* what is not written yet would be given up: there is no replica to do it */
	shard_audit(kit.sh);
	shard_stop(kit.sh, E_NOTPRIMARY);
}

void kit_lead(void)
{
	struct shard_opts o = { .slab_bytes = kit.slab_bytes, .epoch = shard_epoch(kit.sh) + 1,
		.spread = spread };
	struct err_note note;

	must(alone_again(&alone, kit.sys, &o, &note), &note);
	kit.sh = alone.sh;
	kit.c.session = NULL;
	shard_audit(kit.sh);
}

void kit_clock_jump(int64_t ms)
{
	sim_clock_jump(node, ms);
}

void kit_sleep(uint64_t ms)
{
	check(fiber_sleep(sys_after(kit.sys, ms * SYS_MS)) == 0);
}

struct bytes kit_text(const char *s)
{
	return bytes_of(s, strlen(s));
}

void kit_client(uint64_t client)
{
	check(session_open(kit.sh, &kit.c.who, 77, client, &kit.c.session) == 0);
}

void kit_leave(void)
{
	session_close(kit.sh, kit.c.session);
	kit.c.session = NULL;
}

uint64_t kit_bucket_of(const struct msg_bucket_create *m)
{
	struct sub_bucket_info info;
	struct msg_bucket_ok ok;
	int rc = shard_bucket_create(kit.sh, &kit.c, m, &ok);

	if (rc < 0)
		return (uint64_t)rc;
	check(sub_bucket_info_next(&ok.bucket, &info));
	check(bytes_equal(info.name, m->name));
	return info.bucket;
}

uint64_t kit_bucket(const char *name)
{
	struct msg_bucket_create m = { .name = kit_text(name), .protection = PROTECT_NONE };
	uint64_t id = kit_bucket_of(&m);

	check((int64_t)id > 0);
	return id;
}

int kit_drop(uint64_t bucket)
{
	struct msg_bucket_drop m = { .bucket = bucket };

	return shard_bucket_drop(kit.sh, &kit.c, &m);
}

int kit_put_at(uint64_t bucket, uint64_t parent, const char *name, struct bytes data,
	unsigned flags, uint64_t if_version, uint64_t ttl_ms)
{
	struct msg_put m = { .bucket = bucket,
		.parent = parent,
		.flags = (uint16_t)flags,
		.if_version = if_version,
		.ttl_ms = ttl_ms,
		.name = kit_text(name) };

	return shard_put(kit.sh, &kit.c, &m, data, &kit.put);
}

int kit_put(uint64_t bucket, const char *name, const char *data, unsigned flags)
{
	return kit_put_at(bucket, 0, name, kit_text(data), flags, 0, 0);
}

int kit_get(uint64_t bucket, const char *name, unsigned flags)
{
	struct msg_get m = { .bucket = bucket, .flags = (uint16_t)flags, .name = kit_text(name) };

	return shard_get(kit.sh, &kit.c, &m, &kit.get, &kit.data);
}

bool kit_holds(uint64_t bucket, const char *name, const char *data)
{
	return kit_get(bucket, name, 0) == 0 && bytes_equal(kit.data, kit_text(data)) &&
	       kit.get.size == strlen(data);
}

int kit_delete(uint64_t bucket, uint64_t parent, const char *name)
{
	struct msg_delete m = { .bucket = bucket, .parent = parent, .name = kit_text(name) };

	return shard_delete(kit.sh, &kit.c, &m);
}

int kit_stat(uint64_t bucket, uint64_t parent, const char *name)
{
	struct msg_stat m = { .bucket = bucket, .parent = parent, .name = kit_text(name) };

	return shard_stat(kit.sh, &kit.c, &m, &kit.stat);
}

int kit_done(uint64_t bucket, uint64_t inode)
{
	struct msg_done m = { .bucket = bucket, .inode = inode };

	return shard_done(kit.sh, &kit.c, &m);
}

int kit_mkdir(uint64_t bucket, uint64_t parent, const char *name)
{
	struct msg_mkdir m = { .bucket = bucket, .parent = parent, .name = kit_text(name) };

	return shard_mkdir(kit.sh, &kit.c, &m, &kit.put);
}

int kit_rename(uint64_t bucket, uint64_t from_parent, const char *from, uint64_t to_parent,
	const char *to, unsigned flags)
{
	struct msg_rename m = { .bucket = bucket,
		.to_bucket = bucket,
		.from_parent = from_parent,
		.to_parent = to_parent,
		.flags = (uint16_t)flags,
		.from = kit_text(from),
		.to = kit_text(to) };

	return shard_rename(kit.sh, &kit.c, &m, &kit.put);
}

int kit_persist(uint64_t bucket, const char *name, uint64_t ttl_ms)
{
	struct msg_persist m = { .bucket = bucket, .ttl_ms = ttl_ms, .name = kit_text(name) };

	return shard_persist(kit.sh, &kit.c, &m);
}

const char *kit_list(uint64_t bucket, uint64_t parent, const char *prefix, char delimiter,
	const char *after, uint32_t max)
{
	static char out[1 << 16];
	struct msg_list m = { .bucket = bucket,
		.parent = parent,
		.max = max,
		.delimiter = (uint8_t)delimiter,
		.prefix = kit_text(prefix),
		.after = kit_text(after) };
	struct wire_list l;
	struct sub_entry e;
	size_t n = 0;
	int rc = shard_list(kit.sh, &kit.c, &m, &kit.list);

	if (rc < 0)
		return err_name(rc);
	out[0] = 0;
	for (l = kit.list.entries; sub_entry_next(&l, &e);) {
		check(n + e.name.len + 3 < sizeof out);
		n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s%s", n > 0 ? " " : "",
			(int)e.name.len, (const char *)e.name.p, e.kind == ENTRY_DIR ? ":" : "");
	}
	return out;
}
