/* SPDX-License-Identifier: Apache-2.0 */
/* The shard's time, in milliseconds: what capabilities expire by.  It never goes back, whoever
 * leads and whatever wall clocks say: a row holds a mark that no time given out has passed, and who
 * leads next begins there, or at its own wall clock where that is later.
 *
 *   mark of the row that was written       bounds what clients are told: their answers wait for it
 *   mark of a row that is committed        bounds what storage servers are told, without a wait
 */
#include "meta/inside.h"

enum { AHEAD_MS = 60000 };

static uint64_t time_ms(const struct shard *sh)
{
	const struct clock *k = &sh->clock;

	return k->base_ms + (loop_now_ns(sys_loop(sh->sys)) - k->at_ns) / SYS_MS;
}

static void mark_write(struct shard *sh, uint64_t mark_ms)
{
	struct clock *k = &sh->clock;

	check(mark_ms > k->mark_ms);
	k->mark_ms = mark_ms;
	meta_write(sh, BYTES("time"), mark_ms);
	k->mark_index = db_seen(sh->db);
}

int clock_load(struct shard *sh, struct err_note *note)
{
	uint64_t wall_ms = sys_wall_ms(sh->sys), mark_ms = 0;
	int rc = meta_read(sh, BYTES("time"), &mark_ms);

	if (rc < 0 && rc != E_NOTFOUND)
		return err_set(note, rc, "the row of the time");
	sh->clock = (struct clock){ .base_ms = mark_ms > wall_ms ? mark_ms : wall_ms,
		.at_ns = loop_now_ns(sys_loop(sh->sys)),
		.mark_ms = mark_ms,
		.held_ms = mark_ms };
	mark_write(sh, sh->clock.base_ms + AHEAD_MS);
	return 0;
}

void clock_keep(struct shard *sh)
{
	uint64_t now_ms = time_ms(sh);

	if (now_ms + AHEAD_MS / 2 > sh->clock.mark_ms)
		mark_write(sh, now_ms + AHEAD_MS);
}

uint64_t shard_time_ms(const struct shard *sh)
{
	uint64_t now_ms = time_ms(sh);

	return now_ms < sh->clock.mark_ms ? now_ms : sh->clock.mark_ms;
}

uint64_t shard_time_held_ms(struct shard *sh)
{
	struct clock *k = &sh->clock;
	uint64_t now_ms = time_ms(sh);

	if (db_written(sh->db) >= k->mark_index)
		k->held_ms = k->mark_ms;
	return now_ms < k->held_ms ? now_ms : k->held_ms;
}
