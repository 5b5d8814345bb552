/* SPDX-License-Identifier: Apache-2.0 */
/* The search of Wing and Gong with Lowe's memory: what may be next is tried, one after another, and
 * a state (what is done, what stands there) from which nothing was found is not tried again.
 *
 * (L1) Whoever ends before another begins is done before it; so next is one of those that begin no
 * later than the first end among what must be done.  (L2) What only looks is done as soon as it
 * fits: it changes nothing for the others, but where it would come before one that has to be done
 * before it, if at all.  (L3) What stands there is a chain of values, the newest
 * first, as far as a cut may still take them back; with no cut ahead it is one.  Chains are given
 * out once, so that equal ones are the same. */
#include "sim/linear.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/prng.h"
#include <stdlib.h>
#include <string.h>

enum {
	WORDS_MAX = LINEAR_KEY_OPS_MAX / 64,
	NO_OP = UINT32_MAX,
	CAP_MIN = 64,
	BUCKETS = 1 << 12,
};

/* Links are numbers, and 1; 0 is the end. */
struct named {
	char name[LINEAR_KEY_BYTES_MAX];
	uint32_t next;   /* key of its bucket */
	uint32_t last;   /* operation */
};
struct noted {
	struct linear_op op;
	uint32_t before; /* the one before of its key, or the cut before */
};
struct linear {
	struct noted *ops;
	uint32_t n_ops, cap_ops, last_cut;
	struct named *keys;
	uint32_t n_keys, cap_keys, buckets[BUCKETS];
};

/* ---- histories ---- */
struct linear *linear_new(void)
{
	struct linear *l = calloc(1, sizeof *l);

	check(l != NULL);
	return l;
}

void linear_free(struct linear *l)
{
	if (l != NULL) {
		free(l->ops);
		free(l->keys);
		free(l);
	}
}

static void *grown(void *p, uint32_t n, uint32_t *cap, size_t size)
{
	if (n < *cap)
		return p;
	*cap = *cap == 0 ? CAP_MIN : *cap * 2;
	p = realloc(p, *cap * size);
	check(p != NULL);
	return p;
}

uint32_t linear_key(struct linear *l, const char *name)
{
	uint32_t *bucket = &l->buckets[crc32c(0, name, strlen(name)) % BUCKETS];
	struct named *k;

	check(strlen(name) < LINEAR_KEY_BYTES_MAX);
	for (uint32_t i = *bucket; i != 0; i = l->keys[i - 1].next)
		if (strcmp(l->keys[i - 1].name, name) == 0)
			return i - 1;
	l->keys = grown(l->keys, l->n_keys, &l->cap_keys, sizeof *l->keys);
	k = &l->keys[l->n_keys++];
	*k = (struct named){ .next = *bucket };
	snprintf(k->name, sizeof k->name, "%s", name);
	*bucket = l->n_keys;
	return l->n_keys - 1;
}

const char *linear_name(const struct linear *l, uint32_t key)
{
	check(key < l->n_keys);
	return l->keys[key].name;
}

uint32_t linear_keys(const struct linear *l) { return l->n_keys; }
uint32_t linear_ops(const struct linear *l) { return l->n_ops; }

uint32_t linear_add(struct linear *l, const struct linear_op *op)
{
	uint32_t *last;

	check(op->kind == LINEAR_CUT || op->key < l->n_keys);
	check(op->begin <= op->end);
	last = op->kind == LINEAR_CUT ? &l->last_cut : &l->keys[op->key].last;
	l->ops = grown(l->ops, l->n_ops, &l->cap_ops, sizeof *l->ops);
	l->ops[l->n_ops] = (struct noted){ *op, *last };
	*last = ++l->n_ops;
	return l->n_ops - 1;
}

struct linear_op *linear_at(const struct linear *l, uint32_t i)
{
	check(i < l->n_ops);
	return &l->ops[i].op;
}

/* ---- the search ---- */
struct link {
	uint32_t below; /* NO_OP: this is as far as a cut goes */
	uint32_t op;    /* whose it is, when a cut may come before its end */
	uint64_t value;
};
struct state {
	uint64_t done[WORDS_MAX];   /* taken effect */
	uint64_t spare[WORDS_MAX];  /* has taken effect, and was taken back: may again */
	uint64_t after;             /* the latest begin among what is done (L1) */
	uint32_t top;               /* link */
	uint32_t cuts;              /* done */
};
struct memory {
	uint64_t hash[2];
};
struct search {
	const struct linear_op *ops[LINEAR_KEY_OPS_MAX];
	uint32_t n, words;
	const struct linear_op *cuts[LINEAR_KEY_OPS_MAX];
	uint32_t n_cuts;
	struct link *links;
	uint32_t n_links, cap_links;
	struct memory *seen;        /* open hash of cap_seen, half of it free */
	uint32_t n_seen, cap_seen;
	bool too_hard;
	uint32_t best, blocked;     /* how far it came, and what did not fit there */
	uint64_t best_value;
};

static bool has(const uint64_t *set, uint32_t i) { return set[i / 64] >> i % 64 & 1; }
static void put_in(uint64_t *set, uint32_t i) { set[i / 64] |= UINT64_C(1) << i % 64; }
static void take_out(uint64_t *set, uint32_t i) { set[i / 64] &= ~(UINT64_C(1) << i % 64); }

static uint64_t mixed(uint64_t a, uint64_t b)
{
	uint64_t state = a ^ b * 0x9e3779b97f4a7c15u;

	return prng_mix(&state);
}

/* A key's chains are few: they are as many as there are values and cuts. */
static uint32_t link_of(struct search *s, uint32_t below, uint32_t op, uint64_t value)
{
	for (uint32_t i = s->n_links; i-- > 0;)
		if (s->links[i].below == below && s->links[i].op == op &&
			s->links[i].value == value)
			return i;
	if (s->n_links == LINEAR_STATES_MAX) {
		s->too_hard = true;
		return 0;
	}
	s->links = grown(s->links, s->n_links, &s->cap_links, sizeof *s->links);
	s->links[s->n_links] = (struct link){ below, op, value };
	return s->n_links++;
}

static struct memory *place_of(const struct search *s, const struct memory *m)
{
	uint32_t at = (uint32_t)m->hash[0] & (s->cap_seen - 1);

	while (s->seen[at].hash[1] != 0 && memcmp(&s->seen[at], m, sizeof *m) != 0)
		at = (at + 1) & (s->cap_seen - 1);
	return &s->seen[at];
}

static void grow_seen(struct search *s)
{
	struct memory *old = s->seen;
	uint32_t cap = s->cap_seen;

	s->cap_seen = cap == 0 ? CAP_MIN : 2 * cap;
	check((s->seen = calloc(s->cap_seen, sizeof *s->seen)) != NULL);
	for (uint32_t i = 0; i < cap; i++)
		if (old[i].hash[1] != 0)
			*place_of(s, &old[i]) = old[i];
	free(old);
}

/* Was it here before?  Two hashes of 64 bits stand for the state. */
static bool been_here(struct search *s, const struct state *st)
{
	struct memory m = { { mixed(st->top, st->cuts), mixed(st->cuts + 1, st->top) } };
	struct memory *at;

	for (uint32_t i = 0; i < s->words; i++) {
		m.hash[0] = mixed(mixed(m.hash[0], st->done[i]), st->spare[i]);
		m.hash[1] = mixed(mixed(m.hash[1], st->spare[i]), st->done[i]);
	}
	m.hash[1] |= 1; /* 0 is free */
	if (2 * s->n_seen >= s->cap_seen)
		grow_seen(s);
	at = place_of(s, &m);
	if (at->hash[1] != 0)
		return true;
	if (s->n_seen == LINEAR_STATES_MAX) {
		s->too_hard = true;
		return true;
	}
	s->n_seen++;
	*at = m;
	return false;
}

static uint64_t next_cut(const struct search *s, const struct state *st)
{
	return st->cuts < s->n_cuts ? s->cuts[st->cuts]->begin : LINEAR_NEVER;
}

static bool spans_a_cut(const struct search *s, const struct linear_op *op)
{
	for (uint32_t i = 0; i < s->n_cuts; i++)
		if (op->begin <= s->cuts[i]->begin && op->end >= s->cuts[i]->begin)
			return true;
	return false;
}

/* The put that brought a value, and the version it was told; NULL, 0: cannot be known. */
static const struct linear_op *put_of(const struct search *s, uint64_t value)
{
	const struct linear_op *found = NULL;

	for (uint32_t i = 0; i < s->n && value != LINEAR_ANY; i++)
		if (s->ops[i]->kind == LINEAR_PUT && s->ops[i]->value == value) {
			if (found != NULL)
				return NULL; /* several, of the same bytes */
			found = s->ops[i];
		}
	return found;
}

static uint64_t version_of(const struct search *s, uint64_t value)
{
	const struct linear_op *put = put_of(s, value);

	return put == NULL || put->outcome != LINEAR_DONE || spans_a_cut(s, put) ? 0 : put->version;
}

static bool same_value(const struct search *s, const struct linear_op *op, uint64_t now)
{
	uint64_t version = version_of(s, now);

	if (now == 0)
		return false;
	if (op->version != 0 && version != 0 && op->version != version)
		return false;
	return now == op->value || now == LINEAR_ANY || op->value == LINEAR_ANY;
}

static bool may_be_lost(const struct search *s, const struct linear_op *op, uint64_t now)
{
	const struct linear_op *put = put_of(s, now);

	return now != 0 && (put == NULL || (!put->durable && put->begin < op->value));
}

enum fit { NO, LOOKS, CHANGES };

static enum fit put_fits(const struct search *s, const struct linear_op *op, uint64_t now)
{
	uint64_t version = now == 0 ? 0 : version_of(s, now);
	bool holds = true, fails = false;

	if (op->cond == LINEAR_IF_ABSENT) {
		holds = now == 0;
		fails = !holds;
	} else if (op->cond == LINEAR_IF_VERSION) {
		holds = now != 0 && (version == op->if_version || version == 0);
		fails = now == 0 || version != op->if_version;
	}
	if (op->outcome == LINEAR_REFUSED)
		return fails ? LOOKS : NO;
	return holds ? CHANGES : NO;
}

/* Does its outcome fit to what stands there? */
static enum fit fits(const struct search *s, const struct linear_op *op, uint64_t now)
{
	switch (op->kind) {
	case LINEAR_PUT:
		return put_fits(s, op, now);
	case LINEAR_DELETE:
	case LINEAR_TAKE:
		if (op->outcome == LINEAR_ABSENT)
			return now == 0 ? LOOKS : NO;
		if (op->kind == LINEAR_TAKE && op->outcome == LINEAR_DONE &&
			!same_value(s, op, now))
			return NO;
		return now != 0 ? CHANGES : NO;
	case LINEAR_GET:
		if (op->outcome == LINEAR_ABSENT)
			return now == 0 ? LOOKS : NO;
		return same_value(s, op, now) ? LOOKS : NO;
	case LINEAR_STAT:
		return (now == 0) == (op->outcome == LINEAR_ABSENT) ? LOOKS : NO;
	case LINEAR_LOST:
		return may_be_lost(s, op, now) ? LOOKS : NO;
	default:
		check(op->kind == LINEAR_CUT);
		return NO;
	}
}

/* Taken effect, taken back by a cut, and refused when it was asked for again: until that cut it may
 * do what its outcome denies. */
static bool denied(const struct linear_op *op)
{
	return op->outcome == LINEAR_REFUSED ||
		(op->outcome == LINEAR_ABSENT &&
			(op->kind == LINEAR_DELETE || op->kind == LINEAR_TAKE));
}

static bool might_deny(const struct search *s, const struct state *st, const struct linear_op *op)
{
	return denied(op) && st->cuts < s->n_cuts && op->end >= s->cuts[st->cuts]->begin;
}

static bool may_deny(const struct search *s, const struct state *st, const struct linear_op *op)
{
	struct linear_op then = *op;

	then.outcome = LINEAR_UNKNOWN;
	return might_deny(s, st, op) && fits(s, &then, s->links[st->top].value) == CHANGES;
}

static bool must(const struct search *s, const struct state *st, uint32_t i)
{
	return s->ops[i]->outcome != LINEAR_UNKNOWN && !has(st->spare, i);
}

/* The first end among what has to be done, the next cut among it (L1). */
static uint64_t first_end(const struct search *s, const struct state *st, uint32_t *ret_left)
{
	uint64_t end = LINEAR_NEVER;

	*ret_left = 0;
	for (uint32_t i = 0; i < s->n; i++)
		if (!has(st->done, i) && must(s, st, i)) {
			++*ret_left;
			if (s->ops[i]->end < end)
				end = s->ops[i]->end;
		}
	return end;
}

/* May it still be?  Only for those that have been, and do not have to be, there is a question. */
static bool in_time(const struct search *s, const struct state *st, uint32_t i)
{
	return !has(st->done, i) && s->ops[i]->end >= st->after;
}

static void do_it(const struct search *s, struct state *st, uint32_t i)
{
	put_in(st->done, i);
	if (s->ops[i]->begin > st->after)
		st->after = s->ops[i]->begin;
}

static bool would_be_late(const struct search *s, const struct state *st, uint64_t begin)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (has(st->spare, i) && in_time(s, st, i) && s->ops[i]->end < begin)
			return true;
	return false;
}

static bool search_from(struct search *s, struct state st);

static bool leaves_denied(const struct search *s, uint32_t top)
{
	for (uint32_t k = top; k != NO_OP; k = s->links[k].below)
		if (s->links[k].op != NO_OP && denied(s->ops[s->links[k].op]))
			return true;
	return false;
}

static bool look(struct search *s, const struct state *from, uint32_t i)
{
	struct state st = *from;

	do_it(s, &st, i);
	return search_from(s, st);
}

static bool change(struct search *s, const struct state *from, uint32_t i)
{
	const struct linear_op *op = s->ops[i];
	struct state st = *from;
	uint64_t cut = next_cut(s, &st), value = op->kind == LINEAR_PUT ? op->value : 0;
	bool sure = cut == LINEAR_NEVER ||
		(op->durable && op->outcome == LINEAR_DONE && op->end < cut);

	if (sure && leaves_denied(s, st.top))
		return false; /* that could not be taken back any more */
	do_it(s, &st, i);
	st.top = link_of(s, sure ? NO_OP : st.top, !sure && op->end >= cut ? i : NO_OP, value);
	return search_from(s, st);
}

/* Back to each of the values that a cut may leave. */
static bool cut(struct search *s, const struct state *from)
{
	struct state st = *from;
	const struct linear_op *at = s->cuts[st.cuts++];
	bool last = st.cuts == s->n_cuts;

	if (at->begin > st.after)
		st.after = at->begin;
	for (uint32_t k = from->top; k != NO_OP; k = s->links[k].below) {
		struct state next = st;

		next.top = last ? link_of(s, NO_OP, NO_OP, s->links[k].value) : k;
		if (!leaves_denied(s, k) && search_from(s, next))
			return true;
		if (s->links[k].op != NO_OP && s->ops[s->links[k].op]->end >= at->begin) {
			take_out(st.done, s->links[k].op);
			if (!denied(s->ops[s->links[k].op]))
				put_in(st.spare, s->links[k].op);
		}
	}
	return false;
}

static void look_around(struct search *s, struct state *st)
{
	uint64_t now = s->links[st->top].value, end;
	uint32_t n = 0, left, before;

	do {
		before = n;
		end = first_end(s, st, &left);
		if (next_cut(s, st) < end)
			end = next_cut(s, st);
		for (uint32_t i = 0; i < s->n && s->ops[i]->begin <= end; i++)
			if (!has(st->done, i) && must(s, st, i) &&
				fits(s, s->ops[i], now) == LOOKS && !might_deny(s, st, s->ops[i]) &&
				!would_be_late(s, st, s->ops[i]->begin)) {
				do_it(s, st, i);
				n++;
			}
	} while (n > before);
}

static void note_block(struct search *s, const struct state *st, uint32_t left, uint64_t end)
{
	if (s->n - left < s->best)
		return;
	s->best = s->n - left;
	s->best_value = s->links[st->top].value;
	for (uint32_t i = 0; i < s->n; i++)
		if (!has(st->done, i) && must(s, st, i) && s->ops[i]->end == end)
			s->blocked = i;
}

/* As deep as there are operations and cuts: LINEAR_KEY_OPS_MAX. */
static bool search_from(struct search *s, struct state st)
{
	uint64_t end, cut_at;
	uint32_t left;
	enum fit how;

	if (s->too_hard)
		return false;
	look_around(s, &st);
	end = first_end(s, &st, &left);
	if (left == 0 && !leaves_denied(s, st.top))
		return true;
	if (been_here(s, &st))
		return false;
	cut_at = next_cut(s, &st);
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->ops[i]->begin > end || s->ops[i]->begin > cut_at)
			break;
		if (!in_time(s, &st, i))
			continue;
		how = fits(s, s->ops[i], s->links[st.top].value);
		if (may_deny(s, &st, s->ops[i]) && change(s, &st, i))
			return true;
		if (how != NO && (how == CHANGES ? change(s, &st, i) : look(s, &st, i)))
			return true;
	}
	if (cut_at <= end && cut(s, &st))
		return true;
	note_block(s, &st, left, end);
	return false;
}

static int by_begin(const void *a, const void *b)
{
	const struct linear_op *x = *(const struct linear_op *const *)a;
	const struct linear_op *y = *(const struct linear_op *const *)b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x < y ? -1 : x > y;
}

static bool only_looks(const struct linear_op *op)
{
	return op->kind == LINEAR_GET || op->kind == LINEAR_STAT || op->kind == LINEAR_LOST;
}

/* Nothing is learned from a look without an answer.  False: there are too many. */
static bool collect(struct linear *l, struct search *s, uint32_t key)
{
	for (uint32_t i = l->last_cut; i != 0; i = l->ops[i - 1].before) {
		if (s->n_cuts == LINEAR_KEY_OPS_MAX)
			return false;
		s->cuts[s->n_cuts++] = &l->ops[i - 1].op;
	}
	for (uint32_t i = l->keys[key].last; i != 0; i = l->ops[i - 1].before) {
		const struct linear_op *op = &l->ops[i - 1].op;

		if (op->outcome == LINEAR_UNKNOWN && only_looks(op))
			continue;
		if (s->n == LINEAR_KEY_OPS_MAX)
			return false;
		s->ops[s->n++] = op;
	}
	qsort(s->ops, s->n, sizeof s->ops[0], by_begin);
	qsort(s->cuts, s->n_cuts, sizeof s->cuts[0], by_begin);
	s->words = (s->n + 63) / 64;
	return true;
}

enum linear_verdict linear_check(struct linear *l, uint32_t key, char *ret_why, size_t cap)
{
	struct search *s = calloc(1, sizeof *s);
	enum linear_verdict verdict;
	struct state st = { .top = 0 };
	char op[LINEAR_KEY_BYTES_MAX + 200], value[24];

	check(s != NULL);
	s->too_hard = !collect(l, s, key);
	if (!s->too_hard)
		st.top = link_of(s, NO_OP, NO_OP, 0);
	if (!s->too_hard && search_from(s, st))
		verdict = LINEAR_OK;
	else
		verdict = s->too_hard ? LINEAR_TOO_HARD : LINEAR_BROKEN;
	if (verdict == LINEAR_TOO_HARD)
		snprintf(ret_why, cap, "%s: too hard, after %u states of %u operations",
			linear_name(l, key), s->n_seen, s->n);
	if (verdict == LINEAR_BROKEN) {
		linear_op_text(l, s->ops[s->blocked], op, sizeof op);
		snprintf(value, sizeof value, "%llu", (unsigned long long)s->best_value);
		snprintf(ret_why, cap,
			"%s: of %u operations at most %u fit, then not `%s` with %s there",
			linear_name(l, key), s->n, s->best, op,
			s->best_value == 0 ? "nothing" : s->best_value == LINEAR_ANY ? "?" : value);
	}
	free(s->links);
	free(s->seen);
	free(s);
	return verdict;
}
