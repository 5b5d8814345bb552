/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, chance, work, signals and environment of a simulated process. */
#include "base/check.h"
#include "sys/sim/world.h"
#include <string.h>

#define WALL_START_MS UINT64_C(1767225600000) /* 2026-01-01 */
enum { DAY_MS = 86400000, PID_FIRST = 1000, UID = 1000, CPUS = 4 };
#define MEMORY_BYTES (UINT64_C(8) << 30)

struct loop *sys_loop(struct sys *s)
{
	return s->loop;
}

/* A dead process has the time of its own unwinding, which the world does not share. */
bool sim_dead(const struct sys *s) { return s->dead; }

uint64_t sys_now_ns(struct sys *s)
{
	return s->dead ? loop_now_ns(s->loop) : node_now_ns(s);
}

uint64_t sys_wall_ms(struct sys *s)
{
	struct sim *w = s->w;
	int64_t jump_ms;

	if (!s->dead && sim_odds(w, STREAM_CLOCK, w->faults.clock_jump_ppm)) {
		jump_ms = (int64_t)prng_below(stream(w, STREAM_CLOCK), 2 * DAY_MS);
		sim_clock_jump(s->node, jump_ms - DAY_MS);
	}
	return WALL_START_MS + w->now_ns / SYS_MS + (uint64_t)s->node->wall_ms;
}

uint64_t sys_random(struct sys *s)
{
	if (s->dead)
		return prng_mix(
			&s->dead_draws); /* any number; the streams are not touched any more */
	return prng_next(stream(s->w, STREAM_RANDOM));
}

void sys_secret(struct sys *s, void *ret_p, size_t len)
{
	uint8_t *p = ret_p;
	uint64_t x;

	for (size_t n; len > 0; p += n, len -= n) {
		n = len < sizeof x ? len : sizeof x;
		x = s->dead ? prng_mix(&s->dead_draws) : prng_next(stream(s->w, STREAM_SECRET));
		put_le64(&x, x);
		memcpy(p, &x, n);
	}
}

/* ---- work on a thread ---- */
struct work {
	struct call call;
	struct event event;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

static void work_fire(struct event *e)
{
	struct work *k = container_of(e, struct work, event);

	k->fn(k->arg);
	k->done = true;
	call_end(&k->call, 0);
}

static void work_drop(struct call *c)
{
	struct work *k = container_of(c, struct work, call);

	heap_drop(&k->call.sys->w->heap, &k->event);
}

int sys_work(struct sys *s, void (*fn)(void *arg), void *arg)
{
	struct work k = { .call.drop = work_drop, .event.fire = work_fire, .fn = fn, .arg = arg };
	struct sim *w = s->w;
	uint64_t delay_ns;

	if (s->dead)
		return sys_dead(s);
	delay_ns = prng_below(stream(w, STREAM_WORK), 1 + w->faults.disk_op_max_ns);
	if (sim_odds(w, STREAM_WORK, w->faults.disk_slow_ppm))
		delay_ns += prng_below(stream(w, STREAM_WORK), 2 * SYS_SEC);
	heap_put(&w->heap, &k.event, w->now_ns + delay_ns);
	fiber_shield(FOREVER);
	(void)call_wait(s, &k.call, FOREVER);
	fiber_unshield();
	if (k.done)
		return 0;
	if (s->dead)
		return E_CANCELED;
	fn(arg); /* a shield around this one ran out: the thread is done right now */
	return 0;
}

/* ---- processes and signals ---- */
int sys_spawn(struct sys *s, const char *const argv[], const char *const env[],
	struct sys_proc **ret_p, struct err_note *note)
{
	return err_set(note, E_UNSUPPORTED, "spawn %s: not in a simulation", argv[0]);
}

int64_t sys_proc_pid(const struct sys_proc *p)
{
	return -1;
}
int sys_proc_wait(struct sys_proc *p, uint64_t until_ns, int *ret_status)
{
	return E_UNSUPPORTED;
}
void sys_proc_kill(struct sys_proc *p, int signal) {}
void sys_proc_close(struct sys_proc *p) {}
int sys_pid_kill(struct sys *s, int64_t pid, int signal, struct err_note *note)
{
	return err_set(note, E_UNSUPPORTED, "processes: not in a simulation");
}

struct signal_wait {
	struct call call;
	struct list link;
};

static void signal_drop(struct call *c)
{
	list_remove(&container_of(c, struct signal_wait, call)->link);
}

int sys_signal_wait(struct sys *s, uint64_t until_ns, int *ret_signal)
{
	struct signal_wait wait = { .call.drop = signal_drop };
	int rc;

	while (s->signals == 0) {
		if (s->dead)
			return sys_dead(s);
		list_push(&s->signal_waits, &wait.link);
		rc = call_wait(s, &wait.call, until_ns);
		if (rc < 0)
			return rc;
	}
	*ret_signal = __builtin_ctz(s->signals);
	s->signals &= s->signals - 1;
	return 0;
}

void sim_node_signal(struct sim_node *n, int signal)
{
	check(signal > 0);
	check(signal < 32);
	if (n->sys == NULL)
		return;
	sim_note(n->w, n, "signal %d", signal);
	n->sys->signals |= 1u << signal;
	for (struct list *it; (it = list_pop(&n->sys->signal_waits)) != NULL;)
		call_end(&container_of(it, struct signal_wait, link)->call, 0);
}

/* ---- environment ---- */
const char *sys_getenv(struct sys *s, const char *name)
{
	return NULL;
}
uint64_t sys_memory_total(struct sys *s)
{
	return MEMORY_BYTES;
}
uint64_t sys_memory_free(struct sys *s)
{
	return MEMORY_BYTES / 2;
}
uint64_t sys_memory_self(struct sys *s)
{
	return MEMORY_BYTES / 64;
}
uint64_t sys_cpu_ns(struct sys *s)
{
	return loop_turns(s->loop) * SYS_US;
}
uint64_t sys_files_max(struct sys *s)
{
	return 1 << 20;
}

uint32_t sys_cpus(struct sys *s)
{
	return CPUS;
}
int64_t sys_pid(struct sys *s)
{
	return PID_FIRST + 100 * (int64_t)s->node->index + s->node->boots;
}
int64_t sys_uid(struct sys *s)
{
	return UID;
}
const char *sys_host(struct sys *s)
{
	return s->node->name;
}
const char *sys_boot_id(struct sys *s)
{
	return s->node->boot_id;
}

void sys_log(struct sys *s, const char *line)
{
	if (!s->dead)
		sim_note(s->w, s->node, "log: %s", line);
}
