/* SPDX-License-Identifier: Apache-2.0 */
/* The texts under the keys.  A state and a node:
 *
 *    wadi-shard 1                      wadi-node 1
 *    epoch 7                           id 3
 *    primary 3/12                      address tcp:10.0.0.3:7777
 *    in_sync 3/12 4/1 5/2              host h3
 *    target_size 3                     rack r1
 *                                      role meta,store
 *                                      certificate -
 *
 * Every line ends with a newline, numbers are decimal without leading zeros, "-" is an empty word.
 * (T1) What parses is printed as the same bytes. */
#include "base/check.h"
#include "coord/own.h"
#include <stdio.h>

enum { VERSION = 1 };

/* ---- validity ---- */
bool coord_state_valid(const struct coord_state *st)
{
	bool led = false;

	if (st->epoch == 0 || st->n_in_sync == 0 || st->n_in_sync > COORD_IN_SYNC_MAX)
		return false;
	if (st->target_size == 0 || st->target_size > COORD_IN_SYNC_MAX)
		return false;
	for (uint32_t i = 0; i < st->n_in_sync; i++) {
		const struct coord_replica *r = &st->in_sync[i];

		if (r->id == 0)
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (st->in_sync[j].id == r->id)
				return false;
		led |= r->id == st->primary.id && r->incarnation == st->primary.incarnation;
	}
	return led;
}

static bool graphic(char c)
{
	return c > ' ' && c < 0x7f;
}

static bool word_valid(const char *word, size_t cap, bool may_be_empty)
{
	size_t n = strnlen(word, cap);

	if (n == cap || (n == 0 && !may_be_empty) || strcmp(word, "-") == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!graphic(word[i]))
			return false;
	return true;
}

bool coord_node_valid(const struct coord_node *n)
{
	return n->id > 0 && word_valid(n->address, sizeof n->address, false) &&
	       word_valid(n->host, sizeof n->host, true) &&
	       word_valid(n->rack, sizeof n->rack, true) &&
	       word_valid(n->role, sizeof n->role, false) &&
	       word_valid(n->certificate, sizeof n->certificate, true);
}

/* ---- printing ---- */
size_t coord_state_print(const struct coord_state *st, char *ret_text)
{
	int n;

	check(coord_state_valid(st));
	n = snprintf(ret_text, COORD_TEXT_MAX,
		"wadi-shard %d\nepoch %llu\nprimary %llu/%llu\nin_sync", VERSION,
		(unsigned long long)st->epoch, (unsigned long long)st->primary.id,
		(unsigned long long)st->primary.incarnation);
	for (uint32_t i = 0; i < st->n_in_sync; i++)
		n += snprintf(ret_text + n, (size_t)(COORD_TEXT_MAX - n), " %llu/%llu",
			(unsigned long long)st->in_sync[i].id,
			(unsigned long long)st->in_sync[i].incarnation);
	n += snprintf(
		ret_text + n, (size_t)(COORD_TEXT_MAX - n), "\ntarget_size %u\n", st->target_size);
	check(n < COORD_TEXT_MAX);
	return (size_t)n;
}

static const char *shown(const char *word)
{
	return word[0] != '\0' ? word : "-";
}

size_t coord_node_print(const struct coord_node *nd, char *ret_text)
{
	int n;

	check(coord_node_valid(nd));
	n = snprintf(ret_text, COORD_TEXT_MAX,
		"wadi-node %d\nid %llu\naddress %s\nhost %s\nrack %s\nrole %s\ncertificate %s\n",
		VERSION, (unsigned long long)nd->id, nd->address, shown(nd->host), shown(nd->rack),
		nd->role, shown(nd->certificate));
	check(n < COORD_TEXT_MAX);
	return (size_t)n;
}

/* ---- parsing: a cursor that fails sticky ---- */
static void eat(struct reader *r, const char *word)
{
	size_t n = strlen(word);
	const uint8_t *p = reader_take(r, n);

	if (p != NULL && memcmp(p, word, n) != 0)
		r->ok = false;
}

static bool next_is(const struct reader *r, char c)
{
	return r->ok && reader_left(r) > 0 && *r->p == (uint8_t)c;
}

static uint64_t eat_number(struct reader *r)
{
	const uint8_t *from = r->p;
	uint64_t v = 0;

	while (r->ok && reader_left(r) > 0 && *r->p >= '0' && *r->p <= '9') {
		uint64_t digit = (uint64_t)(*r->p++ - '0');

		if (v > (UINT64_MAX - digit) / 10)
			r->ok = false;
		else
			v = v * 10 + digit;
	}
	if (r->p == from || (*from == '0' && r->p > from + 1))
		r->ok = false;
	return r->ok ? v : 0;
}

/* The rest of the line, without its end. */
static void eat_word(struct reader *r, char *ret_word, size_t cap)
{
	const uint8_t *from = r->p;
	size_t n = 0;

	while (r->ok && reader_left(r) > 0 && *r->p != '\n') {
		if (++n == cap)
			r->ok = false;
		r->p++;
	}
	if (!r->ok || n == 0)
		r->ok = false;
	else if (n > 1 || *from != '-')
		memcpy(ret_word, from, n);
	eat(r, "\n");
}

static struct coord_replica eat_replica(struct reader *r)
{
	struct coord_replica x;

	x.id = eat_number(r);
	eat(r, "/");
	x.incarnation = eat_number(r);
	return x;
}

/* 0, or what the text is instead. */
static int eat_head(struct reader *r, const char *kind)
{
	uint64_t version;

	eat(r, kind);
	version = eat_number(r);
	eat(r, "\n");
	if (!r->ok || version == 0)
		return E_CORRUPT;
	return version > VERSION ? E_UNSUPPORTED : 0;
}

int coord_state_parse(struct bytes text, struct coord_state *ret_st)
{
	struct reader r = reader_of(text.p, text.len);
	struct coord_state st = { 0 };
	uint64_t target;
	int rc = text.len < COORD_TEXT_MAX ? eat_head(&r, "wadi-shard ") : E_CORRUPT;

	if (rc < 0)
		return rc;
	eat(&r, "epoch ");
	st.epoch = eat_number(&r);
	eat(&r, "\nprimary ");
	st.primary = eat_replica(&r);
	eat(&r, "\nin_sync");
	while (next_is(&r, ' ') && st.n_in_sync < COORD_IN_SYNC_MAX) {
		eat(&r, " ");
		st.in_sync[st.n_in_sync++] = eat_replica(&r);
	}
	eat(&r, "\ntarget_size ");
	target = eat_number(&r);
	st.target_size = target <= COORD_IN_SYNC_MAX ? (uint32_t)target : 0;
	eat(&r, "\n");
	if (!r.ok || reader_left(&r) > 0 || !coord_state_valid(&st))
		return E_CORRUPT;
	*ret_st = st;
	return 0;
}

int coord_node_parse(struct bytes text, struct coord_node *ret_n)
{
	struct reader r = reader_of(text.p, text.len);
	struct coord_node n = { 0 };
	int rc = text.len < COORD_TEXT_MAX ? eat_head(&r, "wadi-node ") : E_CORRUPT;

	if (rc < 0)
		return rc;
	eat(&r, "id ");
	n.id = eat_number(&r);
	eat(&r, "\naddress ");
	eat_word(&r, n.address, sizeof n.address);
	eat(&r, "host ");
	eat_word(&r, n.host, sizeof n.host);
	eat(&r, "rack ");
	eat_word(&r, n.rack, sizeof n.rack);
	eat(&r, "role ");
	eat_word(&r, n.role, sizeof n.role);
	eat(&r, "certificate ");
	eat_word(&r, n.certificate, sizeof n.certificate);
	/* a zero byte inside a word would hide what follows it */
	if (!r.ok || reader_left(&r) > 0 || memchr(text.p, 0, text.len) != NULL ||
		!coord_node_valid(&n))
		return E_CORRUPT;
	*ret_n = n;
	return 0;
}
