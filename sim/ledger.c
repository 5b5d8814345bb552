/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/ledger.h"
#include "base/check.h"
#include "base/err.h"
#include "base/sums.h"
#include <stdio.h>
#include <string.h>

struct ledger *ledger_new(struct scenario *sc, uint32_t value_bytes_max)
{
	struct ledger *l = scenario_alloc(sc, sizeof *l);

	l->sc = sc;
	l->value_bytes_max = value_bytes_max;
	return l;
}

/* ---- the history ---- */
enum { NOT_ASKED = UINT32_MAX };
#define EMPTY_VALUE (UINT64_MAX / 2) /* all empty values are one */

void ledger_history(struct ledger *l)
{
	l->history = linear_new();
}

static void history_say(struct ledger *l, uint32_t key)
{
	char line[LINEAR_KEY_BYTES_MAX + 200];

	for (uint32_t i = 0; i < linear_ops(l->history); i++) {
		const struct linear_op *op = linear_at(l->history, i);

		if (op->kind == LINEAR_CUT || op->key == key) {
			linear_op_text(l->history, op, line, sizeof line);
			scenario_say(l->sc, "history: %s", line);
		}
	}
}

#define HISTORY_RULE "what clients were told about a key happened in some order"
void ledger_judge(struct ledger *l)
{
	char why[LINEAR_KEY_BYTES_MAX + 400];

	for (uint32_t i = 0; i < linear_keys(l->history); i++) {
		enum linear_verdict v = linear_check(l->history, i, why, sizeof why);

		scenario_checked(HISTORY_RULE);
		if (v == LINEAR_OK)
			continue;
		history_say(l, i);
		violation(l->sc, v == LINEAR_BROKEN ?
			HISTORY_RULE :
			"a history can be judged", "%s", why);
	}
	scenario_say(l->sc, "history: %u operations on %u keys", linear_ops(l->history),
		linear_keys(l->history));
	linear_free(l->history);
	l->history = NULL;
}

uint64_t ledger_now(struct ledger *l)
{
	return ++l->now;
}

static uint32_t history_key(struct ledger *l, const char *bucket, const char *name)
{
	char whole[LINEAR_KEY_BYTES_MAX];

	snprintf(whole, sizeof whole, "%s/%s", bucket, name);
	return linear_key(l->history, whole);
}

uint32_t ledger_ask(struct ledger *l, const char *bucket, const char *name,
	const struct linear_op *op)
{
	struct linear_op begun = *op;

	if (l->history == NULL)
		return NOT_ASKED;
	begun.key = history_key(l, bucket, name);
	begun.begin = ledger_now(l);
	begun.end = LINEAR_NEVER;
	begun.outcome = LINEAR_UNKNOWN;
	return linear_add(l->history, &begun);
}

static bool refused(const struct linear_op *op, int rc)
{
	return op->kind == LINEAR_PUT && ((rc == E_EXISTS && op->cond == LINEAR_IF_ABSENT) ||
		(rc == E_CONFLICT && op->cond == LINEAR_IF_VERSION));
}

void ledger_told(struct ledger *l, uint32_t asked, int rc, uint64_t value, uint64_t version)
{
	struct linear_op *op;

	if (l->history == NULL || asked == NOT_ASKED)
		return;
	op = linear_at(l->history, asked);
	op->end = ledger_now(l);
	if (rc == 0) {
		op->outcome = LINEAR_DONE;
		op->version = version;
		if (op->kind == LINEAR_GET || op->kind == LINEAR_TAKE)
			op->value = value;
	} else if (refused(op, rc)) {
		op->outcome = LINEAR_REFUSED;
	} else if (rc == E_NOTFOUND && op->kind != LINEAR_PUT) {
		op->outcome = LINEAR_ABSENT;
	} else if (op->kind == LINEAR_GET && (rc == E_LOST || rc == E_CORRUPT)) {
		op->kind = l->rot ? LINEAR_STAT : LINEAR_LOST;
		op->value = l->rot ? 0 : l->boot_at;
		op->outcome = LINEAR_DONE;
	} else if (ledger_unknown(rc) || op->kind == LINEAR_TAKE) {
		op->end = LINEAR_NEVER;
	} else {
		op->kind = LINEAR_STAT; /* it never was, and nothing was learned from it */
	}
}

void ledger_listed(struct ledger *l, uint64_t begin, const char *bucket, const char *name,
	bool there)
{
	uint32_t asked = ledger_ask(l, bucket, name, &(struct linear_op){ .kind = LINEAR_STAT });

	if (asked == NOT_ASKED)
		return;
	linear_at(l->history, asked)->begin = begin;
	ledger_told(l, asked, there ? 0 : E_NOTFOUND, 0, 0);
}

void ledger_power_cut(struct ledger *l)
{
	if (l->history != NULL) {
		uint64_t now = ledger_now(l);

		linear_add(l->history, &(struct linear_op){ .kind = LINEAR_CUT,
			.begin = now,
			.end = now });
	}
	l->era++;
	for (uint32_t i = 0; i < l->n_keys; i++)
		l->keys[i].floor = l->keys[i].sure;
}

void ledger_boot(struct ledger *l)
{
	l->boot++;
	l->boot_at = ledger_now(l);
}

void ledger_given_up(struct ledger *l, const char *bucket)
{
	size_t len = strlen(bucket);

	ledger_boot(l);
	for (uint32_t i = 0; i < l->n_keys; i++)
		if (strcmp(l->keys[i].bucket, bucket) == 0)
			for (uint32_t k = 1; k < l->keys[i].n; k++)
				l->keys[i].entries[k].durable = false;
	for (uint32_t i = 0; l->history != NULL && i < linear_ops(l->history); i++) {
		struct linear_op *op = linear_at(l->history, i);

		if (op->kind == LINEAR_PUT &&
			strncmp(linear_name(l->history, op->key), bucket, len) == 0)
			op->durable = false;
	}
}

struct key *ledger_key(struct ledger *l, const char *bucket)
{
	struct key *k;

	if (l->n_keys == LEDGER_KEYS_MAX)
		return NULL;
	k = &l->keys[l->n_keys];
	snprintf(k->name, sizeof k->name, "k/%u", l->n_keys++);
	k->bucket = bucket;
	k->n = 1;
	k->entries[0] = (struct entry){ .durable = true, .acked = true };
	return k;
}

struct look ledger_look(struct ledger *l, const struct key *k)
{
	return (struct look){ l->era, k->floor, k->sure, ledger_now(l), 0 };
}

/* The lowest entry that may stand there for whoever looked since. */
static uint32_t lowest(const struct ledger *l, struct look look)
{
	return l->era == look.era ? look.floor : look.sure;
}

/* ---- values ---- */
void ledger_stamp(const struct ledger *l, uint64_t what, uint64_t who, uint8_t *buf, uint32_t len)
{
	uint64_t state = l->sc->seed ^ what << 32 ^ who, word;

	check(len >= LEDGER_VALUE_MIN);
	put_le64(buf, what);
	put_le64(buf + 8, who);
	for (uint32_t i = 16; i < len; i += 8) {
		uint8_t bytes[8];

		word = prng_mix(&state);
		put_le64(bytes, word);
		memcpy(buf + i, bytes, len - i < 8 ? len - i : 8);
	}
}

bool ledger_stamped(const struct ledger *l, uint64_t what, struct bytes data, uint64_t *ret_who)
{
	uint64_t state, who;

	if (data.len < LEDGER_VALUE_MIN || le64(data.p) != what)
		return false;
	who = le64(data.p + 8);
	state = l->sc->seed ^ what << 32 ^ who;
	for (size_t i = 16; i < data.len; i += 8) {
		uint8_t bytes[8];

		put_le64(bytes, prng_mix(&state));
		if (memcmp(data.p + i, bytes, data.len - i < 8 ? data.len - i : 8) != 0)
			return false;
	}
	*ret_who = who;
	return true;
}

void ledger_value(const struct ledger *l, const struct key *k, uint32_t i, uint8_t *buf)
{
	if (k->entries[i].len > 0)
		ledger_stamp(l, (uint64_t)(k - l->keys), i, buf, k->entries[i].len);
}

void ledger_version(struct ledger *l, uint64_t version)
{
	uint32_t at = (uint32_t)(version * 0x9e3779b97f4a7c15u >> 40) % LEDGER_VERSIONS;

	scenario_checked("each version is given once");
	if (version == 0) {
		violation(l->sc, "each version is given once", "0");
		return;
	}
	for (; l->versions[at] != 0; at = (at + 1) % LEDGER_VERSIONS)
		if (l->versions[at] == version) {
			violation(l->sc, "each version is given once", "%llu again",
				(unsigned long long)version);
			return;
		}
	if (l->n_versions < LEDGER_VERSIONS / 2)
		l->versions[at] = version, l->n_versions++;
}

/* ---- what may stand there ---- */
enum what { ABSENT, PRESENT, LOST };

static bool is(const struct ledger *l, const struct key *k, uint32_t i, enum what what)
{
	const struct entry *e = &k->entries[i];

	if (what == LOST)
		return e->put && !e->durable && e->boot < l->boot;
	return e->put == (what == PRESENT);
}

/* The first entry of low .. end-1 that is such; end when there is none. */
static uint32_t find(const struct ledger *l, const struct key *k, uint32_t low, uint32_t end,
	enum what what)
{
	while (low < end && !is(l, k, low, what))
		low++;
	return low;
}

/* Entry i was seen to stand there: nothing before it comes back, but after a power cut. */
static void saw(struct ledger *l, struct key *k, struct look look, uint32_t i)
{
	if (l->era == look.era && i > k->floor)
		k->floor = i;
}

static void saw_what(struct ledger *l, struct key *k, struct look look, enum what what)
{
	static const char *const words[] = { "absent", "present", "lost" };
	uint32_t low = lowest(l, look), i = find(l, k, low, k->n, what);

	scenario_checked("a key has what one of its possible changes left");
	if (i < k->n)
		saw(l, k, look, i);
	else
		violation(l->sc, "a key has what one of its possible changes left",
			"%s/%s is %s: changes %u to %u, era %u of %u", k->bucket, k->name,
			words[what], low, k->n - 1, look.era, l->era);
}

void ledger_there(struct ledger *l, struct key *k, struct look look, bool there)
{
	l->reads++;
	l->sc->operations++;
	ledger_listed(l, look.begin, k->bucket, k->name, there);
	saw_what(l, k, look, there ? PRESENT : ABSENT);
}

static void history_got(struct ledger *l, const struct key *k, struct look look, int rc,
	struct bytes data)
{
	uint32_t asked = ledger_ask(l, k->bucket, k->name,
		&(struct linear_op){ .kind = LINEAR_GET });
	uint64_t i = EMPTY_VALUE;

	if (asked == NOT_ASKED)
		return;
	linear_at(l->history, asked)->begin = look.begin;
	if (rc == 0 && data.len > 0 && !ledger_stamped(l, (uint64_t)(k - l->keys), data, &i))
		return; /* somebody's else: got_bytes() says so */
	ledger_told(l, asked, rc, i, look.version);
}

static void got_bytes(struct ledger *l, struct key *k, struct look look, struct bytes data)
{
	uint32_t low = lowest(l, look);
	uint64_t i;

	scenario_checked("a read returns bytes that were put under its key");
	scenario_checked("a read returns the last acknowledged put, or a later one");
	if (data.len == 0) {
		for (i = low; i < k->n && (!k->entries[i].put || k->entries[i].len > 0); i++)
			;
	} else if (!ledger_stamped(l, (uint64_t)(k - l->keys), data, &i)) {
		violation(l->sc, "a read returns bytes that were put under its key",
			"%s/%s: %zu others", k->bucket, k->name, data.len);
		return;
	}
	if (i >= k->n || !k->entries[i].put || k->entries[i].len != data.len)
		violation(l->sc, "a read returns all of what one put brought",
			"%s/%s: %zu bytes of change %llu", k->bucket, k->name, data.len,
			(unsigned long long)i);
	else if (i < low)
		violation(l->sc, "a read returns the last acknowledged put, or a later one",
			"%s/%s: change %llu, though %u was", k->bucket, k->name,
			(unsigned long long)i, low);
	else
		saw(l, k, look, (uint32_t)i);
}

void ledger_got(struct ledger *l, struct key *k, struct look look, int rc, struct bytes data)
{
	l->reads++;
	l->sc->operations++;
	history_got(l, k, look, rc, data);
	switch (rc) {
	case 0:
		got_bytes(l, k, look, data);
		break;
	case E_NOTFOUND:
		saw_what(l, k, look, ABSENT);
		break;
	case E_CORRUPT: /* a power cut kept the header in a file, and lost the bytes */
		if (!l->files)
			violation(l->sc, "bytes that did not rot are never called corrupt", "%s/%s",
				k->bucket, k->name);
		__attribute__((fallthrough));
	case E_LOST:
		l->losses++;
		saw_what(l, k, look, l->rot ? PRESENT : LOST);
		break;
	case E_TIMEOUT:
	case E_CANCELED:
	case E_UNREACH:
	case E_CLOSED:
	case E_BUSY:
	case E_IO:
	case E_FULL: /* the shard's log could not be written: its last words */
	case E_STALE: /* its wall clock jumped back: servers know by the next heartbeat */
	case E_NOTPRIMARY: /* for as long as the reader could wait */
	case E_GONE:
		break;
	default:
		violation(l->sc, "a read fails only for a reason that there is", "%s/%s: %s",
			k->bucket, k->name, err_name(rc));
	}
}

/* ---- changes ---- */
bool ledger_unknown(int rc)
{
	return rc == E_UNKNOWN || rc == E_CANCELED || rc == E_IO;
}

void ledger_begin(struct ledger *l, struct change *ch, struct key *k, bool put, bool durable,
	uint32_t len)
{
	check(ledger_usable(k));
	*ch = (struct change){ .k = k, .i = k->n, .look = ledger_look(l, k) };
	k->entries[k->n++] = (struct entry){ .put = put, .durable = durable || !put,
		.boot = l->boot, .len = len };
	k->pending = true;
}

void ledger_asked(struct ledger *l, struct change *ch, bool durable)
{
	const struct entry *e = &ch->k->entries[ch->i];
	static const enum linear_cond conds[] = { LINEAR_ALWAYS, LINEAR_IF_ABSENT,
		LINEAR_IF_VERSION };
	struct linear_op op = { .kind = e->put ? LINEAR_PUT : LINEAR_DELETE,
		.cond = conds[ch->cond],
		.durable = durable,
		.if_version = ch->if_version };

	if (e->put)
		op.value = e->len == 0 ? EMPTY_VALUE : ch->i;
	ch->asked = ledger_ask(l, ch->k->bucket, ch->k->name, &op);
}

/* Could the condition hold, could it fail, given what stood there before? */
static bool could(const struct ledger *l, const struct change *ch, bool hold)
{
	const struct entry *e;

	for (uint32_t i = lowest(l, ch->look); i < ch->i; i++) {
		e = &ch->k->entries[i];
		if (ch->cond == COND_ABSENT && e->put != hold)
			return true;
		if (ch->cond == COND_VERSION &&
			(e->put && (e->version == ch->if_version || e->version == 0)) == hold)
			return true;
		if (ch->cond == COND_NONE && (ch->k->entries[ch->i].put || e->put == hold))
			return true; /* a delete needs something to delete */
	}
	return false;
}

static void acked(struct ledger *l, struct change *ch, uint64_t version)
{
	struct key *k = ch->k;
	struct entry *e = &k->entries[ch->i];

	l->acks++;
	e->acked = true;
	e->version = version;
	if (e->put)
		ledger_version(l, version);
	scenario_checked("a conditional change happens only when its condition holds");
	if (!could(l, ch, true))
		violation(l->sc, "a conditional change happens only when its condition holds",
			"%s/%s, change %u", k->bucket, k->name, ch->i);
	if (e->put && e->durable)
		k->sure = ch->i;
	saw(l, k, ch->look, ch->i);
	if (k->sure > k->floor)
		k->floor = k->sure;
}

static bool refusal(int rc)
{
	return rc == E_EXISTS || rc == E_CONFLICT || rc == E_NOTFOUND;
}

void ledger_end(struct ledger *l, struct change *ch, int rc, uint64_t version)
{
	struct key *k = ch->k;

	l->sc->operations++;
	if (l->history != NULL)
		ledger_told(l, ch->asked, rc, 0, version);
	if (ledger_unknown(rc)) {
		k->unknown = true;
		k->pending = false;
		return;
	}
	k->pending = false;
	if (rc == 0) {
		acked(l, ch, version);
		return;
	}
	k->n--; /* it never was */
	scenario_checked("a change that failed has no effect");
	if (k->floor > k->n - 1)
		violation(l->sc, "a change that failed has no effect",
			"%s/%s: change %u (%s) was seen", k->bucket, k->name, ch->i, err_name(rc));
	if (rc == E_NOTFOUND && k->entries[ch->i].put)
		return; /* of the bucket: whoever asked knows whether that may be */
	if (refusal(rc) && !could(l, ch, false))
		violation(l->sc, "a change is refused only when its condition does not hold",
			"%s/%s, change %u: %s", k->bucket, k->name, ch->i, err_name(rc));
	if (rc == E_CORRUPT || rc == E_INVALID || rc == E_DENIED || rc == E_LOST)
		violation(l->sc, "a change fails only for a reason that there is", "%s/%s: %s",
			k->bucket, k->name, err_name(rc));
}
