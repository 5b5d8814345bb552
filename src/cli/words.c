/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/words.h"
#include "base/check.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DISTANCE_TEXT_MAX = 40, DISTANCE_FAR = 1000, TIERS = 3 };

struct unit { const char *name; uint64_t factor; };

static const struct unit size_units[] = {
	{ "", 1 }, { "b", 1 },
	{ "k", 1ull << 10 }, { "kib", 1ull << 10 }, { "kb", 1000 },
	{ "m", 1ull << 20 }, { "mib", 1ull << 20 }, { "mb", 1000000 },
	{ "g", 1ull << 30 }, { "gib", 1ull << 30 }, { "gb", 1000000000 },
	{ "t", 1ull << 40 }, { "tib", 1ull << 40 }, { "tb", 1000000000000 },
	{ "p", 1ull << 50 }, { "pib", 1ull << 50 }, { "pb", 1000000000000000 },
	{ NULL, 0 },
};
static const struct unit time_units[] = {
	{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "min", 60000 },
	{ "h", 3600000 }, { "d", 86400000 }, { NULL, 0 },
};
static const char *const tier_names[TIERS] = { "dram", "flash", "disk" };

/* Digits and at most nine of a fraction: value = (whole * 10^9 + fraction) / 10^9. */
static bool number_take(const char **at, uint64_t *ret_whole, uint64_t *ret_nano)
{
	uint64_t whole = 0, nano = 0, place = 100000000;
	const char *p = *at;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(whole, 10u, &whole)
		    || __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return false;
	if (*p == '.') {
		for (p++; *p >= '0' && *p <= '9' && place > 0; p++, place /= 10)
			nano += place * (uint64_t)(*p - '0');
		if (p[-1] == '.')
			return false;
	}
	*at = p;
	*ret_whole = whole;
	*ret_nano = nano;
	return true;
}

static bool number_with_unit(const char *text, const struct unit *units, uint64_t *ret_value)
{
	uint64_t whole, nano, part, value;

	if (!number_take(&text, &whole, &nano))
		return false;
	if (*text == ' ')
		text++;
	for (; units->name != NULL && strcasecmp(units->name, text) != 0; units++)
		;
	if (units->name == NULL)
		return false;
	part = (uint64_t)((unsigned __int128)nano * units->factor / 1000000000);
	if (__builtin_mul_overflow(whole, units->factor, &value)
	    || __builtin_add_overflow(value, part, &value))
		return false;
	*ret_value = value;
	return true;
}

bool words_count(const char *text, uint64_t *ret_n)
{
	uint64_t whole, nano;

	if (!number_take(&text, &whole, &nano) || *text != '\0' || nano != 0)
		return false;
	*ret_n = whole;
	return true;
}

bool words_size(const char *text, uint64_t *ret_bytes)
{
	return number_with_unit(text, size_units, ret_bytes);
}

bool words_rate(const char *text, uint64_t *ret_bps)
{
	size_t len = strlen(text);
	char copy[WORDS_MAX];

	if (len >= sizeof copy)
		return false;
	memcpy(copy, text, len + 1);
	if (len > 2 && strcasecmp(copy + len - 2, "/s") == 0)
		copy[len - 2] = '\0';
	return words_size(copy, ret_bps);
}

bool words_time(const char *text, uint64_t *ret_ms)
{
	return number_with_unit(text, time_units, ret_ms);
}

bool words_tiers(const char *text, uint64_t *ret_bits)
{
	uint64_t bits = 0;
	size_t len;

	for (;; text += len + 1) {
		unsigned tier = 0;

		len = strcspn(text, ",");
		while (tier < TIERS && (strlen(tier_names[tier]) != len
		                        || strncasecmp(tier_names[tier], text, len) != 0))
			tier++;
		if (tier == TIERS)
			return false;
		bits |= 1u << tier;
		if (text[len] == '\0')
			break;
	}
	*ret_bits = bits;
	return true;
}

const char *words_put_size(uint64_t bytes, char ret_text[WORDS_MAX])
{
	static const char letters[] = "KMGTPE";
	unsigned step = 0;
	double value = (double)bytes;

	if (bytes < 1024) {
		snprintf(ret_text, WORDS_MAX, "%u B", (unsigned)bytes);
		return ret_text;
	}
	for (value /= 1024; value >= 1023.95; value /= 1024)
		step++;
	check(step < sizeof letters - 1);
	snprintf(ret_text, WORDS_MAX, "%.1f %ciB", value, letters[step]);
	return ret_text;
}

const char *words_put_time(uint64_t ms, char ret_text[WORDS_MAX])
{
	unsigned long long s = ms / 1000;

	if (ms < 1000)
		snprintf(ret_text, WORDS_MAX, "%llu ms", (unsigned long long)ms);
	else if (s < 60)
		snprintf(ret_text, WORDS_MAX, "%llu.%llu s", s,
			(unsigned long long)ms % 1000 / 100);
	else if (s < 3600)
		snprintf(ret_text, WORDS_MAX, "%llum %02llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(ret_text, WORDS_MAX, "%lluh %02llum", s / 3600, s / 60 % 60);
	else
		snprintf(ret_text, WORDS_MAX, "%llud %02lluh", s / 86400, s / 3600 % 24);
	return ret_text;
}

const char *words_put_brief(uint64_t ns, char ret_text[WORDS_MAX])
{
	if (ns >= 10 * UINT64_C(1000000000))
		return words_put_time(ns / 1000000, ret_text);
	if (ns >= 1000000000)
		snprintf(ret_text, WORDS_MAX, "%.2f s", (double)ns / 1e9);
	else if (ns >= 1000000)
		snprintf(ret_text, WORDS_MAX, "%.1f ms", (double)ns / 1e6);
	else
		snprintf(ret_text, WORDS_MAX, "%.0f us", (double)ns / 1e3);
	return ret_text;
}

const char *words_put_count(uint64_t n, const char *noun, char ret_text[WORDS_MAX])
{
	snprintf(ret_text, WORDS_MAX, "%llu %s%s", (unsigned long long)n, noun, n == 1 ? "" : "s");
	return ret_text;
}

const char *words_tier(unsigned tier)
{
	return tier < TIERS ? tier_names[tier] : "?";
}

const char *words_put_tiers(uint32_t bits, char ret_text[WORDS_MAX])
{
	size_t used = 0;

	snprintf(ret_text, WORDS_MAX, "-");
	for (unsigned tier = 0; tier < TIERS; tier++)
		if (bits & (1u << tier))
			used += (size_t)snprintf(ret_text + used, WORDS_MAX - used, "%s%s",
				used > 0 ? "," : "", tier_names[tier]);
	check(used < WORDS_MAX);
	return ret_text;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

unsigned words_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned rows[3][DISTANCE_TEXT_MAX + 1], *before = rows[0], *last = rows[1], *now = rows[2];

	if (n > DISTANCE_TEXT_MAX || m > DISTANCE_TEXT_MAX)
		return DISTANCE_FAR;
	for (size_t j = 0; j <= m; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *oldest = before;

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned same = a[i - 1] == b[j - 1] ? 0 : 1;

			now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
			    && before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
		before = last;
		last = now;
		now = oldest;
	}
	return last[m];
}

bool words_near(const char *a, const char *b)
{
	size_t len = strlen(a);
	unsigned d = words_distance(a, b);

	if (len == 0)
		return false;
	return d <= (len <= 3 ? 1 : len <= 6 ? 2 : 3) && d < strlen(b);
}
