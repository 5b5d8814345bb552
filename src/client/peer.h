/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h: storage servers as a client sees them: a connection each, made when first needed, and the
 * arenas that they share with us.
 *
 * A peer is known by server id and incarnation.  When its host is ours it is reached over its Unix
 * socket, where descriptors of its memory travel; when that fails, over TCP as any other.  An
 * arena's id means something on one connection only: when that breaks, its maps are kept only as
 * long as a view looks into them (P1). */
#ifndef CLIENT_PEER_H
#define CLIENT_PEER_H
#include "rpc/rpc.h"

struct peer;

struct arena_map {
	struct list link;            /* in peer.maps; to itself once the connection is gone */
	uint64_t arena;
	bool writable;
	struct sys_shm *shm;
	uint8_t *base;
	uint64_t bytes;
	uint32_t n_refs;             /* the peer's own, and one for each view */
};
void map_ref(struct arena_map *m);
void map_unref(struct arena_map *m);

struct peers {
	struct sys *sys;
	struct group *group;
	struct list list;
	struct msg_hello hello;      /* to introduce ourselves with */
	uint64_t round_trips;        /* of connections that are closed */
};
void peers_init(struct peers *ps, struct sys *s, struct group *g,
	const struct msg_hello *hello);
PARKS void peers_fini(struct peers *ps);
uint64_t peers_round_trips(const struct peers *ps);

/* The peer of an address that a shard gave; made when new.  Lives until peers_fini(). */
struct peer *peer_find(struct peers *ps, const struct sub_server_addr *a);
/* As last told by a shard; NULL when it was never mentioned. */
struct peer *peer_by_id(struct peers *ps, uint32_t server);
uint32_t peer_server(const struct peer *p);
bool peer_same_host(const struct peer *p); /* as ours, connected or not */
/* It failed to answer, a moment ago: others are to be asked first. */
void peer_note_failure(struct peer *p);
bool peer_failed_lately(const struct peer *p);
const char *peer_name(const struct peer *p);
bool peer_near(const struct peer *p); /* connected by Unix socket: memory can be shared */
/* The process is surely gone: it was on this host, and its socket refused us.  What it had in
 * memory is lost, though the shard waits for longer before it says so. */
bool peer_died(const struct peer *p);

/* A request; connects when needed, does not repeat.  The reply's lists and bytes borrow from call.
 * */
PARKS int peer_ask(struct peer *p, struct rpc_call *call, uint16_t reply_op, void *ret_reply,
	uint64_t until_ns, struct err_note *note);
PARKS int peer_connect(struct peer *p, uint64_t until_ns, struct err_note *note);
/* Sends a request whose answer nobody waits for; msg is copied, what it points to is not.  Does
 * nothing when the connection is gone. */
void peer_tell(struct peer *p, uint16_t op, const void *msg, size_t msg_bytes);
/* Which connection of the peer this is; what was said on another one (pins, arenas) is void. */
uint64_t peer_generation(const struct peer *p);

/* ---- for loan.c ---- */
int peer_start(struct peer *p, struct rpc_call *call); /* as rpc_start(); E_CLOSED without one */
struct sys_shm *peer_descriptor(struct peer *p);       /* the next that came, or NULL */
/* The map of an arena; given is its descriptor when one came, and is taken.  E_CORRUPT when the
 * server names memory that it never gave, or lies about its size. */
int peer_map(struct peer *p, uint64_t arena, uint64_t arena_bytes, struct sys_shm *given,
	bool writable, struct arena_map **ret_m, struct err_note *note);
#endif
