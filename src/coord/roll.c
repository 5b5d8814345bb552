/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/roll.h"
#include "base/check.h"
#include "base/hash.h"

enum { MAGIC = 0x57436f72, VERSION = 1, SUMMED_FROM = 8 };

struct coord_item *roll_find(struct roll *b, const char *key)
{
	for (uint32_t i = 0; i < b->n_items; i++)
		if (strcmp(b->items[i].key, key) == 0)
			return &b->items[i];
	return NULL;
}

int roll_swap(struct roll *b, uint64_t expected, struct coord_item *it)
{
	struct coord_item *at = roll_find(b, it->key);

	check(b->moved_to[0] == '\0');
	check(b->revision < UINT64_MAX);
	if ((at != NULL ? at->revision : 0) != expected) {
		if (at != NULL)
			*it = *at;
		else
			it->revision = 0;
		return E_CONFLICT;
	}
	if (at == NULL && it->text[0] == '\0')
		return E_CONFLICT; /* nothing to remove */
	if (at == NULL && b->n_items == ROLL_ITEMS_MAX)
		return E_FULL;
	it->revision = ++b->revision;
	if (at == NULL)
		at = &b->items[b->n_items++];
	if (it->text[0] != '\0')
		*at = *it;
	else
		*at = b->items[--b->n_items];
	return 0;
}

static void write_word(struct writer *w, const char *word)
{
	write_bytes(w, bytes_of(word, strlen(word)));
}

size_t roll_encode(const struct roll *b, uint8_t *ret_bytes)
{
	struct writer w = writer_of(ret_bytes, ROLL_BYTES_MAX);
	size_t len;

	check(b->n_items <= ROLL_ITEMS_MAX);
	write_u32(&w, MAGIC);
	write_u32(&w, 0);
	write_u32(&w, VERSION);
	write_u32(&w, b->n_items);
	write_u64(&w, b->revision);
	write_word(&w, b->moved_to);
	for (uint32_t i = 0; i < b->n_items; i++) {
		write_word(&w, b->items[i].key);
		write_u64(&w, b->items[i].revision);
		write_word(&w, b->items[i].text);
	}
	check(w.ok);
	len = (size_t)(w.p - ret_bytes);
	put_le32(ret_bytes + 4, crc32c(0, ret_bytes + SUMMED_FROM, len - SUMMED_FROM));
	return len;
}

static void read_word(struct reader *r, char *ret_word, size_t cap)
{
	struct bytes word = read_bytes(r, cap - 1);

	if (!r->ok)
		return;
	if (word.len > 0 && memchr(word.p, 0, word.len) != NULL)
		r->ok = false;
	if (word.len > 0)
		memcpy(ret_word, word.p, word.len);
	ret_word[word.len] = '\0';
}

bool roll_decode(struct bytes from, struct roll *ret_b)
{
	struct reader r = reader_of(from.p, from.len);
	uint32_t magic = read_u32(&r), crc = read_u32(&r), version = read_u32(&r);
	uint32_t n = read_u32(&r);

	if (!r.ok || magic != MAGIC || version != VERSION || n > ROLL_ITEMS_MAX ||
		crc != crc32c(0, from.p + SUMMED_FROM, from.len - SUMMED_FROM))
		return false;
	ret_b->revision = read_u64(&r);
	ret_b->n_items = 0;
	read_word(&r, ret_b->moved_to, sizeof ret_b->moved_to);
	for (uint32_t i = 0; i < n && r.ok; i++) {
		struct coord_item *it = &ret_b->items[i];

		read_word(&r, it->key, sizeof it->key);
		it->revision = read_u64(&r);
		read_word(&r, it->text, sizeof it->text);
		if (!r.ok || it->revision == 0 || it->revision > ret_b->revision ||
			roll_find(ret_b, it->key) != NULL)
			return false;
		ret_b->n_items++;
	}
	return r.ok && reader_left(&r) == 0;
}
