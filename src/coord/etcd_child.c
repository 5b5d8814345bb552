/* SPDX-License-Identifier: Apache-2.0 */
/* (C1) One fiber waits for the process; whoever stops it ends that fiber first.
 * (C2) A process that was left behind by a killed supervisor keeps its data locked: the new one
 * ends at once, is tried again with a pause, and takes over when the old one is gone. */
#include "coord/etcd_child.h"
#include "base/check.h"
#include <stdio.h>
#include <stdlib.h>

enum { ARGS_MAX = 48, PAUSE_MIN_MS = 100, PAUSE_MAX_MS = 5000, LIVED_S = 10 };
enum { SIGNAL_KILL = 9, SIGNAL_TERM = 15 };

struct etcd_child {
	struct sys *s;
	struct group watching;
	struct sys_proc *p; /* NULL: not running */
	uint32_t n_starts, n_args;
	bool full; /* an argument found no room or no memory */
	char name[64];
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
	add_two(e, "--listen-client-urls", o->client_url);
	add_two(e, "--advertise-client-urls", o->client_url);
	add_two(e, "--listen-peer-urls", o->peer_url);
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
	add_number(e, "--heartbeat-interval", o->heartbeat_ms);
	add_number(e, "--election-timeout", o->election_ms);
	/* every change of a key is kept until it is compacted */
	add_two(e, "--auto-compaction-mode", "revision");
	add_two(e, "--auto-compaction-retention", "1000");
	add_two(e, "--logger", "zap");
	add_two(e, "--log-level", "error");
	add_joined(e, "--log-outputs", o->data_dir, ".log");
}

/* ---- the process ---- */
static int spawn(struct etcd_child *e, struct err_note *note)
{
	/* versions before 3.5 do not start there unless told so */
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

static void say(struct etcd_child *e, const char *what)
{
	char line[400];

	snprintf(line, sizeof line, "etcd member %s: %s", e->name, what);
	sys_log(e->s, line);
}

PARKS static int supervise(void *arg)
{
	struct etcd_child *e = arg;
	uint64_t pause_ms = PAUSE_MIN_MS;

	for (;;) {
		uint64_t began = sys_now_ns(e->s);
		struct err_note note = { "" };
		char text[64];
		int rc, status;

		while (e->p == NULL) {
			rc = fiber_sleep(sys_after(e->s, pause_ms * SYS_MS));
			if (rc < 0)
				return rc;
			pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
			began = sys_now_ns(e->s);
			if (spawn(e, &note) < 0)
				say(e, note.text);
		}
		rc = sys_proc_wait(e->p, FOREVER, &status);
		if (rc < 0)
			return rc;
		snprintf(text, sizeof text, "ended with status %d and is started again", status);
		say(e, text);
		sys_proc_close(e->p);
		e->p = NULL;
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
	add_all(e, o);
	rc = e->full ? err_set(note, E_NOMEM, "start etcd: %s", err_text(E_NOMEM)) : spawn(e, note);
	if (rc == 0) {
		group_init(&e->watching, sys_loop(s));
		rc = fiber_start(&e->watching, "etcd child", supervise, e);
		if (rc < 0) {
			err_set(note, rc, "watch etcd: %s", err_text(rc));
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
	int status;

	if (e == NULL)
		return;
	group_cancel(&e->watching);
	(void)group_wait(&e->watching); /* (C1) */
	if (e->p != NULL) {
		fiber_shield(FOREVER); /* a killed process surely ends */
		sys_proc_kill(e->p, SIGNAL_TERM);
		if (sys_proc_wait(e->p, until_ns, &status) < 0) {
			sys_proc_kill(e->p, SIGNAL_KILL);
			(void)sys_proc_wait(e->p, FOREVER, &status);
		}
		fiber_unshield();
		sys_proc_close(e->p);
	}
	child_free(e);
}

int64_t etcd_child_pid(const struct etcd_child *e)
{
	return e->p != NULL ? sys_proc_pid(e->p) : 0;
}

uint32_t etcd_child_starts(const struct etcd_child *e)
{
	return e->n_starts;
}
