/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: a storage server: devices of memory and files, extents in them, connections of clients,
 * and one connection to the controller, through which it is told what to forget. */
#ifndef STORE_STORE_H
#define STORE_STORE_H
#include "sys/sys.h"
#include "wire/words.h"

struct store;

struct store_device {
	uint8_t tier;            /* enum wire_tier */
	uint64_t bytes;          /* capacity */
	const char *dir;         /* flash, disk: created when missing, one server's at a time */
	uint64_t egroup_bytes;   /* most bytes of an egroup, size of an arena; 0: by the capacity */
	uint64_t ready_bytes;    /* dram: fresh memory kept prefaulted; 0: all that is unused */
};

struct store_opts {
	const char *dir;         /* keeps the server's uuid; created when missing */
	const struct store_device *devices; /* numbered in this order */
	unsigned n_devices;      /* at most LIMIT_DEVICES_MAX */
	/* "tcp:HOST:PORT" (port 0: any), "unix:/path".  The first of each kind is told to the
	 * controller.  Shared memory needs a Unix socket. */
	const char *const *listen;
	unsigned n_listen;
	const char *advertise;   /* address told to clients instead of the bound one; NULL: that */
	const char *controller;  /* where the metadata is, as route_init() takes it */
	struct bytes token;      /* for its hello: proof of the cluster; a Unix socket needs none */
	const char *name;        /* for people; NULL: the host's */
	uint64_t node;           /* of a cluster, whose storage this is; 0: none */
	const char *rack;        /* label of what fails together with this host; NULL: none */
	uint64_t scrub_ms;       /* in which all is read again; 0: LIMIT_SCRUB_MS */
	/* Called once everything listens and the files were read, with the addresses as bound, in
	 * the order of listen.  May be NULL. */
	void (*ready)(void *arg, const char *const *bound, unsigned n_bound);
	void *arg;
};

/* Opens the devices (reading the index of files), listens, and keeps registering with the
 * controller until it is freed.  Everything in o must stay.  E_INUSE: another process has a
 * directory.  E_INVALID: options that contradict each other. */
PARKS int store_new(struct sys *s, const struct store_opts *o, struct store **ret_st,
	struct err_note *note);
PARKS void store_free(struct store *st); /* ends its connections and fibers; NULL is fine */

/* capacity = used + pinned + reserved + free, exactly. */
struct store_device_status {
	uint8_t tier;
	uint64_t capacity_bytes;
	uint64_t used_bytes;     /* contents of sealed extents */
	uint64_t pinned_bytes;   /* dropped, but still mapped or being read */
	uint64_t reserved_bytes; /* being written, rounding, headers, what cannot be used */
	uint64_t free_bytes;
	uint64_t ready_bytes;    /* dram: prefaulted, whether in use or not */
	uint64_t egroup_bytes;
	uint64_t read_bytes, written_bytes; /* since the start */
	uint32_t n_egroups, n_extents;
	uint32_t n_broken;       /* headers found torn or rotten when the files were read */
	uint32_t n_corrupt;      /* reads that met bytes other than those written */
};
struct store_status {
	uint64_t incarnation;
	uint32_t server;         /* number given by the controller; 0: never registered */
	uint32_t n_clients, n_pins;
	bool fenced;             /* no controller for LIMIT_STORE_FENCE_MS: serves nobody */
	uint64_t in_bytes, out_bytes;
	struct store_scrub {     /* what is at rest is read again */
		uint64_t extents, bytes, found; /* since the start; found: not what was written */
		uint64_t passes, ended_ms;      /* all was read; ended_ms: the last, wall clock */
		uint32_t n_bad;                 /* are here, and not what was written */
	} scrub;
	unsigned n_devices;
	struct store_device_status devices[16];
};
void store_status(const struct store *st, struct store_status *ret);
/* Walks everything; stops the process where an invariant does not hold. */
void store_audit(const struct store *st);
#endif
