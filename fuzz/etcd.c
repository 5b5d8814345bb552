/* SPDX-License-Identifier: Apache-2.0 */
/* An answer of etcd's gateway, and its URL: read by every reader, none of which believes a length
 * or goes down as deep as it is told. */
#include "base/check.h"
#include "coord/etcd_json.h"
#include "fuzz/fuzz.h"
#include <stdlib.h>
#include <string.h>

static int each(void *arg, const struct coord_item *it)
{
	unsigned *n = arg;

	check(it->revision > 0);
	check(memchr(it->key, 0, sizeof it->key) != NULL);
	check(memchr(it->text, 0, sizeof it->text) != NULL);
	return ++*n == 100 ? E_TOOBIG : 0;
}

static void try_answers(struct bytes json)
{
	static struct coord_etcd_member members[ETCD_MEMBERS_MAX];
	struct coord_item it = { .key = "shard/0" };
	char token[ETCD_TOKEN_MAX], words[64];
	unsigned n_items = 0;
	uint32_t n = 0;
	uint64_t id;
	int rc;

	(void)etcd_read_items(json, "/wadi/", each, &n_items);
	rc = etcd_read_swap(json, "/wadi/", &it);
	check(rc == E_CONFLICT || rc != 0 || it.revision > 0);
	check(strcmp(it.key, "shard/0") == 0);
	if (etcd_read_token(json, token) == 0)
		check(strlen(token) > 0);
	if (etcd_read_members(json, members, &n) == 0)
		check(n <= ETCD_MEMBERS_MAX);
	if (etcd_read_member_id(json, &id) == 0)
		check(id > 0);
	(void)etcd_read_refusal(json, words, sizeof words);
	check(memchr(words, 0, sizeof words) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	static struct etcd_url u;
	char *text = malloc(len + 1);

	check(text != NULL);
	memcpy(text, p, len);
	text[len] = '\0';
	if (etcd_url_parse(text, &u, NULL) == 0) {
		check(u.n_endpoints > 0);
		check(u.n_endpoints <= ETCD_ENDPOINTS_MAX);
		check(u.prefix[0] == '/');
	}
	free(text);
	try_answers(bytes_of(p, len));
	return 0;
}
