/* SPDX-License-Identifier: Apache-2.0 */
/* place.h: where a serving process keeps things and how much room it takes, found before any role
 * starts. */
#ifndef NODE_PLACE_H
#define NODE_PLACE_H
#include "control/token.h"
#include "node/node.h"

struct place_found {
	char folder[WHERE_MAX];      /* of the user's own socket and key */
	char data[WHERE_MAX], meta[WHERE_MAX], store[WHERE_MAX], run[WHERE_MAX]; /* folders */
	char flash[WHERE_MAX], disk[WHERE_MAX];
	char socket[WHERE_MAX];      /* "unix:/path" of the metadata */
	char store_socket[WHERE_MAX];
	char tcp[WHERE_MAX];         /* "tls:HOST:PORT" or "tcp:HOST:PORT", or "" */
	char store_tcp[WHERE_MAX];   /* the same host, any port */
	char cert[WHERE_MAX];        /* folder of certificates, or "": there are none */
	char key_path[WHERE_MAX];
	uint8_t key[TOKEN_KEY_BYTES];
	char key_text[WHERE_KEY_CHARS + 1]; /* "" when there is none */
	uint64_t dram_bytes, flash_bytes, disk_bytes;
};
/* Finds where its data and its certificates are and where it listens: what a join needs. */
PARKS int place_data(struct sys *s, const struct node_opts *o, struct place_found *ret_p,
	struct err_note *note);
/* Finds all of it and makes the folders and the key. */
PARKS int place_find(struct sys *s, const struct node_opts *o, struct place_found *ret_p,
	struct err_note *note);
#endif
