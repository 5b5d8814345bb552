/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_json.h: URLs of etcd, and what its gateway is asked and answers.  Pure.
 *
 * Answers are hostile: their length was bounded by whoever received them, their nesting is looked
 * at before they are parsed, for the parser goes down into it on a fiber's stack. */
#ifndef COORD_ETCD_JSON_H
#define COORD_ETCD_JSON_H
#include "coord/etcd.h"
#include "coord/own.h"

enum {
	ETCD_HOST_MAX = 264,
	ETCD_PREFIX_MAX = 64,
	ETCD_KEY_MAX = ETCD_PREFIX_MAX + COORD_KEY_MAX,
	ETCD_NESTING_MAX = 16,
	ETCD_TOKEN_MAX = 1024,
};
struct etcd_url {
	bool tls, keyed;
	uint32_t n_endpoints;
	char endpoints[ETCD_ENDPOINTS_MAX][ETCD_HOST_MAX]; /* HOST:PORT */
	char prefix[ETCD_PREFIX_MAX];                      /* "/wadi/" */
};
/* After a failure *u holds anything. */
int etcd_url_parse(const char *url, struct etcd_url *u, struct err_note *note);

/* Questions: text that the caller frees, NULL when there is no memory.  Keys are whole. */
char *etcd_ask_key(const char *key);
char *etcd_ask_prefix(const char *prefix, uint32_t n_max);
char *etcd_ask_swap(const char *key, uint64_t expected, const char *text);
char *etcd_ask_watch(const char *prefix);
char *etcd_ask_token(const char *user, const char *password);
char *etcd_ask_member(uint64_t id);
char *etcd_ask_member_add(const char *peer_url, bool learner);

/* Answers.  E_CORRUPT: not one that etcd gives. */
/* Calls each with every item whose key begins with prefix, named without it; a text that no coord
 * has written is empty. */
int etcd_read_items(struct bytes json, const char *prefix, coord_each_fn *each, void *arg);
/* 0 or E_CONFLICT, and *it, which holds the key, as coord_ops.swap says. */
int etcd_read_swap(struct bytes json, const char *prefix, struct coord_item *it);
int etcd_read_token(struct bytes json, char ret_token[ETCD_TOKEN_MAX]);
int etcd_read_members(
	struct bytes json, struct coord_etcd_member ret_members[ETCD_MEMBERS_MAX], uint32_t *ret_n);
int etcd_read_member_id(struct bytes json, uint64_t *ret_id);
/* etcd's own words for a refusal, or an empty text; the code of its protocol, or -1. */
int etcd_read_refusal(struct bytes json, char *ret_words, size_t cap);
#endif
