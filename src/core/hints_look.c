/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, what is learned, and what is told to people. */
#include "base/limit.h"
#include "core/hints.h"
#include <stdarg.h>
#include <stdio.h>

static const char *const tier_names[TIER_COUNT] = { "dram", "flash", "disk" };

/* ---- refusals ---- */
static int too_big(struct err_note *note, const char *what, uint64_t given, uint64_t max,
	const char *limit)
{
	if (given > INT64_MAX)
		return err_set(note, E_TOOBIG, "%s %lld: not below 0, and at most %llu (%s)", what,
			(long long)given, (unsigned long long)max, limit);
	return err_set(note, E_TOOBIG, "%s %llu: at most %llu (%s)", what,
		(unsigned long long)given, (unsigned long long)max, limit);
}

static int zero(struct err_note *note, const char *what)
{
	return err_set(note, E_INVALID, "%s 0: at least 1, or not given at all", what);
}

static int check_figures(const struct hints *h, struct err_note *note)
{
	if (h->lambdas == 0 && (h->said & SAID_WORKERS) != 0)
		return zero(note, "workers");
	if (h->capacity_bytes == 0 && (h->said & SAID_CAPACITY) != 0)
		return zero(note, "capacity in bytes");
	if (h->bandwidth_bps == 0 && (h->said & SAID_BANDWIDTH) != 0)
		return zero(note, "bandwidth in bytes per second");
	if (h->lambdas > INT32_MAX)
		return err_set(note, E_TOOBIG, "workers %d: not below 0, and at most %d (%s)",
			(int32_t)h->lambdas, LIMIT_LAMBDAS_MAX, "LAMBDAS_MAX");
	if (h->lambdas > LIMIT_LAMBDAS_MAX)
		return too_big(note, "workers", h->lambdas, LIMIT_LAMBDAS_MAX, "LAMBDAS_MAX");
	if (h->capacity_bytes > HINTS_BYTES_MAX)
		return too_big(note, "capacity in bytes", h->capacity_bytes, HINTS_BYTES_MAX,
			"HINTS_BYTES_MAX");
	if (h->bandwidth_bps > HINTS_BPS_MAX)
		return too_big(note, "bandwidth in bytes per second", h->bandwidth_bps,
			HINTS_BPS_MAX, "HINTS_BPS_MAX");
	if (h->quota_bytes > HINTS_BYTES_MAX)
		return too_big(note, "quota in bytes", h->quota_bytes, HINTS_BYTES_MAX,
			"HINTS_BYTES_MAX");
	return 0;
}

static int check_words(const struct hints *h, struct err_note *note)
{
	if (h->latency > LATENCY_INSENSITIVE)
		return err_set(note, E_INVALID, "latency hint %u: 0, 1 or 2", h->latency);
	if ((h->tiers >> TIER_COUNT) != 0)
		return err_set(note, E_INVALID, "tiers %#x: there are %d", h->tiers, TIER_COUNT);
	if (h->latency == LATENCY_SENSITIVE && h->tiers == TIER_BIT(TIER_DISK))
		return err_set(note, E_INVALID, "latency-sensitive, but only %s is allowed",
			tier_names[TIER_DISK]);
	if (h->quota_bytes > 0 && h->capacity_bytes > h->quota_bytes)
		return err_set(note, E_INVALID,
			"capacity in bytes %llu, but the job's quota is %llu",
			(unsigned long long)h->capacity_bytes, (unsigned long long)h->quota_bytes);
	return 0;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

int hints_check(
	const struct hints *h, const struct hints_ever ever[TIER_COUNT], struct err_note *note)
{
	struct hints_ever all = { 0, 0 }, mine = { 0, 0 };
	int rc;

	if ((rc = check_figures(h, note)) < 0 || (rc = check_words(h, note)) < 0)
		return rc;
	for (int t = 0; t < TIER_COUNT; t++) {
		bool may = h->tiers == 0 || (h->tiers & TIER_BIT(t)) != 0;

		all.capacity_bytes = sum(all.capacity_bytes, ever[t].capacity_bytes);
		all.bandwidth_bps = sum(all.bandwidth_bps, ever[t].bandwidth_bps);
		mine.capacity_bytes = sum(mine.capacity_bytes, may ? ever[t].capacity_bytes : 0);
		mine.bandwidth_bps = sum(mine.bandwidth_bps, may ? ever[t].bandwidth_bps : 0);
	}
	if (all.capacity_bytes > 0 && h->capacity_bytes > mine.capacity_bytes)
		return too_big(note, "capacity in bytes", h->capacity_bytes, mine.capacity_bytes,
			"what the cluster may ever have in the tiers allowed");
	if (all.bandwidth_bps > 0 && h->bandwidth_bps > mine.bandwidth_bps)
		return too_big(note, "bandwidth in bytes per second", h->bandwidth_bps,
			mine.bandwidth_bps, "what the cluster may ever have in the tiers allowed");
	return 0;
}

/* ---- earlier runs ---- */
static uint64_t towards(uint64_t known, uint64_t seen)
{
	return seen >= known ? seen : known - (known - seen) / 4;
}

void hints_learn(struct hints_profile *p, const struct hints_run *run)
{
	p->peak_bytes = towards(p->peak_bytes, run->peak_bytes);
	p->peak_bps = towards(p->peak_bps, run->peak_bps);
	p->lifetime_ms = towards(p->lifetime_ms, run->lifetime_ms);
	p->workers = (uint32_t)towards(p->workers, run->workers);
	if (p->runs < UINT32_MAX)
		p->runs++;
}

/* ---- words ---- */
struct words {
	char *text;
	size_t cap, len;
};

static void say(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct words *w, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (w->len + 1 >= w->cap)
		return;
	va_start(ap, fmt);
	n = vsnprintf(w->text + w->len, w->cap - w->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		w->len += (size_t)n < w->cap - w->len ? (size_t)n : w->cap - w->len - 1;
}

/* "1.9 TB" */
static void say_amount(struct words *w, uint64_t n, const char *unit)
{
	static const char prefixes[] = "kMGTP";
	uint64_t tenths = 0;
	int at = -1;

	for (; n >= 1000 && prefixes[at + 1] != '\0'; n /= 1000) {
		tenths = n % 1000 / 100;
		at++;
	}
	if (at < 0)
		say(w, "%llu %s", (unsigned long long)n, unit);
	else
		say(w, "%llu.%llu %c%s", (unsigned long long)n, (unsigned long long)tenths,
			prefixes[at], unit);
}

static void say_from(struct words *w, const struct hints_reason *r, const struct hints_figure *f,
	const char *other)
{
	uint32_t workers = r->given.lambdas > 0 ? r->given.lambdas : r->profile.workers;

	switch ((enum hints_from)f->from) {
	case FROM_HINT:
		say(w, "as given");
		return;
	case FROM_LEARNED:
		say(w, "learned from %u earlier run%s, with a quarter to spare", r->profile.runs,
			r->profile.runs == 1 ? "" : "s");
		return;
	case FROM_WORKERS:
		say(w, "%u worker%s%s, 0.6 Gb/s each", workers, workers == 1 ? "" : "s",
			r->given.lambdas > 0 ? "" : " as in earlier runs");
		return;
	case FROM_OTHER:
		say(w, "as a server has beside the %s", other);
		return;
	case FROM_DEFAULT:
		say(w, "nothing was said: 50 servers");
		return;
	case FROM_SHARE:
		say(w, "nothing was said: an eighth of what is free");
		return;
	}
}

static void say_figure(struct words *w, const struct hints_reason *r, bool capacity)
{
	static const char *const bounds[] = {
		[BOUND_NONE] = "",
		[BOUND_QUOTA] = "; not more than the quota",
		[BOUND_EVER] = "; more the cluster will never have",
		[BOUND_SHARE] = "; at most an eighth of what is free",
	};
	const struct hints_figure *f = capacity ? &r->need.capacity : &r->need.bandwidth;

	say(w, capacity ? "capacity " : "throughput ");
	say_amount(w, f->value, capacity ? "B" : "B/s");
	say(w, ": ");
	say_from(w, r, f, capacity ? "throughput" : "capacity");
	say(w, "%s\n", bounds[f->bound]);
}

static void say_tiers(struct words *w, const struct hints_reason *r)
{
	static const char *const reasons[] = {
		[ORDER_MEMORY] = "nothing said against memory",
		[ORDER_CHEAP_FREE] = "latency does not matter: the cheapest that has it free",
		[ORDER_CHEAP_PRICE] = "latency does not matter: the cheapest to be had",
		[ORDER_FASTEST] = "latency does not matter, no tier has it all: the fastest",
	};

	say(w, "tiers");
	for (uint8_t i = 0; i < r->need.n_tiers; i++)
		say(w, " %s", tier_names[r->need.tiers[i]]);
	say(w, "%s: %s\n", r->need.n_tiers == 0 ? " none" : "",
		r->given.latency == LATENCY_SENSITIVE ? "latency matters" : reasons[r->order]);
}

size_t hints_say(const struct hints_reason *r, char *text, size_t cap)
{
	struct words w = { text, cap, 0 };

	if (cap > 0)
		text[0] = '\0';
	say_figure(&w, r, true);
	say_figure(&w, r, false);
	say_tiers(&w, r);
	if (r->profile.runs > 0)
		say(&w, "earlier runs: %llu s, %u workers, ",
			(unsigned long long)(r->profile.lifetime_ms / 1000), r->profile.workers);
	if (r->profile.runs > 0) {
		say_amount(&w, r->profile.peak_bytes, "B at most, ");
		say_amount(&w, r->profile.peak_bps, "B/s\n");
	}
	say(&w, "%s\n",
		!r->need.grows	? "takes what there is"
		: r->need.waits ? "waits for servers that are started for it"
				: "servers may be started for it; it does not wait for them");
	return w.len;
}
