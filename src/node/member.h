/* SPDX-License-Identifier: Apache-2.0 */
/* member.h: what a node remembers of the cluster that it belongs to, in the file `cluster` of its
 * data folder; so a restart needs no options besides its usual ones.
 *
 *   wadi-cluster 1
 *   node 2 meta,store                      its id, and what it runs
 *   coord etcd://10.0.0.1:10234,10.0.0.2:10234/wadi
 *   etcd NAME CLIENT_URL PEER_URL          only where it runs a member
 *   members NAME=PEER_URL,...              likewise: those at the member's first start
 *   seeds tcp:10.0.0.1:9234 ...            nodes with metadata, as last heard
 *
 * A node that was never joined has no such file: it is node 1 of a coord in its own folder. */
#ifndef NODE_MEMBER_H
#define NODE_MEMBER_H
#include "coord/etcd.h"
#include "sys/sys.h"
#include "wire/words.h"

enum { MEMBER_SEEDS_MAX = 8, MEMBER_LIST_MAX = 2048 };
struct member {
	uint64_t id;                    /* 0: it has none yet, and nothing is saved */
	unsigned roles;                 /* enum wire_node_roles */
	char coord[COORD_URL_MAX];      /* "": its own file */
	char etcd_name[COORD_NAME_MAX]; /* "": it runs no member of etcd */
	char etcd_client[ETCD_PEER_URL_MAX], etcd_peer[ETCD_PEER_URL_MAX];
	char etcd_members[MEMBER_LIST_MAX];
	uint32_t n_seeds;
	char seeds[MEMBER_SEEDS_MAX][SYS_ADDR_MAX];
};
/* Words are without blanks and commas where they stand in lists. */
enum { MEMBER_TEXT_MAX = 8192 };
size_t member_print(const struct member *m, char ret_text[MEMBER_TEXT_MAX]);
/* E_CORRUPT: not what print makes.  E_UNSUPPORTED: of a later version. */
int member_parse(const char *text, struct member *ret_m);

/* E_NOTFOUND: it belongs to none. */
PARKS int member_load(
	struct sys *s, const char *data, struct member *ret_m, struct err_note *note);
/* Durable when it returns 0. */
PARKS int member_save(
	struct sys *s, const char *data, const struct member *m, struct err_note *note);
/* 1 to cap - 1 visible characters. */
bool member_word_ok(const char *word, size_t cap);

/* ---- the role of a row in coord: words with commas ---- */
void member_role_print(
	unsigned roles, unsigned flags, char ret_role[COORD_NAME_MAX]); /* wire_node_flags */
void member_role_parse(const char *role, unsigned *ret_roles, unsigned *ret_flags);
#endif
