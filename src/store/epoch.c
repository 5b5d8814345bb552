/* SPDX-License-Identifier: Apache-2.0 */
/* The highest epoch of the shard that was heard, kept on the medium before anything says so: one
 * that leads no more is not obeyed, not after a restart either (core/replica.h, R12).
 *
 * Two blocks of a file are written in turn and in place, so a full disk is no reason to forget:
 *
 *   | 0 | 8 | "WADIEPO1"                         |
 *   | 8 | 8 | epoch                              |
 *   | 16 | 8 | XXH3 of both                      |
 */
#include "base/hash.h"
#include "core/replica.h"
#include "store/own.h"
#include <stdio.h>
#include <stdlib.h>

enum { EPOCH_BYTES = 24, BLOCKS = 2, LOCK_S = 30 };

static const char magic[8] = { 'W', 'A', 'D', 'I', 'E', 'P', 'O', '1' };

static PARKS int path_open(struct store *st, unsigned flags, struct sys_file **ret_f,
	struct err_note *note)
{
	char path[PATH_BYTES];

	if ((size_t)snprintf(path, sizeof path, "%s/epoch", st->opts->dir) >= sizeof path)
		return err_set(note, E_TOOBIG, "the path of the data directory");
	return sys_open(st->sys, path, flags, ret_f, note);
}

static void block_put(uint64_t epoch, uint8_t block[SYS_BLOCK])
{
	struct writer w = writer_of(block, EPOCH_BYTES);

	memset(block, 0, SYS_BLOCK);
	write_raw(&w, magic, sizeof magic);
	write_u64(&w, epoch);
	write_u64(&w, hash64(0, block, 16));
	check(w.ok);
}

/* 0: it holds none. */
static uint64_t block_get(const uint8_t *block)
{
	struct reader r = reader_of(block + 8, 16);
	uint64_t epoch = read_u64(&r), hash = read_u64(&r);

	if (memcmp(block, magic, sizeof magic) != 0 || hash != hash64(0, block, 16))
		return 0;
	return epoch;
}

static PARKS int write_at(struct store *st, unsigned at, uint64_t epoch, struct err_note *note)
{
	uint8_t *block = malloc(SYS_BLOCK);
	struct sys_file *f;
	int rc;

	if (block == NULL)
		return err_set(note, E_NOMEM, "the file of the epoch");
	rc = path_open(st, SYS_WRITE | SYS_CREATE, &f, note);
	if (rc == 0) {
		block_put(epoch, block);
		rc = sys_pwrite(f, block, SYS_BLOCK, (uint64_t)at * SYS_BLOCK, note);
		if (rc == 0)
			rc = sys_sync(f, note);
		sys_close(f);
	}
	free(block);
	return rc;
}

PARKS int epoch_open(struct store *st, struct err_note *note)
{
	uint8_t *blocks = calloc(BLOCKS, SYS_BLOCK);
	struct sys_file *f = NULL;
	int64_t n = 0;
	int rc;

	if (blocks == NULL)
		return err_set(note, E_NOMEM, "the file of the epoch");
	rc = path_open(st, SYS_READ, &f, note);
	if (rc == 0) {
		n = sys_pread(f, blocks, BLOCKS * SYS_BLOCK, 0, note);
		sys_close(f);
		rc = n < 0 ? (int)n : 0;
	}
	for (unsigned i = 0; rc == 0 && i < BLOCKS; i++) {
		uint64_t epoch = block_get(blocks + (size_t)i * SYS_BLOCK);

		if (epoch > st->epoch) {
			st->epoch = epoch;
			st->epoch_at = i;
		}
	}
	free(blocks);
	if (rc == 0 && n > 0 && st->epoch == 0)
		sys_log(st->sys, "store: the file of the epoch is damaged; it is made anew");
	if (rc != E_NOTFOUND)
		return rc;
	/* Both blocks get their room now. */
	for (unsigned i = 0; i < BLOCKS; i++)
		if ((rc = write_at(st, i, 0, note)) < 0)
			return rc;
	return sys_sync_dir(st->sys, st->opts->dir, note);
}

PARKS int epoch_keep(struct store *st, uint64_t epoch, struct err_note *note)
{
	uint64_t highest = st->epoch;
	int rc = 0;

	if (epoch > highest) {
		rc = fiber_lock(&st->epoch_lock, sys_after(st->sys, LOCK_S * SYS_SEC));
		if (rc < 0)
			return err_set(note, rc, "keeping epoch %llu", (unsigned long long)epoch);
		if (epoch > st->epoch && (rc = write_at(st, !st->epoch_at, epoch, note)) == 0) {
			st->epoch_at = !st->epoch_at;
			st->epoch = epoch;
		}
		fiber_unlock(&st->epoch_lock);
		if (rc < 0)
			return err_wrap(note, rc, "keeping epoch %llu", (unsigned long long)epoch);
	}
	highest = st->epoch;
	if (!replica_fence(&highest, epoch))
		return err_set(note, E_STALE, "epoch %llu, heard of %llu",
			(unsigned long long)epoch, (unsigned long long)st->epoch);
	return 0;
}
