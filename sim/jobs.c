/* SPDX-License-Identifier: Apache-2.0 */
/* jobs: clients register jobs, fill their buckets, renew or lose their leases and end them, also
 * twice and under the hands of others, while shard with controller, storage servers and clients are
 * killed, cut off, paused, lose their power or find their disks and tiers full.
 *
 * (J1) ledger.h's rules hold for what a job has while it is surely alive, and for ever for what
 * persists; (J2) when the end of a job is told, nothing of it is used or granted, and what does not
 * persist is gone; soon nothing is orphaned either; (J3) book.h's rules: a job that has ended stays
 * so, its token is refused, whoever asks for its end again is told the same; (J4) a job reaches
 * nothing of another; (J5) a job that nobody speaks for ends within a bounded time after its lease;
 * (J6) its bill lies within what was stored, and how long; (J7) once everything that stayed is
 * deleted, every byte of every device is free.
 *
 * heirs: the same with metadata on three nodes, of which the leading one changes, also in the
 * middle of an end: the next one goes on with it. */
#include "sim/book.h"
#include "base/check.h"
#include <string.h>

enum {
	ROUNDS = 12,
	STEPS_MAX = 80,
	MACHINES = 3,
	WORKERS = 2,
	SESSION_STEPS = 14,
	VALUE_BYTES_MAX = 200 << 10,
	JUDGE_SEC = 400,
	EMPTY_SEC = 700, /* a dead client's session, and its grants, last 10 minutes */
};

/* ---- work ---- */
/* Somebody acts for the job for a while; the job may be over. */
PARKS static int session(struct worker *w, struct client *admin, struct job_rec *j)
{
	struct book *b = book_of(w);
	struct client_opts o = { .addr = w->cl->metas.addr, .wait = true,
		.token = bytes_of(j->token, strlen(j->token)) };
	uint64_t n = prng_below(&w->p, SESSION_STEPS), began_ns = sim_now_ns(b->cl->sc->w);
	uint64_t until_ns = worker_until(w);
	struct via via = { NULL, false };
	struct err_note note;
	int rc = client_new(w->sys, &o, until_ns, &via.c, &note);

	worker_in_time(w, until_ns, "connection");
	if (rc == E_GONE)
		book_gone(b, j);
	if (rc == E_DENIED)
		violation(b->cl->sc, "a token is good for its job", "job %llu: %s",
			(unsigned long long)j->id, note.text);
	if (rc < 0)
		return rc;
	book_heard(b, j, began_ns);
	while (n-- > 0 && rc != E_CANCELED && cluster_going(w)) {
		rc = job_step(w, via, j);
		if (rc != E_CANCELED && prng_odds(&w->p, 1, 2))
			rc = fiber_sleep(sys_after(w->sys, prng_below(&w->p, 40 * SYS_MS)));
	}
	if (rc != E_CANCELED && cluster_going(w) && prng_odds(&w->p, 1, 5))
		rc = job_end(w, admin, via, j);
	client_free(via.c);
	return rc;
}

PARKS static int renew(struct worker *w, struct client *c, struct job_rec *j)
{
	uint64_t began_ns = sim_now_ns(w->cl->sc->w), until_ns = worker_until(w);
	int rc = client_job_renew(c, j->id, until_ns, NULL);

	if (rc == 0)
		book_heard(book_of(w), j, began_ns);
	if (rc == E_GONE)
		book_gone(book_of(w), j);
	worker_in_time(w, until_ns, "renewal");
	return rc;
}

/* Mostly one of the latest. */
static struct job_rec *any_job(struct worker *w)
{
	struct book *b = book_of(w);
	uint64_t back = prng_below(&w->p, 4), any = prng_below(&w->p, BOOK_JOBS_MAX);

	if (b->n_jobs == 0)
		return NULL;
	return &b->jobs[prng_odds(&w->p, 3, 4) && back < b->n_jobs ? b->n_jobs - 1 - back :
								     any % b->n_jobs];
}

PARKS static int work(struct worker *w, struct client *c)
{
	struct via admin = { c, true };
	struct job_rec *j;
	int rc = 0;

	while (cluster_going(w) && rc != E_CANCELED) {
		uint64_t what = prng_below(&w->p, 16);

		j = any_job(w);
		if (j == NULL || what < 3) {
			rc = job_register(w, c, &j);
			if (rc == 0)
				rc = session(w, c, j);
		}
		else if (what < 8)
			rc = session(w, c, j);
		else if (what < 10)
			rc = job_end(w, c, admin, j);
		else if (what < 13)
			rc = job_step(w, admin, j);
		else if (what < 15)
			rc = renew(w, c, j);
		else
			rc = job_list(w, c, worker_until(w));
		if (rc != E_CANCELED)
			rc = fiber_sleep(sys_after(w->sys, prng_below(&w->p, 60 * SYS_MS)));
	}
	return rc;
}

/* ---- misfortune ---- */
/* In the middle of the end of a job, if one comes soon. */
static void strike(struct book *b)
{
	struct cluster *cl = b->cl;
	struct scenario *sc = cl->sc;
	uint64_t ns = prng_below(sc->p, 60 * SYS_MS);
	struct meta_node *leader;

	for (int i = 0; i < 60 && b->n_ending == 0; i++)
		scenario_run(sc, 10 * SYS_MS);
	scenario_run(sc, ns * prng_below(sc->p, 2));
	scenario_steps(sc, 4 * STEPS_MAX);
	leader = cl->metas.n > 1 ? metas_leader(cl) : &cl->metas.nodes[0];
	if (leader == NULL)
		return;
	if (prng_odds(sc->p, 1, 3)) {
		metas_power_cut(cl, leader);
	} else if (prng_odds(sc->p, 2, 3)) {
		sim_node_kill(leader->node);
	} else {
		sim_node_kill(cl->stores[prng_below(sc->p, cl->n_stores)].node);
	}
}

static void fill_disk(struct cluster *cl)
{
	struct scenario *sc = cl->sc;
	uint64_t i = prng_below(sc->p, 1 + cl->n_stores), ns = prng_below(sc->p, SYS_SEC);
	struct sim_node *n = i == 0 ? cl->meta : cl->stores[i - 1].node;

	sim_disk_full(n, true);
	scenario_run(sc, ns);
	sim_disk_full(n, false);
}

static void misfortune(struct cluster *cl, void *mine)
{
	uint64_t what = prng_below(cl->sc->p, 8);

	if (what < 3)
		strike(mine);
	else if (what < 4)
		fill_disk(cl);
	else if (what < 6 && cl->metas.n > 1)
		metas_misfortune(cl);
	else
		cluster_misfortune(cl);
}

static void jobs(struct scenario *sc, uint32_t n_metas)
{
	struct book *b = scenario_alloc(sc, sizeof *b);
	struct sim_faults f = scenario_swarm(sc);
	struct cluster *cl = cluster_new_of(sc, VALUE_BYTES_MAX, n_metas);

	b->cl = cl;
	f.disk_rot_ppm = 0; /* one copy cannot survive it */
	sim_faults_set(sc->w, &f);
	cluster_stores(cl, 2);
	cl->little_room = prng_odds(sc->p, 1, 4);
	for (int i = 0; i < MACHINES; i++)
		cluster_machine(cl, WORKERS, work, b);
	cluster_start(cl);
	scenario_run(sc, SYS_SEC);
	cluster_course(cl,
		&(struct course){ .rounds = ROUNDS,
			.steps_max = STEPS_MAX,
			.work_ns_max = 800 * SYS_MS,
			.misfortune = misfortune,
			.judge = jobs_judge,
			.mine = b,
			.judge_sec = JUDGE_SEC,
			.empty_sec = EMPTY_SEC });
}

void scenario_jobs(struct scenario *sc) { jobs(sc, 1); }
void scenario_heirs(struct scenario *sc) { jobs(sc, METAS_MAX); }
