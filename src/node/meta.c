/* SPDX-License-Identifier: Apache-2.0 */
#include "node/meta.h"
#include "base/check.h"
#include "control/control.h"
#include "meta/serve.h"
#include <stdio.h>

enum { CLOSE_SEC = 90 };

struct meta {
	struct serve *v;
	struct waitq stop;
	int rc; /* why it cannot go on */
	struct err_note why;
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

	if (o->n_listen > META_LISTEN_MAX)
		return err_set(
			note, E_TOOBIG, "%u addresses: at most %d", o->n_listen, META_LISTEN_MAX);
	for (unsigned i = 0; i < o->n_listen; i++) {
		int rc = serve_listen(m->v, o->listen[i], &bound[i], note);

		if (rc < 0)
			return rc;
	}
	if (o->ready != NULL)
		o->ready(o->arg, bound, o->n_listen);
	return 0;
}

/* The controller lives beside the shard and goes with it: serve_close() stops it. */
static PARKS int add_control(
	struct sys *s, struct meta *m, const struct meta_opts *o, struct err_note *note)
{
	char path[SYS_ADDR_MAX];
	struct control_opts co = { .key_file = o->key_file != NULL ? o->key_file : path };
	struct serve_guest guest;
	struct control *ctl;
	int rc;

	if (strlen(o->dir) + sizeof "/key" > sizeof path)
		return err_set(note, E_TOOBIG, "%s: too long a path", o->dir);
	snprintf(path, sizeof path, "%s/key", o->dir);
	if ((rc = control_new(s, serve_shard(m->v), &co, &ctl, note)) < 0)
		return rc;
	guest = control_guest(ctl);
	serve_guest(m->v, &guest);
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

int meta_serve(struct sys *s, const struct meta_opts *o, struct err_note *note)
{
	struct meta m = { .rc = 0 };
	struct serve_opts so = { .dir = o->dir,
		.slab_bytes = o->slab_bytes,
		.db = o->db,
		.auth = o->auth,
		.failed = failed,
		.arg = &m };
	int rc, close_rc;

	waitq_init(&m.stop);
	if ((rc = serve_open(s, &so, &m.v, note)) < 0)
		return rc;
	rc = o->auth != NULL ? 0 : add_control(s, &m, o, note);
	if (rc == 0)
		rc = run(&m, o, note);
	fiber_shield(sys_after(s, CLOSE_SEC * SYS_SEC));
	close_rc = serve_close(m.v, rc < 0 ? NULL : note);
	fiber_unshield();
	return rc < 0 ? rc : close_rc;
}
