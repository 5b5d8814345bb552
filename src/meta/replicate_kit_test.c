/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/replicate_kit_test.h"
#include "base/check.h"
#include "base/hash.h"
#include "coord/embedded.h"
#include <stdio.h>
#include <stdlib.h>

enum { SETTLE_MS = 4000, PROGRESS_MS = 2000, OPEN_TRIES = 100 };

bool house_verbose;

/* ---- the shard ---- */
static struct bytes key_of(uint32_t row, uint8_t room[9])
{
	room[0] = 'r';
	put_be64(room + 1, row);
	return bytes_of(room, 9);
}

static void put_row(struct house_node *n)
{
	struct house *h = n->h;
	uint8_t key[9], *value;
	uint32_t row = h->next_row;
	uint64_t dice = prng_below(&h->p, 4);

	if (row == HOUSE_ROWS_MAX || n->n_puts == HOUSE_PUTS_MAX ||
		(db_room(n->db) != 0 && (!h->greedy || db_room(n->db) != E_FULL)))
		return;
	value = malloc(h->value_bytes + 4);
	check(value != NULL);
	memset(value, (int)row, h->value_bytes + 4);
	put_le32(value, row);
	h->next_row++;
	h->acks[row] = HOUSE_UNKNOWN;
	db_put(n->db, key_of(row, key), bytes_of(value, h->value_bytes + 4));
	free(value);
	if (dice == 0 && !h->careless)
		db_want_sync(n->db);
	n->puts[n->n_puts].row = row;
	n->puts[n->n_puts++].index = db_seen(n->db);
}

static int write_run(void *arg)
{
	struct house_node *n = arg;
	uint64_t pace_ns = n->h->pace_ns != 0 ? n->h->pace_ns : SYS_MS;
	int rc = 0;

	while (rc == 0 && !n->stopped) {
		uint64_t k = prng_below(&n->h->p, 4);

		for (uint64_t i = 0; i < k && !n->h->quiet; i++)
			put_row(n);
		rc = fiber_sleep(sys_after(n->s, pace_ns));
	}
	return rc;
}

static void acknowledge(struct house_node *n, uint32_t row, enum house_ack ack)
{
	struct house *h = n->h;

	if (h->acks[row] >= ack)
		return;
	h->n_acked += ack == HOUSE_WRITTEN;
	h->n_synced += ack == HOUSE_SYNCED;
	h->acks[row] = (uint8_t)ack;
	h->last_ack_ns = sim_now_ns(h->w);
}

static void moved(void *arg, uint64_t written, uint64_t synced)
{
	struct house_node *n = arg;
	uint32_t kept = 0;

	check(n->db != NULL);
	check(!n->stopped);
	for (uint32_t i = 0; i < n->n_puts; i++) {
		uint64_t index = n->puts[i].index;

		if (index <= written)
			acknowledge(n, (uint32_t)n->puts[i].row, HOUSE_WRITTEN);
		if (index <= synced)
			acknowledge(n, (uint32_t)n->puts[i].row, HOUSE_SYNCED);
		else
			n->puts[kept++] = n->puts[i];
	}
	n->n_puts = kept;
}

/* Every row that was acknowledged is there, and none that nobody put. */
static void judge(struct house *h, struct db *db)
{
	struct bytes value;
	uint8_t key[9];

	for (uint32_t row = 0; row < HOUSE_ROWS_MAX && row <= h->next_row; row++) {
		int rc = db_get(db, key_of(row, key), &value);

		check(rc == 0 || rc == E_NOTFOUND);
		check(rc == 0 || h->acks[row] < HOUSE_WRITTEN); /* an acknowledged row is lost */
		check(rc != 0 || h->acks[row] != HOUSE_NOT_PUT);
		check(rc != 0 || le32(value.p) == row);
	}
}

static int lead(void *arg, struct db *db, uint64_t epoch, struct err_note *note)
{
	struct house_node *n = arg;

	check(n->db == NULL);
	check(epoch > n->h->last_epoch);
	n->h->last_epoch = epoch;
	n->h->n_leads++;
	n->db = db;
	n->epoch = epoch;
	n->n_puts = 0;
	n->stopped = false;
	judge(n->h, db);
	group_init(&n->writer, sys_loop(n->s));
	return fiber_start(&n->writer, "writer", write_run, n);
}

static void stop(void *arg)
{
	struct house_node *n = arg;

	check(n->db != NULL);
	check(!n->stopped);
	n->stopped = true;
}

static void leave(void *arg)
{
	struct house_node *n = arg;

	check(n->stopped);
	check(n->db != NULL);
	(void)group_wait(&n->writer);
	n->db = NULL;
}

static void failed(void *arg, int rc, const struct err_note *note)
{
	struct house_node *n = arg;

	(void)note;
	check(!n->failed);
	n->failed = true;
	n->failed_rc = rc;
	waitq_wake_all(&n->stop_q);
}

static const struct replicate_calls calls = {
	.lead = lead, .stop = stop, .leave = leave, .moved = moved, .failed = failed,
};

/* ---- a node ---- */
static void on_say(void *arg, struct rpc_request *req)
{
	struct house_node *n = arg;

	if (n->r != NULL)
		replicate_on_say(n->r, req);
	else
		rpc_reply_error(req, E_UNAVAILABLE, NULL, RPC_NOW);
}

static int hello(void *arg, struct rpc_conn *c, const struct msg_hello *m,
	struct msg_hello_ok *ret_ok, char *ret_hint, struct err_note *note)
{
	struct house_node *n = arg;

	(void)c;
	(void)ret_hint;
	(void)ret_ok;
	check(m->role == ROLE_REPLICA);
	if (!bytes_equal(m->token, bytes_of(n->h->token, strlen(n->h->token))))
		return err_set(note, E_DENIED, "another token");
	return 0;
}

static void on_copy(void *arg, struct rpc_request *req)
{
	struct house_node *n = arg;

	if (n->r != NULL)
		replicate_on_copy(n->r, req);
	else
		rpc_reply_error(req, E_UNAVAILABLE, NULL, RPC_NOW);
}

static const struct rpc_op ops[] = {
	{ OP_replica_say, RPC_STREAM, on_say },
	{ OP_replica_copy, RPC_FIBER, on_copy },
};

static PARKS int open_coord(struct house_node *n, struct err_note *note)
{
	char moved_to[COORD_URL_MAX];
	int rc;

	if (n->h->cs != NULL)
		return coord_sim_open(n->h->cs, n->s, n->name, &n->coord, note);
	if ((rc = sys_mkdir(n->s, "/coord", note)) < 0)
		return rc;
	return coord_embedded_open(n->s, "/coord", true, &n->coord, moved_to, note);
}

/* Where this node is; its row may be there already. */
static PARKS int announce(struct house_node *n, struct err_note *note)
{
	struct coord_node row = { .id = n->id, .role = "meta" }, now = { 0 };
	int rc = E_CONFLICT;

	if (n->h->cs == NULL)
		return 0;
	snprintf(row.address, sizeof row.address, "tcp:%s:7000", n->name);
	for (int i = 0; i < OPEN_TRIES && rc < 0 && rc != E_CANCELED; i++) {
		rc = coord_node_put(n->coord, now.revision, &row, sys_after(n->s, SYS_SEC), &now,
			note);
		if (rc < 0 && rc != E_CANCELED && rc != E_CONFLICT &&
			fiber_sleep(sys_after(n->s, 20 * SYS_MS)) < 0)
			return E_CANCELED;
	}
	return rc;
}

static PARKS int open_replica(struct house_node *n, struct err_note *note)
{
	const struct house *h = n->h;
	struct db_opts limits = { .memtable_bytes_max = h->merges ? 128 << 10 : 0,
		.merge_log_bytes = h->merges ? 256 << 10 : 0,
		.merge_every_ns = h->merges ? SYS_SEC : 0,
		.tree_bytes_max = 64 << 20,
		.log_segment_bytes = 256 << 10,
		.log_keep_bytes = 512 << 10 };
	struct replicate_opts o = { .dir = "/meta",
		.db = &limits,
		.coord = n->coord,
		.shard = 3,
		.id = n->id,
		.first_target = n->id == 1 ? n->h->first_target : 0,
		.token = bytes_of(n->h->token, strlen(n->h->token)),
		.calls = &calls,
		.arg = n };
	struct rpc_service svc = { .ops = ops, .n_ops = 2, .arg = n, .hello = hello };
	char addr[32];
	const char *bound;
	int rc;

	n->svc = svc;
	snprintf(addr, sizeof addr, "tcp:%s:7000", n->name);
	if ((rc = rpc_server_new(n->s, &n->svc, &n->server)) < 0 ||
		(rc = rpc_server_listen(n->server, addr, &bound, note)) < 0)
		return rc;
	return replicate_open(n->s, &o, &n->r, note);
}

static int node_main(struct sys *s, void *arg)
{
	struct err_note note = { "" };
	struct house_node *n = arg;
	struct replicate *r;
	int rc;

	n->s = s;
	n->coord = NULL;
	n->server = NULL;
	n->r = NULL;
	n->db = NULL;
	n->closing = n->failed = false;
	waitq_init(&n->stop_q);
	rc = open_coord(n, &note);
	if (rc == 0)
		rc = announce(n, &note);
	if (rc == 0)
		rc = open_replica(n, &note);
	if (rc < 0 && rc != E_CANCELED)
		fprintf(stderr, "node %s: %s: %s\n", n->name, err_name(rc), note.text);
	n->open_rc = rc;
	while (rc == 0 && !n->closing && !n->failed)
		if ((rc = waitq_wait(&n->stop_q, sys_after(s, 10 * SYS_MS))) == E_TIMEOUT)
			rc = 0;
	r = n->r;
	n->close_rc = replicate_close(r, sys_after(s, 2 * SYS_SEC), &note);
	n->r = NULL;
	rpc_server_free(n->server);
	coord_close(n->coord);
	return rc;
}

/* ---- the house ---- */
static void trace_line(void *arg, uint64_t now_ns, const char *node, const char *text)
{
	struct house *h = arg;

	if (h->verbose && (strncmp(text, "log:", 4) == 0 || strstr(text, "kill") != NULL ||
		strstr(text, "power") != NULL || strstr(text, "start") != NULL))
		fprintf(stderr, "[%llu.%03llu] %s %s\n", (unsigned long long)(now_ns / SYS_MS),
			(unsigned long long)(now_ns / SYS_US % 1000), node, text);
}

struct house *house_new(uint64_t seed, const struct sim_faults *f, uint32_t n_nodes)
{
	struct house *h = calloc(1, sizeof *h);

	check(h != NULL);
	check(n_nodes <= HOUSE_NODES);
	h->w = sim_new(seed, f);
	h->p = prng_fork(seed, 71);
	h->verbose = house_verbose;
	sim_trace(h->w, trace_line, h);
	h->n_nodes = n_nodes;
	h->first_target = n_nodes;
	h->value_bytes = 40;
	h->token = "all replicas know this";
	h->merges = true;
	h->cs = n_nodes > 1 ? coord_sim_new(h->w, seed, &coord_sim_quiet) : NULL;
	for (uint32_t i = 0; i < n_nodes; i++) {
		struct house_node *n = &h->nodes[i];

		n->h = h;
		n->id = i + 1;
		snprintf(n->name, sizeof n->name, "%c", 'a' + (int)i);
		n->node = sim_node_add(h->w, n->name, HOUSE_DISK);
	}
	return h;
}

void house_free(struct house *h)
{
	sim_free(h->w);
	if (h->cs != NULL)
		coord_sim_free(h->cs);
	free(h);
}

void house_start(struct house *h, uint32_t i)
{
	sim_node_start(h->nodes[i].node, node_main, &h->nodes[i]);
}

void house_close(struct house *h, uint32_t i)
{
	h->nodes[i].closing = true;
}

void house_kill(struct house *h, uint32_t i)
{
	sim_node_kill(h->nodes[i].node);
}

/* What was written everywhere and synced nowhere may be gone, when the set had shrunk to this one.
 */
void house_power(struct house *h, uint32_t i)
{
	for (uint32_t row = 0; row < h->next_row; row++)
		if (h->acks[row] == HOUSE_WRITTEN)
			h->acks[row] = HOUSE_UNKNOWN;
	sim_node_crash(h->nodes[i].node);
}

void house_run(struct house *h, uint64_t ns)
{
	sim_run(h->w, sim_now_ns(h->w) + ns);
}

int house_leader(const struct house *h)
{
	int leader = -1;

	for (uint32_t i = 0; i < h->n_nodes; i++) {
		const struct house_node *n = &h->nodes[i];

		if (!sim_node_up(n->node) || n->db == NULL || n->stopped)
			continue;
		if (leader >= 0)
			return -1;
		leader = (int)i;
	}
	return leader;
}

static uint64_t sum_of(struct db *db, uint64_t *ret_rows)
{
	struct bytes key, value;
	struct db_iter it;
	uint64_t sum = 0;

	*ret_rows = 0;
	db_iter_begin(&it, db, BYTES("r"), BYTES("s"));
	while (db_iter_next(&it, &key, &value)) {
		sum = hash64(hash64(sum, key.p, key.len), value.p, value.len);
		++*ret_rows;
	}
	db_iter_end(&it);
	return sum;
}

/* For whoever looks why it failed. */
static void say_status(struct house *h, uint32_t i)
{
	const struct replica *c = &h->nodes[i].r->core;

	if (!h->verbose)
		return;
	fprintf(stderr, "%u: %s epoch %llu set %u last %llu written %llu commit %llu\n", i,
		sm_name(&c->state), (unsigned long long)c->mark.epoch, c->config.in_sync.n,
		(unsigned long long)c->last.index, (unsigned long long)c->written,
		(unsigned long long)c->commit);
	for (uint32_t k = 0; k < c->n_peers; k++)
		fprintf(stderr, "   %llu found %d copy %d joining %d flags %x written %llu "
			"backoff %llu ms\n",
			(unsigned long long)c->peers[k].id, c->peers[k].found,
			c->peers[k].needs_copy, c->peers[k].joining, c->peers[k].flags,
			(unsigned long long)c->peers[k].written,
			(unsigned long long)c->peers[k].backoff_ns / 1000000);
}

void house_settle(struct house *h)
{
	uint64_t rows[HOUSE_NODES], sums[HOUSE_NODES], begin_ns = sim_now_ns(h->w);
	uint64_t acked = h->n_acked;
	int leader;

	h->quiet = false;
	house_run(h, PROGRESS_MS * SYS_MS);
	for (uint32_t i = 0; h->n_acked == acked && i < h->n_nodes; i++)
		say_status(h, i);
	check(h->n_acked > acked); /* progress */
	house_run(h, SETTLE_MS * SYS_MS); /* all of them are in the set again */
	h->quiet = true;
	house_run(h, SYS_SEC + SYS_SEC);
	leader = house_leader(h);
	check(leader >= 0);
	for (uint32_t i = 0; i < h->n_nodes; i++)
		say_status(h, i);
	check(h->last_ack_ns > begin_ns);
	judge(h, h->nodes[leader].r->db);
	for (uint32_t i = 0; i < h->n_nodes; i++) {
		const struct replica *c = &h->nodes[i].r->core;

		check(c->commit == h->nodes[leader].r->core.commit);
		check(c->commit == c->last.index);
		check(h->nodes[leader].r->core.config.in_sync.n == h->n_nodes);
		sums[i] = sum_of(h->nodes[i].r->db, &rows[i]);
		check(rows[i] == rows[0]);
		check(sums[i] == sums[0]);
	}
	h->quiet = false;
}
