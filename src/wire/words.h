/* SPDX-License-Identifier: Apache-2.0 */
/* words.h: the small vocabularies inside messages.  Values are on the wire: never renumber. */
#ifndef WIRE_WORDS_H
#define WIRE_WORDS_H

enum wire_role {
	ROLE_CLIENT = 1, ROLE_META = 2, ROLE_STORE = 3, ROLE_GATEWAY = 4,
	ROLE_REPLICA = 5,        /* another replica of the shard: let in whoever leads */
};
enum wire_bucket_kind { BUCKET_FLAT = 0, BUCKET_TREE = 1 };
enum wire_lifetime {
	LIFETIME_DEFAULT = 0, LIFETIME_JOB = 1, LIFETIME_TTL = 2, LIFETIME_PERSIST = 3,
};
enum wire_protection {
	PROTECT_DEFAULT = 0, PROTECT_NONE = 1, PROTECT_LINEAGE = 2, PROTECT_COPIES = 3,
};
enum wire_entry_kind { ENTRY_FILE = 0, ENTRY_DIR = 1, ENTRY_PREFIX = 2 };
enum wire_tier { TIER_DRAM = 0, TIER_FLASH = 1, TIER_DISK = 2, TIER_COUNT = 3 };
enum wire_place_lost { PLACE_GONE = 1, /* with its server's incarnation */
	PLACE_ROTTEN = 2 };      /* on each of its servers it is not what was written */
#define TIER_BIT(tier) (1u << (tier))
enum wire_put_flags {
	PUT_IF_ABSENT = 1,       /* EXISTS when the name is taken */
	PUT_IF_VERSION = 2,      /* CONFLICT unless the name has that version */
	PUT_PERSIST = 4,         /* outlives the job, synced before it is acknowledged */
	PUT_DELETE_ON_READ = 8,  /* freed once a get has read it */
	PUT_DURABLE = 16,        /* synced before it is acknowledged */
	PUT_MORE = 32,           /* commit: further extents follow */
	PUT_AHEAD = 64,          /* grant: wanted later; a part of what is free will do */
};
enum wire_get_flags {
	GET_WAIT = 1,            /* park until the name exists, at most wait_ms */
	GET_CONSUME = 2,         /* delete after this read; refused to a second reader meanwhile */
	GET_PLACES = 4,          /* the caller reads extents itself: no inline bytes of a range */
};
enum wire_latency { LATENCY_ANY = 0, LATENCY_SENSITIVE = 1, LATENCY_INSENSITIVE = 2 };
enum wire_job_state { JOB_ACTIVE = 1, JOB_ENDING = 2, JOB_ENDED = 3 };
enum wire_node_roles { NODE_RUNS_META = 1, NODE_RUNS_STORE = 2 };
enum wire_node_flags {
	NODE_NEW = 1,            /* has joined, and is not counted in the shard's target yet */
	NODE_DRAIN = 2,          /* leaves: gets nothing new */
	NODE_REMOVED = 4,        /* was; its id is never given again */
	NODE_LEADS = 8,
	NODE_IN_SYNC = 16,
	NODE_CONNECTED = 32,     /* as the one that leads sees it */
};
enum wire_node_storage { STORAGE_NONE = 0, STORAGE_UP = 1, STORAGE_AWAY = 2 };
enum wire_shard_move { SHARD_HANDOVER = 1, SHARD_TARGET = 2, SHARD_FORCE = 3 };
enum wire_server_state { SERVER_UP = 1, SERVER_SILENT = 2, SERVER_GONE = 3 };
#endif
