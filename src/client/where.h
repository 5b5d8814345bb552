/* SPDX-License-Identifier: Apache-2.0 */
/* where.h: how a system is named by people, and where the one of this user is. */
#ifndef CLIENT_WHERE_H
#define CLIENT_WHERE_H
#include "rpc/route.h"

enum { WHERE_MAX = SYS_ADDR_MAX, WHERE_LIST_MAX = ROUTE_TEXT_MAX };

/* "wadi://HOST[:PORT]" -> "tcp:HOST:PORT"; "wadis://HOST[:PORT]" -> "tls:HOST:PORT"; "unix:/PATH"
 * and what begins with "tcp:" or "tls:" as they are.  E_INVALID. */
int where_addr(const char *url, char ret_addr[WHERE_MAX], struct err_note *note);
/* One, or several with commas, as route_init() takes them: a part without a scheme has that of the
 * one before it ("wadi://a:1,b:2"), and Unix sockets come first.  E_INVALID. */
int where_addrs(const char *url, char ret_addrs[WHERE_LIST_MAX], struct err_note *note);
/* The other way, for messages and for WADI_URL. */
void where_url(const char *addr, char ret_url[WHERE_MAX]);

/* The folder of the user's own socket and key: $XDG_RUNTIME_DIR/wadi, or $HOME/.wadi. */
int where_folder(struct sys *s, char ret_folder[WHERE_MAX], struct err_note *note);
/* FOLDER/NAME; E_TOOBIG when it does not fit. */
int where_join(const char *folder, const char *name, char ret_path[WHERE_MAX],
	struct err_note *note);
/* What a client connects to: url, or WADI_URL, or the user's own socket, and with that the nodes of
 * its cluster, which its server keeps beside it. */
PARKS int where_connect(struct sys *s, const char *url, char ret_addrs[WHERE_LIST_MAX],
	struct err_note *note);

/* Gives the door the certificates of a folder (ca.crt, wadi.crt, wadi.key): this one, or WADI_CERT,
 * or $HOME/.wadi/cert.  Once for each door. */
PARKS int where_tls(struct sys *s, const char *folder, bool later, struct err_note *note);

#define WHERE_CERT "cert"
#define WHERE_SOCKET "sock"
#define WHERE_KEY "key"
#define WHERE_NODES "nodes" /* addresses with commas */
/* A key is a token: the 64 hexadecimal digits that its file holds. */
enum { WHERE_KEY_CHARS = 64 };
PARKS int where_key_read(struct sys *s, const char *path, char ret_key[WHERE_KEY_CHARS + 1],
	struct err_note *note);
#endif
