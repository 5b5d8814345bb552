/* SPDX-License-Identifier: Apache-2.0 */
/* The parent of the demonstration: a cluster, the input, a job, its workers, the proof.
 *
 * Whatever goes wrong, what was started is ended and what was made is removed (I1): each step
 * leaves its trace in struct demo and demo_sort() undoes them all, in one place. */
#include "demo/demo.h"
#include "base/err.h"
#include "demo/local.h"
#include "demo/picture.h"
#include "demo/sort.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAMPLE_MS = 50, GENERATE_RECORDS = 100000, SAMPLES = 20000, WORKERS_MAX = 64, SEED = 2026,
	STOPPED_EXIT = 130 /* as shells count SIGINT */ };

struct demo {
	const struct demo_opts *o;
	struct local local; /* scratch directory and server of our own */
	char input[LOCAL_PATH_MAX], output[LOCAL_PATH_MAX];
	bool input_is_ours, output_is_ours;
	struct sort_plan plan;
	struct wadi *w, *as_job;
	struct wadi_job job;
	pid_t workers[WORKERS_MAX];
	struct picture picture;
	uint64_t started_ms, took_ms;
};

static volatile sig_atomic_t stop_asked;

/* Once only: who asks twice does not want to wait for the cleaning up. */
static void ask_stop(int sig)
{
	(void)sig;
	stop_asked = 1;
}

static int stopped(void)
{
	return stop_asked ? WADI_E_CANCELED : 0;
}

static int sys_fail(const char *what)
{
	fprintf(stderr, "demo: %s: %s\n", what, strerror(errno));
	return WADI_E_IO;
}

static int wadi_fail(const struct wadi *w, int rc, const char *what)
{
	fprintf(stderr, "demo: %s: %s\n", what, w != NULL ? wadi_error(w) : wadi_strerror(rc));
	return rc;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

/* ---- input ---- */
static int generate(struct demo *d)
{
	uint64_t n = d->o->bytes / RECORD_BYTES, done = 0;
	char *buf = malloc((size_t)GENERATE_RECORDS * RECORD_BYTES);
	FILE *f = fopen(d->input, "w");
	int rc = 0;

	while (buf != NULL && f != NULL && done < n && !stop_asked) {
		size_t some = n - done < GENERATE_RECORDS ? (size_t)(n - done) : GENERATE_RECORDS;

		record_generate(buf, done, some, SEED);
		if (fwrite(buf, RECORD_BYTES, some, f) != some)
			break;
		done += some;
		local_progress(d->o->quiet, "generating", done, n);
	}
	if (f == NULL || buf == NULL || (done < n && !stop_asked) || fflush(f) != 0)
		rc = sys_fail(d->input);
	else
		rc = stopped();
	if (f != NULL)
		fclose(f);
	free(buf);
	return rc;
}

static int too_large(const char *what)
{
	fprintf(stderr, "demo: %s: more than %llu GiB, the most this demonstration sorts\n", what,
		(unsigned long long)SORT_MAPS_MAX * SORT_SPLIT_BYTES >> 30);
	return WADI_E_TOOBIG;
}

/* Generated input: is there room for it and for the output?  To find out byte by byte would fill
 * the user's disk first. */
static int room_for(const struct demo *d)
{
	struct statvfs fs;
	uint64_t left;

	if (d->o->bytes / SORT_SPLIT_BYTES > SORT_MAPS_MAX)
		return too_large("--size");
	if (statvfs(d->local.dir, &fs) < 0)
		return sys_fail(d->local.dir);
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (left / 2 >= d->o->bytes)
		return 0;
	fprintf(stderr,
		"demo: input and output take %.0f MiB, %s has room for %.0f MiB: ask for less with "
		"--size (DEMO_SIZE), or name another folder with TMPDIR\n",
		mib(d->o->bytes) * 2, d->local.dir, mib(left));
	return WADI_E_FULL;
}

/* The user's file, or one of ours. */
static int path_set(char ret_path[LOCAL_PATH_MAX], const char *given, const struct local *l,
	const char *name)
{
	int n = given != NULL ? snprintf(ret_path, LOCAL_PATH_MAX, "%s", given)
		: snprintf(ret_path, LOCAL_PATH_MAX, "%s%s", l->dir, name);

	if (n < LOCAL_PATH_MAX)
		return 0;
	fprintf(stderr, "demo: %.60s...: a path of %d bytes\n", ret_path, n);
	ret_path[0] = '\0'; /* whatever stands there is not ours */
	return WADI_E_TOOBIG;
}

static int find_input(struct demo *d)
{
	struct stat st, out;
	int rc;

	d->input_is_ours = d->o->input == NULL;
	d->output_is_ours = d->o->output == NULL;
	if ((rc = path_set(d->input, d->o->input, &d->local, "/input")) < 0
	    || (rc = path_set(d->output, d->o->output, &d->local, "/output")) < 0)
		return rc;
	if (d->input_is_ours && ((rc = room_for(d)) < 0 || (rc = generate(d)) < 0))
		return rc;
	if (stat(d->input, &st) < 0)
		return sys_fail(d->input);
	if (stat(d->output, &out) == 0 && out.st_dev == st.st_dev && out.st_ino == st.st_ino) {
		fprintf(stderr, "demo: %s is the input: give another OUTPUT\n", d->output);
		d->output_is_ours = false;
		return WADI_E_INVALID;
	}
	if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size % RECORD_BYTES != 0) {
		fprintf(stderr, "demo: %s: not a file of %d-byte records (it has %lld bytes)\n",
			d->input, RECORD_BYTES, (long long)st.st_size);
		return WADI_E_INVALID;
	}
	if (!sort_plan_make(&d->plan, d->input, d->output, (uint64_t)st.st_size / RECORD_BYTES,
		    d->o->workers ? d->o->workers : SORT_WORKERS))
		return too_large(d->input);
	return 0;
}

/* Adds up a whole file of records. */
static int add_up(const char *path, struct record_check *ret_c)
{
	char *buf = malloc((size_t)GENERATE_RECORDS * RECORD_BYTES);
	FILE *f = fopen(path, "r");
	size_t n;
	int rc = 0;

	record_check_init(ret_c);
	if (buf == NULL || f == NULL)
		rc = sys_fail(path);
	while (rc == 0 && (n = fread(buf, RECORD_BYTES, GENERATE_RECORDS, f)) > 0) {
		record_check_add(ret_c, buf, n);
		rc = stopped();
	}
	if (rc == 0 && ferror(f))
		rc = sys_fail(path);
	if (f != NULL)
		fclose(f);
	free(buf);
	return rc;
}

/* Ranges of equal weight, from keys read at equal distances. */
static int choose_ranges(struct demo *d, struct record_ranges *ret_r)
{
	uint64_t n = d->plan.n_records < SAMPLES ? d->plan.n_records : SAMPLES;
	uint8_t *keys = malloc((size_t)n * RECORD_KEY_BYTES);
	int fd = open(d->input, O_RDONLY | O_CLOEXEC), rc = 0;

	for (uint64_t i = 0; keys != NULL && fd >= 0 && rc == 0 && i < n; i++) {
		off_t at = (off_t)(d->plan.n_records * i / n * RECORD_BYTES);

		if (pread(fd, keys + i * RECORD_KEY_BYTES, RECORD_KEY_BYTES, at) !=
			RECORD_KEY_BYTES)
			rc = sys_fail(d->input);
	}
	if (keys == NULL || fd < 0)
		rc = sys_fail(d->input);
	if (rc == 0)
		record_ranges_choose(ret_r, d->plan.n_parts, keys, (size_t)n);
	if (fd >= 0)
		close(fd);
	free(keys);
	return rc;
}

/* ---- the job ---- */
static int begin_job(struct demo *d)
{
	const struct wadi_connect_opts first = { .size = sizeof first,
		.name = "demo",
		.connect_ms = 20000,
		.flags = WADI_CONNECT_WAIT };
	const struct wadi_job_hints hints = { .size = sizeof hints,
		.latency = WADI_LATENCY_SENSITIVE,
		.workers = d->plan.n_workers,
		.capacity_bytes = d->plan.n_records * RECORD_BYTES };
	struct wadi_connect_opts job = first;
	struct record_ranges ranges;
	struct wadi_note why;
	int rc;

	if ((rc = wadi_connect(d->local.url, &first, &d->w, &why)) < 0) {
		fprintf(stderr, "demo: %s\n", why.text);
		return rc;
	}
	if ((rc = wadi_job_register(d->w, "demo-sort", &hints, &d->job)) < 0)
		return wadi_fail(d->w, rc, "register the job");
	job.token = d->job.token;
	if ((rc = wadi_connect(d->local.url, &job, &d->as_job, &why)) < 0) {
		fprintf(stderr, "demo: as the job: %s\n", why.text);
		return rc;
	}
	if ((rc = choose_ranges(d, &ranges)) < 0)
		return rc;
	rc = wadi_put(d->as_job, NULL, "ranges", &ranges, sizeof ranges, NULL, NULL);
	return rc < 0 ? wadi_fail(d->as_job, rc, "put ranges") : 0;
}

static int start_worker(struct demo *d, uint32_t worker)
{
	char records[24], workers[16], number[16];
	char *const argv[] = { (char *)"wadi-demo", (char *)"worker", d->input, d->output, records,
		workers, number, NULL };
	pid_t pid;

	snprintf(records, sizeof records, "%llu", (unsigned long long)d->plan.n_records);
	snprintf(workers, sizeof workers, "%u", d->plan.n_workers);
	snprintf(number, sizeof number, "%u", worker);
	pid = fork();
	if (pid < 0)
		return sys_fail("fork");
	if (pid == 0) {
		setenv("WADI_JOB_TOKEN", d->job.token, 1);
		if (d->local.url != NULL)
			setenv("WADI_URL", d->local.url, 1);
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	d->workers[worker] = pid;
	return 0;
}

static int start_workers(struct demo *d)
{
	int fd = open(d->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), rc = 0;

	if (fd < 0)
		return sys_fail(d->output);
	if (ftruncate(fd, (off_t)(d->plan.n_records * RECORD_BYTES)) < 0)
		rc = sys_fail(d->output);
	close(fd);
	d->started_ms = local_now_ms();
	for (uint32_t i = 0; rc == 0 && i < d->plan.n_workers; i++)
		rc = start_worker(d, i);
	return rc;
}

/* What the tiers hold for anyone: used, promised, or kept back for a reader. */
static uint64_t held(const struct wadi_tier_status *t)
{
	return t->used_bytes + t->pinned_bytes + t->granted_bytes + t->orphaned_bytes;
}

static int sample(struct demo *d, uint64_t *ret_held)
{
	struct picture_sample s = { .at_ms = local_now_ms() - d->started_ms };
	struct wadi_status *st;
	int rc = wadi_status_get(d->w, d->job.id, &st);

	if (rc < 0)
		return wadi_fail(d->w, rc, "status");
	*ret_held = st->slab_used_bytes;
	for (uint32_t i = 0; i < st->n_tiers; i++) {
		*ret_held += held(&st->tiers[i]);
		if (st->tiers[i].tier < PICTURE_TIERS)
			s.used_bytes[st->tiers[i].tier] += st->tiers[i].used_bytes;
	}
	s.used_bytes[WADI_DRAM] += st->slab_used_bytes;
	picture_add(&d->picture, &s);
	wadi_status_free(st);
	return 0;
}

/* Takes the results of workers that have ended: how many still run, or the first failure. */
static int reap(struct demo *d)
{
	int running = 0, status;

	for (uint32_t i = 0; i < d->plan.n_workers; i++) {
		if (d->workers[i] == 0)
			continue;
		if (waitpid(d->workers[i], &status, WNOHANG) == 0) {
			running++;
			continue;
		}
		d->workers[i] = 0;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			fprintf(stderr, "demo: worker %u ended with status %d\n", i,
				WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
			return WADI_E_CANCELED;
		}
	}
	return running;
}

static int watch(struct demo *d)
{
	uint64_t now_held = 0;
	int running, rc;

	while ((rc = stopped()) == 0 && (running = reap(d)) > 0) {
		if ((rc = sample(d, &now_held)) < 0)
			return rc;
		local_progress_note(d->o->quiet, "sorting", "%d workers, %.0f MiB in Wadi", running,
			mib(now_held));
		local_sleep(SAMPLE_MS);
	}
	d->took_ms = local_now_ms() - d->started_ms;
	return rc < 0 ? rc : running;
}

/* ---- the proof ---- */
static int validate(struct demo *d)
{
	struct record_check in, out;
	int rc;

	if ((rc = add_up(d->input, &in)) == 0)
		rc = add_up(d->output, &out);
	local_progress_clear(d->o->quiet);
	if (rc < 0)
		return rc;
	if (!out.sorted) {
		fprintf(stderr, "demo: %s: record %llu is out of order\n", d->output,
			(unsigned long long)out.unsorted_at);
		return WADI_E_CORRUPT;
	}
	if (in.total.n != out.total.n || in.total.sum != out.total.sum) {
		fprintf(stderr,
			"demo: %s: %llu records with checksum %016llx, the input had %llu with "
			"%016llx\n",
			d->output, (unsigned long long)out.total.n,
			(unsigned long long)out.total.sum, (unsigned long long)in.total.n,
			(unsigned long long)in.total.sum);
		return WADI_E_CORRUPT;
	}
	printf("output     %llu records in order, checksum %016llx as in the input\n",
		(unsigned long long)out.total.n, (unsigned long long)out.total.sum);
	return 0;
}

static void print_line(void *arg, const char *text)
{
	(void)arg;
	printf("  %s\n", text);
}

static int print_bill(struct demo *d)
{
	static const char *const tiers[] = { "dram", "flash", "disk" };
	struct wadi_bill bill;
	int rc = wadi_job_bill(d->w, d->job.id, &bill);

	if (rc < 0)
		return wadi_fail(d->w, rc, "bill");
	printf("bill       %-6s %14s %12s %12s %12s\n", "tier", "GiB-seconds", "peak MiB",
		"written MiB", "read MiB");
	for (uint32_t i = 0; i < bill.n_lines; i++) {
		const struct wadi_bill_line *l = &bill.lines[i];

		printf("           %-6s %14.3f %12.1f %12.1f %12.1f\n",
			l->tier < 3 ? tiers[l->tier] : "?", l->byte_seconds / (1 << 30),
			mib(l->peak_bytes), mib(l->written_bytes), mib(l->read_bytes));
	}
	return 0;
}

static int end_job(struct demo *d)
{
	uint64_t left = 0, from_ms = local_now_ms();
	struct wadi_job_end end;
	int rc = wadi_job_end(d->w, d->job.id, &end);

	if (rc < 0)
		return wadi_fail(d->w, rc, "end the job");
	printf("job ended  in %llu ms; %llu objects (%.1f MiB) were still there\n",
		(unsigned long long)(local_now_ms() - from_ms), (unsigned long long)end.files,
		mib(end.bytes));
	if ((rc = print_bill(d)) < 0 || (rc = sample(d, &left)) < 0)
		return rc;
	printf("in use     %llu bytes after the job ended\n", (unsigned long long)left);
	if (left != 0) {
		fprintf(stderr, "demo: the job ended but %llu bytes were not given back\n",
			(unsigned long long)left);
		return WADI_E_CORRUPT;
	}
	d->job.id = 0;
	printf("where the bytes were:\n");
	picture_draw(&d->picture, print_line, NULL);
	return 0;
}

static int run(struct demo *d)
{
	int rc;

	if ((rc = local_start(&d->local, d->o->url, d->o->program)) < 0 || (rc = find_input(d)) < 0)
		return rc;
	printf("input      %.1f MiB, %llu records%s\n", mib(d->plan.n_records * RECORD_BYTES),
		(unsigned long long)d->plan.n_records, d->input_is_ours ? ", generated" : "");
	if ((rc = begin_job(d)) < 0)
		return rc;
	printf("job        %llu, %u workers, %u maps x %u reduces = %u objects to exchange\n",
		(unsigned long long)d->job.id, d->plan.n_workers, d->plan.n_maps, d->plan.n_parts,
		d->plan.n_maps * d->plan.n_parts);
	fflush(stdout);
	if ((rc = start_workers(d)) < 0 || (rc = watch(d)) < 0)
		return rc;
	local_progress_clear(d->o->quiet);
	printf("sorted     in %.2f s, %.1f MiB/s\n", (double)d->took_ms / 1000,
		mib(d->plan.n_records * RECORD_BYTES) * 1000 /
			(double)(d->took_ms ? d->took_ms : 1));
	local_progress_note(d->o->quiet, "checking", "the order of %llu records",
		(unsigned long long)d->plan.n_records);
	rc = validate(d);
	return rc < 0 ? rc : end_job(d);
}

/* (I1) */
static void clean_up(struct demo *d)
{
	for (uint32_t i = 0; i < WORKERS_MAX; i++) {
		if (d->workers[i] == 0)
			continue;
		kill(d->workers[i], SIGKILL);
		waitpid(d->workers[i], NULL, 0);
	}
	if (d->w != NULL && d->job.id != 0)
		wadi_job_end(d->w, d->job.id, NULL);
	wadi_close(d->as_job);
	wadi_close(d->w);
	if (d->input_is_ours && d->input[0] != '\0')
		unlink(d->input);
	if (d->output_is_ours && d->output[0] != '\0')
		unlink(d->output);
	local_stop(&d->local);
}

int demo_sort(const struct demo_opts *o)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction act = { .sa_handler = ask_stop, .sa_flags = (int)SA_RESETHAND };
	struct demo *d = calloc(1, sizeof *d);
	int rc;

	if (d == NULL)
		return err_exit(E_NOMEM);
	if (o->workers > WORKERS_MAX) {
		fprintf(stderr, "demo: at most %d workers\n", WORKERS_MAX);
		free(d);
		return err_exit(E_INVALID);
	}
	d->o = o;
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		sigaction(signals[i], &act, NULL);
	rc = run(d);
	local_progress_clear(o->quiet);
	fflush(stdout);
	clean_up(d);
	free(d);
	if (stop_asked) {
		fprintf(stderr, "demo: stopped; what it made is removed\n");
		return STOPPED_EXIT;
	}
	if (rc == 0)
		printf("demo: ok\n");
	else
		fprintf(stderr, "demo: failed (%s)\n", wadi_error_name(rc));
	return err_exit(rc);
}
