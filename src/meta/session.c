/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: the answers of a client's last INFLIGHT_MAX numbered changes, so that a retry after a
 * lost connection, or after a restart of this shard, gets the answer of the first time and no
 * second effect.
 *
 * An answer is written in the record that has its effect, into slot number % INFLIGHT_MAX. Refusals
 * have no effect and are not remembered: a retry of one is tried anew.  A number INFLIGHT_MAX or
 * more below the highest remembered one, or whose slot holds a later one, may have been answered
 * and forgotten: E_UNKNOWN.
 *
 * Which drops an answer waits for was known to the process that gave it first; so a remembered one
 * that took bytes away waits for all that are outstanding (ticket 0).
 *
 * A session is *busy* while a connection of its client is open, else *idle*: first its marks lapse,
 * then it is forgotten.  Both times run on the monotonic clock and begin anew with a restart. */
#include "meta/large_own.h"
#include <stdlib.h>

enum { TIDY_STEP = 1024 };

static uint64_t client_key(uint64_t hi, uint64_t lo)
{
	return hi ^ (lo * 0xd1342543de82ef95u);
}

static struct bytes client_bytes(uint64_t hi, uint64_t lo, uint8_t to[16])
{
	put_be64(to, hi);
	put_be64(to + 8, lo);
	return bytes_of(to, 16);
}

static struct session *find(const struct shard *sh, uint64_t hi, uint64_t lo)
{
	struct session *s = map_get(&sh->clients, client_key(hi, lo));

	while (s != NULL && (s->client_hi != hi || s->client_lo != lo))
		s = s->next_same;
	return s;
}

static struct session *add(struct shard *sh, uint64_t hi, uint64_t lo, uint64_t job)
{
	uint64_t key = client_key(hi, lo);
	struct session *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	*s = (struct session){ .client_hi = hi,
		.client_lo = lo,
		.job = job,
		.idle_since_ns = loop_now_ns(sys_loop(sh->sys)),
		.next_same = map_get(&sh->clients, key) };
	list_init(&s->marks);
	list_init(&s->link);
	if (map_put(&sh->clients, key, s) < 0) {
		free(s);
		return NULL;
	}
	list_push(&sh->idle, &s->link);
	sh->n_sessions++;
	return s;
}

static void unlink_same(struct shard *sh, struct session *s)
{
	uint64_t key = client_key(s->client_hi, s->client_lo);
	struct session *at = map_get(&sh->clients, key);

	check(at != NULL);
	if (at == s) {
		if (s->next_same == NULL)
			map_remove(&sh->clients, key);
		else
			(void)map_put(&sh->clients, key, s->next_same); /* replaces: cannot fail */
		return;
	}
	while (at->next_same != s) {
		at = at->next_same;
		check(at != NULL);
	}
	at->next_same = s->next_same;
}

/* Everything about a client without connection and marks. */
static void forget(struct shard *sh, struct session *s)
{
	uint8_t client[16], key[ROW_session_KEY_MAX];
	struct row_session row = { .client = client_bytes(s->client_hi, s->client_lo, client) };
	struct row_range r;

	check(s->n_conns == 0);
	check(s->n_marks == 0);
	if (s->id != 0 && s->has_room) {
		grant_end_session(sh, s->id);
		stage_end_session(sh, s->id);
	}
	if (s->id != 0) {
		db_delete(sh->db, row_session_key(&row, key));
		row_range_one(&r, ROW_answer_TABLE, s->id);
		db_delete_range(sh->db, r.from, r.to);
		check(map_remove(&sh->sessions, s->id) == s);
	}
	unlink_same(sh, s);
	list_remove(&s->link);
	sh->n_sessions--;
	free(s->answers);
	free(s);
}

static bool make_room(struct shard *sh)
{
	if (sh->n_sessions < LIMIT_SESSIONS_MAX)
		return true;
	list_each (it, &sh->idle) {
		struct session *s = container_of(it, struct session, link);

		if (s->n_marks == 0) {
			forget(sh, s);
			return true;
		}
	}
	return false;
}

int session_open(struct shard *sh, const struct principal *who, uint64_t client_hi,
	uint64_t client_lo, struct session **ret_s)
{
	uint64_t job = who->admin ? 0 : who->job;
	struct session *s;

	if (client_hi == 0 && client_lo == 0)
		return E_INVALID;
	s = find(sh, client_hi, client_lo);
	if (s != NULL && s->job != job)
		return E_DENIED;
	if (s == NULL && (sh->failed != 0 || !make_room(sh)))
		return E_BUSY;
	if (s == NULL && (s = add(sh, client_hi, client_lo, job)) == NULL)
		return E_NOMEM;
	if (s->n_conns++ == 0) {
		list_remove(&s->link);
		list_push(&sh->busy, &s->link);
	}
	*ret_s = s;
	return 0;
}

void session_close(struct shard *sh, struct session *s)
{
	if (s == NULL)
		return;
	check(s->n_conns > 0);
	if (--s->n_conns > 0)
		return;
	s->idle_since_ns = loop_now_ns(sys_loop(sh->sys));
	list_remove(&s->link);
	list_push(&sh->idle, &s->link); /* the list stays in the order of idle_since_ns */
}

uint64_t session_id(const struct session *s)
{
	return s->id;
}

uint64_t session_last_number(const struct session *s)
{
	return s->last;
}

int session_number(struct shard *sh, struct session *s)
{
	uint8_t client[16], key[ROW_session_KEY_MAX], value[ROW_session_VALUE_MAX];
	struct row_session row = { .client = client_bytes(s->client_hi, s->client_lo, client),
		.job = s->job };

	if (s->id != 0)
		return 0;
	row.session = db_next_id(sh->db);
	if (row.session == 0)
		return E_BUSY;
	if (map_put(&sh->sessions, row.session, s) < 0)
		return E_NOMEM;
	s->id = row.session;
	db_put(sh->db, row_session_key(&row, key), row_session_put(&row, value));
	return 0;
}

static int ready(struct shard *sh, struct session *s)
{
	int rc = session_number(sh, s);

	if (rc < 0 || s->answers != NULL)
		return rc;
	s->answers = calloc(LIMIT_INFLIGHT_MAX, sizeof *s->answers);
	return s->answers != NULL ? 0 : E_NOMEM;
}

bool answer_known(const struct shard_call *c)
{
	const struct session *s = c->session;

	return s != NULL && c->number != 0 && s->answers != NULL &&
	       s->answers[c->number % LIMIT_INFLIGHT_MAX].number == c->number;
}

int answer_recall(struct shard *sh, struct shard_call *c, uint16_t op, const struct answer **ret_a)
{
	struct session *s = c->session;
	struct answer *a;
	int rc;

	if (s == NULL || c->number == 0)
		return 0;
	check(s->n_conns > 0);
	if ((rc = ready(sh, s)) < 0)
		return err_set(&c->note, rc, "no room to remember an answer");
	a = &s->answers[c->number % LIMIT_INFLIGHT_MAX];
	if (a->number == c->number) {
		if (a->op != op)
			return err_set(&c->note, E_INVALID, "number %llu was another request",
				(unsigned long long)c->number);
		if (a->durable)
			shard_want_sync(sh, c);
		if (a->drops)
			c->ticket = 0;
		*ret_a = a;
		return 1;
	}
	if (a->number > c->number ||
		(s->last >= LIMIT_INFLIGHT_MAX && c->number <= s->last - LIMIT_INFLIGHT_MAX))
		return err_set(&c->note, E_UNKNOWN, "number %llu is too old to be remembered",
			(unsigned long long)c->number);
	return 0;
}

void answer_keep(
	struct shard *sh, const struct shard_call *c, uint16_t op, uint64_t first, uint64_t second)
{
	struct session *s = c->session;
	uint8_t key[ROW_answer_KEY_MAX], value[ROW_answer_VALUE_MAX];
	bool drops = c->ticket != sh->large->last_ticket;
	struct row_answer row;

	if (s == NULL || c->number == 0)
		return;
	row = (struct row_answer){ .session = s->id,
		.slot = c->number % LIMIT_INFLIGHT_MAX,
		.op = op,
		.durable = (uint8_t)(c->sync | drops << 1),
		.number = c->number,
		.first = first,
		.second = second };
	check(s->id != 0);
	check(s->answers[row.slot].number < c->number);
	s->answers[row.slot] = (struct answer){ c->number, first, second, op, c->sync, drops };
	if (c->number > s->last)
		s->last = c->number;
	db_put(sh->db, row_answer_key(&row, key), row_answer_put(&row, value));
}

/* ---- the start, the end, and the clock ---- */

static int load_answers(struct shard *sh, struct session *s)
{
	struct bytes key, value;
	struct row_answer row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	s->answers = calloc(LIMIT_INFLIGHT_MAX, sizeof *s->answers);
	if (s->answers == NULL)
		return E_NOMEM;
	row_range_one(&r, ROW_answer_TABLE, s->id);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		if ((rc = row_answer_key_get(key, &row)) < 0 ||
			(rc = row_answer_get(value, &row)) < 0)
			break;
		if (row.slot != row.number % LIMIT_INFLIGHT_MAX || row.number == 0) {
			rc = E_CORRUPT;
			break;
		}
		s->answers[row.slot] = (struct answer){ row.number, row.first, row.second, row.op,
			(row.durable & 1) != 0, (row.durable & 2) != 0 };
		if (row.number > s->last)
			s->last = row.number;
	}
	db_iter_end(&it);
	return rc;
}

static int load_one(struct shard *sh, const struct row_session *row)
{
	struct session *s;

	if (row->client.len != 16 || row->session == 0 ||
		map_get(&sh->sessions, row->session) != NULL)
		return E_CORRUPT;
	s = add(sh, be64(row->client.p), be64(row->client.p + 8), row->job);
	if (s == NULL || map_put(&sh->sessions, row->session, s) < 0)
		return E_NOMEM;
	s->id = row->session;
	s->has_room = true; /* perhaps */
	return 0;
}

int session_load(struct shard *sh, struct err_note *note)
{
	struct bytes key, value;
	struct row_session row;
	struct row_range r;
	struct db_iter it;
	int rc = 0;

	row_range_table(&r, ROW_session_TABLE);
	db_iter_begin(&it, sh->db, r.from, r.to);
	while (rc == 0 && db_iter_next(&it, &key, &value)) {
		if ((rc = row_session_key_get(key, &row)) == 0 &&
			(rc = row_session_get(value, &row)) == 0)
			rc = load_one(sh, &row);
	}
	db_iter_end(&it);
	list_each (it_s, &sh->idle) {
		if (rc < 0)
			break;
		rc = load_answers(sh, container_of(it_s, struct session, link));
	}
	return rc < 0 ? err_set(note, rc, "the row of a session") : 0;
}

static void free_list(struct list *l)
{
	struct list *it;

	while ((it = list_pop(l)) != NULL) {
		struct session *s = container_of(it, struct session, link);
		struct list *m;

		while ((m = list_pop(&s->marks)) != NULL)
			free(container_of(m, struct mark, link));
		free(s->answers);
		free(s);
	}
}

void session_fini(struct shard *sh)
{
	free_list(&sh->idle);
	free_list(&sh->busy);
	map_fini(&sh->clients);
	map_fini(&sh->sessions);
	map_fini(&sh->marks);
}

void session_tidy(struct shard *sh)
{
	uint64_t now_ns = loop_now_ns(sys_loop(sh->sys));
	unsigned steps = 0;

	list_each_safe (it, &sh->idle) {
		struct session *s = container_of(it, struct session, link);
		uint64_t idle_ms = (now_ns - s->idle_since_ns) / SYS_MS;

		if (idle_ms < LIMIT_MARK_LAPSE_MS || steps >= TIDY_STEP)
			return;
		while (!list_empty(&s->marks) && steps++ < TIDY_STEP)
			mark_lapse(sh, container_of(s->marks.next, struct mark, link));
		if (s->n_marks == 0 && s->has_room) {
			grant_end_session(sh, s->id);
			stage_end_session(sh, s->id);
			s->has_room = false;
		}
		if (idle_ms >= LIMIT_SESSION_IDLE_MS && s->n_marks == 0) {
			forget(sh, s);
			steps++;
		}
	}
}
