/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h: what the clients of a simulated cluster were told, kept outside of it, and what may
 * follow from that.
 *
 * A key has one writer.  Its history is the list of changes that the writer asked for; entry 0 says
 * that it is absent.  What stands under the key is what one entry left, somewhere from *floor* (the
 * last that was acknowledged or seen) to the end.  A power cut lowers the floor to *sure*, the last
 * entry that was acknowledged as durable; it ends an *era*.  A change whose outcome is unknown may
 * happen at any time: nothing is asked of its key any more (ledger_usable()).
 *
 * With ledger_history() everything is written down, too, and judged at the end (linear.h): there
 * several writers may meet at a key, and an unknown outcome does not end what is known of it.
 * Values are functions of (key, entry), or of numbered claims, so that each byte read is
 * checked. */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H
#include "base/bytes.h"
#include "sim/linear.h"
#include "sim/scenario.h"

enum {
	LEDGER_KEYS_MAX = 1024,
	LEDGER_ENTRIES_MAX = 64, /* of one key */
	LEDGER_NAME_MAX = 32,
	LEDGER_VALUE_MIN = 24,
	LEDGER_VERSIONS = 1 << 14,
};

struct entry {
	bool put; /* else deleted, or never there */
	bool durable, acked;
	uint32_t len;
	uint32_t boot;    /* of the shard, when it was asked for */
	uint64_t version; /* 0: not told */
};
struct key {
	char name[LEDGER_NAME_MAX];
	const char *bucket;
	bool unknown, pending;
	uint32_t n; /* entries */
	uint32_t floor, sure;
	struct entry entries[LEDGER_ENTRIES_MAX];
};
struct ledger {
	struct scenario *sc;
	uint32_t n_keys, era, boot;
	bool files; /* of storage servers hold values, too */
	bool rot;   /* and bits of them flip */
	uint64_t acks, reads, losses;
	uint32_t value_bytes_max;
	struct key keys[LEDGER_KEYS_MAX];
	uint64_t versions[LEDGER_VERSIONS]; /* open hash of those told; 0: free */
	uint32_t n_versions;
	struct linear *history; /* NULL: none is kept */
	uint64_t now, boot_at;  /* counts what is written down, as its time */
};

struct ledger *ledger_new(struct scenario *sc, uint32_t value_bytes_max);
void ledger_history(struct ledger *l); /* from now on */
/* When nothing happens any more: violation() for each key whose history has no order. */
void ledger_judge(struct ledger *l);
void ledger_power_cut(struct ledger *l);   /* of the shard: call when it happens */
void ledger_boot(struct ledger *l);        /* the shard's process is another from now on */
/* What is in the bucket may be lost from now on, durable or not: somebody gave up where it was. */
void ledger_given_up(struct ledger *l, const char *bucket);

/* NULL when there is no room for more. */
struct key *ledger_key(struct ledger *l, const char *bucket);
static inline bool ledger_usable(const struct key *k)
{
	return !k->unknown && !k->pending && k->n < LEDGER_ENTRIES_MAX;
}

/* What is known when a request goes out; compared with what came back. */
struct look {
	uint32_t era, floor, sure;
	uint64_t begin;
	uint64_t version; /* what a get that began so was told: set by who has it */
};
struct look ledger_look(struct ledger *l, const struct key *k);

/* A change: begin, asked, end.  cond says under which condition it was asked for. */
enum cond { COND_NONE, COND_ABSENT, COND_VERSION };
struct change {
	struct key *k;
	uint32_t i; /* entry */
	struct look look;
	enum cond cond;
	uint64_t if_version;
	uint32_t asked;
};
void ledger_begin(struct ledger *l, struct change *ch, struct key *k, bool put, bool durable,
	uint32_t len);
/* Just before it is asked; durable: once acknowledged, no power cut takes it back. */
void ledger_asked(struct ledger *l, struct change *ch, bool durable);
void ledger_end(struct ledger *l, struct change *ch, int rc, uint64_t version);

/* The bytes that entry i of a key put. */
void ledger_value(const struct ledger *l, const struct key *k, uint32_t i, uint8_t *buf);
/* A get, stat or listing that began with that look ended so. */
void ledger_got(struct ledger *l, struct key *k, struct look look, int rc, struct bytes data);
void ledger_there(struct ledger *l, struct key *k, struct look look, bool there);

/* For keys of several writers: something is asked, and ends with rc; then a get or a take has that
 * value, and it or a put that version. */
uint32_t ledger_ask(struct ledger *l, const char *bucket, const char *name,
	const struct linear_op *op);
void ledger_told(struct ledger *l, uint32_t asked, int rc, uint64_t value, uint64_t version);
/* A listing that began then has this name or not. */
uint64_t ledger_now(struct ledger *l);
void ledger_listed(struct ledger *l, uint64_t begin, const char *bucket, const char *name,
	bool there);

/* Each version (an inode's id) is given once. */
void ledger_version(struct ledger *l, uint64_t version);
/* May the outcome be anything?  Else a failure means that nothing was changed. */
bool ledger_unknown(int rc);
/* Bytes that tell who wrote them, for the other kinds of keys. */
void ledger_stamp(const struct ledger *l, uint64_t what, uint64_t who, uint8_t *buf, uint32_t len);
bool ledger_stamped(const struct ledger *l, uint64_t what, struct bytes data, uint64_t *ret_who);
#endif
