/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes and signals. */
#include "base/check.h"
#include "sys/uv/own.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

struct sys_proc {
	uv_process_t process;
	struct waitq q;
	bool ended, left; /* left: closed before its end, which frees it */
	int status;
	int64_t pid;
};

static void on_free(uv_handle_t *h)
{
	free(h->data);
}

static void on_exit_of(uv_process_t *h, int64_t status, int signal)
{
	struct sys_proc *p = h->data;

	p->ended = true;
	p->status = signal != 0 ? 128 + signal : (int)status;
	if (p->left)
		uv_close((uv_handle_t *)h, on_free);
	else
		waitq_wake_all(&p->q);
}

/* Our PATH and the others; the strings stay where they are. */
static char **environment(const char *const others[])
{
	static const char path[] = "PATH=";
	size_t n = 0, n_out = 0;
	char **env;

	while (others[n] != NULL)
		n++;
	env = calloc(n + 2, sizeof *env);
	if (env == NULL)
		return NULL;
	for (char **ours = environ; ours != NULL && *ours != NULL && n_out == 0; ours++)
		if (strncmp(*ours, path, sizeof path - 1) == 0)
			env[n_out++] = *ours;
	for (size_t i = 0; i < n; i++)
		env[n_out++] = (char *)(uintptr_t)others[i];
	return env;
}

int sys_spawn(struct sys *s, const char *const argv[], const char *const env[],
	struct sys_proc **ret_p, struct err_note *note)
{
	uv_stdio_container_t io[3];
	uv_process_options_t o = {
		.exit_cb = on_exit_of,
		.file = argv[0],
		.args = (char **)(uintptr_t)argv,
		.stdio_count = 3,
		.stdio = io,
	};
	struct sys_proc *p = calloc(1, sizeof *p);
	int rc;

	check(argv[0] != NULL);
	if (env != NULL)
		o.env = environment(env);
	if (p == NULL || (env != NULL && o.env == NULL)) {
		free(p);
		free(o.env);
		return err_set(note, E_NOMEM, "start %s: %s", argv[0], err_text(E_NOMEM));
	}
	for (int i = 0; i < 3; i++) {
		io[i].flags = UV_INHERIT_FD;
		io[i].data.fd = i;
	}
	p->process.data = p;
	waitq_init(&p->q);
	rc = uv_spawn(&s->uv, &p->process, &o);
	free(o.env);
	if (rc < 0) {
		uv_close((uv_handle_t *)&p->process, on_free);
		return err_set(note, sys_err(-rc), "start %s: %s", argv[0], sys_err_words(-rc));
	}
	p->pid = p->process.pid;
	*ret_p = p;
	return 0;
}

int64_t sys_proc_pid(const struct sys_proc *p)
{
	return p->pid;
}

int sys_proc_wait(struct sys_proc *p, uint64_t until_ns, int *ret_status)
{
	while (!p->ended) {
		int rc = waitq_wait(&p->q, until_ns);

		if (rc < 0)
			return rc;
	}
	*ret_status = p->status;
	return 0;
}

void sys_proc_kill(struct sys_proc *p, int signal)
{
	if (!p->ended) /* not reaped yet: the number is still its own */
		uv_process_kill(&p->process, signal);
}

void sys_proc_close(struct sys_proc *p)
{
	if (p == NULL)
		return;
	check(waitq_empty(&p->q));
	if (p->ended) {
		uv_close((uv_handle_t *)&p->process, on_free);
		return;
	}
	p->left = true;
	uv_unref((uv_handle_t *)&p->process);
}

int sys_pid_kill(struct sys *s, int64_t pid, int signal, struct err_note *note)
{
	check(pid > 1); /* 1 is init, the others are groups */
	if (kill((pid_t)pid, signal) == 0)
		return 0;
	return err_set(note, sys_err(errno), "signal process %lld: %s",
		(long long)pid, sys_err_words(errno));
}

/* ---- signals ---- */
static const int numbers[SIGNALS] = { SIGINT, SIGTERM, SIGHUP };

static void on_signal(uv_signal_t *h, int number)
{
	struct sys *s = h->data;

	s->signals_seen[h - s->signals] = true;
	waitq_wake_all(&s->signals_q);
}

/* Whoever waits for signals is a server: a log pipe that breaks must not end it either. */
static int signals_start(struct sys *s)
{
	for (int i = 0; i < SIGNALS && !s->signals_on; i++) {
		check(uv_signal_init(&s->uv, &s->signals[i]) == 0);
		s->signals[i].data = s;
	}
	s->signals_on = true;
	for (int i = 0; i < SIGNALS; i++) {
		int rc = uv_signal_start(&s->signals[i], on_signal, numbers[i]);

		if (rc < 0)
			return sys_err(-rc);
	}
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int sys_signal_wait(struct sys *s, uint64_t until_ns, int *ret_signal)
{
	int rc = s->signals_on ? 0 : signals_start(s);

	while (rc == 0) {
		for (int i = 0; i < SIGNALS; i++) {
			if (s->signals_seen[i]) {
				s->signals_seen[i] = false;
				*ret_signal = numbers[i];
				return 0;
			}
		}
		rc = waitq_wait(&s->signals_q, until_ns);
	}
	return rc;
}

void signals_close(struct sys *s)
{
	for (int i = 0; i < SIGNALS && s->signals_on; i++)
		uv_close((uv_handle_t *)&s->signals[i], NULL);
	s->signals_on = false;
}
