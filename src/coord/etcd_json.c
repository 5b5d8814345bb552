/* SPDX-License-Identifier: Apache-2.0 */
#include "coord/etcd_json.h"
#include "base/check.h"
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum { BASE64_MAX = 2048 };
_Static_assert((COORD_TEXT_MAX + 2) / 3 * 4 < BASE64_MAX, "a text fits");
_Static_assert((ETCD_KEY_MAX + 2) / 3 * 4 < BASE64_MAX, "a key fits");

/* ---- URLs ---- */
static bool host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
}

static bool prefix_char(char c)
{
	return host_char(c) ? c != ':' && c != '[' && c != ']' : c == '/';
}

static bool endpoint_parse(const char *p, size_t len, char *ret_endpoint)
{
	const char *colon = NULL;
	bool inside = false;

	for (size_t i = 0; i < len; i++) {
		if (!host_char(p[i]))
			return false;
		inside = p[i] == '[' || (inside && p[i] != ']');
		if (p[i] == ':' && !inside)
			colon = p + i;
	}
	if (len == 0 || colon == p || inside || len + sizeof ":2379" > ETCD_HOST_MAX)
		return false;
	if (colon != NULL && (colon == p + len - 1 || strspn(colon + 1, "0123456789") <
							      (size_t)(p + len - colon - 1)))
		return false;
	snprintf(ret_endpoint, ETCD_HOST_MAX, "%.*s%s", (int)len, p, colon == NULL ? ":2379" : "");
	return true;
}

bool coord_etcd_keyed(const char *url)
{
	return strncmp(url, ETCD_KEYED, strlen(ETCD_KEYED)) == 0;
}

int etcd_url_parse(const char *url, struct etcd_url *u, struct err_note *note)
{
	const char *at = url;
	size_t n;

	memset(u, 0, sizeof *u);
	u->keyed = coord_etcd_keyed(url);
	u->tls = u->keyed || strncmp(at, "etcds://", 8) == 0;
	if (!u->tls && strncmp(at, "etcd://", 7) != 0)
		goto bad;
	at = strstr(at, "://") + 3;
	for (;;) {
		n = strcspn(at, ",/");
		if (u->n_endpoints == ETCD_ENDPOINTS_MAX ||
			!endpoint_parse(at, n, u->endpoints[u->n_endpoints++]))
			goto bad;
		at += n;
		if (*at != ',')
			break;
		at++;
	}
	at += *at == '/';
	n = strlen(at);
	if (n + 3 > sizeof u->prefix || (n > 0 && (at[0] == '/' || at[n - 1] == '/')))
		goto bad;
	for (size_t i = 0; i < n; i++)
		if (!prefix_char(at[i]))
			goto bad;
	snprintf(u->prefix, sizeof u->prefix, "/%s/", n > 0 ? at : "wadi");
	return 0;
bad:
	return err_set(note, E_INVALID,
		"%.160s: expected etcd://HOST:PORT,HOST:PORT/PREFIX with at most %d hosts", url,
		ETCD_ENDPOINTS_MAX);
}

/* ---- questions ---- */
static json_t *base64(const char *text)
{
	unsigned char room[BASE64_MAX];
	size_t n = strlen(text);

	check(n < BASE64_MAX / 4 * 3 - 3);
	EVP_EncodeBlock(room, (const unsigned char *)text, (int)n);
	return json_string((const char *)room);
}

/* The first text behind all that begin with prefix. */
static json_t *base64_behind(const char *prefix)
{
	char behind[ETCD_KEY_MAX];
	int n = snprintf(behind, sizeof behind, "%s", prefix);

	check(n > 0);
	check(n < ETCD_KEY_MAX);
	behind[n - 1]++;
	return base64(behind);
}

static json_t *number(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)v);
	return json_string(text);
}

static char *printed(json_t *j)
{
	char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return text;
}

char *etcd_ask_key(const char *key)
{
	return printed(json_pack("{s:o}", "key", base64(key)));
}

char *etcd_ask_prefix(const char *prefix, uint32_t n_max)
{
	return printed(json_pack("{s:o, s:o, s:o}", "key", base64(prefix), "range_end",
		base64_behind(prefix), "limit", number(n_max)));
}

char *etcd_ask_swap(const char *key, uint64_t expected, const char *text)
{
	json_t *change = text[0] != '\0' ? json_pack("{s:{s:o, s:o}}", "request_put", "key",
						   base64(key), "value", base64(text))
					 : json_pack("{s:{s:o}}", "request_delete_range", "key",
						   base64(key));

	return printed(json_pack("{s:[{s:o, s:s, s:s, s:o}], s:[o], s:[{s:{s:o}}]}", "compare",
		"key", base64(key), "target", "MOD", "result", "EQUAL", "mod_revision",
		number(expected), "success", change, "failure", "request_range", "key",
		base64(key)));
}

char *etcd_ask_watch(const char *prefix)
{
	return printed(json_pack("{s:{s:o, s:o}}", "create_request", "key", base64(prefix),
		"range_end", base64_behind(prefix)));
}

char *etcd_ask_token(const char *user, const char *password)
{
	return printed(json_pack("{s:s, s:s}", "name", user, "password", password));
}

char *etcd_ask_member(uint64_t id)
{
	return printed(json_pack("{s:o}", "ID", number(id)));
}

char *etcd_ask_member_add(const char *peer_url, bool learner)
{
	return printed(json_pack("{s:[s], s:b}", "peerURLs", peer_url, "isLearner", learner));
}

/* ---- answers ---- */
static bool shallow(struct bytes json)
{
	uint32_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < json.len; i++) {
		uint8_t c = json.p[i];

		if (quoted) {
			i += c == '\\';
			quoted = c != '"';
		} else if (c == '"') {
			quoted = true;
		} else if (c == '{' || c == '[') {
			if (++depth > ETCD_NESTING_MAX)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

static json_t *parsed(struct bytes json)
{
	if (json.len == 0 || !shallow(json))
		return NULL;
	return json_loadb((const char *)json.p, json.len, JSON_REJECT_DUPLICATES, NULL);
}

/* int64 is text in this protocol; absent means 0. */
static bool number_of(const json_t *object, const char *name, uint64_t *ret_v)
{
	const json_t *j = json_object_get(object, name);
	const char *text = json_string_value(j);
	uint64_t v = 0;

	if (j != NULL && (text == NULL || text[0] == '\0'))
		return false;
	for (; text != NULL && *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	*ret_v = v;
	return true;
}

/* Decodes into a text without zero bytes: its length, or -1. */
static int plain_of(const json_t *object, const char *name, char *ret_text, size_t cap)
{
	const char *coded = json_string_value(json_object_get(object, name));
	size_t n = coded != NULL ? strlen(coded) : 0, pads = 0;
	unsigned char room[BASE64_MAX];
	int len;

	if (n == 0 || n % 4 != 0 || n >= sizeof room)
		return -1;
	while (pads < 2 && coded[n - 1 - pads] == '=')
		pads++;
	len = EVP_DecodeBlock(room, (const unsigned char *)coded, (int)n);
	if (len < (int)pads || (size_t)len - pads >= cap)
		return -1;
	len -= (int)pads;
	if (memchr(room, 0, (size_t)len) != NULL)
		return -1;
	memcpy(ret_text, room, (size_t)len);
	ret_text[len] = '\0';
	return len;
}

/* False: not an item that etcd sends. */
static bool item_of(const json_t *kv, const char *prefix, struct coord_item *ret_it)
{
	size_t n = strlen(prefix);
	char key[ETCD_KEY_MAX];

	memset(ret_it, 0, sizeof *ret_it);
	if (plain_of(kv, "key", key, sizeof key) < 0 || strncmp(key, prefix, n) != 0 ||
		strlen(key + n) >= sizeof ret_it->key ||
		!number_of(kv, "mod_revision", &ret_it->revision) || ret_it->revision == 0)
		return false;
	memcpy(ret_it->key, key + n, strlen(key + n) + 1);
	if (plain_of(kv, "value", ret_it->text, sizeof ret_it->text) < 0)
		ret_it->text[0] = '\0';
	return true;
}

static int items_of(const json_t *range, const char *prefix, coord_each_fn *each, void *arg)
{
	const json_t *kvs = json_object_get(range, "kvs"), *kv;
	struct coord_item it;
	size_t i;
	int rc;

	if (!json_is_object(range) || (kvs != NULL && !json_is_array(kvs)))
		return E_CORRUPT;
	if (json_is_true(json_object_get(range, "more")))
		return E_TOOBIG;
	json_array_foreach((json_t *)(uintptr_t)kvs, i, kv)
	{
		if (!item_of(kv, prefix, &it))
			return E_CORRUPT;
		rc = each(arg, &it);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int etcd_read_items(struct bytes json, const char *prefix, coord_each_fn *each, void *arg)
{
	json_t *j = parsed(json);
	int rc = items_of(j, prefix, each, arg);

	json_decref(j);
	return rc;
}

static int keep_item(void *arg, const struct coord_item *it)
{
	struct coord_item *to = arg;

	if (strcmp(to->key, it->key) != 0 || to->revision != 0)
		return E_CORRUPT;
	*to = *it;
	return 0;
}

static int swap_of(const json_t *j, const char *prefix, struct coord_item *it)
{
	const json_t *succeeded = json_object_get(j, "succeeded");
	struct coord_item there = { 0 };
	uint64_t revision;
	int rc;

	if (json_is_true(succeeded)) {
		if (!number_of(json_object_get(j, "header"), "revision", &revision) ||
			revision == 0)
			return E_CORRUPT;
		it->revision = revision;
		return 0;
	}
	memcpy(there.key, it->key, sizeof there.key);
	rc = items_of(json_object_get(
			      json_array_get(json_object_get(j, "responses"), 0), "response_range"),
		prefix, keep_item, &there);
	if (rc < 0)
		return rc;
	*it = there;
	return E_CONFLICT;
}

int etcd_read_swap(struct bytes json, const char *prefix, struct coord_item *it)
{
	json_t *j = parsed(json);
	int rc = swap_of(j, prefix, it);

	json_decref(j);
	return rc;
}

static bool copy_word(const json_t *object, const char *name, char *ret_word, size_t cap)
{
	const char *word = json_string_value(json_object_get(object, name));
	size_t n = word != NULL ? strlen(word) : 0;

	if (n >= cap)
		return false;
	memcpy(ret_word, word != NULL ? word : "", n);
	ret_word[n] = '\0';
	return true;
}

int etcd_read_token(struct bytes json, char ret_token[ETCD_TOKEN_MAX])
{
	json_t *j = parsed(json);
	char token[ETCD_TOKEN_MAX];
	bool good = copy_word(j, "token", token, sizeof token) && token[0] != '\0';

	json_decref(j);
	for (const char *p = token; good && *p != '\0'; p++)
		good = *p > ' ' && *p < 0x7f; /* it becomes a line of a header */
	if (!good)
		return E_CORRUPT;
	memcpy(ret_token, token, sizeof token);
	return 0;
}

static bool member_of(const json_t *j, struct coord_etcd_member *ret_m)
{
	const char *url = json_string_value(json_array_get(json_object_get(j, "peerURLs"), 0));
	const char *client = json_string_value(json_array_get(json_object_get(j, "clientURLs"), 0));

	memset(ret_m, 0, sizeof *ret_m);
	if (client != NULL && strlen(client) >= sizeof ret_m->client_url)
		return false;
	if (client != NULL)
		memcpy(ret_m->client_url, client, strlen(client) + 1);
	if (!number_of(j, "ID", &ret_m->id) || ret_m->id == 0 || url == NULL ||
		strlen(url) >= sizeof ret_m->peer_url ||
		!copy_word(j, "name", ret_m->name, sizeof ret_m->name))
		return false;
	memcpy(ret_m->peer_url, url, strlen(url) + 1);
	ret_m->learner = json_is_true(json_object_get(j, "isLearner"));
	return true;
}

int etcd_read_members(
	struct bytes json, struct coord_etcd_member ret_members[ETCD_MEMBERS_MAX], uint32_t *ret_n)
{
	json_t *j = parsed(json);
	const json_t *all = json_object_get(j, "members"), *one;
	size_t i, n = json_array_size(all);
	bool good = n > 0 && n <= ETCD_MEMBERS_MAX;

	json_array_foreach((json_t *)(uintptr_t)all, i, one)
		good = good && member_of(one, &ret_members[i]);
	json_decref(j);
	if (good)
		*ret_n = (uint32_t)n;
	return good ? 0 : E_CORRUPT;
}

int etcd_read_member_id(struct bytes json, uint64_t *ret_id)
{
	json_t *j = parsed(json);
	uint64_t id = 0;
	bool good = number_of(json_object_get(j, "member"), "ID", &id) && id > 0;

	json_decref(j);
	if (good)
		*ret_id = id;
	return good ? 0 : E_CORRUPT;
}

int etcd_read_refusal(struct bytes json, char *ret_words, size_t cap)
{
	json_t *j = parsed(json);
	const char *words = json_string_value(json_object_get(j, "message"));
	const json_t *code = json_object_get(j, "code");
	int number = json_is_integer(code) ? (int)json_integer_value(code) : -1;

	if (words == NULL)
		words = json_string_value(json_object_get(j, "error"));
	snprintf(ret_words, cap, "%s", words != NULL ? words : "");
	json_decref(j);
	return number;
}
