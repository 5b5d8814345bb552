/* SPDX-License-Identifier: Apache-2.0 */
/* Each operation on files fails, by kind: the first, the second, and so on until there is none
 * left, once or from then on, while a db is made, written to, merged, copied and closed, and while
 * it is opened again.  What was said to be written or synced is there afterwards; the db has told
 * that it failed, or it has gone on as if nothing had been. */
#include "base/check.h"
#include "meta/db_kit.h"
#include "sys/sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
	DISK_BYTES = 32 << 20,
	TURNS = 28,
	STEPS = 24,
	LATER_TURNS = 8,
	NTH_MAX = 2000,
	DISK_OPS_MAX = 2000
};

/* full: a full disk can end it.  So many at least are met in the two lives of a db: fewer would
 * mean that the loop does not look where it did. */
struct kind {
	const char *verb;
	bool full;
	uint64_t least;
};
static const struct kind kinds[] = {
	{ "open", false, 10 },
	{ "create", true, 16 },
	{ "read", false, 10 },
	{ "write", true, 80 },
	{ "sync", true, 60 },
	{ "allocate", true, 9 },
	{ "stat", false, 7 },
	{ "mkdir", true, 4 },
	{ "unlink", false, 5 },
	{ "rename", true, 9 },
	{ "list", false, 6 },
	{ "statfs", false, 2 },
	/* not done: whoever begins to gives them a number */
	{ "truncate", false, 0 },
	{ "punch", false, 0 },
};

struct life {
	struct kit k;
	struct sim_node *node;
	const struct kind *kind;
	uint64_t nth;
	int fault;
	bool for_good, power, last;
	uint64_t index_min;
	unsigned n_lives, n_merges, n_copies;
};

/* What a failure was about. */
static char chosen[256];
static void hear(void *arg, uint64_t now_ns, const char *node, const char *text)
{
	if (strstr(text, "the chosen one") != NULL)
		snprintf(chosen, sizeof chosen, "%s", text);
}

static void must(const struct life *f, bool holds, const char *what)
{
	if (!holds)
		fprintf(stderr, "%s %llu, %s%s%s, life %u: %s: %s\n", f->kind->verb,
			(unsigned long long)f->nth, err_name(f->fault),
			f->for_good ? " for good" : "", f->power ? ", power" : "", f->n_lives,
			chosen, what);
	check(holds);
}

static struct db_opts opts(struct life *f)
{
	struct db_opts o = kit_opts(&f->k, "/db");

	o.memtable_bytes_max = 24 << 10;
	o.merge_every_ns = 500 * SYS_MS;
	o.log_segment_bytes = 32 << 10;
	o.log_keep_bytes = 48 << 10;
	return o;
}

static void see_old(void *arg, const char *name)
{
	struct life *f = arg;

	f->n_copies += strncmp(name, "old.", 4) == 0;
}

/* Writes, deletes single rows and ranges, wants some of it synced. */
static PARKS void write_some(struct sys *s, struct life *f, struct db *db, int turns)
{
	for (int i = 0; i < turns && f->k.failed == 0; i++) {
		for (int j = 0; j < STEPS && !db_pressed(db); j++)
			kit_step(&f->k, db);
		if (i % 3 == 0)
			db_want_sync(db);
		must(f, fiber_sleep(sys_after(s, 3 * SYS_MS)) == 0, "sleep");
	}
}

static bool told(const struct life *f, int rc, const struct err_note *note)
{
	return rc == f->fault && note->text[0] != '\0';
}

/* What must be found next time. */
static void ended(struct life *f)
{
	uint64_t index = f->power ? f->k.synced : f->k.written;

	if (index > f->index_min)
		f->index_min = index;
}

static PARKS void use(struct sys *s, struct life *f, struct db *db)
{
	struct err_note note = { "" };
	struct db_status st;
	uint64_t seen;
	int rc;

	kit_found(&f->k, db, f->index_min);
	f->index_min = db_seen(db); /* opening has synced what it found */
	write_some(s, f, db, f->n_lives == 1 ? TURNS : LATER_TURNS);
	if (f->last) { /* nothing fails any more: whatever was given up is made again */
		must(f, fiber_sleep(sys_after(s, 5 * SYS_SEC)) == 0, "sleep");
		must(f, db_room(db) == 0, "no room");
	}
	kit_verify(&f->k, db);
	db_status(db, &st);
	f->n_merges += (unsigned)st.merges;
	must(f, f->k.failed == 0 || told(f, f->k.failed, &f->k.note), "failed with another error");
	must(f,
		f->k.failed != E_FULL || strstr(chosen, ": sync") != NULL ||
			strstr(chosen, "/mark") != NULL,
		"failed when full");
	seen = db_seen(db);
	rc = db_close(db, &note);
	must(f, rc == 0 || f->for_good || told(f, rc, &note), "closed with another error");
	must(f, rc == 0 || note.text[0] != '\0', "closed without a word");
	must(f, rc <= 0 && (rc == 0 || f->fault != 0), "not closed");
	ended(f);
	if (rc == 0 && f->index_min < seen)
		f->index_min = seen;
}

static int life_main(struct sys *s, void *arg)
{
	struct err_note note = { "" };
	struct life *f = arg;
	struct db_opts o = opts(f);
	struct group g;
	struct db *db;
	int rc;

	f->n_lives++;
	group_init(&g, sys_loop(s));
	f->k.failed = 0;
	f->k.found = false;
	f->k.written = f->k.synced = 0;
	rc = db_open(s, &g, &o, &db, &note);
	must(f, rc == 0 || told(f, rc, &note), "opened with another error");
	if (rc == 0)
		use(s, f, db);
	must(f, rc == 0 || !f->last, "does not open");
	if (f->fault == 0)
		must(f, sys_list_dir(s, "/db", see_old, f, &note) == 0, "list");
	return 0;
}

static void live(struct sim *w, struct life *f)
{
	sim_node_start(f->node, life_main, f);
	sim_run(w, sim_now_ns(w) + 300 * SYS_SEC);
	must(f, !sim_node_up(f->node), "hangs");
	must(f, sim_node_result(f->node) == 0, "result");
	if (f->power)
		sim_node_crash(f->node);
}

/* False when there are not so many operations. */
static bool fails_at(struct life *f)
{
	struct sim *w = sim_new(3, &sim_no_faults);
	bool met;

	chosen[0] = '\0';
	sim_trace(w, hear, NULL);
	f->node = sim_node_add(w, "a", DISK_BYTES);
	f->index_min = 0;
	f->n_lives = f->n_merges = f->n_copies = 0;
	f->last = false;
	kit_init(&f->k, 5);
	sim_fail_nth_of(f->node, f->kind->verb, f->nth, f->fault, f->for_good);
	live(w, f);
	live(w, f);
	met = !sim_fails_nth(f->node);
	sim_fail_nth(f->node, 0, 0);
	f->last = true;
	live(w, f);
	must(f, sim_counts(w).disk_ops < DISK_OPS_MAX, "tries again without end");
	sim_free(w);
	kit_fini(&f->k);
	return met;
}

static void until_none_is_left(const struct kind *kind, int fault, bool for_good, bool power)
{
	struct life *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->kind = kind;
	f->fault = fault;
	f->for_good = for_good;
	f->power = power;
	for (f->nth = 1; fails_at(f); f->nth++)
		check(f->nth < NTH_MAX);
	if (!for_good && !power)
		print_message("%s, %s: %llu\n", kind->verb, err_name(fault),
			(unsigned long long)f->nth - 1);
	if (f->nth - 1 < kind->least || (kind->least == 0 && f->nth > 1))
		fail_msg("%s: %llu, not %llu", kind->verb, (unsigned long long)f->nth - 1,
			(unsigned long long)kind->least);
	free(f);
}

static void each_of(int fault)
{
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		for (unsigned how = 0; how < 4 && (fault != E_FULL || kinds[i].full); how++)
			until_none_is_left(&kinds[i], fault, how & 1, how & 2);
}

static void each_operation_fails(void **state)
{
	each_of(E_IO);
}

static void the_disk_is_full_at_each(void **state)
{
	each_of(E_FULL);
}

/* Without a fault it does all that is to be interrupted. */
static void the_work_is_all_of_it(void **state)
{
	struct life *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->kind = &kinds[0];
	(void)fails_at(f);
	assert_true(f->n_merges > 5);
	assert_true(f->n_copies > 0);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_work_is_all_of_it),
		cmocka_unit_test(each_operation_fails),
		cmocka_unit_test(the_disk_is_full_at_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
