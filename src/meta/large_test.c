/* SPDX-License-Identifier: Apache-2.0 */
/* Extents are named once, found again, dropped before their room is free, and nothing is forgotten
 * by a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/prng.h"
#include "meta/large_kit_test.h"
#include <stdlib.h>
#include <string.h>

static uint64_t incarnation; /* of the only server */

static void register_server(struct house *h)
{
	house_join(h, 0, incarnation, "", TIER_BIT(TIER_DRAM) | TIER_BIT(TIER_FLASH));
}

static void begin(struct house *h)
{
	const struct msg_bucket_create m = {
		.lifetime = LIFETIME_JOB, .job = 5, .name = BYTES("b")
	};

	incarnation = 1;
	house_open(h);
	register_server(h);
	assert_int_equal(house_bucket(h, &m), 0);
}

static struct sub_grant_part grant(struct house *h, uint64_t bytes)
{
	struct msg_grant m = { .bucket = h->bucket, .bytes = bytes };
	struct sub_grant_part p;
	struct msg_grant_ok ok;

	if (house_grant(h, &m, &ok) < 0)
		fail_msg("%s", h->c.note.text);
	assert_true(sub_grant_part_next(&ok.parts, &p));
	assert_int_equal(ok.servers.n, 1);
	assert_true(p.credit_bytes >= bytes);
	p.cap = bytes_of(NULL, 0);
	return p;
}

static uint64_t acknowledge(struct house *h) { return house_drops(h, h->servers[0]); }

static struct sub_extent_ref ref(const struct sub_grant_part *p, unsigned i, uint64_t len)
{
	return (struct sub_extent_ref){ .egroup = p->egroup,
		.extent = p->extent_first + i,
		.offset = i * (uint64_t)MIB,
		.len = len,
		.root = 77 + i };
}

static void restart(struct house *h)
{
	house_close(h);
	house_open(h);
	register_server(h);
}

static int life_of_a_file(struct house *h)
{
	struct sub_extent_place place;
	struct sub_extent_ref e[3];
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct msg_get_ok g;

	begin(h);
	p = grant(h, 3 * MIB);
	e[0] = ref(&p, 0, MIB);
	e[1] = ref(&p, 1, MIB + 5);
	e[2] = ref(&p, 2, 100);
	assert_int_equal(house_commit(h, "f", e, 2, 0, 0, &ok), 0);
	assert_int_equal(house_commit(h, "g", e, 1, 0, 0, &ok), E_DENIED); /* named before */
	h->c.session = h->other;
	assert_int_equal(house_commit(h, "g", e + 2, 1, 0, 0, &ok), E_DENIED); /* another's */
	h->c.session = h->s;
	restart(h);
	assert_int_equal(house_commit(h, "g", e, 1, 0, 0, &ok), E_DENIED); /* still */
	assert_int_equal(house_get(h, "f", 0, &g), 0);
	assert_int_equal(g.size, 2 * MIB + 5);
	assert_int_equal(g.places.n, 2);
	assert_int_equal(g.cap.len, CAP_BYTES);
	assert_true(sub_extent_place_next(&g.places, &place) &&
		    sub_extent_place_next(&g.places, &place));
	assert_int_equal(place.file_offset, MIB);
	assert_int_equal(place.root, 78);
	assert_int_equal(place.lost, 0);
	assert_int_equal(house_get(h, "f", MIB + 1, &g), 0); /* from within the second */
	assert_int_equal(g.places.n, 1);
	assert_int_equal(house_sum(h).used, 2 * MIB + 5);
	assert_int_equal(house_del(h, "f"), 0);
	assert_false(large_settled(h->sh, large_ticket(h->sh)));
	assert_int_equal(house_sum(h).used, 0);
	assert_true(house_sum(h).orphaned >= 2 * MIB + 5);
	restart(h); /* the drops are still to be done */
	assert_true(house_sum(h).orphaned >= 2 * MIB + 5);
	assert_int_equal(acknowledge(h), 2);
	assert_true(large_settled(h->sh, large_ticket(h->sh)));
	assert_int_equal(house_sum(h).orphaned, 0);
	house_close(h);
	return 0;
}

static int end_of_a_domain(struct house *h)
{
	struct msg_bucket_drop drop;
	struct sub_extent_ref e;
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct shard_status st;

	begin(h);
	for (int i = 0; i < 20; i++) {
		char name[16];

		p = grant(h, MIB);
		e = ref(&p, 0, MIB / 2);
		snprintf(name, sizeof name, "f%d", i);
		assert_int_equal(house_commit(h, name, &e, 1, 0, 0, &ok), 0);
	}
	drop.bucket = h->bucket;
	assert_int_equal(shard_bucket_drop(h->sh, &h->c, &drop), 0);
	large_domain_drop(h->sh, &h->c, 5);
	assert_false(large_settled(h->sh, h->c.ticket));
	restart(h); /* in the middle of it */
	for (int i = 0; i < 200; i++) {
		shard_status(h->sh, &st);
		if (st.dropping == 0)
			break;
		fiber_sleep(sys_after(h->sys, 10 * SYS_MS));
	}
	assert_int_equal(st.dropping, 0);
	acknowledge(h);
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	house_close(h);
	return 0;
}

static int lost_with_its_server(struct house *h)
{
	struct sub_extent_place place;
	struct sub_extent_ref e;
	struct sub_grant_part p;
	struct msg_put_ok ok;
	struct msg_get_ok g;

	begin(h);
	p = grant(h, 2 * MIB);
	e = ref(&p, 0, MIB);
	assert_int_equal(p.tier, TIER_DRAM);
	assert_int_equal(house_commit(h, "f", &e, 1, 0, 0, &ok), 0);
	incarnation++;
	register_server(h);
	assert_int_equal(house_get(h, "f", 0, &g), 0);
	assert_true(sub_extent_place_next(&g.places, &place));
	assert_int_equal(place.lost, 1);
	e = ref(&p, 1, MIB);
	assert_int_equal(house_commit(h, "g", &e, 1, 0, 0, &ok), E_LOST); /* its grant died too */
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	restart(h);
	assert_int_equal(house_del(h, "f"), 0);
	assert_true(large_settled(h->sh, large_ticket(h->sh))); /* nobody to ask */
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	(void)grant(h, MIB); /* that nobody has used when its server dies */
	incarnation++;
	register_server(h);
	restart(h);
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	house_close(h);
	return 0;
}

/* Drops that a server never heard of, in memory that it has lost meanwhile. */
static int lost_before_it_was_dropped(struct house *h)
{
	struct sub_extent_ref e[2];
	struct sub_grant_part p;
	struct large_drop taken;
	struct msg_put_ok ok;

	begin(h);
	p = grant(h, 2 * MIB);
	e[0] = ref(&p, 0, MIB);
	e[1] = ref(&p, 1, MIB);
	assert_int_equal(house_commit(h, "f", &e[0], 1, 0, 0, &ok), 0);
	assert_int_equal(house_commit(h, "g", &e[1], 1, 0, 0, &ok), 0);
	assert_int_equal(house_del(h, "f"), 0);
	assert_int_equal(house_del(h, "g"), 0);
	assert_int_equal(large_drops_take(h->sh, h->servers[0], &taken, 1), 1);
	incarnation++;
	register_server(h);
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	restart(h);
	acknowledge(h);
	assert_true(large_settled(h->sh, large_ticket(h->sh)));
	assert_int_equal(house_sum(h).free, house_sum(h).capacity);
	house_close(h);
	return 0;
}

static int in_several_messages(struct house *h)
{
	struct sub_extent_ref e[4];
	struct sub_grant_part p;
	struct msg_put_ok first, ok;
	struct msg_get_ok g;

	begin(h);
	p = grant(h, 8 * MIB);
	for (unsigned i = 0; i < 4; i++)
		e[i] = ref(&p, i, MIB);
	assert_int_equal(house_commit(h, "", e, 2, 0, PUT_MORE, &first), 0);
	assert_int_equal(house_get(h, "f", 0, &g), E_NOTFOUND);
	restart(h);
	assert_int_equal(house_commit(h, "f", e + 2, 2, first.inode + 1, 0, &ok), E_GONE);
	assert_int_equal(house_commit(h, "f", e + 2, 2, first.inode, 0, &ok), 0);
	assert_int_equal(ok.inode, first.inode);
	assert_int_equal(house_get(h, "f", 0, &g), 0);
	assert_int_equal(g.size, 4 * MIB);
	assert_int_equal(g.places.n, 4);
	house_close(h);
	return 0;
}

#define TEST(name)                                                                                 \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		house_run(name);                                                                   \
	}
TEST(life_of_a_file)
TEST(end_of_a_domain)
TEST(lost_with_its_server)
TEST(lost_before_it_was_dropped)
TEST(in_several_messages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life_of_a_file),
		cmocka_unit_test(test_end_of_a_domain),
		cmocka_unit_test(test_lost_with_its_server),
		cmocka_unit_test(test_lost_before_it_was_dropped),
		cmocka_unit_test(test_in_several_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
