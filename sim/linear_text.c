/* SPDX-License-Identifier: Apache-2.0 */
/* Histories as lines of text: linear.h says how they look. */
#include "sim/linear.h"
#include "base/check.h"
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 1 << 30, READ_BYTES = 1 << 16 };

static const char *const kinds[] = { "put", "delete", "take", "get", "stat", "lost", "cut" };
static const char *const outcomes[] = { "ok", "refused", "absent", "unknown" };

static void value_text(uint64_t value, char *ret, size_t cap)
{
	if (value == LINEAR_ANY)
		snprintf(ret, cap, "?");
	else
		snprintf(ret, cap, "%llu", (unsigned long long)value);
}

void linear_op_text(const struct linear *l, const struct linear_op *op, char *ret, size_t cap)
{
	char end[24], value[24], more[120] = "";
	size_t n = 0;

	snprintf(end, sizeof end, "%llu", (unsigned long long)op->end);
	value_text(op->value, value, sizeof value);
	if (op->durable)
		n += (size_t)snprintf(more + n, sizeof more - n, " durable");
	if (op->kind == LINEAR_PUT && op->cond == LINEAR_IF_ABSENT)
		n += (size_t)snprintf(more + n, sizeof more - n, " if-absent");
	if (op->kind == LINEAR_PUT && op->cond == LINEAR_IF_VERSION)
		n += (size_t)snprintf(more + n, sizeof more - n, " if-version=%llu",
			(unsigned long long)op->if_version);
	if (op->version != 0)
		snprintf(more + n, sizeof more - n, " version=%llu",
			(unsigned long long)op->version);
	if (op->kind == LINEAR_CUT) {
		snprintf(ret, cap, "%llu %s cut", (unsigned long long)op->begin, end);
		return;
	}
	snprintf(ret, cap, "%llu %s %s %s%s%s%s %s", (unsigned long long)op->begin,
		op->end == LINEAR_NEVER ? "-" : end, kinds[op->kind], linear_name(l, op->key),
		op->value != 0 ? " " : "", op->value != 0 ? value : "", more,
		outcomes[op->outcome]);
}

void linear_write(const struct linear *l, uint32_t key, FILE *to)
{
	char line[LINEAR_KEY_BYTES_MAX + 200];

	for (uint32_t i = 0; i < linear_ops(l); i++) {
		const struct linear_op *op = linear_at(l, i);

		if (op->kind != LINEAR_CUT && op->key != key)
			continue;
		linear_op_text(l, op, line, sizeof line);
		fprintf(to, "%s\n", line);
	}
}

/* ---- reading ---- */
struct word {
	const char *p;
	size_t len;
};
struct line {
	const char *at, *end;
	uint32_t number;
};

static struct word next_word(struct line *ln)
{
	struct word w;

	while (ln->at < ln->end && (*ln->at == ' ' || *ln->at == '\t' || *ln->at == '\r'))
		ln->at++;
	w.p = ln->at;
	while (ln->at < ln->end && *ln->at != ' ' && *ln->at != '\t' && *ln->at != '\r')
		ln->at++;
	w.len = (size_t)(ln->at - w.p);
	if (w.len > 0 && w.p[0] == '#') {
		ln->at = ln->end;
		w.len = 0;
	}
	return w;
}

static bool is(struct word w, const char *text)
{
	return w.len == strlen(text) && memcmp(w.p, text, w.len) == 0;
}

static bool number(struct word w, uint64_t *ret_n)
{
	uint64_t n = 0;

	if (w.len == 0 || w.len > 18)
		return false;
	for (size_t i = 0; i < w.len; i++) {
		if (w.p[i] < '0' || w.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(w.p[i] - '0');
	}
	*ret_n = n;
	return true;
}

static bool named(struct word w, const char *name, uint64_t *ret_n)
{
	size_t n = strlen(name);

	return w.len > n && memcmp(w.p, name, n) == 0 &&
		number((struct word){ w.p + n, w.len - n }, ret_n);
}

static bool key_of(struct linear *l, struct word w, uint32_t *ret_key)
{
	char name[LINEAR_KEY_BYTES_MAX];

	if (w.len == 0 || w.len >= sizeof name)
		return false;
	memcpy(name, w.p, w.len);
	name[w.len] = '\0';
	*ret_key = linear_key(l, name);
	return true;
}

static int row_of(struct word w, const char *const *rows, int n)
{
	for (int i = 0; i < n; i++)
		if (is(w, rows[i]))
			return i;
	return -1;
}

/* What stands behind the key. */
static bool rest_of(struct line *ln, struct linear_op *op)
{
	int outcome;

	for (struct word w = next_word(ln); w.len > 0; w = next_word(ln)) {
		if (is(w, "?"))
			op->value = LINEAR_ANY;
		else if (is(w, "durable"))
			op->durable = true;
		else if (is(w, "if-absent"))
			op->cond = LINEAR_IF_ABSENT;
		else if (named(w, "if-version=", &op->if_version))
			op->cond = LINEAR_IF_VERSION;
		else if (named(w, "version=", &op->version) || number(w, &op->value))
			continue;
		else if ((outcome = row_of(w, outcomes, 4)) >= 0)
			op->outcome = (enum linear_outcome)outcome;
		else
			return false;
	}
	return true;
}

static bool whole(const struct linear_op *op)
{
	bool gives = op->kind == LINEAR_PUT ||
		((op->kind == LINEAR_GET || op->kind == LINEAR_TAKE) &&
			op->outcome == LINEAR_DONE);

	if (gives && op->value == 0)
		return false;
	if (op->outcome == LINEAR_REFUSED && op->cond == LINEAR_ALWAYS)
		return false;
	if (op->outcome == LINEAR_ABSENT && op->kind == LINEAR_PUT)
		return false;
	return op->begin <= op->end;
}

/* Everything that has the prefix is there or not, as listed. */
static bool listing(struct linear *l, struct line *ln, const struct linear_op *at)
{
	struct word prefix = next_word(ln);
	uint32_t first = linear_ops(l), n = linear_keys(l), key;

	if (prefix.len == 0)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		struct linear_op op = *at;

		op.kind = LINEAR_STAT;
		op.key = i;
		op.outcome = LINEAR_ABSENT;
		if (strncmp(linear_name(l, i), prefix.p, prefix.len) == 0)
			linear_add(l, &op);
	}
	for (struct word w = next_word(ln); w.len > 0; w = next_word(ln)) {
		uint32_t i = first;

		if (!key_of(l, w, &key))
			return false;
		while (i < linear_ops(l) && linear_at(l, i)->key != key)
			i++;
		if (i == linear_ops(l))
			return false; /* without the prefix */
		linear_at(l, i)->outcome = LINEAR_DONE;
	}
	return true;
}

/* The first pass learns the names that are listed, the second takes them for read. */
static bool names_of(struct linear *l, struct line *ln)
{
	uint32_t key;

	(void)next_word(ln);
	for (struct word w = next_word(ln); w.len > 0; w = next_word(ln))
		if (!key_of(l, w, &key))
			return false;
	return true;
}

static bool read_line(struct linear *l, struct line *ln, bool lists)
{
	struct linear_op op = { .end = LINEAR_NEVER };
	struct word begin = next_word(ln), end, kind;
	int row;

	if (begin.len == 0)
		return true;
	end = next_word(ln);
	kind = next_word(ln);
	if (!number(begin, &op.begin) || !(is(end, "-") || number(end, &op.end)))
		return false;
	if (op.end == LINEAR_NEVER)
		op.outcome = LINEAR_UNKNOWN;
	if (is(kind, "list") && op.end == LINEAR_NEVER)
		return true;
	if (is(kind, "list"))
		return lists ? listing(l, ln, &op) : names_of(l, ln);
	if (lists)
		return true;
	if ((row = row_of(kind, kinds, 7)) < 0)
		return false;
	op.kind = (enum linear_kind)row;
	if (op.kind != LINEAR_CUT && !key_of(l, next_word(ln), &op.key))
		return false;
	if (!rest_of(ln, &op) || !whole(&op) ||
		(op.end == LINEAR_NEVER && op.outcome != LINEAR_UNKNOWN))
		return false;
	if (op.outcome == LINEAR_UNKNOWN)
		op.end = LINEAR_NEVER;
	linear_add(l, &op);
	return true;
}

static char *all_of(FILE *from, size_t *ret_len)
{
	size_t len = 0, cap = READ_BYTES, n;
	char *text = malloc(cap);

	check(text != NULL);
	while ((n = fread(text + len, 1, cap - len, from)) > 0) {
		len += n;
		if (len == cap && cap < TEXT_BYTES_MAX)
			check((text = realloc(text, cap *= 2)) != NULL);
	}
	*ret_len = len;
	return text;
}

bool linear_read(struct linear *l, FILE *from, char *ret_why, size_t cap)
{
	size_t len;
	char *text = all_of(from, &len);
	bool good = !ferror(from) && len < TEXT_BYTES_MAX;

	if (!good)
		snprintf(ret_why, cap, "cannot be read, or is longer than %d bytes",
			TEXT_BYTES_MAX);
	for (int pass = 0; pass < 2 && good; pass++) {
		struct line ln = { .end = text };

		while (good && ln.end < text + len) {
			ln.at = ln.end;
			ln.end = memchr(ln.at, '\n', (size_t)(text + len - ln.at));
			if (ln.end == NULL)
				ln.end = text + len;
			ln.number++;
			good = read_line(l, &ln, pass == 1);
			if (!good)
				snprintf(ret_why, cap, "line %u is no operation", ln.number);
			if (ln.end < text + len)
				ln.end++;
		}
	}
	free(text);
	return good;
}
