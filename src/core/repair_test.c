/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever happens to servers, what was asked for is restored, and the last copy never leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/prng.h"
#include "core/repair.h"

enum { IN = ROOM_MEMBER_IN, FILLING = ROOM_MEMBER_FILLING, SERVERS = 6 };

static void expect(const struct repair_egroup *e, enum repair_what what, uint8_t member)
{
	struct repair_todo t = repair_step(e);

	assert_int_equal(t.what, what);
	if (what == REPAIR_FILLED || what == REPAIR_LEAVE)
		assert_int_equal(t.member, member);
}

static void a_lost_copy_is_made_anew(void **state)
{
	struct repair_egroup e = { .copies = 2, .servers = 3, .n_members = 2,
		.members = { { .state = IN }, { .state = IN } } };

	(void)state;
	expect(&e, REPAIR_REST, 0);
	assert_false(repair_lacks(&e));
	e.members[0].gone = true;
	assert_true(repair_lacks(&e));
	expect(&e, REPAIR_ADD, 0);
	e.members[e.n_members++] = (struct repair_member){ .state = FILLING };
	expect(&e, REPAIR_REST, 0); /* it is being filled */
	assert_true(repair_lacks(&e));
	e.members[2].whole = true;
	expect(&e, REPAIR_FILLED, 2);
	e.members[2].state = IN;
	expect(&e, REPAIR_LEAVE, 0);
	assert_false(repair_lacks(&e));
}

static void one_that_comes_back_calls_it_off(void **state)
{
	struct repair_egroup e = { .copies = 2, .servers = 3, .n_members = 3,
		.members = { { .state = IN }, { .state = IN }, { .state = FILLING } } };

	(void)state;
	expect(&e, REPAIR_LEAVE, 2);
	e.members[2].state = IN; /* it was ready already */
	expect(&e, REPAIR_LEAVE, 2);
	e.n_members = 2;
	expect(&e, REPAIR_REST, 0);
}

static void what_persists_gets_its_second_copy_with_the_second_server(void **state)
{
	struct repair_egroup e = { .copies = 2, .soft = true, .servers = 1, .n_members = 1,
		.members = { { .state = IN } } };

	(void)state;
	expect(&e, REPAIR_REST, 0);
	assert_false(repair_lacks(&e));
	e.servers = 2;
	assert_true(repair_lacks(&e));
	expect(&e, REPAIR_ADD, 0);
	e.n_members = 2; /* in; then the first one's server goes */
	e.members[0].gone = true;
	e.servers = 1;
	expect(&e, REPAIR_REST, 0); /* the copy that is gone may be back some day: it stays */
	assert_true(repair_lacks(&e));
}

static void nothing_can_be_made_of_nothing(void **state)
{
	struct repair_egroup e = { .copies = 3, .servers = 3, .n_members = 2,
		.members = { { .state = IN, .gone = true }, { .state = IN, .gone = true } } };

	(void)state;
	expect(&e, REPAIR_REST, 0);
	assert_true(repair_lacks(&e));
}

static void what_leaves_is_made_elsewhere_first(void **state)
{
	struct repair_egroup e = { .copies = 1, .servers = 2, .n_members = 1,
		.members = { { .state = IN, .leaving = true } } };

	(void)state;
	assert_true(repair_moves(&e));
	assert_false(repair_lacks(&e));
	expect(&e, REPAIR_ADD, 0);
	e.members[e.n_members++] = (struct repair_member){ .state = FILLING };
	expect(&e, REPAIR_REST, 0);
	e.members[1].whole = true;
	expect(&e, REPAIR_FILLED, 1);
	e.members[1].state = IN;
	e.members[0].needed = true; /* (R4) */
	expect(&e, REPAIR_REST, 0);
	e.members[0].needed = false;
	expect(&e, REPAIR_LEAVE, 0);
	e.members[0].leaving = false; /* it is not to leave any more: one is enough */
	expect(&e, REPAIR_LEAVE, 1);
	e.members[0].leaving = e.members[1].leaving = true; /* both are to */
	e.members[1].state = FILLING;
	expect(&e, REPAIR_LEAVE, 1);
}

static void fewer_do_when_servers_leave_only_where_that_was_asked(void **state)
{
	struct repair_egroup e = { .copies = 2, .soft = true, .servers = 1, .n_members = 2,
		.members = { { .state = IN }, { .state = IN, .leaving = true } } };

	(void)state;
	expect(&e, REPAIR_LEAVE, 1);
	e.soft = false;
	expect(&e, REPAIR_ADD, 0); /* and there it stays while nobody can take it */
	e.members[0].gone = true;  /* nor is the other one the last any more */
	e.soft = true;
	expect(&e, REPAIR_ADD, 0);
}

/* A world of servers that go and come; walks end whole or not. */
struct world {
	struct prng p;
	bool gone[SERVERS], drain[SERVERS];
	uint32_t on[ROOM_MEMBERS_MAX]; /* server of each member */
	struct repair_egroup e;
};

static void look(struct world *w)
{
	w->e.servers = 0;
	for (uint32_t s = 0; s < SERVERS; s++)
		w->e.servers += !w->gone[s] && !w->drain[s];
	for (uint8_t i = 0; i < w->e.n_members; i++) {
		w->e.members[i].gone = w->gone[w->on[i]];
		w->e.members[i].leaving = w->drain[w->on[i]];
	}
}

static void leave(struct world *w, uint8_t i)
{
	struct repair_egroup without = w->e;
	uint32_t least = w->e.copies;

	without.members[i].gone = true;
	if (w->drain[w->on[i]] && !w->gone[w->on[i]] && w->e.soft && w->e.servers < least)
		least = w->e.servers > 0 ? w->e.servers : 1; /* (R4) */
	if (w->e.members[i].state == IN) /* (R1) */
		assert_true(repair_sound(&without) >= least);
	w->e.n_members--;
	for (; i < w->e.n_members; i++) {
		w->e.members[i] = w->e.members[i + 1];
		w->on[i] = w->on[i + 1];
	}
}

static bool add(struct world *w)
{
	for (uint32_t s = 0; s < SERVERS; s++) {
		bool used = w->gone[s] || w->drain[s];

		for (uint8_t i = 0; i < w->e.n_members; i++)
			used |= w->on[i] == s;
		if (used)
			continue;
		w->on[w->e.n_members] = s;
		w->e.members[w->e.n_members++] = (struct repair_member){ .state = FILLING };
		return true;
	}
	return false;
}

static bool step(struct world *w)
{
	struct repair_todo t;

	look(w);
	t = repair_step(&w->e);
	if (t.what == REPAIR_ADD)
		return add(w);
	if (t.what == REPAIR_FILLED) {
		assert_true(w->e.members[t.member].whole);
		w->e.members[t.member].state = IN;
	}
	if (t.what == REPAIR_LEAVE)
		leave(w, t.member);
	return t.what != REPAIR_REST;
}

static void it_always_comes_to_rest_with_all_that_can_be_had(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 500; seed++) {
		struct world w = { .p = prng_fork(seed, 1) };

		w.e = (struct repair_egroup){ .copies = (uint8_t)(1 + prng_below(&w.p, 4)),
			.soft = prng_odds(&w.p, 1, 2), .n_members = 1,
			.members = { { .state = IN } } };
		for (int i = 0; i < 200; i++) {
			uint32_t s = (uint32_t)prng_below(&w.p, SERVERS);

			if (prng_odds(&w.p, 1, 6))
				w.gone[s] = !w.gone[s];
			s = (uint32_t)prng_below(&w.p, SERVERS);
			if (prng_odds(&w.p, 1, 12))
				w.drain[s] = !w.drain[s];
			for (uint8_t k = 0; k < w.e.n_members; k++)
				w.e.members[k].whole = prng_odds(&w.p, 1, 3);
			(void)step(&w);
		}
		for (uint32_t s = 0; s < SERVERS; s++)
			w.gone[s] = w.drain[s] = false;
		w.drain[prng_below(&w.p, SERVERS)] = true;
		for (int i = 0; i < 40; i++) {
			for (uint8_t k = 0; k < w.e.n_members; k++)
				w.e.members[k].whole = true;
			(void)step(&w);
		}
		assert_false(step(&w));
		assert_int_equal(w.e.n_members, w.e.copies);
		assert_int_equal(repair_sound(&w.e), w.e.copies);
		assert_false(repair_lacks(&w.e));
		assert_false(repair_moves(&w.e));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lost_copy_is_made_anew),
		cmocka_unit_test(one_that_comes_back_calls_it_off),
		cmocka_unit_test(what_persists_gets_its_second_copy_with_the_second_server),
		cmocka_unit_test(nothing_can_be_made_of_nothing),
		cmocka_unit_test(what_leaves_is_made_elsewhere_first),
		cmocka_unit_test(fewer_do_when_servers_leave_only_where_that_was_asked),
		cmocka_unit_test(it_always_comes_to_rest_with_all_that_can_be_had),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
