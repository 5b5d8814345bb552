/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of capabilities, and capabilities that are good no more.
 *
 * Key n is made from the cluster's key and n, so two rows are all that there is to keep: which n,
 * and since when by the shard's time.
 *
 *      rotated            + KEY_SPREAD_MS               + CAP_LIFE_MS
 *   -----+--------------------+------------------------------+-----------
 *        | n is told to       | n is used; n - 1 still       | only n is told
 *        | servers, n-1 used  | opens what it was given for  |
 *
 * What is revoked is told with the heartbeats, for as long as a capability lives: the jobs whose
 * epoch was raised, numbered in the order in which that happened.  A server says the last number
 * that it knows.  After a start all is told again that may matter: jobs that have ended, and those
 * whose epoch is not the first any more. */
#include "control/own.h"

enum { KEY_SPREAD_MS = 5000, REVOKED_PAGE = 1024, LIFE_MARGIN_MS = 60000 };

struct revoked {
	uint64_t job, epoch, at_ns;
	uint64_t index; /* of the record that says so: told only when it is committed */
};

/* ---- keys ---- */
static int row_read(struct control *ctl, struct bytes what, uint64_t *ret_value)
{
	struct row_meta row = { .what = what };
	uint8_t key[ROW_meta_KEY_MAX];
	struct bytes value;
	int rc = db_get(shard_db(ctl->sh), row_meta_key(&row, key), &value);

	if (rc == 0)
		rc = row_meta_get(value, &row);
	if (rc == 0)
		*ret_value = row.value;
	return rc;
}

static void row_write(struct control *ctl, struct bytes what, uint64_t value)
{
	struct row_meta row = { .what = what, .value = value };
	uint8_t key[ROW_meta_KEY_MAX], room[ROW_meta_VALUE_MAX];

	db_put(shard_db(ctl->sh), row_meta_key(&row, key), row_meta_put(&row, room));
}

static void keys_write(struct control *ctl)
{
	row_write(ctl, BYTES("cap-key"), ctl->key_id);
	row_write(ctl, BYTES("cap-key-ms"), ctl->key_ms);
}

/* Of the shard's time, since the last change. */
static uint64_t age_ms(const struct control *ctl)
{
	uint64_t now_ms = shard_time_ms(ctl->sh);

	return now_ms > ctl->key_ms ? now_ms - ctl->key_ms : 0;
}

/* The one that is used now. */
static void use(struct control *ctl)
{
	uint32_t id = age_ms(ctl) >= KEY_SPREAD_MS ? ctl->key_id : ctl->key_id - 1;

	if (ctl->cap_key.id == id)
		return;
	ctl->cap_key.id = id;
	token_cap_key(ctl->key, id, ctl->cap_key.key);
}

static int revoked_load(struct control *ctl);

int keys_begin(struct control *ctl, struct err_note *note)
{
	uint64_t id = 0;
	int rc = row_read(ctl, BYTES("cap-key"), &id);

	if (rc == 0)
		rc = row_read(ctl, BYTES("cap-key-ms"), &ctl->key_ms);
	if (rc == 0 && (id < 2 || id > UINT32_MAX))
		rc = E_CORRUPT;
	if (rc < 0 && rc != E_NOTFOUND)
		return err_set(note, rc, "the rows of the key of capabilities");
	ctl->key_id = (uint32_t)id;
	if (rc == E_NOTFOUND) { /* nobody knows another one that would have to hear of it */
		uint64_t now_ms = shard_time_ms(ctl->sh);

		ctl->key_id = 2;
		ctl->key_ms = now_ms > KEY_SPREAD_MS ? now_ms - KEY_SPREAD_MS : 0;
		keys_write(ctl);
	}
	use(ctl);
	rc = revoked_load(ctl);
	return rc < 0 ? err_set(note, rc, "no memory for what is revoked") : 0;
}

static void rotate(struct control *ctl)
{
	check(ctl->key_id < UINT32_MAX);
	ctl->key_id++;
	ctl->key_ms = shard_time_ms(ctl->sh);
	keys_write(ctl);
}

void keys_look(struct control *ctl)
{
	use(ctl);
	if (age_ms(ctl) > ctl->key_rotate_ms)
		rotate(ctl);
}

struct wire_list keys_told(const struct control *ctl, uint8_t *room, size_t len, uint16_t version)
{
	struct wire_list_builder l = wire_list_begin(room, len, version);
	uint8_t key[CAP_KEY_BYTES];
	uint32_t from = age_ms(ctl) > KEY_SPREAD_MS + CAP_LIFE_MS + LIFE_MARGIN_MS ? ctl->key_id
		: ctl->key_id - 1;

	for (uint32_t id = from; id <= ctl->key_id; id++) {
		bool fits;

		token_cap_key(ctl->key, id, key);
		fits = sub_cap_key_info_add(&l, &(struct sub_cap_key_info){ id,
			bytes_of(key, sizeof key) });
		check(fits);
	}
	explicit_bzero(key, sizeof key);
	return wire_list_end(&l);
}

void on_key_rotate(void *arg, struct rpc_request *r)
{
	struct control *ctl = arg;
	struct msg_key_rotate m;
	struct shard_call c;
	struct msg_ok ok;
	int rc;

	call_begin(ctl, r, &c);
	rc = decoded(&c, msg_key_rotate_get(r->body.p, r->body.len, r->version, &m));
	if (rc == 0 && !c.who.admin)
		rc = err_set(&c.note, E_DENIED, "only with the cluster's key");
	if (rc == 0)
		rc = shard_writable(ctl->sh, &c);
	if (rc == 0 && age_ms(ctl) < KEY_SPREAD_MS)
		rc = err_set(&c.note, E_BUSY, "the key is being changed already");
	if (rc == 0) {
		rotate(ctl);
		shard_want_sync(ctl->sh, &c);
	}
	answer(ctl, r, &c, rc, OP_ok, &ok);
}

/* ---- what is revoked ---- */
static void lapse(struct control *ctl)
{
	uint64_t now_ns = loop_now_ns(sys_loop(ctl->sys));
	uint32_t n = 0;

	while (n < ctl->n_revoked && (now_ns - ctl->revoked[n].at_ns > (CAP_LIFE_MS
		+ LIFE_MARGIN_MS) * SYS_MS || ctl->n_revoked - n >= LIMIT_REVOKED_MAX))
		n++;
	if (n == 0)
		return;
	ctl->n_revoked -= n;
	ctl->revoked_before += n;
	memmove(ctl->revoked, ctl->revoked + n, ctl->n_revoked * sizeof *ctl->revoked);
}

static int tell(struct control *ctl, const struct job *j)
{
	if (ctl->n_revoked == ctl->revoked_cap || ctl->n_revoked >= LIMIT_REVOKED_MAX)
		lapse(ctl);
	if (ctl->n_revoked == ctl->revoked_cap) {
		uint32_t cap = ctl->revoked_cap == 0 ? 64 : ctl->revoked_cap * 2;
		struct revoked *more = realloc(ctl->revoked, cap * sizeof *more);

		if (more == NULL)
			return E_NOMEM;
		ctl->revoked = more;
		ctl->revoked_cap = cap;
	}
	ctl->revoked[ctl->n_revoked++] = (struct revoked){ j->id, j->row.epoch,
		loop_now_ns(sys_loop(ctl->sys)), shard_seen(ctl->sh) };
	return 0;
}

int job_epoch_raise(struct control *ctl, struct job *j)
{
	int rc;

	if (j->row.epoch == TOKEN_EPOCH_MAX)
		return E_FULL;
	j->row.epoch++;
	if ((rc = tell(ctl, j)) < 0)
		j->row.epoch--;
	return rc;
}

static int revoked_load(struct control *ctl)
{
	int rc = 0;

	list_each (it, &ctl->jobs) {
		const struct job *j = container_of(it, struct job, link);

		if (rc == 0 && (j->state.now != JOB_ACTIVE || j->row.epoch > 1))
			rc = tell(ctl, j);
	}
	return rc;
}

void revoked_told(struct control *ctl, uint64_t after, uint8_t *room, size_t len, uint16_t version,
	struct msg_heartbeat_ok *ret)
{
	struct wire_list_builder l = wire_list_begin(room, len, version);
	uint64_t last = ctl->revoked_before + ctl->n_revoked;
	uint64_t at = after < ctl->revoked_before ? ctl->revoked_before : after;

	for (; at < last && l.n < REVOKED_PAGE; at++) {
		const struct revoked *v = &ctl->revoked[at - ctl->revoked_before];

		if (v->index > db_written(shard_db(ctl->sh)))
			break;
		if (!sub_job_epoch_add(&l, &(struct sub_job_epoch){ v->job, v->epoch }))
			break;
	}
	ret->revoked = wire_list_end(&l);
	ret->revoked_to = at < last ? at : last;
	ret->revoked_last = last;
}

uint64_t job_cap_epoch(void *arg, uint64_t domain)
{
	const struct job *j = job_find(arg, domain);

	return j != NULL ? j->row.epoch : 0;
}

void keys_end(struct control *ctl)
{
	free(ctl->revoked);
	explicit_bzero(&ctl->cap_key, sizeof ctl->cap_key);
}
