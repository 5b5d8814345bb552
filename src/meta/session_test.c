/* SPDX-License-Identifier: Apache-2.0 */
/* What a client is owed over time: a retry gets its first answer, a file read for deletion is
 * nobody else's, who waits is woken, what has expired is gone. */
#include "meta/kit_test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t b;

static struct shard_status status(void)
{
	struct shard_status st;

	shard_status(kit.sh, &st);
	return st;
}

/* ---- answers ---- */

static void a_retry_gets_the_first_answer(void)
{
	struct msg_put_ok first;

	b = kit_bucket("b");
	kit_client(1);
	kit.c.number = 5;
	check(kit_put(b, "x", "one", PUT_IF_ABSENT) == 0);
	first = kit.put;
	check(kit_put(b, "x", "one", PUT_IF_ABSENT) == 0);
	check(kit.put.inode == first.inode);
	check(kit.put.version == first.version);
	kit.c.number = 6;
	check(kit_put(b, "x", "one", PUT_IF_ABSENT) == E_EXISTS);
	check(kit_delete(b, 0, "x") == 0);
	check(kit_put(b, "x", "one", 0) == E_INVALID); /* 6 was the delete */
	kit.c.number = 7;
	check(kit_put(b, "x", "two", 0) == 0);
	kit.c.number = 6;
	check(kit_delete(b, 0, "x") == 0); /* a late one: no effect */
	check(kit_holds(b, "x", "two"));
	kit.c.number = 5;
	check(kit_put(b, "x", "one", PUT_IF_ABSENT) == 0);
	check(kit.put.inode == first.inode);
	check(kit_holds(b, "x", "two"));
	kit.c.number = 0; /* not numbered: nothing is remembered */
	check(kit_delete(b, 0, "x") == 0);
	check(kit_delete(b, 0, "x") == E_NOTFOUND);
	kit_leave();
}

static void answers_outlive_a_restart(void)
{
	struct msg_put_ok first = { 0, 0 };

	b = kit_bucket("b");
	kit_client(1);
	for (kit.c.number = 1; kit.c.number <= 100; kit.c.number++) {
		char name[16];

		snprintf(name, sizeof name, "%d", (int)kit.c.number);
		kit.c.ticket = kit.c.number == 90; /* as if it had drops to wait for */
		check(kit_put(b, name, "v", kit.c.number == 90 ? PUT_DURABLE : 0) == 0);
		if (kit.c.number == 90)
			first = kit.put;
	}
	kit_leave();
	kit_restart();
	kit_client(1);
	check(session_last_number(kit.c.session) == 100);
	kit.c.number = 90;
	kit.c.ticket = 5;
	check(kit_put(b, "90", "v", PUT_DURABLE) == 0);
	check(kit.c.ticket == 0); /* what the first time took away may still be there */
	check(kit.put.inode == first.inode);
	check(kit.c.sync); /* as the first time */
	kit.c.ticket = 5;
	kit.c.number = 91;
	check(kit_put(b, "91", "v", 0) == 0);
	check(!kit.c.sync);
	check(kit.c.ticket == 5);
	kit.c.number = 100 - LIMIT_INFLIGHT_MAX + 1;
	check(kit_put(b, "37", "v", 0) == 0);
	kit.c.number = 100 - LIMIT_INFLIGHT_MAX;
	check(kit_put(b, "36", "v", 0) == E_UNKNOWN);
	kit.c.number = 1;
	check(kit_put(b, "1", "v", 0) == E_UNKNOWN);
	kit_leave();
	kit_client(2); /* another client's numbers are its own */
	kit.c.number = 1;
	check(kit_put(b, "1", "v", 0) == 0);
	kit_leave();
	check(status().sessions == 2);
}

static void every_change_is_remembered(void)
{
	struct msg_bucket_create m = { .name = BYTES("t"), .kind = BUCKET_TREE };
	uint64_t dir, t;

	kit_client(1);
	kit.c.number = 1;
	t = kit_bucket_of(&m);
	check(kit_bucket_of(&m) == t);
	kit.c.number = 2;
	check(kit_mkdir(t, 0, "d") == 0);
	dir = kit.put.inode;
	check(kit_mkdir(t, 0, "d") == 0);
	check(kit.put.inode == dir);
	kit.c.number = 3;
	check(kit_rename(t, 0, "d", 0, "e", 0) == 0);
	check(kit_rename(t, 0, "d", 0, "e", 0) == 0);
	check(kit.put.inode == dir);
	kit.c.number = 4;
	check(kit_put(t, "f", "1", 0) == 0);
	kit.c.number = 5;
	check(kit_persist(t, "f", 0) == 0);
	check(kit_persist(t, "f", 0) == 0);
	check(kit_get(t, "f", GET_CONSUME) == 0);
	check(kit.get.consuming == 1);
	kit.c.number = 6;
	check(kit_done(t, kit.get.inode) == 0);
	check(kit_done(t, kit.get.inode) == 0);
	kit.c.number = 7;
	check(kit_done(t, kit.get.inode) == E_GONE);
	check(kit_drop(t) == 0);
	check(kit_drop(t) == 0);
	kit.c.number = 1;
	check((int)kit_bucket_of(&m) == E_GONE); /* it was, and is no more */
	kit_leave();
}

static void idle_clients_are_forgotten(void)
{
	b = kit_bucket("b");
	kit_client(1);
	kit.c.number = 1;
	check(kit_put(b, "x", "1", 0) == 0);
	kit_leave();
	kit_client(2);
	kit_sleep(LIMIT_SESSION_IDLE_MS - 2000);
	check(status().sessions == 2);
	kit_sleep(4000);
	check(status().sessions == 1); /* 2 is connected */
	kit_leave();
	kit_client(1);
	kit.c.number = 1;
	check(session_last_number(kit.c.session) == 0);
	check(kit_put(b, "x", "1", PUT_IF_ABSENT) == E_EXISTS);
	kit_leave();
}

static void a_session_is_one_principals(void)
{
	struct principal job = { .job = 3 }, other = { .job = 4 }, admin = { .admin = true };
	struct session *s, *t;

	check(session_open(kit.sh, &job, 0, 0, &s) == E_INVALID);
	check(session_open(kit.sh, &job, 5, 6, &s) == 0);
	check(session_open(kit.sh, &job, 5, 6, &t) == 0); /* a second connection */
	check(s == t);
	check(session_open(kit.sh, &other, 5, 6, &t) == E_DENIED);
	check(session_open(kit.sh, &admin, 5, 6, &t) == E_DENIED);
	session_close(kit.sh, s);
	session_close(kit.sh, s);
	session_close(kit.sh, NULL);
}

static void sessions_have_a_limit(void)
{
	static struct session *s[LIMIT_SESSIONS_MAX];
	struct session *one_more;

	for (int i = 0; i < LIMIT_SESSIONS_MAX; i++)
		check(session_open(kit.sh, &kit.c.who, 1, (uint64_t)i, &s[i]) == 0);
	check(session_open(kit.sh, &kit.c.who, 2, 0, &one_more) == E_BUSY);
	session_close(kit.sh, s[7]);
	check(session_open(kit.sh, &kit.c.who, 2, 0, &one_more) == 0); /* instead of the idle one */
	check(session_open(kit.sh, &kit.c.who, 1, 7, &s[7]) == E_BUSY);
	session_close(kit.sh, one_more);
	for (int i = 0; i < LIMIT_SESSIONS_MAX; i++)
		if (i != 7)
			session_close(kit.sh, s[i]);
}

/* ---- delete on read ---- */

static struct session *client(uint64_t id)
{
	kit_client(id);
	return kit.c.session;
}

static void a_file_is_consumed_once(void)
{
	struct session *one, *two;

	b = kit_bucket("b");
	one = client(1);
	two = client(2);
	check(kit_put(b, "x", "once", PUT_DELETE_ON_READ) == 0);
	kit.c.session = NULL;
	check(kit_get(b, "x", 0) == E_INVALID); /* nobody to remember the mark for */
	kit.c.session = one;
	check(kit_holds(b, "x", "once"));
	check(kit.get.consuming == 1);
	check(kit_holds(b, "x", "once")); /* a retry */
	check(kit.get.consuming == 1);
	check(status().marks == 1);
	kit.c.session = two;
	check(kit_get(b, "x", 0) == E_CONFLICT);
	check(kit_done(b, kit.get.inode) == E_CONFLICT);
	check(kit_persist(b, "x", 0) == E_CONFLICT);
	check(kit_rename(b, 0, "x", 0, "y", 0) == E_CONFLICT);
	check(strcmp(kit_list(b, 0, "", 0, "", 0), "x") == 0);
	shard_audit(kit.sh);
	kit_restart(); /* the mark stays, the bytes do not */
	check(status().marks == 1);
	kit_client(1);
	check(kit_get(b, "x", 0) == E_LOST);
	check(kit_done(b, kit.get.inode) == 0);
	check(kit_done(b, kit.get.inode) == E_GONE);
	check(kit_stat(b, 0, "x") == E_NOTFOUND);
	check(status().marks == 0);
	check(status().used_bytes == 0);
	kit_leave();
}

static void a_durable_file_is_consumed_too(void)
{
	static char text[3000];

	memset(text, 'd', sizeof text);
	b = kit_bucket("b");
	kit_client(1);
	check(kit_put(b, "x", "short", PUT_DURABLE) == 0);
	check(kit_put_at(b, 0, "y", bytes_of(text, sizeof text), PUT_DURABLE, 0, 0) == 0);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	check(bytes_equal(kit.data, kit_text("short")));
	check(kit_get(b, "y", GET_CONSUME) == 0);
	check(bytes_equal(kit.data, bytes_of(text, sizeof text)));
	check(kit_done(b, kit.get.inode) == 0);
	check(kit.c.sync);
	kit_leave();
}

/* Whoever replaces or deletes the file ends the mark with it. */
static void marks_end_with_their_file(void)
{
	uint64_t inode;

	b = kit_bucket("b");
	kit_client(1);
	check(kit_put(b, "x", "1", 0) == 0);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	inode = kit.get.inode;
	check(kit_put(b, "x", "2", 0) == 0);
	check(status().marks == 0);
	check(kit_done(b, inode) == E_GONE);
	check(kit_holds(b, "x", "2"));
	check(kit.get.consuming == 0);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	check(kit_delete(b, 0, "x") == 0);
	check(status().marks == 0);
	check(kit_put_at(b, 0, "t", BYTES("1"), 0, 0, 5000) == 0);
	check(kit_get(b, "t", GET_CONSUME) == 0);
	kit_sleep(10000);
	check(status().marks == 0);
	check(kit_put(b, "z", "1", 0) == 0);
	check(kit_get(b, "z", GET_CONSUME) == 0);
	check(kit_drop(b) == 0);
	kit_sleep(10000);
	check(status().marks == 0);
	kit_leave();
}

static void a_mark_lapses_with_its_client(void)
{
	struct session *two;

	b = kit_bucket("b");
	two = client(2);
	kit_client(1);
	check(kit_put(b, "x", "1", PUT_DURABLE) == 0);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	kit_sleep(3 * LIMIT_MARK_LAPSE_MS); /* it is connected */
	check(status().marks == 1);
	kit_leave();
	kit_sleep(LIMIT_MARK_LAPSE_MS - 1000);
	kit_client(1); /* back in time */
	kit_sleep(3000);
	check(status().marks == 1);
	kit_leave();
	kit.c.session = two;
	check(kit_get(b, "x", GET_CONSUME) == E_CONFLICT);
	kit_sleep(LIMIT_MARK_LAPSE_MS + 1000);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	kit_leave();
	kit_client(1);
	check(kit_done(b, kit.get.inode) == E_CONFLICT); /* too late: it is the other one's */
	kit_leave();
	kit_restart(); /* which gives the mark its whole time again */
	kit_sleep(LIMIT_MARK_LAPSE_MS - 1000);
	check(status().marks == 1);
	kit_sleep(2000);
	check(status().marks == 0);
	kit_client(1);
	check(kit_done(b, kit.get.inode) == E_GONE); /* nobody reads it any more */
	kit_leave();
}

/* ---- waiting ---- */

struct waiting {
	struct shard_call c;
	struct msg_get m;
	struct msg_get_ok ok;
	uint64_t ended_ns;
	int rc;
	bool ended;
	char data[16];
};

static int wait_fiber(void *arg)
{
	struct waiting *w = arg;
	struct bytes data;

	w->rc = shard_get_wait(kit.sh, &w->c, &w->m, &w->ok, &data);
	w->ended = true;
	w->ended_ns = sys_now_ns(kit.sys);
	if (w->rc == 0)
		memcpy(w->data, data.p, data.len);
	return 0;
}

static void wait_start(
	struct group *g, struct waiting *w, const char *name, uint32_t wait_ms, unsigned flags)
{
	*w = (struct waiting){ .c = kit.c,
		.m = { .bucket = b,
			.name = kit_text(name),
			.wait_ms = wait_ms,
			.flags = (uint16_t)(GET_WAIT | flags) } };
	check(fiber_start(g, "wait", wait_fiber, w) == 0);
}

static void who_waits_is_woken(void)
{
	static struct waiting w[6]; /* too large for a frame */
	struct group g;

	group_init(&g, sys_loop(kit.sys));
	b = kit_bucket("b");
	wait_start(&g, &w[0], "x", 60000, 0);
	wait_start(&g, &w[1], "x", 60000, 0);
	wait_start(&g, &w[2], "y", 60000, 0);
	wait_start(&g, &w[3], "z", 2000, 0);
	wait_start(&g, &w[4], "z", 0, 0);
	check(kit_put(b, "there", "1", 0) == 0);
	wait_start(&g, &w[5], "there", 60000, 0);
	kit_sleep(1000);
	check(w[4].ended && w[4].rc == E_TIMEOUT);
	check(w[5].ended && w[5].rc == 0);
	check(!w[0].ended && !w[1].ended && !w[2].ended && !w[3].ended);
	check(status().waiting == 4);
	check(kit_put(b, "x", "one", 0) == 0);
	kit_sleep(1);
	check(w[0].ended && w[0].rc == 0 && strcmp(w[0].data, "one") == 0);
	check(w[1].ended && w[1].rc == 0);
	check(!w[2].ended && !w[3].ended);
	check(kit_rename(b, 0, "x", 0, "y", 0) == 0);
	kit_sleep(2000);
	check(w[2].ended && w[2].rc == 0 && strcmp(w[2].data, "one") == 0);
	check(w[3].ended && w[3].rc == E_TIMEOUT);
	check(w[3].ended_ns / SYS_SEC >= 2);
	check(status().waiting == 0);
	check(group_wait(&g) == 0);
}

static void some_waits_end_otherwise(void)
{
	struct session *one, *two;
	struct waiting w[4];
	struct group g;

	group_init(&g, sys_loop(kit.sys));
	b = kit_bucket("b");
	two = client(2);
	one = client(1);
	check(kit_put(b, "x", "1", 0) == 0);
	check(kit_get(b, "x", GET_CONSUME) == 0);
	kit.c.session = two;
	wait_start(&g, &w[0], "x", 600000, GET_CONSUME); /* waits for the reader to give up */
	wait_start(&g, &w[1], "never", 600000, 0);
	kit_sleep(1000);
	check(!w[0].ended);
	kit.c.session = one;
	kit_leave();
	kit_sleep(LIMIT_MARK_LAPSE_MS + 1000);
	check(w[0].ended && w[0].rc == 0);
	check(w[0].ok.consuming == 1);
	check(kit_drop(b) == 0);
	kit_sleep(1);
	check(w[1].ended && w[1].rc == E_GONE);
	b = kit_bucket("c");
	kit.c.session = two;
	wait_start(&g, &w[2], "never", 600000, 0);
	kit_sleep(1);
	group_cancel(&g);
	kit_sleep(1);
	check(w[2].ended && w[2].rc == E_CANCELED);
	check(status().waiting == 0);
	check(group_wait(&g) <= 0);
	kit.c.session = two;
	kit_leave();
}

/* ---- another replica leads ---- */

static void who_leads_no_more_changes_nothing(void)
{
	struct waiting w;
	struct group g;
	uint64_t seen;

	group_init(&g, sys_loop(kit.sys));
	b = kit_bucket("b");
	kit_client(1);
	kit.c.number = 1;
	check(kit_put_at(b, 0, "x", BYTES("one"), PUT_DURABLE, 0, 1000) == 0);
	kit.c.number = 2;
	check(kit_put(b, "y", "two", PUT_DURABLE) == 0);
	kit.c.number = 0;
	check(kit_get(b, "y", GET_CONSUME) == 0);
	check(kit_put(b, "z", "dropped", 0) == 0);
	wait_start(&g, &w, "never", 600000, 0);
	kit_sleep(10);
	kit_stop();
	seen = shard_seen(kit.sh);
	kit_sleep(10);
	check(w.ended && w.rc == E_NOTPRIMARY);
	check(group_wait(&g) == 0);
	check(kit_get(b, "x", 0) == E_NOTPRIMARY);
	check(kit_put(b, "new", "1", 0) == E_NOTPRIMARY);
	check(kit_delete(b, 0, "x") == E_NOTPRIMARY);
	check(kit_drop(b) == E_NOTPRIMARY);
	check(kit_done(b, kit.get.inode) == E_NOTPRIMARY);
	kit_sleep(3 * LIMIT_MARK_LAPSE_MS); /* the time of x is over, and that of the mark */
	kit_leave();
	kit_sleep(3 * LIMIT_MARK_LAPSE_MS);
	check(shard_seen(kit.sh) == seen);
}

static void who_leads_next_finds_it_all(void)
{
	uint64_t inode;

	b = kit_bucket("b");
	kit_client(1);
	kit.c.number = 9;
	check(kit_put(b, "x", "one", PUT_DURABLE) == 0);
	inode = kit.put.inode;
	kit.c.number = 0;
	check(kit_get(b, "x", GET_CONSUME) == 0);
	kit_stop();
	kit_leave();
	kit_lead();
	check(shard_epoch(kit.sh) == 2);
	check(status().marks == 1);
	kit_client(2);
	check(kit_get(b, "x", 0) == E_CONFLICT); /* client 1 is reading it */
	kit_leave();
	kit_client(1);
	check(session_last_number(kit.c.session) == 9);
	kit.c.number = 9;
	check(kit_put(b, "x", "one", PUT_DURABLE) == 0);
	check(kit.put.inode == inode);
	kit.c.number = 10;
	check(kit_done(b, inode) == 0);
	check(kit_get(b, "x", 0) == E_NOTFOUND);
	kit_leave();
}

/* ---- time to live ---- */

static void what_has_expired_is_gone(void)
{
	struct msg_bucket_create m = {
		.name = BYTES("ttl"), .lifetime = LIFETIME_TTL, .ttl_ms = 10000
	};
	uint64_t t = kit_bucket_of(&m);

	b = kit_bucket("b");
	check(kit_put_at(b, 0, "five", BYTES("1"), 0, 0, 5000) == 0);
	check(kit_stat(b, 0, "five") == 0);
	check(kit.stat.expires_ms == kit.stat.mtime_ms + 5000);
	check(kit.stat.ctime_ms == kit.stat.mtime_ms);
	check(kit_put(t, "ten", "1", 0) == 0);
	check(kit_put_at(t, 0, "twenty", BYTES("1"), 0, 0, 20000) == 0);
	check(kit_put_at(b, 0, "ever", BYTES("1"), 0, 0, UINT64_MAX) == 0);
	check(kit_put(b, "kept", "1", 0) == 0);
	check(kit_persist(b, "kept", 30000) == 0);
	check(kit_put_at(b, 0, "saved", BYTES("1"), 0, 0, 5000) == 0);
	kit_sleep(70);
	check(kit_persist(b, "saved", 0) == 0);
	check(kit_stat(b, 0, "saved") == 0);
	check(kit.stat.ctime_ms == kit.stat.mtime_ms + 70);
	shard_audit(kit.sh);
	kit_sleep(4820);
	check(kit_get(b, "five", 0) == 0);
	kit_sleep(200);
	check(kit_get(b, "five", 0) == E_NOTFOUND);
	kit_sleep(5000);
	check(kit_get(t, "ten", 0) == E_NOTFOUND);
	check(status().files == 4);
	kit_restart();
	kit_sleep(10100);
	check(kit_stat(t, 0, "twenty") == E_NOTFOUND);
	kit_sleep(10000);
	check(strcmp(kit_list(b, 0, "", 0, "", 0), "ever saved") == 0);
}

/* The wall clock decides, both ways, and at once: before the sweep has come. */
static void the_wall_clock_decides(void)
{
	b = kit_bucket("b");
	for (int i = 0; i < 3 * EXPIRY_STEP; i++) {
		char name[16];

		snprintf(name, sizeof name, "%d", i);
		check(kit_put_at(b, 0, name, BYTES("1"), i % 2 == 0 ? PUT_DURABLE : 0, 0,
			      3600000) == 0);
	}
	kit_clock_jump(3600000);
	check(kit_get(b, "1", 0) == E_NOTFOUND);
	check(kit_stat(b, 0, "1") == E_NOTFOUND);
	check(kit_delete(b, 0, "1") == E_NOTFOUND);
	check(kit_rename(b, 0, "1", 0, "2", 0) == E_NOTFOUND);
	check(strcmp(kit_list(b, 0, "", 0, "", 0), "") == 0);
	check(kit_put(b, "1", "new", PUT_IF_ABSENT) == 0);
	check(kit_put(b, "from", "new", 0) == 0);
	check(kit_rename(b, 0, "from", 0, "2", PUT_IF_ABSENT) == 0);
	shard_audit(kit.sh);
	kit_sleep(2000);
	check(status().files == 2);
	kit_clock_jump(-7200000); /* back: a new file expires earlier than what was swept */
	check(kit_put_at(b, 0, "early", BYTES("1"), 0, 0, 1000) == 0);
	kit_sleep(2000);
	check(status().files == 2);
	check(kit_holds(b, "1", "new"));
}

static void run(void **state)
{
	kit_run(*state);
}

#define TEST(body)                                                                                 \
	{                                                                                          \
#body, run, NULL, NULL, body                                                       \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_retry_gets_the_first_answer),
		TEST(answers_outlive_a_restart),
		TEST(every_change_is_remembered),
		TEST(idle_clients_are_forgotten),
		TEST(a_session_is_one_principals),
		TEST(sessions_have_a_limit),
		TEST(a_file_is_consumed_once),
		TEST(a_durable_file_is_consumed_too),
		TEST(marks_end_with_their_file),
		TEST(a_mark_lapses_with_its_client),
		TEST(who_waits_is_woken),
		TEST(some_waits_end_otherwise),
		TEST(who_leads_no_more_changes_nothing),
		TEST(who_leads_next_finds_it_all),
		TEST(what_has_expired_is_gone),
		TEST(the_wall_clock_decides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
