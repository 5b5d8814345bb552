/* SPDX-License-Identifier: Apache-2.0 */
/* What jobs held and moved.  The shard's meters are told of every change; here what they say is
 * added to what was billed before this process began, and put into rows now and then. */
#include "control/own.h"

enum { NS_PER_MS = 1000000 };

/* ---- sums ---- */
static unsigned __int128 byte_ms(const struct row_bill *row)
{
	return (unsigned __int128)row->byte_ms_hi << 64 | row->byte_ms_lo;
}

static void add(struct row_bill *row, const struct meter *held, const struct shard_io *io)
{
	unsigned __int128 sum = byte_ms(row) + held->byte_ns / NS_PER_MS;

	row->byte_ms_hi = (uint64_t)(sum >> 64);
	row->byte_ms_lo = (uint64_t)sum;
	if (held->peak_bytes > row->peak_bytes)
		row->peak_bytes = held->peak_bytes;
	row->written_bytes += io->written_bytes;
	row->read_bytes += io->read_bytes;
	row->writes += io->writes;
	row->reads += io->reads;
}

/* Up to this moment. */
static struct row_bill bill_of(const struct control *ctl, const struct job *j, uint8_t tier)
{
	const struct shard_use *u = shard_use(ctl->sh, j->id);
	struct row_bill row = j->before[tier];
	struct meter m;

	row.job = j->id;
	row.tier = tier;
	if (u == NULL || j->state.now == JOB_ENDED)
		return row;
	m = u->meters[tier];
	meter_settle(&m, loop_now_ns(sys_loop(ctl->sys)));
	add(&row, &m, &u->io[tier]);
	return row;
}

/* ---- rows ---- */
static void save(struct control *ctl, struct job *j, const struct row_bill *row)
{
	uint8_t key[ROW_bill_KEY_MAX], value[ROW_bill_VALUE_MAX];

	if (memcmp(row, &j->saved[row->tier], sizeof *row) == 0)
		return;
	db_put(shard_db(ctl->sh), row_bill_key(row, key), row_bill_put(row, value));
	j->saved[row->tier] = *row;
}

void bill_close(struct control *ctl, struct job *j)
{
	check(j->state.now == JOB_ENDING);
	for (uint8_t t = 0; t < TIER_COUNT; t++) {
		j->before[t] = bill_of(ctl, j, t);
		save(ctl, j, &j->before[t]);
	}
}

void bill_save(struct control *ctl)
{
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		for (uint8_t t = 0; t < TIER_COUNT && j->state.now != JOB_ENDED; t++) {
			struct row_bill row = bill_of(ctl, j, t);

			save(ctl, j, &row);
		}
	}
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
		struct row_bill row = { .job = 0 };

		if (row_bill_key_get(key, &row) < 0 || row_bill_get(value, &row) < 0
			|| row.tier >= TIER_COUNT)
			rc = E_CORRUPT;
		else
			j->before[row.tier] = j->saved[row.tier] = row;
	}
	db_iter_end(&it);
	return rc;
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
		struct row_bill row = bill_of(ctl, j, t);

		fits = sub_bill_line_add(&l, &(struct sub_bill_line){ .tier = t,
			.byte_seconds_hi = row.byte_ms_hi,
			.byte_seconds_lo = row.byte_ms_lo,
			.peak_bytes = row.peak_bytes,
			.written_bytes = row.written_bytes,
			.read_bytes = row.read_bytes,
			.writes = row.writes,
			.reads = row.reads });
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
	if (rc == 0)
		fill(ctl, &c, j, room, sizeof room, &ok);
	answer(ctl, r, &c, rc, OP_job_bill_ok, &ok);
}
