/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: their rows, their hints, their leases. */
#include "control/own.h"

/* What a storage device of a tier is taken to move, for hints that ask for bandwidth. */
static const uint64_t device_bps[TIER_COUNT] = {
	[TIER_DRAM] = UINT64_C(8000000000),
	[TIER_FLASH] = UINT64_C(1000000000),
	[TIER_DISK] = UINT64_C(150000000),
};
#define HINT_BYTES_MAX (UINT64_C(1) << 60) /* capacity, quota */
#define HINT_BPS_MAX (UINT64_C(1) << 50)

/* active ----> ending ----> ended */
static const struct sm_state job_states[] = {
	[JOB_ACTIVE] = { "active", TO(JOB_ENDING) },
	[JOB_ENDING] = { "ending", TO(JOB_ENDED) },
	[JOB_ENDED] = { "ended", 0 },
};

struct job *job_find(const struct control *ctl, uint64_t id) { return map_get(&ctl->by_id, id); }

void job_hear(struct control *ctl, struct job *j)
{
	j->heard_ns = loop_now_ns(sys_loop(ctl->sys));
}

/* ---- rows ---- */
void job_write(struct control *ctl, struct job *j)
{
	uint8_t key[ROW_job_KEY_MAX], value[ROW_job_VALUE_MAX];

	j->row.state = (uint8_t)j->state.now;
	db_put(shard_db(ctl->sh), row_job_key(&j->row, key), row_job_put(&j->row, value));
}

static struct job *add(struct control *ctl, const struct row_job *row)
{
	struct job *j = calloc(1, sizeof *j);

	check(row->name.len <= sizeof j->name);
	if (j == NULL || map_put(&ctl->by_id, row->job, j) < 0) {
		free(j);
		return NULL;
	}
	j->id = row->job;
	j->row = *row;
	if (row->name.len > 0)
		memcpy(j->name, row->name.p, row->name.len);
	j->row.name.p = j->name;
	sm_init(&j->state, job_states, row->state);
	waitq_init(&j->ended);
	list_push(&ctl->jobs, &j->link);
	ctl->n_active += row->state != JOB_ENDED;
	ctl->n_ended += row->state == JOB_ENDED;
	job_hear(ctl, j);
	return j;
}

static void found(const struct control *ctl, const struct row_job *row)
{
	if (row->state == JOB_ACTIVE)
		sys_reached(ctl->sys, "job found active after a start");
	else if (row->state == JOB_ENDED)
		sys_reached(ctl->sys, "job found ended after a start");
	else if (row->dropped)
		sys_reached(ctl->sys, "job found ending after a start, its buckets dropped");
	else
		sys_reached(ctl->sys, "job found ending after a start, its buckets there");
}

static int load_one(struct control *ctl, struct bytes key, struct bytes value)
{
	struct row_job row;
	struct job *j;

	if (row_job_key_get(key, &row) < 0 || row_job_get(value, &row) < 0 || row.job == 0
		|| row.state < JOB_ACTIVE || row.state > JOB_ENDED || row.epoch == 0
		|| row.epoch > TOKEN_EPOCH_MAX || row.latency > LATENCY_INSENSITIVE)
		return E_CORRUPT;
	if ((j = add(ctl, &row)) == NULL)
		return E_NOMEM;
	if (bill_load(ctl, j) < 0)
		return E_CORRUPT;
	found(ctl, &row);
	j->end_synced = row.state != JOB_ACTIVE;
	if (row.state == JOB_ENDED)
		return 0;
	return shard_job_begin(ctl->sh, j->id, row.quota_bytes, row.state == JOB_ACTIVE);
}

int jobs_load(struct control *ctl, struct err_note *note)
{
	struct bytes key, value;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_job_TABLE);
	db_iter_begin(&it, shard_db(ctl->sh), r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value))
		rc = load_one(ctl, key, value);
	db_iter_end(&it);
	shard_jobs_known(ctl->sh);
	return rc < 0 ? err_set(note, rc, "the row of a job cannot be taken in") : 0;
}

void jobs_fini(struct control *ctl)
{
	struct list *it;

	while ((it = list_pop(&ctl->jobs)) != NULL)
		free(container_of(it, struct job, link));
	map_fini(&ctl->by_id);
}

/* The job that ended first goes when there are more than are kept. */
static void forget_old(struct control *ctl)
{
	struct job *oldest = NULL;
	uint8_t key[ROW_job_KEY_MAX];

	if (ctl->n_ended <= LIMIT_BILL_KEEP)
		return;
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		if (j->state.now == JOB_ENDED && !j->ending && j->n_waiting == 0
			&& (oldest == NULL || j->row.ended_ms < oldest->row.ended_ms))
			oldest = j;
	}
	if (oldest == NULL)
		return;
	db_delete(shard_db(ctl->sh), row_job_key(&oldest->row, key));
	bill_delete(ctl, oldest);
	ctl->n_ended--;
	list_remove(&oldest->link);
	check(map_remove(&ctl->by_id, oldest->id) == oldest);
	free(oldest);
}

/* ---- time ---- */
static uint64_t lease_left_ms(const struct control *ctl, const struct job *j)
{
	uint64_t silent_ms = (loop_now_ns(sys_loop(ctl->sys)) - j->heard_ns) / SYS_MS;

	if (j->state.now != JOB_ACTIVE)
		return 0;
	if (j->n_conns > 0)
		return j->row.lease_ms;
	return silent_ms < j->row.lease_ms ? j->row.lease_ms - silent_ms : 0;
}

void jobs_look(struct control *ctl, bool stalled)
{
	list_each (it, &ctl->jobs) {
		struct job *j = container_of(it, struct job, link);

		if (stalled)
			job_hear(ctl, j);
		if (j->state.now == JOB_ACTIVE && lease_left_ms(ctl, j) == 0)
			job_end_begin(ctl, j);
		if (j->state.now == JOB_ENDING)
			job_end_go_on(ctl, j);
	}
	forget_old(ctl);
}

/* ---- hints ---- */
static int name_ok(struct shard_call *c, struct bytes name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.p[i] < ' ' || name.p[i] == 0x7f)
			return err_set(&c->note, E_INVALID,
				"a control character in the name of a job");
	return 0;
}

static int too_big(struct shard_call *c, const char *what, uint64_t given, uint64_t max)
{
	return err_set(&c->note, E_TOOBIG, "%s %llu: at most %llu", what,
		(unsigned long long)given, (unsigned long long)max);
}

static int hints_ok(struct shard_call *c, const struct msg_job_register *m)
{
	if (m->latency > LATENCY_INSENSITIVE)
		return err_set(&c->note, E_INVALID, "latency hint %u: 0, 1 or 2", m->latency);
	if ((m->tiers >> TIER_COUNT) != 0)
		return err_set(&c->note, E_INVALID, "tiers %#x: there are %d", m->tiers,
			TIER_COUNT);
	if (m->lambdas > LIMIT_LAMBDAS_MAX)
		return too_big(c, "workers", m->lambdas, LIMIT_LAMBDAS_MAX);
	if (m->capacity_bytes > HINT_BYTES_MAX)
		return too_big(c, "capacity in bytes", m->capacity_bytes, HINT_BYTES_MAX);
	if (m->bandwidth_bps > HINT_BPS_MAX)
		return too_big(c, "bandwidth in bytes per second", m->bandwidth_bps, HINT_BPS_MAX);
	if (m->quota_bytes > HINT_BYTES_MAX)
		return too_big(c, "quota in bytes", m->quota_bytes, HINT_BYTES_MAX);
	if (m->lease_ms > LIMIT_LEASE_MAX_MS)
		return too_big(c, "lease in milliseconds", m->lease_ms, LIMIT_LEASE_MAX_MS);
	if (m->lease_ms != 0 && m->lease_ms < LIMIT_LEASE_MIN_MS)
		return err_set(&c->note, E_INVALID, "lease in milliseconds %llu: at least %d",
			(unsigned long long)m->lease_ms, LIMIT_LEASE_MIN_MS);
	return name_ok(c, m->name);
}

uint8_t job_tiers(void *arg, uint64_t job, uint8_t ret_tiers[TIER_COUNT])
{
	const struct control *ctl = arg;
	const struct job *j = job_find(ctl, job);
	struct hints_tier have[TIER_COUNT];
	struct hints h = { .latency = LATENCY_ANY };

	if (j != NULL)
		h = (struct hints){ .latency = j->row.latency,
			.tiers = j->row.tiers,
			.lambdas = j->row.lambdas,
			.capacity_bytes = j->row.capacity_bytes,
			.bandwidth_bps = j->row.bandwidth_bps };
	tiers_have(ctl, have);
	for (int t = 0; t < TIER_COUNT; t++)
		have[t].bandwidth_bps = have[t].devices * device_bps[t];
	return hints_order(&h, have, ret_tiers);
}

/* Those of the order; those allowed while no storage server is there. */
static uint8_t tiers_of(const struct control *ctl, const struct job *j)
{
	uint8_t order[TIER_COUNT], n, mask = 0;

	n = job_tiers((void *)(uintptr_t)ctl, j->id, order);
	for (uint8_t i = 0; i < n; i++)
		mask |= TIER_BIT(order[i]);
	if (mask == 0)
		mask = j->row.tiers != 0 ? j->row.tiers : TIER_BIT(TIER_COUNT) - 1;
	return mask;
}

int job_quota(void *arg, uint64_t job, uint64_t bytes, struct err_note *note)
{
	const struct control *ctl = arg;
	const struct job *j = job_find(ctl, job);
	uint64_t held;

	if (j == NULL || j->row.quota_bytes == 0)
		return 0;
	held = room_domain_held(large_room(ctl->sh), job, TIER_COUNT);
	if (bytes <= j->row.quota_bytes && held <= j->row.quota_bytes - bytes)
		return 0;
	return err_set(note, E_FULL, "the job's quota is %llu bytes, %llu are held",
		(unsigned long long)j->row.quota_bytes, (unsigned long long)held);
}

/* ---- requests ---- */
int job_of(struct control *ctl, struct shard_call *c, uint64_t id, struct job **ret_j)
{
	struct job *j;

	if (!c->who.admin && id == 0)
		id = c->who.job;
	if (!c->who.admin && id != c->who.job)
		return err_set(&c->note, E_DENIED, "that is another job");
	if ((j = job_find(ctl, id)) == NULL)
		return err_set(&c->note, E_NOTFOUND, "there is no job %llu",
			(unsigned long long)id);
	*ret_j = j;
	return 0;
}

void job_info(const struct control *ctl, const struct job *j, struct sub_job_info *ret_info)
{
	const struct shard_use *u = shard_use(ctl->sh, j->id);

	*ret_info = (struct sub_job_info){ .job = j->id,
		.state = (uint8_t)j->state.now,
		.latency = j->row.latency,
		.tiers = tiers_of(ctl, j),
		.lambdas = j->row.lambdas,
		.capacity_bytes = j->row.capacity_bytes,
		.bandwidth_bps = j->row.bandwidth_bps,
		.quota_bytes = j->row.quota_bytes,
		.lease_ms = j->row.lease_ms,
		.lease_left_ms = lease_left_ms(ctl, j),
		.started_ms = j->row.started_ms,
		.ended_ms = j->row.ended_ms,
		.files = u != NULL ? u->files : j->row.kept_files,
		.used_bytes = u != NULL ? u->used_bytes : j->row.kept_bytes,
		.connections = j->n_conns,
		.name = j->row.name };
}

static int new_job(struct control *ctl, struct shard_call *c, const struct msg_job_register *m,
	struct job **ret_j)
{
	struct row_job row = { .state = JOB_ACTIVE,
		.latency = m->latency,
		.tiers = m->tiers,
		.lambdas = m->lambdas,
		.capacity_bytes = m->capacity_bytes,
		.bandwidth_bps = m->bandwidth_bps,
		.quota_bytes = m->quota_bytes,
		.lease_ms = m->lease_ms != 0 ? m->lease_ms : LIMIT_LEASE_DEFAULT_MS,
		.epoch = 1,
		.started_ms = sys_wall_ms(ctl->sys),
		.name = m->name };
	struct job *j;

	if (ctl->n_active >= LIMIT_JOBS_MAX)
		return err_set(&c->note, E_FULL, "there are %d jobs: no more", LIMIT_JOBS_MAX);
	row.job = db_next_id(shard_db(ctl->sh));
	if (row.job == 0)
		return err_set(&c->note, E_BUSY, "the next block of ids is not there yet");
	if (shard_job_begin(ctl->sh, row.job, row.quota_bytes, true) < 0
		|| (j = add(ctl, &row)) == NULL) {
		shard_job_forget(ctl->sh, row.job);
		return err_set(&c->note, E_NOMEM, "no memory for a job");
	}
	job_write(ctl, j);
	shard_want_sync(ctl->sh, c);
	shard_keep(ctl->sh, c, OP_job_register, j->id);
	*ret_j = j;
	return 0;
}

static int job_register(struct control *ctl, struct shard_call *c,
	const struct msg_job_register *m, struct job **ret_j)
{
	uint64_t id = 0;
	int rc = shard_writable(ctl->sh, c);

	if (rc < 0)
		return rc;
	if (!c->who.admin)
		return err_set(&c->note, E_DENIED, "a job cannot register jobs");
	if ((rc = hints_ok(c, m)) < 0
		|| (rc = shard_recall(ctl->sh, c, OP_job_register, &id)) < 0)
		return rc;
	if (rc > 0)
		return job_of(ctl, c, id, ret_j);
	return new_job(ctl, c, m, ret_j);
}

void on_job_register(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	char token[TOKEN_CHARS_MAX];
	struct msg_job_register m;
	struct msg_job_ok ok;
	struct shard_call c;
	struct job *j;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_register_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = job_register(ctl, &c, &m, &j);
	if (rc == 0)
		ok = (struct msg_job_ok){ .job = j->id,
			.lease_ms = j->row.lease_ms,
			.tiers = tiers_of(ctl, j),
			.token = bytes_of(token, token_job(ctl->key, j->id, j->row.epoch, token)) };
	answer(ctl, r, &c, rc, OP_job_ok, &ok);
}

/* Gone is what nobody acts for any more: before its end is on the medium its own clients may. */
static int active(const struct job *j, struct err_note *note)
{
	if (j->state.now == JOB_ACTIVE)
		return 0;
	if (j->state.now == JOB_ENDING && !j->end_synced)
		return err_set(note, E_BUSY, "job %llu is ending", (unsigned long long)j->id);
	return err_set(note, E_GONE, "job %llu has ended", (unsigned long long)j->id);
}

void on_job_renew(void *arg, struct rpc_request *r)
{
	static const struct msg_ok ok;
	struct control *ctl = arg;
	struct msg_job_renew m;
	struct shard_call c;
	struct job *j;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_renew_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = job_of(ctl, &c, m.job, &j);
	if (rc == 0 && (rc = active(j, &c.note)) == 0)
		job_hear(ctl, j);
	answer(ctl, r, &c, rc, OP_ok, &ok);
}

static int job_revoke(struct control *ctl, struct shard_call *c, uint64_t id, struct job **ret_j)
{
	uint64_t before = 0;
	struct job *j;
	int rc = shard_writable(ctl->sh, c);

	if (rc < 0)
		return rc;
	if (!c->who.admin)
		return err_set(&c->note, E_DENIED, "only with the cluster's key");
	if ((rc = job_of(ctl, c, id, &j)) < 0
		|| (rc = shard_recall(ctl->sh, c, OP_job_revoke, &before)) < 0)
		return rc;
	*ret_j = j;
	if (rc > 0)
		return 0;
	if ((rc = active(j, &c->note)) < 0)
		return rc;
	if ((rc = job_epoch_raise(ctl, j)) < 0)
		return err_set(&c->note, rc, "job %llu", (unsigned long long)j->id);
	job_write(ctl, j);
	shard_want_sync(ctl->sh, c);
	shard_keep(ctl->sh, c, OP_job_revoke, j->id);
	job_cut(ctl, j);
	return 0;
}

void on_job_revoke(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	char token[TOKEN_CHARS_MAX];
	struct msg_job_revoke m;
	struct msg_job_ok ok;
	struct shard_call c;
	struct job *j = NULL;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_revoke_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0)
		rc = job_revoke(ctl, &c, m.job, &j);
	if (rc == 0)
		ok = (struct msg_job_ok){ .job = j->id,
			.lease_ms = j->row.lease_ms,
			.tiers = tiers_of(ctl, j),
			.token = bytes_of(token, token_job(ctl->key, j->id, j->row.epoch, token)) };
	answer(ctl, r, &c, rc, OP_job_ok, &ok);
}

static void list_fill(struct control *ctl, const struct shard_call *c, const struct msg_job_list *m,
	uint8_t *room, struct msg_job_list_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(room, REPLY_BYTES, c->version);
	uint32_t max = m->max == 0 || m->max > LIMIT_LIST_MAX ? LIMIT_LIST_MAX : m->max;
	uint64_t last = 0;

	*ret = (struct msg_job_list_ok){ .next = 0 };
	list_each (it, &ctl->jobs) {
		const struct job *j = container_of(it, struct job, link);
		struct sub_job_info info;

		if (j->id <= m->after || (j->state.now == JOB_ENDED && !m->ended)
			|| (!c->who.admin && j->id != c->who.job))
			continue;
		job_info(ctl, j, &info);
		if (l.n == max || !sub_job_info_add(&l, &info)) {
			ret->next = last;
			break;
		}
		last = j->id;
	}
	ret->jobs = wire_list_end(&l);
}

void on_job_list(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct msg_job_list_ok ok;
	struct msg_job_list m;
	struct shard_call c;
	uint8_t *room = NULL;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_job_list_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0 && (room = malloc(REPLY_BYTES)) == NULL)
		rc = err_set(&c.note, E_NOMEM, "no memory for a list of jobs");
	if (rc == 0)
		list_fill(ctl, &c, &m, room, &ok);
	answer(ctl, r, &c, rc, OP_job_list_ok, &ok);
	free(room);
}
