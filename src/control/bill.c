/* SPDX-License-Identifier: Apache-2.0 */
/* What jobs held and moved.  Held bytes are looked at every TICK_MS and at the end; between two
 * looks they count as they were at the first. */
#include "control/own.h"

static uint64_t now_ms(const struct control *ctl)
{
	return loop_now_ns(sys_loop(ctl->sys)) / SYS_MS;
}

/* ---- rows ---- */
void bill_write(struct control *ctl, struct job *j)
{
	for (uint64_t t = 0; t < TIER_COUNT; t++) {
		const struct meter *m = &j->meters[t];
		struct row_bill row = { .job = j->id,
			.tier = t,
			.byte_ms_hi = m->byte_ms_hi,
			.byte_ms_lo = m->byte_ms_lo,
			.peak_bytes = m->peak_bytes,
			.written_bytes = m->written_bytes,
			.read_bytes = m->read_bytes,
			.writes = m->writes,
			.reads = m->reads };
		uint8_t key[ROW_bill_KEY_MAX], value[ROW_bill_VALUE_MAX];

		db_put(shard_db(ctl->sh), row_bill_key(&row, key), row_bill_put(&row, value));
	}
	j->billed = true;
}

void bill_delete(struct control *ctl, const struct job *j)
{
	struct row_range r;

	row_range_one(&r, ROW_bill_TABLE, j->id);
	db_delete_range(shard_db(ctl->sh), r.from, r.to);
}

int bill_load(struct control *ctl, struct job *j)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_one(&r, ROW_bill_TABLE, j->id);
	db_iter_begin(&it, shard_db(ctl->sh), r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		struct row_bill row;
		struct meter *m;

		if (row_bill_key_get(key, &row) < 0 || row_bill_get(value, &row) < 0
			|| row.tier >= TIER_COUNT) {
			rc = E_CORRUPT;
			break;
		}
		m = &j->meters[row.tier];
		*m = (struct meter){ .byte_ms_hi = row.byte_ms_hi,
			.byte_ms_lo = row.byte_ms_lo,
			.peak_bytes = row.peak_bytes,
			.written_bytes = row.written_bytes,
			.read_bytes = row.read_bytes,
			.writes = row.writes,
			.reads = row.reads };
	}
	db_iter_end(&it);
	for (int t = 0; t < TIER_COUNT; t++)
		meter_resume(&j->meters[t], now_ms(ctl), 0); /* until the first look */
	return rc;
}

/* ---- looking ---- */
static void add_held(void *arg, uint64_t domain, uint8_t tier, uint64_t held_bytes)
{
	struct job *j = job_find(arg, domain);

	if (j != NULL)
		j->held[tier] += held_bytes;
}

static void count_one(struct meter *m, const struct shard_io *now, struct shard_io *counted)
{
	m->written_bytes += now->written_bytes - counted->written_bytes;
	m->read_bytes += now->read_bytes - counted->read_bytes;
	m->writes += now->writes - counted->writes;
	m->reads += now->reads - counted->reads;
	*counted = *now;
}

static void look_at(struct control *ctl, struct job *j)
{
	const struct shard_use *u = shard_use(ctl->sh, j->id);

	if (u != NULL)
		j->held[TIER_DRAM] += u->slab_bytes;
	for (int t = 0; t < TIER_COUNT; t++) {
		if (j->held[t] != j->meters[t].held_bytes || j->held[t] != 0)
			j->billed = false;
		meter_hold(&j->meters[t], now_ms(ctl), j->held[t]);
		if (u == NULL || memcmp(&u->io[t], &j->counted[t], sizeof u->io[t]) == 0)
			continue;
		count_one(&j->meters[t], &u->io[t], &j->counted[t]);
		j->billed = false;
	}
}

void bill_look(struct control *ctl)
{
	if (ctl->n_active == 0)
		return;
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		memset(j->held, 0, sizeof j->held);
	}
	room_held(large_room(ctl->sh), add_held, ctl);
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		if (j->state.now != JOB_ENDED)
			look_at(ctl, j);
	}
}

void bill_save(struct control *ctl)
{
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		if (j->state.now != JOB_ENDED && !j->billed)
			bill_write(ctl, j);
	}
}

/* ---- the request ---- */
static void fill(struct control *ctl, const struct shard_call *c, const struct job *j,
	uint8_t *room, size_t len, struct msg_job_bill_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(room, len / 2, c->version);
	struct sub_job_info info;
	bool fits;

	job_info(ctl, j, &info);
	fits = sub_job_info_add(&l, &info);
	check(fits);
	ret->job = wire_list_end(&l);
	l = wire_list_begin(room + len / 2, len / 2, c->version);
	for (uint8_t t = 0; t < TIER_COUNT; t++) {
		const struct meter *m = &j->meters[t];

		fits = sub_bill_line_add(&l, &(struct sub_bill_line){ .tier = t,
			.byte_seconds_hi = m->byte_ms_hi,
			.byte_seconds_lo = m->byte_ms_lo,
			.peak_bytes = m->peak_bytes,
			.written_bytes = m->written_bytes,
			.read_bytes = m->read_bytes,
			.writes = m->writes,
			.reads = m->reads });
		check(fits);
	}
	ret->lines = wire_list_end(&l);
}

void on_job_bill(void *arg, struct rpc_request *r)
{
	uint8_t room[2 * 600];
	struct control *ctl = arg;
	struct msg_job_bill_ok ok;
	struct msg_job_bill m;
	struct shard_call c;
	struct job *j;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_bill_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = job_of(ctl, &c, m.job, &j);
	if (rc == 0) {
		bill_look(ctl);
		fill(ctl, &c, j, room, sizeof room, &ok);
	}
	answer(ctl, r, &c, rc, OP_job_bill_ok, &ok);
}
