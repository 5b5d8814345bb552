/* SPDX-License-Identifier: Apache-2.0 */
/* The mark of a replica: a small file that is replaced as a whole, "replica" beside the rows.
 *
 * (K1) An incarnation is durable before anything is done under it.
 * (K2) A log belongs to one id: another one under the mark of this id is refused. */
#include "base/check.h"
#include "base/hash.h"
#include "meta/replicate_own.h"
#include <stdio.h>

enum { MARK_FILE_BYTES = 80, MARK_FILE_VERSION = 1, MARK_PATH_MAX = REPLICATE_DIR_MAX + 16 };
static const uint64_t mark_magic = 0x4b52414d49444157; /* "WADIMARK" */

static void path_of(const char *dir, const char *name, char to[MARK_PATH_MAX])
{
	int n = snprintf(to, MARK_PATH_MAX, "%s/%s", dir, name);

	check(n < MARK_PATH_MAX);
}

static void put(const struct mark_file *m, uint8_t to[MARK_FILE_BYTES])
{
	put_le64(to, mark_magic);
	put_le64(to + 8, MARK_FILE_VERSION);
	put_le64(to + 16, m->id);
	put_le64(to + 24, m->incarnation);
	put_le64(to + 32, m->mark.epoch);
	put_le64(to + 40, m->mark.sound_boot);
	put_le64(to + 48, m->uuid_hi);
	put_le64(to + 56, m->uuid_lo);
	put_le64(to + 64, m->generation);
	put_le64(to + 72, hash64(mark_magic, to, MARK_FILE_BYTES - 8));
}

static bool get(const uint8_t from[MARK_FILE_BYTES], struct mark_file *ret_m)
{
	if (le64(from) != mark_magic || le64(from + 8) != MARK_FILE_VERSION ||
		le64(from + 72) != hash64(mark_magic, from, MARK_FILE_BYTES - 8))
		return false;
	*ret_m = (struct mark_file){ .id = le64(from + 16),
		.incarnation = le64(from + 24),
		.mark = { le64(from + 32), le64(from + 40) },
		.uuid_hi = le64(from + 48),
		.uuid_lo = le64(from + 56),
		.generation = le64(from + 64) };
	return true;
}

int mark_file_read(struct sys *s, const char *dir, struct mark_file *ret_m, struct err_note *note)
{
	uint8_t room[MARK_FILE_BYTES + 1];
	char path[MARK_PATH_MAX];
	struct sys_file *f;
	int64_t n;
	int rc;

	path_of(dir, "replica", path);
	if ((rc = sys_open(s, path, SYS_READ, &f, note)) < 0)
		return rc;
	n = sys_pread(f, room, sizeof room, 0, note);
	sys_close(f);
	if (n < 0)
		return (int)n;
	if (n != MARK_FILE_BYTES || !get(room, ret_m))
		return err_set(note, E_CORRUPT, "%s is not what was written there", path);
	return 0;
}

int mark_file_write(struct sys *s, const char *dir, const struct mark_file *m,
	struct err_note *note)
{
	char path[MARK_PATH_MAX], fresh[MARK_PATH_MAX];
	uint8_t room[MARK_FILE_BYTES];
	struct sys_file *f;
	int rc;

	path_of(dir, "replica", path);
	path_of(dir, "replica.new", fresh);
	put(m, room);
	rc = sys_open(s, fresh, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, note);
	if (rc < 0)
		return rc;
	rc = sys_pwrite(f, room, sizeof room, 0, note);
	if (rc == 0)
		rc = sys_sync(f, note);
	sys_close(f);
	if (rc == 0)
		rc = sys_rename(s, fresh, path, note);
	return rc < 0 ? rc : sys_sync_dir(s, dir, note);
}

/* A full disk is waited out: until then nothing is done under the new epoch. */
int mark_file_keep(struct replicate *r, const struct mark_file *m, struct err_note *note)
{
	int rc = mark_file_write(r->sys, r->dir, m, note);

	while (rc == E_FULL) {
		sys_reached(r->sys, "replicate: the mark waits for room");
		if ((rc = fiber_sleep(sys_after(r->sys, REPLICATE_FULL_NS))) == 0)
			rc = mark_file_write(r->sys, r->dir, m, note);
	}
	return rc;
}

int mark_run(void *arg)
{
	struct replica_event ev = { .kind = REPLICA_EV_MARKED };
	struct replicate *r = arg;
	struct err_note note;
	struct mark_file m;
	int rc = 0;

	while (rc == 0) {
		fiber_note(0, "replica: waits for a mark to write");
		if (!r->mark_wanted) {
			rc = waitq_wait(&r->mark_q, FOREVER);
			continue;
		}
		r->mark_wanted = false;
		if ((rc = fiber_lock(&r->mark_lock, FOREVER)) < 0)
			break;
		m = r->mark;
		m.mark = r->marking;
		if ((rc = mark_file_keep(r, &m, &note)) == 0)
			r->mark = m;
		fiber_unlock(&r->mark_lock);
		if (rc < 0)
			break;
		ev.mark = m.mark;
		replicate_step(r, &ev);
	}
	if (rc != E_CANCELED)
		replicate_fail(r, rc, &note);
	return rc;
}

void mark_rows_dir(const char *dir, uint64_t generation, char ret_dir[REPLICATE_PATH_MAX])
{
	const char *name = generation == 0 ? "" : generation & 1 ? "/copy.1" : "/copy.2";
	int n = snprintf(ret_dir, REPLICATE_PATH_MAX, "%s%s", dir, name);

	check(n < REPLICATE_PATH_MAX);
}

int replicate_rows_dir(struct sys *s, const char *dir, char ret_dir[REPLICATE_PATH_MAX],
	struct err_note *note)
{
	struct mark_file m;
	int rc = mark_file_read(s, dir, &m, note);

	if (rc < 0)
		return rc;
	mark_rows_dir(dir, m.generation, ret_dir);
	return 0;
}

/* What it acknowledged may not be there: it is not sound. */
int replicate_mark_moves(struct sys *s, const char *dir, const char *to, struct err_note *note)
{
	struct mark_file m;
	int rc = mark_file_read(s, dir, &m, note);

	if (rc < 0)
		return rc == E_NOTFOUND ? 0 : rc;
	m.uuid_hi = m.uuid_lo = m.generation = m.mark.sound_boot = 0;
	return mark_file_write(s, to, &m, note);
}
