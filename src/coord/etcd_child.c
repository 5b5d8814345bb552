/* SPDX-License-Identifier: Apache-2.0 */
/* (C1) One fiber waits for the process; whoever stops it ends that fiber first.
 * (C2) Never two on one directory: one that was left behind by a killed supervisor is looked for
 *      before the first start.  Should it not be found, etcd's own lock keeps the second one off,
 *      which is tried again with a pause.
 * (C3) A process is ours by its whole command line, which names its directory; its number alone
 *      says nothing, for numbers come again. */
#include "coord/etcd_child.h"
#include "base/check.h"
#include <stdio.h>
#include <stdlib.h>

enum { ARGS_MAX = 64, PAUSE_MIN_MS = 100, PAUSE_MAX_MS = 5000, LIVED_S = 10 };
enum { LOOK_MS = 200, ORPHAN_END_MS = 5000, LINE_BYTES = 8192 };
enum { SIGNAL_KILL = 9, SIGNAL_TERM = 15 };

struct etcd_child {
	struct sys *s;
	struct group watching;
	struct sys_proc *p; /* NULL: not running, or not our child */
	int64_t adopted;    /* pid, or 0 */
	uint32_t n_starts, n_args;
	bool full; /* an argument found no room or no memory */
	char name[64], data_dir[SYS_ADDR_MAX];
	char *args[ARGS_MAX + 1];
};

/* ---- the command line ---- */
static void add(struct etcd_child *e, const char *arg)
{
	char *copy = e->n_args < ARGS_MAX ? strdup(arg) : NULL;

	if (copy == NULL)
		e->full = true;
	else
		e->args[e->n_args++] = copy;
}

static void add_two(struct etcd_child *e, const char *option, const char *value)
{
	if (value == NULL)
		return;
	add(e, option);
	add(e, value);
}

static void add_joined(struct etcd_child *e, const char *option, const char *a, const char *b)
{
	size_t room = strlen(a) + strlen(b) + 1;
	char *value = malloc(room);

	if (value == NULL) {
		e->full = true;
		return;
	}
	snprintf(value, room, "%s%s", a, b);
	add_two(e, option, value);
	free(value);
}

static void add_number(struct etcd_child *e, const char *option, uint32_t v)
{
	char text[16];

	if (v == 0)
		return;
	snprintf(text, sizeof text, "%u", v);
	add_two(e, option, text);
}

static void add_all(struct etcd_child *e, const struct etcd_child_opts *o)
{
	char alone[64 + SYS_ADDR_MAX];

	snprintf(alone, sizeof alone, "%s=%s", o->name, o->peer_url);
	add(e, "etcd");
	add_two(e, "--name", o->name);
	add_two(e, "--data-dir", o->data_dir);
	add_two(e, "--listen-client-urls",
		o->client_listen != NULL ? o->client_listen : o->client_url);
	add_two(e, "--advertise-client-urls", o->client_url);
	add_two(e, "--listen-peer-urls", o->peer_listen != NULL ? o->peer_listen : o->peer_url);
	add_two(e, "--initial-advertise-peer-urls", o->peer_url);
	add_two(e, "--initial-cluster", o->initial_cluster != NULL ? o->initial_cluster : alone);
	add_two(e, "--initial-cluster-state", o->joining ? "existing" : "new");
	add_two(e, "--initial-cluster-token", "wadi");
	add_two(e, "--cert-file", o->client_tls.cert_file);
	add_two(e, "--key-file", o->client_tls.key_file);
	add_two(e, "--trusted-ca-file", o->client_tls.ca_file);
	if (o->client_tls.ca_file != NULL)
		add(e, "--client-cert-auth");
	add_two(e, "--peer-cert-file", o->peer_tls.cert_file);
	add_two(e, "--peer-key-file", o->peer_tls.key_file);
	add_two(e, "--peer-trusted-ca-file", o->peer_tls.ca_file);
	if (o->peer_tls.ca_file != NULL)
		add(e, "--peer-client-cert-auth");
	add_two(e, "--peer-cert-allowed-hostname", o->peer_tls.allowed_host);
	add_number(e, "--heartbeat-interval", o->heartbeat_ms);
	add_number(e, "--election-timeout", o->election_ms);
	/* every change of a key is kept until it is compacted */
	add_two(e, "--auto-compaction-mode", "revision");
	add_two(e, "--auto-compaction-retention", "1000");
	add_two(e, "--logger", "zap");
	add_two(e, "--log-level", "error");
	add_joined(e, "--log-outputs", o->data_dir, ".log");
}

static void say(struct etcd_child *e, const char *what)
{
	char line[400];

	snprintf(line, sizeof line, "etcd member %s: %s", e->name, what);
	sys_log(e->s, line);
}

/* ---- who runs there ---- */
PARKS static int64_t read_file(struct sys *s, const char *path, char *ret_text, size_t cap)
{
	struct sys_file *f;
	int64_t n;

	if (sys_open(s, path, SYS_READ, &f, NULL) < 0)
		return -1;
	n = sys_pread(f, ret_text, cap - 1, 0, NULL);
	sys_close(f);
	ret_text[n > 0 ? n : 0] = '\0';
	return n;
}

enum whose { NOBODYS, OURS, OTHERS };

/* (C3): OURS was started just as we would, OTHERS in another way on the same directory. */
PARKS static enum whose whose(struct etcd_child *e, int64_t pid)
{
	char path[64], *line = malloc(LINE_BYTES);
	bool same = true, here = false, dir = false;
	size_t at = 0;
	int64_t n;

	if (line == NULL)
		return NOBODYS;
	snprintf(path, sizeof path, "/proc/%lld/cmdline", (long long)pid);
	n = read_file(e->s, path, line, LINE_BYTES);
	for (uint32_t i = 0; n > 0 && at < (size_t)n; i++) {
		const char *arg = line + at;

		same = same && i < e->n_args && strcmp(arg, e->args[i]) == 0;
		here = here || (dir && strcmp(arg, e->data_dir) == 0);
		dir = strcmp(arg, "--data-dir") == 0;
		at += strlen(arg) + 1;
		if (at >= (size_t)n)
			same = same && i + 1 == e->n_args;
	}
	free(line);
	if (n <= 0 || !here)
		return NOBODYS;
	return same ? OURS : OTHERS;
}

static void pid_path(const struct etcd_child *e, char ret_path[SYS_ADDR_MAX + 8])
{
	snprintf(ret_path, SYS_ADDR_MAX + 8, "%s.pid", e->data_dir);
}

/* Best effort: without it an orphan is not found, and (C2) says what then. */
PARKS static void pid_write(struct etcd_child *e)
{
	char path[SYS_ADDR_MAX + 8], text[24];
	struct sys_file *f;
	int n = snprintf(text, sizeof text, "%lld\n", (long long)etcd_child_pid(e));

	pid_path(e, path);
	if (sys_open(e->s, path, SYS_WRITE | SYS_CREATE | SYS_TRUNC, &f, NULL) < 0)
		return;
	(void)sys_pwrite(f, text, (size_t)n, 0, NULL);
	sys_close(f);
}

/* Returns when it is gone; TERM first, KILL at until_ns. */
PARKS static void end_orphan(struct etcd_child *e, int64_t pid, uint64_t until_ns)
{
	bool killed = false;

	(void)sys_pid_kill(e->s, pid, SIGNAL_TERM, NULL);
	while (whose(e, pid) != NOBODYS) {
		if (!killed && sys_now_ns(e->s) >= until_ns) {
			(void)sys_pid_kill(e->s, pid, SIGNAL_KILL, NULL);
			killed = true;
		}
		if (fiber_sleep(sys_after(e->s, LOOK_MS / 10 * SYS_MS)) < 0)
			return;
	}
}

/* ---- the process ---- */
static int spawn(struct etcd_child *e, struct err_note *note)
{
	/* None of ours: ETCD_* would be options, a proxy would stand between the members, and what
	 * is loaded before us (LD_PRELOAD) may want files that it may not open.  Versions before
	 * 3.5 do not start on this machine unless told so. */
	static const char *const env[] = { "ETCD_UNSUPPORTED_ARCH=arm64", NULL };
	int rc = sys_spawn(e->s, (const char *const *)e->args, env, &e->p, note);

	if (rc == E_NOTFOUND)
		return err_set(note, rc,
			"there is no etcd on this machine: install one with apt-get install "
			"etcd-server, or name a running one with --coord etcd://HOST:PORT");
	if (rc == 0)
		e->n_starts++;
	return rc;
}

/* Adopts or ends what an earlier life has left. */
PARKS static void find_orphan(struct etcd_child *e)
{
	char path[SYS_ADDR_MAX + 8], text[24];
	int64_t pid;

	pid_path(e, path);
	if (read_file(e->s, path, text, sizeof text) <= 0)
		return;
	pid = strtoll(text, NULL, 10);
	if (pid <= 1)
		return;
	switch (whose(e, pid)) {
	case OURS:
		e->adopted = pid;
		say(e, "still runs and is adopted");
		break;
	case OTHERS:
		say(e, "was left behind, started in another way: it is ended");
		end_orphan(e, pid, sys_after(e->s, ORPHAN_END_MS * SYS_MS));
		break;
	case NOBODYS:
		break;
	}
}

/* Parks until it has ended; *ret_how says so for the log. */
PARKS static int wait_end(struct etcd_child *e, char ret_how[64])
{
	int rc, status;

	while (e->adopted != 0) {
		rc = fiber_sleep(sys_after(e->s, LOOK_MS * SYS_MS));
		if (rc < 0)
			return rc;
		if (whose(e, e->adopted) == OURS)
			continue;
		e->adopted = 0;
		snprintf(ret_how, 64, "the adopted one is gone: it is started again");
		return 0;
	}
	rc = sys_proc_wait(e->p, FOREVER, &status);
	if (rc < 0)
		return rc;
	snprintf(ret_how, 64, "ended with status %d and is started again", status);
	sys_proc_close(e->p);
	e->p = NULL;
	return 0;
}

PARKS static int supervise(void *arg)
{
	struct etcd_child *e = arg;
	uint64_t pause_ms = PAUSE_MIN_MS;

	for (;;) {
		uint64_t began = sys_now_ns(e->s);
		struct err_note note = { "" };
		char text[64];
		int rc;

		while (e->p == NULL && e->adopted == 0) {
			rc = fiber_sleep(sys_after(e->s, pause_ms * SYS_MS));
			if (rc < 0)
				return rc;
			pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
			began = sys_now_ns(e->s);
			if (spawn(e, &note) < 0)
				say(e, note.text);
			else
				pid_write(e);
		}
		rc = wait_end(e, text);
		if (rc < 0)
			return rc;
		say(e, text);
		if (sys_now_ns(e->s) - began > LIVED_S * SYS_SEC)
			pause_ms = PAUSE_MIN_MS;
	}
}

static void child_free(struct etcd_child *e)
{
	for (uint32_t i = 0; i < e->n_args; i++)
		free(e->args[i]);
	free(e);
}

int etcd_child_start(struct sys *s, const struct etcd_child_opts *o, struct etcd_child **ret_e,
	struct err_note *note)
{
	struct etcd_child *e = calloc(1, sizeof *e);
	int rc;

	if (e == NULL)
		return err_set(note, E_NOMEM, "start etcd: %s", err_text(E_NOMEM));
	e->s = s;
	snprintf(e->name, sizeof e->name, "%s", o->name);
	e->full = strlen(o->data_dir) >= sizeof e->data_dir;
	snprintf(e->data_dir, sizeof e->data_dir, "%s", o->data_dir);
	add_all(e, o);
	rc = e->full ? err_set(note, E_NOMEM, "start etcd: %s", err_text(E_NOMEM)) : 0;
	if (rc == 0)
		find_orphan(e);
	if (rc == 0 && e->adopted == 0)
		rc = spawn(e, note);
	if (rc == 0) {
		pid_write(e);
		group_init(&e->watching, sys_loop(s));
		rc = fiber_start(&e->watching, "etcd child", supervise, e);
		if (rc < 0)
			err_set(note, rc, "watch etcd: %s", err_text(rc));
		if (rc < 0 && e->p != NULL) {
			sys_proc_kill(e->p, SIGNAL_KILL);
			sys_proc_close(e->p);
		}
	}
	if (rc < 0)
		child_free(e);
	else
		*ret_e = e;
	return rc;
}

void etcd_child_stop(struct etcd_child *e, uint64_t until_ns)
{
	char path[SYS_ADDR_MAX + 8];
	int status;

	if (e == NULL)
		return;
	group_cancel(&e->watching);
	(void)group_wait(&e->watching); /* (C1) */
	fiber_shield(FOREVER);          /* a killed process surely ends */
	if (e->p != NULL) {
		sys_proc_kill(e->p, SIGNAL_TERM);
		if (sys_proc_wait(e->p, until_ns, &status) < 0) {
			sys_proc_kill(e->p, SIGNAL_KILL);
			(void)sys_proc_wait(e->p, FOREVER, &status);
		}
		sys_proc_close(e->p);
	} else if (e->adopted != 0) {
		end_orphan(e, e->adopted, until_ns);
	}
	pid_path(e, path);
	(void)sys_unlink(e->s, path, NULL);
	fiber_unshield();
	child_free(e);
}

int64_t etcd_child_pid(const struct etcd_child *e)
{
	return e->p != NULL ? sys_proc_pid(e->p) : e->adopted;
}

uint32_t etcd_child_starts(const struct etcd_child *e)
{
	return e->n_starts;
}

bool etcd_child_adopted(const struct etcd_child *e)
{
	return e->adopted != 0;
}
