/* SPDX-License-Identifier: Apache-2.0 */
/* One fiber for each address asks there until somebody lets us in:
 *
 *   asking ----> let in: the race is over, the others are cancelled
 *     ^   '----> refused: pause, longer each time; a hint at it cuts the pause short
 *     '---------------'
 *
 * With a single address there is no race and no fiber. */
#include "rpc/route.h"
#include "base/check.h"
#include "base/limit.h"
#include <stdlib.h>

/* ---- addresses ---- */
static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool kind_of(const char *addr, uint8_t *ret_kind)
{
	if (begins(addr, "unix:"))
		*ret_kind = ROUTE_UNIX;
	else if (begins(addr, "tls:"))
		*ret_kind = ROUTE_TLS;
	else if (begins(addr, "tcp:127.") || begins(addr, "tcp:localhost:") ||
		begins(addr, "tcp:[::1]:"))
		*ret_kind = ROUTE_LOOPBACK;
	else if (begins(addr, "tcp:"))
		*ret_kind = ROUTE_TCP;
	else
		return false;
	return true;
}

static int strength(uint8_t kind)
{
	return kind == ROUTE_TLS ? 2 : kind == ROUTE_TCP ? 0 : 1;
}

/* (R1) */
static bool follows(const struct route *r, uint8_t kind)
{
	bool weaker = false, local = false;

	for (uint32_t i = 0; i < r->n_given; i++) {
		weaker |= strength(r->addrs[i].kind) <= strength(kind);
		local |= r->addrs[i].kind == ROUTE_UNIX;
	}
	return weaker && (kind != ROUTE_UNIX || local);
}

static uint32_t find(const struct route *r, const char *addr)
{
	uint32_t i = 0;

	while (i < r->n && strcmp(r->addrs[i].text, addr) != 0)
		i++;
	return i;
}

static void add(struct route *r, const char *addr, uint8_t kind, bool given)
{
	struct route_addr *a = &r->addrs[r->n++];

	check(r->n <= ROUTE_ADDRS_MAX);
	check(strlen(addr) < sizeof a->text);
	memcpy(a->text, addr, strlen(addr) + 1);
	a->kind = kind;
	a->given = given;
	r->n_given += given;
}

static int give(struct route *r, const char *addr, size_t len, struct err_note *note)
{
	char text[SYS_ADDR_MAX];
	uint8_t kind;

	if (len == 0 || len >= sizeof text)
		return err_set(note, E_INVALID, "an address of %zu bytes", len);
	memcpy(text, addr, len);
	text[len] = '\0';
	if (!kind_of(text, &kind))
		return err_set(note, E_INVALID, "%.150s is no address", text);
	if (find(r, text) < r->n)
		return 0;
	if (r->n_given == ROUTE_GIVEN_MAX)
		return err_set(note, E_INVALID, "more than %d addresses", ROUTE_GIVEN_MAX);
	add(r, text, kind, true);
	return 0;
}

int route_init(struct route *r, struct sys *s, const char *addrs, struct err_note *note)
{
	int rc = 0;

	memset(r, 0, sizeof *r);
	r->sys = s;
	while (rc == 0) {
		size_t len = strcspn(addrs, ",");

		rc = give(r, addrs, len, note);
		addrs += len;
		if (*addrs == '\0')
			break;
		addrs++;
	}
	return rc;
}

const char *route_name(const struct route *r) { return r->addrs[r->first].text; }

void route_learn(struct route *r, const struct msg_hello_ok *ok)
{
	struct wire_list l = ok->nodes;
	struct sub_node_addr node;
	char text[SYS_ADDR_MAX], now[SYS_ADDR_MAX];
	uint8_t kind;

	if (l.n == 0)
		return;
	memcpy(now, route_name(r), sizeof now);
	r->n = r->n_given;
	r->first = find(r, now);
	if (r->first == r->n) { /* who lets us in need not name itself */
		kind = ROUTE_TCP;
		check(kind_of(now, &kind));
		add(r, now, kind, false);
	}
	while (r->n < ROUTE_ADDRS_MAX && sub_node_addr_next(&l, &node)) {
		if (node.addr.len == 0 || node.addr.len >= sizeof text)
			continue;
		memcpy(text, node.addr.p, node.addr.len);
		text[node.addr.len] = '\0';
		if (kind_of(text, &kind) && follows(r, kind) && find(r, text) == r->n)
			add(r, text, kind, false);
	}
}

bool route_hint(struct route *r, const char *addr)
{
	uint32_t i = find(r, addr);
	uint8_t kind;

	if (i == r->n) {
		if (!kind_of(addr, &kind) || !follows(r, kind)) {
			sys_reached(r->sys, "hint not followed");
			return false;
		}
		if (r->n == ROUTE_ADDRS_MAX) { /* the last of what was learned makes room */
			check(r->n > r->n_given);
			i = --r->n;
		}
		add(r, addr, kind, false);
	}
	r->first = i;
	return true;
}

bool route_retries(int rc)
{
	return rc == E_NOTPRIMARY || rc == E_UNREACH || rc == E_CLOSED || rc == E_IO ||
		rc == E_BUSY || rc == E_CORRUPT;
}

/* ---- pauses ---- */
static uint64_t spread(struct sys *s, uint64_t ns)
{
	uint64_t chance = sys_random(s);

	return ns / 2 + chance % (ns / 2);
}

static uint64_t longer(uint64_t ns, uint64_t most_ns)
{
	if (ns == 0)
		return ROUTE_BACKOFF_FIRST_MS * SYS_MS;
	return ns * 2 < most_ns ? ns * 2 : most_ns;
}

PARKS int route_pause(struct route *r, uint64_t *pause_ns, uint64_t until_ns)
{
	uint64_t at;

	*pause_ns = longer(*pause_ns, ROUTE_BACKOFF_MS * SYS_MS);
	at = sys_after(r->sys, spread(r->sys, *pause_ns));
	return fiber_sleep(at < until_ns ? at : until_ns);
}

/* ---- the race ---- */
struct race;
struct runner {
	struct race *race;
	char addr[SYS_ADDR_MAX], hint[SYS_ADDR_MAX];
	uint8_t kind;
	bool runs, wanted, gave_up;  /* wanted: hinted at while it did not ask */
	uint64_t pause_ns, patience_ns;
	struct waitq pausing;
};
struct race {
	struct route *r;
	const struct rpc_connect *o;
	enum route_how how;
	const char *except;
	uint64_t began_ns, until_ns;
	struct group group;          /* of the runners */
	struct waitq changed;
	struct runner *runners;      /* ROUTE_ADDRS_MAX of them */
	uint32_t n, n_runs;
	struct rpc_conn *conn;       /* who let us in */
	struct msg_hello_ok ok;
	int rc;                      /* the best reason so far */
	struct err_note note;
};

static int worth(int rc)
{
	return rc == 0 ? 0 : rc == E_NOTPRIMARY ? 2 : route_retries(rc) || rc == E_TIMEOUT ? 1 : 3;
}

static bool for_good(int rc) { return worth(rc) == 3; }

static void reason(struct race *x, int rc, const struct err_note *note)
{
	if (worth(rc) < worth(x->rc) || rc == E_CANCELED)
		return;
	x->rc = rc;
	x->note = *note;
}

static void on_greeted(void *arg, const struct msg_hello_ok *ok)
{
	struct runner *w = arg;
	struct route *r = w->race->r;

	if (w->race->conn != NULL)
		return;
	if (!route_hint(r, w->addr)) /* cannot be: it was followed */
		check(false);
	route_learn(r, ok);
}

/* One hello.  A host that comes back after a while hears of a new connection sooner than of one
 * that was begun while it was away. */
PARKS static int say_hello(struct race *x, struct runner *w, struct err_note *note)
{
	uint64_t until_ns = w->patience_ns == 0 ? FOREVER : sys_after(x->r->sys, w->patience_ns);
	struct rpc_connect o = *x->o;
	struct msg_hello_ok ok;
	struct rpc_conn *conn;
	int rc;

	o.addr = w->addr;
	o.greeted = on_greeted;
	o.arg = w;
	o.ret_hint = w->hint;
	w->hint[0] = '\0';
	if (w->kind != ROUTE_UNIX && o.hello.token.len == 0)
		o.hello.token = x->r->key;
	rc = rpc_connect(x->r->sys, &o, until_ns < x->until_ns ? until_ns : x->until_ns, &conn, &ok,
		note);
	if (rc == E_TIMEOUT && until_ns < x->until_ns) {
		w->patience_ns *= 2;
		return err_wrap(note, E_UNREACH, "no answer");
	}
	if (rc < 0)
		return rc;
	if (x->conn != NULL) { /* two let us in: the second one leads no more, or not yet */
		rpc_close(conn);
		return E_CANCELED;
	}
	x->conn = conn;
	x->ok = ok;
	return 0;
}

static void enter(struct race *x, const struct route_addr *a)
{
	struct runner *w = &x->runners[x->n++];

	check(x->n <= ROUTE_ADDRS_MAX);
	*w = (struct runner){ .race = x, .kind = a->kind,
		.patience_ns = ROUTE_PATIENCE_MS * SYS_MS };
	memcpy(w->addr, a->text, sizeof w->addr);
	waitq_init(&w->pausing);
}

/* Runs there at once, if it may run at all. */
static void follow(struct race *x, const char *hint)
{
	uint32_t i = 0;

	if (x->conn != NULL || hint[0] == '\0')
		return;
	if (x->except != NULL && strcmp(hint, x->except) == 0)
		return;
	if (!route_hint(x->r, hint))
		return;
	sys_reached(x->r->sys, "hint followed");
	while (i < x->n && strcmp(x->runners[i].addr, hint) != 0)
		i++;
	if (i == x->n) {
		if (x->n == ROUTE_ADDRS_MAX)
			return; /* the next race has it */
		enter(x, &x->r->addrs[x->r->first]);
	}
	x->runners[i].wanted = true;
	waitq_wake_all(&x->runners[i].pausing);
}

/* False: this one is not asked any more. */
PARKS static bool pause_some(struct race *x, struct runner *w, int rc)
{
	uint64_t now_ns = sys_now_ns(x->r->sys), at;
	bool soon = now_ns - x->began_ns < ROUTE_SOON_MS * SYS_MS;

	if (x->how == ROUTE_ONCE || !route_retries(rc))
		return false;
	if (x->how == ROUTE_FIRST && rc != E_NOTPRIMARY)
		return false;
	w->pause_ns = longer(w->pause_ns,
		(soon ? ROUTE_BACKOFF_SOON_MS : ROUTE_BACKOFF_MS) * SYS_MS);
	at = now_ns + spread(x->r->sys, w->pause_ns);
	w->wanted = false;
	rc = waitq_wait(&w->pausing, at < x->until_ns ? at : x->until_ns);
	return rc != E_CANCELED && x->conn == NULL && sys_now_ns(x->r->sys) < x->until_ns;
}

PARKS static int runner_run(void *arg)
{
	struct runner *w = arg;
	struct race *x = w->race;
	bool again = true;

	fiber_note(0, "looks for who leads");
	while (again) {
		struct err_note note = { "" };
		int rc = say_hello(x, w, &note);

		if (rc == 0 || rc == E_CANCELED)
			break;
		reason(x, rc, &note);
		follow(x, w->hint);
		waitq_wake_all(&x->changed); /* the next one may start */
		again = pause_some(x, w, rc);
	}
	w->runs = false;
	w->gave_up = true;
	x->n_runs--;
	waitq_wake_all(&x->changed);
	return 0;
}

/* One that is to run and does not: hinted ones before the others.  NULL: there is none. */
static struct runner *next_of(struct race *x)
{
	struct runner *found = NULL;

	for (uint32_t i = 0; i < x->n; i++) {
		struct runner *w = &x->runners[i];

		if (w->runs)
			continue;
		if (w->wanted && !w->gave_up)
			return w;
		if (w->wanted && x->how != ROUTE_ONCE)
			return w;
		if (!w->gave_up && found == NULL)
			found = w;
	}
	return found;
}

static int start(struct race *x, struct runner *w)
{
	int rc;

	w->wanted = w->gave_up = false;
	rc = fiber_start(&x->group, "route", runner_run, w);
	if (rc < 0) {
		w->gave_up = true;
		reason(x, rc, &(struct err_note){ "no fiber left" });
		return rc;
	}
	w->runs = true;
	x->n_runs++;
	return 0;
}

/* Until somebody lets us in, or nobody is left, or the time is over. */
PARKS static int run(struct race *x)
{
	uint64_t next_ns = 0, now_ns;
	int rc = 0;

	while (x->conn == NULL && rc != E_CANCELED) {
		struct runner *w = next_of(x);
		uint64_t at = x->until_ns;

		now_ns = sys_now_ns(x->r->sys);
		if (w == NULL && x->n_runs == 0 && x->rc < 0)
			return x->rc;
		if (w == NULL && x->n_runs == 0)
			break; /* the door is dead: nobody had another reason */
		if (now_ns >= x->until_ns)
			return x->rc < 0 ? x->rc : err_set(&x->note, E_TIMEOUT,
				"%s does not answer", route_name(x->r));
		if (w != NULL && (now_ns >= next_ns || w->wanted || x->rc < 0)) {
			(void)start(x, w);
			next_ns = now_ns + ROUTE_STAGGER_MS * SYS_MS;
			continue;
		}
		if (w != NULL && next_ns < at)
			at = next_ns;
		if (for_good(x->rc) && now_ns + ROUTE_GRACE_MS * SYS_MS < x->until_ns)
			x->until_ns = now_ns + ROUTE_GRACE_MS * SYS_MS;
		rc = waitq_wait(&x->changed, at < x->until_ns ? at : x->until_ns);
	}
	return x->conn != NULL ? 0 : err_set(&x->note, E_CANCELED, "looking for who leads");
}

PARKS static int race(struct race *x, struct rpc_conn **ret_c, struct msg_hello_ok *ret_ok,
	struct err_note *note)
{
	struct route *r = x->r;
	int rc;

	x->runners = calloc(ROUTE_ADDRS_MAX, sizeof *x->runners);
	if (x->runners == NULL)
		return err_set(note, E_NOMEM, "looking for who leads");
	group_init(&x->group, sys_loop(r->sys));
	x->group.keep_going = true;
	waitq_init(&x->changed);
	for (uint32_t k = 0; k < r->n; k++) {
		const struct route_addr *a = &r->addrs[(r->first + k) % r->n];

		if (x->except == NULL || strcmp(a->text, x->except) != 0)
			enter(x, a);
	}
	rc = run(x);
	group_cancel(&x->group);
	(void)group_wait(&x->group);
	free(x->runners);
	if (rc < 0 && x->conn != NULL)
		rpc_close(x->conn); /* let in while we were giving up */
	if (rc < 0)
		return err_set(note, rc, "%s", x->note.text);
	*ret_c = x->conn;
	*ret_ok = x->ok;
	return 0;
}

/* The only address that is known, in this fiber.  Returns when it knows more. */
PARKS static int alone(struct race *x)
{
	struct runner w = { .race = x, .kind = x->r->addrs[0].kind };

	memcpy(w.addr, x->r->addrs[0].text, sizeof w.addr);
	waitq_init(&w.pausing);
	for (;;) {
		struct err_note note = { "" };
		int rc = say_hello(x, &w, &note);

		if (rc == 0)
			return 0;
		if (rc == E_CANCELED)
			return err_set(&x->note, rc, "connecting to %s", w.addr);
		reason(x, rc, &note);
		if (rc == E_NOTPRIMARY && w.hint[0] != '\0' && route_hint(x->r, w.hint) &&
				x->r->n > 1)
			return x->rc;
		if (!pause_some(x, &w, rc))
			return fiber_canceled() ? err_set(&x->note, E_CANCELED, "connecting to %s",
				w.addr) : x->rc;
	}
}

PARKS int route_connect(struct route *r, const struct rpc_connect *o, enum route_how how,
	const char *except, uint64_t until_ns, struct rpc_conn **ret_c,
	struct msg_hello_ok *ret_ok, struct err_note *note)
{
	struct race x = { .r = r, .o = o, .how = how, .except = except, .until_ns = until_ns };
	int rc;

	check(r->n > 0);
	check(r->first < r->n);
	x.began_ns = sys_now_ns(r->sys);
	if (r->n > 1)
		return race(&x, ret_c, ret_ok, note);
	if (except != NULL && strcmp(r->addrs[0].text, except) == 0)
		return err_set(note, E_NOTPRIMARY, "%s is the only one", except);
	rc = alone(&x);
	if (rc == E_NOTPRIMARY && r->n > 1)
		return race(&x, ret_c, ret_ok, note);
	if (rc < 0)
		return err_set(note, rc, "%s", x.note.text);
	*ret_c = x.conn;
	*ret_ok = x.ok;
	return 0;
}
