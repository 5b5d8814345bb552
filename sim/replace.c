/* SPDX-License-Identifier: Apache-2.0 */
/* replace: a node keeps a number in a file and replaces the file, again and again, by writing a new
 * one, syncing it, renaming it over the old one and syncing the directory.  Whatever happens to the
 * node, the file it finds afterwards is whole, not older than the last one it was sure of, and not
 * newer than the last one it tried. */
#include "base/bytes.h"
#include "base/hash.h"
#include "sim/scenario.h"

enum { FILE_BYTES = 6000, ROUNDS = 30, STEPS_MAX = 20, DISK_BYTES = 1 << 20 };

struct keeper {
	struct scenario *sc;
	uint64_t sure, tried; /* known outside of the node: survives it */
	uint64_t replaced, found;
};

/* Filled with its number from end to end, and a checksum in front. */
static void file_make(uint8_t *buf, uint64_t number)
{
	for (size_t i = 8; i + 8 <= FILE_BYTES; i += 8)
		put_le64(buf + i, number + i);
	put_le64(buf, crc32c(0, buf + 8, FILE_BYTES - 8));
}

static int find(struct sys *s, struct keeper *k, uint8_t *buf)
{
	struct sys_file *f;
	uint64_t number = 0;
	int64_t n;

	n = sys_open(s, "data/file", SYS_READ, &f, NULL);
	if (n == 0) {
		n = sys_pread(f, buf, FILE_BYTES, 0, NULL);
		sys_close(f);
		if (n == FILE_BYTES && le64(buf) == crc32c(0, buf + 8, FILE_BYTES - 8))
			number = le64(buf + 8) - 8;
		else if (n >= 0)
			violation(k->sc, "the file is whole", "%lld bytes, or a wrong checksum",
				(long long)n);
	} else if (n == E_NOTFOUND) {
		n = 0;
	}
	if (n < 0)
		return (int)n;
	if (number < k->sure)
		violation(k->sc, "what was synced is there", "%llu, though %llu was synced",
			(unsigned long long)number, (unsigned long long)k->sure);
	if (number > k->tried)
		violation(k->sc, "what is there was written", "%llu", (unsigned long long)number);
	k->found++;
	n = sys_sync_dir(s, "data", NULL);
	if (n == 0)
		k->sure = number; /* what was found is built upon: it must not go away any more */
	return (int)n;
}

static int replace(struct sys *s, const uint8_t *buf)
{
	struct sys_file *f;
	int rc = sys_open(s, "data/new", SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, NULL);

	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, buf, FILE_BYTES, 0, NULL);
	if (rc == 0)
		rc = sys_sync(f, NULL);
	sys_close(f);
	if (rc == 0)
		rc = sys_rename(s, "data/new", "data/file", NULL);
	return rc < 0 ? rc : sys_sync_dir(s, "data", NULL);
}

static int keeper_main(struct sys *s, void *arg)
{
	struct keeper *k = arg;
	uint8_t *buf = scenario_alloc(k->sc, FILE_BYTES);
	int rc = sys_mkdir(s, "data", NULL);

	if (rc == 0)
		rc = sys_sync_dir(s, "/", NULL);
	if (rc == 0)
		rc = find(s, k, buf);
	while (rc == 0) {
		file_make(buf, ++k->tried);
		rc = replace(s, buf);
		if (rc == 0) {
			k->sure = k->tried;
			k->replaced++;
			rc = fiber_sleep(sys_after(s, SYS_MS));
		}
	}
	return rc;
}

void scenario_replace(struct scenario *sc)
{
	struct keeper *k = scenario_alloc(sc, sizeof *k);
	struct sim_faults f = scenario_swarm(sc);
	struct sim_node *n = sim_node_add(sc->w, "keeper", DISK_BYTES);
	uint64_t ns;

	f.disk_rot_ppm = 0; /* one copy cannot survive it */
	sim_faults_set(sc->w, &f);
	k->sc = sc;
	for (int i = 0; i < ROUNDS; i++) {
		if (!sim_node_up(n))
			sim_node_start(n, keeper_main, k);
		ns = prng_below(sc->p, 100 * SYS_MS);
		scenario_run(sc, ns);
		scenario_steps(sc, STEPS_MAX);
		if (prng_next(sc->p) % 4 == 0)
			sim_node_kill(n);
		else
			sim_node_crash(n);
	}
	sim_faults_set(sc->w, &sim_no_faults);
	sim_node_start(n, keeper_main, k);
	scenario_run(sc, SYS_SEC);
	if (k->found == 0 || k->replaced == 0)
		violation(sc, "the node works once the faults have stopped", "%s",
			err_name(sim_node_result(n)));
}
