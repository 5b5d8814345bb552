/* SPDX-License-Identifier: Apache-2.0 */
/* What is linearizable is called so, each kind of violation is found, and on small histories the
 * search agrees with one that tries everything. */
#include "sim/linear.h"
#include "base/check.h"
#include "base/prng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The worst verdict over all keys; -1: it cannot be read. */
static int verdict(const char *text)
{
	struct linear *l = linear_new();
	FILE *from = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	char why[400] = "";
	int worst = -1;

	assert_non_null(from);
	if (linear_read(l, from, why, sizeof why))
		worst = LINEAR_OK;
	for (uint32_t i = 0; worst >= 0 && i < linear_keys(l); i++) {
		int v = (int)linear_check(l, i, why, sizeof why);

		if (v > worst)
			worst = v;
	}
	if (worst > 0)
		print_message("%s\n", why);
	fclose(from);
	linear_free(l);
	return worst;
}

struct story {
	const char *what;
	int verdict;
	const char *text;
};
static const struct story stories[] = {
	{ "one after another", LINEAR_OK,
		"1 2 put k 1\n3 4 get k 1\n5 6 delete k\n7 8 get k absent\n9 10 stat k absent\n" },
	{ "at the same time: either is first", LINEAR_OK,
		"1 9 put k 1\n1 9 put k 2\n2 3 get k 1\n4 5 get k 2\n" },
	{ "a value comes back that had gone", LINEAR_BROKEN,
		"1 9 put k 1\n1 9 put k 2\n2 3 get k 1\n4 5 get k 2\n6 7 get k 1\n" },
	{ "stale read", LINEAR_BROKEN, "1 2 put k 1\n3 4 put k 2\n5 6 get k 1\n" },
	{ "a read of what is not yet put", LINEAR_BROKEN, "1 2 get k 1\n3 4 put k 1\n" },
	{ "lost write", LINEAR_BROKEN, "1 2 put k 1\n3 4 get k absent\n" },
	{ "lost update", LINEAR_BROKEN,
		"1 2 put k 1 version=11\n3 5 put k 2 if-version=11 version=12\n"
		"4 6 put k 3 if-version=11 version=13\n" },
	{ "one update wins", LINEAR_OK,
		"1 2 put k 1 version=11\n3 5 put k 2 if-version=11 version=12\n"
		"4 6 put k 3 if-version=11 refused\n7 8 get k 2 version=12\n" },
	{ "a condition that held is refused", LINEAR_BROKEN,
		"1 2 put k 1 version=11\n3 5 put k 2 if-version=11 refused\n" },
	{ "two create it", LINEAR_BROKEN, "1 3 put k 1 if-absent\n2 4 put k 2 if-absent\n" },
	{ "nothing is there, and creation is refused", LINEAR_BROKEN,
		"1 2 put k 1\n3 4 delete k\n5 6 put k 2 if-absent refused\n" },
	{ "resurrected", LINEAR_BROKEN, "1 2 put k 1\n3 4 delete k\n5 6 get k 1\n" },
	{ "resurrected, says a stat", LINEAR_BROKEN, "1 2 put k 1\n3 4 delete k\n5 6 stat k\n" },
	{ "consumed twice", LINEAR_BROKEN, "1 2 put k 1\n3 5 take k 1\n4 6 take k 1\n" },
	{ "consumed once", LINEAR_OK, "1 2 put k 1\n3 5 take k 1\n4 6 take k absent\n" },
	{ "consumed, and still there", LINEAR_BROKEN, "1 2 put k 1\n3 4 take k 1\n5 6 get k 1\n" },
	{ "a retry done twice", LINEAR_BROKEN,
		"1 8 put k 1\n2 3 get k 1\n4 5 put k 2\n6 7 get k 2\n9 10 get k 1\n" },
	{ "a retry done twice, at once", LINEAR_BROKEN,
		"1 8 put k 1 version=5\n9 10 get k 1 version=6\n" },
	{ "a deletion done twice", LINEAR_BROKEN,
		"1 6 delete k\n2 3 put k 2\n0 1 put k 1\n4 5 get k absent\n7 8 put k 3\n"
		"9 10 get k absent\n" },
	{ "not answered, and done later", LINEAR_OK,
		"1 - put k 1\n2 3 get k absent\n4 5 get k 1\n" },
	{ "not answered, and never done", LINEAR_OK, "1 - put k 1\n2 3 get k absent\n" },
	{ "not answered, and done twice", LINEAR_BROKEN,
		"1 - put k 1\n2 3 get k 1\n4 5 put k 2\n6 7 get k 2\n8 9 get k 1\n" },
	{ "an unknown deletion happens once", LINEAR_BROKEN,
		"0 1 put k 1\n2 - delete k\n3 4 get k absent\n5 6 put k 2\n7 8 get k absent\n" },
	{ "what was refused was done", LINEAR_BROKEN,
		"1 2 put k 1\n3 4 put k 2 if-absent refused\n5 6 get k 2\n" },
	{ "a power cut takes back", LINEAR_OK,
		"1 2 put k 1 durable\n3 4 put k 2\n5 5 cut\n6 7 get k 1\n" },
	{ "a power cut takes back a deletion", LINEAR_OK,
		"1 2 put k 1 durable\n3 4 delete k\n5 5 cut\n6 7 get k 1\n" },
	{ "a power cut leaves what was durable", LINEAR_BROKEN,
		"1 2 put k 1 durable\n3 4 put k 2\n5 5 cut\n6 7 get k absent\n" },
	{ "and what was before it is gone for good", LINEAR_BROKEN,
		"1 2 put k 1\n3 4 put k 2 durable\n5 5 cut\n6 7 get k 1\n" },
	{ "what it took back stays away", LINEAR_BROKEN,
		"1 2 put k 1 durable\n3 4 put k 2\n5 5 cut\n6 7 get k 1\n8 9 get k 2\n" },
	{ "but for what was not answered", LINEAR_OK,
		"1 2 put k 1 durable\n3 9 put k 2\n4 5 get k 2\n6 6 cut\n7 8 get k 1\n"
		"10 11 get k 2\n" },
	{ "which happens once more at most", LINEAR_BROKEN,
		"1 2 put k 1 durable\n3 - put k 2\n4 5 get k 2\n6 6 cut\n7 8 get k 1\n"
		"9 10 get k 2\n11 12 put k 3\n13 14 get k 2\n" },
	{ "before it is answered", LINEAR_BROKEN,
		"1 2 put k 1 durable\n3 7 put k 2\n4 5 get k 2\n6 6 cut\n8 9 get k 1\n"
		"10 11 get k 2\n" },
	{ "or is refused then", LINEAR_OK,
		"1 2 put k 1 durable version=1\n3 12 put k 2 if-version=1 refused\n4 5 get k 2\n"
		"6 6 cut\n7 11 put k 3 if-version=1 version=3\n8 9 get k 1\n13 14 get k 3\n" },
	{ "if it was taken back", LINEAR_BROKEN,
		"1 2 put k 1 durable\n3 12 put k 2 if-absent refused\n4 5 delete k\n6 7 get k 2\n"
		"8 8 cut\n9 10 get k 2\n" },
	{ "with a second cut, either", LINEAR_OK,
		"1 2 put k 1 durable\n3 4 put k 2\n5 5 cut\n6 7 get k 2\n8 8 cut\n9 10 get k 1\n" },
	{ "lost bytes of what was not durable", LINEAR_OK, "1 2 put k 1\n4 5 lost k 3\n" },
	{ "lost bytes of what was durable", LINEAR_BROKEN, "1 2 put k 1 durable\n4 5 lost k 3\n" },
	{ "lost bytes of the process that there is", LINEAR_BROKEN, "3 4 put k 1\n5 6 lost k 2\n" },
	{ "listed as it is", LINEAR_OK,
		"1 2 put a/1 1\n3 9 put a/2 2\n4 5 delete a/1\n6 7 list a/ a/2\n8 9 list b/\n" },
	{ "an entry is not listed", LINEAR_BROKEN,
		"1 2 put a/1 1\n3 4 put a/2 2\n5 6 list a/ a/2\n" },
	{ "an entry that was deleted is listed", LINEAR_BROKEN,
		"1 2 put a/1 1\n3 4 delete a/1\n5 6 list a/ a/1\n" },
	{ "an entry comes while it is listed", LINEAR_OK,
		"1 2 list a/\n3 6 put a/1 1\n4 5 list a/\n4 5 list a/ a/1\n" },
	{ "a rename", LINEAR_OK,
		"1 2 put a 1\n3 4 delete a  # to b\n3 4 put b ?\n5 6 get b 1\n7 8 get a absent\n" },
	{ "a rename that left it there", LINEAR_BROKEN,
		"1 2 put a 1\n3 4 delete a\n3 4 put b ?\n5 6 get a 1\n" },
	{ "no operation", -1, "1 2 jump k\n" },
	{ "no end", -1, "1 2 put k\n" },
	{ "it ends before it begins", -1, "2 1 put k 1\n" },
	{ "nothing", LINEAR_OK, "# nothing\n\n" },
};

static void stories_are_told_apart(void **unused)
{
	for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
		int got = verdict(stories[i].text);

		if (got != stories[i].verdict)
			fail_msg("%s: %d", stories[i].what, got);
	}
}

static void too_hard_is_said(void **unused)
{
	struct linear *l = linear_new();
	struct linear_op op = { .kind = LINEAR_PUT,
		.outcome = LINEAR_UNKNOWN,
		.end = LINEAR_NEVER };
	char why[400];

	op.key = linear_key(l, "k");
	for (op.value = 1; op.value <= 40; op.value++)
		linear_add(l, &op);
	op = (struct linear_op){ .kind = LINEAR_GET, .begin = 3, .end = 4, .value = 99 };
	linear_add(l, &op);
	assert_int_equal(linear_check(l, 0, why, sizeof why), LINEAR_TOO_HARD);
	assert_non_null(strstr(why, "too hard"));
	linear_free(l);
	l = linear_new();
	op.key = linear_key(l, "k");
	for (int i = 0; i <= LINEAR_KEY_OPS_MAX; i++)
		linear_add(l, &op);
	assert_int_equal(linear_check(l, 0, why, sizeof why), LINEAR_TOO_HARD);
	linear_free(l);
}

static void what_is_written_can_be_read(void **unused)
{
	static const char text[] =
		"1 2 put k 1 durable if-absent version=7 ok\n2 - put k 2 if-version=7 unknown\n"
		"3 4 get k 1 version=7 ok\n5 5 cut\n6 7 stat k absent\n8 9 put k ? ok\n";
	struct linear *l = linear_new();
	FILE *from = fmemopen((void *)(uintptr_t)text, sizeof text - 1, "r");
	char got[400] = "", why[200];
	FILE *to = fmemopen(got, sizeof got, "w");

	assert_true(linear_read(l, from, why, sizeof why));
	linear_write(l, 0, to);
	fclose(to);
	fclose(from);
	assert_string_equal(got, text);
	linear_free(l);
}

/* ---- against everything ---- */
enum { OPS = 7, RUNS = 60000 };
struct past {
	uint64_t value;
	int op;
	bool sure, denied;
};
struct world {
	const struct linear_op *ops;
	int n;
	bool done[OPS], again[OPS];
	struct past past[2 * OPS + 1];
	int n_past;
};

static bool all_done(const struct world *w)
{
	for (int i = 0; i < w->n; i++)
		if (!w->done[i] && !w->again[i] && w->ops[i].outcome != LINEAR_UNKNOWN)
			return false;
	return true;
}

static bool may_be_next(const struct world *w, int i)
{
	for (int j = 0; j < w->n; j++)
		if (!w->done[j] && !w->again[j] && w->ops[j].outcome != LINEAR_UNKNOWN &&
			w->ops[j].end < w->ops[i].begin)
			return false;
	for (int j = 0; j < w->n; j++)
		if (w->done[j] && w->ops[i].end < w->ops[j].begin)
			return false;
	return !w->done[i];
}

/* 0: does not fit; 1: changes nothing; 2: leaves *ret. */
static int effect(const struct linear_op *op, uint64_t now, uint64_t *ret)
{
	bool known = op->outcome != LINEAR_UNKNOWN;

	*ret = op->kind == LINEAR_PUT ? op->value : 0;
	switch (op->kind) {
	case LINEAR_PUT:
		if (op->cond == LINEAR_IF_ABSENT && known)
			return (now == 0) == (op->outcome == LINEAR_DONE) ?
				(now == 0 ? 2 : 1) : 0;
		return op->cond == LINEAR_IF_ABSENT && now != 0 ? 0 : 2;
	case LINEAR_DELETE:
		return known ? ((now != 0) == (op->outcome == LINEAR_DONE) ?
			(now != 0 ? 2 : 1) : 0) : now != 0 ? 2 : 0;
	case LINEAR_GET:
		return op->outcome == LINEAR_DONE ? now == op->value : now == 0;
	default:
		return 0;
	}
}

static bool denied(const struct linear_op *op)
{
	return op->outcome == LINEAR_REFUSED ||
		(op->outcome == LINEAR_ABSENT && op->kind == LINEAR_DELETE);
}

static bool denied_left(const struct world *w)
{
	for (int i = 0; i < w->n_past; i++)
		if (w->past[i].denied)
			return true;
	return false;
}

static bool cut_ahead(const struct world *w, const struct linear_op *op)
{
	for (int i = 0; i < w->n; i++)
		if (w->ops[i].kind == LINEAR_CUT && !w->done[i] && op->end >= w->ops[i].begin)
			return true;
	return false;
}

static bool try_all(struct world w)
{
	if (all_done(&w))
		return true;
	for (int i = 0; i < w.n; i++) {
		const struct linear_op *op = &w.ops[i];
		struct world next = w;
		uint64_t value;
		int what;

		if (!may_be_next(&w, i))
			continue;
		next.done[i] = true;
		if (op->kind == LINEAR_CUT) {
			for (;;) {
				struct past *last = &next.past[next.n_past - 1];

				if (!denied_left(&next) && try_all(next))
					return true;
				if (next.n_past == 1 || last->sure)
					break;
				next.n_past--;
				if (w.ops[last->op].end >= op->begin) {
					next.done[last->op] = false;
					next.again[last->op] = !last->denied;
				}
			}
			continue;
		}
		if (denied(op) && cut_ahead(&w, op)) {
			struct linear_op then = *op;
			struct world other = next;

			then.outcome = LINEAR_UNKNOWN;
			if (effect(&then, w.past[w.n_past - 1].value, &value) == 2) {
				other.past[other.n_past++] =
					(struct past){ value, i, false, true };
				if (try_all(other))
					return true;
			}
		}
		what = effect(op, w.past[w.n_past - 1].value, &value);
		if (what == 0)
			continue;
		if (what == 2) {
			bool sure = op->durable && op->outcome == LINEAR_DONE &&
				!cut_ahead(&w, op);

			next.past[next.n_past++] = (struct past){ value, i, sure, false };
		}
		if (try_all(next))
			return true;
	}
	return false;
}

static struct linear_op any_op(struct prng *p, uint32_t i)
{
	struct linear_op op = { 0 };
	uint64_t what = prng_below(p, 10), how;

	op.begin = 1 + 2 * prng_below(p, 12);
	op.end = op.begin + 1 + 2 * prng_below(p, 5);
	how = prng_below(p, 8);
	op.outcome = how == 0 ? LINEAR_UNKNOWN : LINEAR_DONE;
	op.durable = prng_odds(p, 1, 3);
	if (what < 4) {
		op.kind = LINEAR_PUT;
		op.value = 1 + i;
		op.cond = how > 4 ? LINEAR_IF_ABSENT : LINEAR_ALWAYS;
		if (how == 7)
			op.outcome = LINEAR_REFUSED;
	} else if (what < 5) {
		op.kind = LINEAR_DELETE;
		if (how == 7)
			op.outcome = LINEAR_ABSENT;
	} else if (what < 9) {
		op.kind = LINEAR_GET;
		op.value = prng_below(p, OPS + 1);
		op.outcome = op.value == 0 ? LINEAR_ABSENT : LINEAR_DONE;
	} else {
		op.kind = LINEAR_CUT;
		op.outcome = LINEAR_DONE;
		op.begin = op.end = 2 + 2 * prng_below(p, 12);
	}
	if (op.outcome == LINEAR_UNKNOWN)
		op.end = LINEAR_NEVER;
	return op;
}

static void small_histories_agree_with_trying_everything(void **unused)
{
	struct prng p = prng_fork(1, 0);
	int n[2] = { 0 };

	for (int run = 0; run < RUNS; run++) {
		struct linear *l = linear_new();
		struct linear_op ops[OPS];
		struct world w = { .ops = ops, .n = 2 + (int)prng_below(&p, OPS - 1), .n_past = 1 };
		char why[400];
		bool good;

		linear_key(l, "k");
		w.past[0] = (struct past){ 0, 0, true, false };
		for (int i = 0; i < w.n; i++) {
			ops[i] = any_op(&p, (uint32_t)i);
			if (i > 1 && ops[i].kind == LINEAR_GET && ops[i].value > 0)
				ops[i].value = 1 + ops[i].value % (uint64_t)i;
			linear_add(l, &ops[i]);
		}
		good = try_all(w);
		n[good]++;
		if ((linear_check(l, 0, why, sizeof why) == LINEAR_OK) != good) {
			linear_write(l, 0, stderr);
			fail_msg("run %d: %s, but: %s", run, good ? "linearizable" : "not", why);
		}
		linear_free(l);
	}
	print_message("%d linearizable, %d not\n", n[1], n[0]);
	assert_true(n[0] > RUNS / 10);
	assert_true(n[1] > RUNS / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stories_are_told_apart),
		cmocka_unit_test(too_hard_is_said),
		cmocka_unit_test(what_is_written_can_be_read),
		cmocka_unit_test(small_histories_agree_with_trying_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
