/* SPDX-License-Identifier: Apache-2.0 */
#include "node/meta.h"
#include "base/check.h"
#include "control/control.h"
#include "meta/serve.h"
#include <stdio.h>

enum { CLOSE_SEC = 90, LEADS_SEC = 60 };

struct meta {
	struct sys *sys;
	struct serve *v;
	struct waitq stop;
	int rc; /* why it cannot go on */
	struct err_note why;
	char key_file[SYS_ADDR_MAX];
	struct control_opts control;
};

static void failed(void *arg, int rc, const struct err_note *note)
{
	struct meta *m = arg;

	m->rc = rc;
	m->why = *note;
	waitq_wake_all(&m->stop);
}

static PARKS int listen_all(struct meta *m, const struct meta_opts *o, struct err_note *note)
{
	const char *bound[META_LISTEN_MAX];
	int rc = 0;

	if (o->n_listen > META_LISTEN_MAX)
		return err_set(
			note, E_TOOBIG, "%u addresses: at most %d", o->n_listen, META_LISTEN_MAX);
	for (unsigned i = 0; rc == 0 && i < o->n_listen; i++)
		rc = serve_listen(m->v, o->listen[i], &bound[i], note);
	/* A cluster that finds nobody to lead yet is no error of this node. */
	if (rc == 0)
		rc = serve_ready(m->v, sys_after(m->sys, LEADS_SEC * SYS_SEC));
	if (rc < 0 && rc != E_TIMEOUT)
		return rc;
	if (o->ready != NULL)
		o->ready(o->arg, bound, o->n_listen);
	return 0;
}

static PARKS int run(struct meta *m, const struct meta_opts *o, struct err_note *note)
{
	int rc = listen_all(m, o, note);

	fiber_note(0, "serves a metadata shard");
	while (rc == 0 && m->rc == 0)
		rc = waitq_wait(&m->stop, FOREVER);
	if (m->rc != 0)
		return err_set(note, m->rc, "%s", m->why.text);
	return rc == E_CANCELED ? 0 : rc;
}

static void tell(const struct meta_opts *o, struct replicate *r)
{
	if (o->replica != NULL)
		o->replica(o->arg, r);
}

static int prepare(
	struct meta *m, const struct meta_opts *o, struct serve_opts *ret_so, struct err_note *note)
{
	*ret_so = (struct serve_opts){ .replica = { .dir = o->dir,
			.db = o->db,
			.coord = o->coord,
			.id = o->id,
			.first_target = o->first_target,
			.token = o->token },
		.slab_bytes = o->slab_bytes,
		.auth = o->auth,
		.ops = o->ops,
		.n_ops = o->n_ops,
		.ops_arg = o->ops_arg,
		.stop_ms = o->stop_ms,
		.failed = failed,
		.arg = m };
	if (o->auth != NULL)
		return 0;
	if (strlen(o->dir) + sizeof "/key" > sizeof m->key_file)
		return err_set(note, E_TOOBIG, "%s: too long a path", o->dir);
	snprintf(m->key_file, sizeof m->key_file, "%s/key", o->dir);
	m->control.here = o->control;
	m->control.key_file = o->key_file != NULL ? o->key_file : m->key_file;
	ret_so->guest = &control_guest;
	ret_so->guest_arg = &m->control;
	return 0;
}

int meta_serve(struct sys *s, const struct meta_opts *o, struct err_note *note)
{
	struct meta m = { .sys = s };
	struct serve_opts so;
	int rc, close_rc;

	waitq_init(&m.stop);
	if ((rc = prepare(&m, o, &so, note)) < 0 || (rc = serve_open(s, &so, &m.v, note)) < 0)
		return rc;
	tell(o, serve_replicate(m.v));
	rc = run(&m, o, note);
	tell(o, NULL);
	fiber_shield(sys_after(s, CLOSE_SEC * SYS_SEC));
	close_rc = serve_close(m.v, rc < 0 ? NULL : note);
	fiber_unshield();
	return rc < 0 ? rc : close_rc;
}
