/* SPDX-License-Identifier: Apache-2.0 */
/* replicate_kit_test.h: for tests: replicas on simulated nodes, each with a tiny shard that puts
 * numbered rows while it leads, and a judge who knows which of them were acknowledged. */
#ifndef META_REPLICATE_KIT_TEST_H
#define META_REPLICATE_KIT_TEST_H
#include "coord/coord_sim.h"
#include "meta/replicate_own.h"
#include "sys/sim/sim.h"

enum { HOUSE_NODES = 3, HOUSE_ROWS_MAX = 200000, HOUSE_PUTS_MAX = 4096, HOUSE_DISK = 256 << 20 };
enum house_ack { HOUSE_NOT_PUT, HOUSE_UNKNOWN, HOUSE_WRITTEN, HOUSE_SYNCED };

struct house;
struct house_node {
	struct house *h;
	struct sim_node *node;
	char name[4];
	uint64_t id;
	struct sys *s;
	struct coord *coord;
	struct rpc_server *server;
	struct rpc_service svc;
	struct replicate *r; /* NULL: not open */
	struct waitq stop_q;
	bool up, closing, failed;
	int open_rc, failed_rc, close_rc;
	/* the shard */
	struct db *db; /* while it leads */
	struct group writer;
	uint64_t epoch, put_first; /* rows that wait for an acknowledgement */
	uint32_t n_puts;
	struct { uint64_t row, index; } puts[HOUSE_PUTS_MAX];
	bool stopped;
};
struct house {
	struct sim *w;
	struct coord_sim *cs; /* NULL: the embedded one */
	struct prng p;
	uint32_t n_nodes, first_target;
	struct house_node nodes[HOUSE_NODES];
	uint8_t acks[HOUSE_ROWS_MAX]; /* enum house_ack */
	uint32_t next_row;
	bool quiet; /* nothing is put */
	bool careless; /* nobody waits for a sync */
	bool verbose, merges;
	bool greedy; /* puts on a full disk, too */
	uint32_t value_bytes;
	uint64_t pace_ns; /* between puts; 0: a millisecond */
	uint64_t n_leads, n_acked, n_synced, last_epoch, last_ack_ns;
	const char *token;
};
extern bool house_verbose; /* of those to come: tells what happens */
struct house *house_new(uint64_t seed, const struct sim_faults *f, uint32_t n_nodes);
void house_free(struct house *h);
void house_start(struct house *h, uint32_t i);
void house_close(struct house *h, uint32_t i); /* asks it to; politely */
void house_kill(struct house *h, uint32_t i);
void house_power(struct house *h, uint32_t i);
void house_run(struct house *h, uint64_t ns);
/* -1: nobody leads, or more than one seems to. */
int house_leader(const struct house *h);
/* Everything is up and whole; after this it must have come together: acknowledges, is equal. */
void house_settle(struct house *h);
#endif
