/* SPDX-License-Identifier: Apache-2.0 */
/* where.h: how a system is named by people, and where the one of this user is. */
#ifndef CLIENT_WHERE_H
#define CLIENT_WHERE_H
#include "sys/sys.h"

enum { WHERE_MAX = SYS_ADDR_MAX };

/* "wadi://HOST[:PORT]" -> "tcp:HOST:PORT"; "unix:/PATH" and "tcp:HOST:PORT" as they are.
 * E_INVALID. */
int where_addr(const char *url, char ret_addr[WHERE_MAX], struct err_note *note);
/* The other way, for messages and for WADI_URL. */
void where_url(const char *addr, char ret_url[WHERE_MAX]);

/* The folder of the user's own socket and key: $XDG_RUNTIME_DIR/wadi, or $HOME/.wadi. */
int where_folder(struct sys *s, char ret_folder[WHERE_MAX], struct err_note *note);
/* FOLDER/NAME; E_TOOBIG when it does not fit. */
int where_join(
	const char *folder, const char *name, char ret_path[WHERE_MAX], struct err_note *note);
/* What a client connects to: url, or WADI_URL, or the user's own socket. */
int where_connect(struct sys *s, const char *url, char ret_addr[WHERE_MAX], struct err_note *note);

#define WHERE_SOCKET "sock"
#define WHERE_KEY    "key"
/* A key is 32 bytes; its file holds them as 64 hexadecimal digits. */
enum { WHERE_KEY_BYTES = 32 };
PARKS int where_key_read(
	struct sys *s, const char *path, uint8_t ret_key[WHERE_KEY_BYTES], struct err_note *note);
/* Writes it with mode 0600, in place of what is there. */
/* What is shown to a server over TCP: the key in hexadecimal digits, with a NUL; its length. */
size_t where_key_token(const uint8_t key[WHERE_KEY_BYTES], char ret_text[2 * WHERE_KEY_BYTES + 1]);
PARKS int where_key_write(
	struct sys *s, const char *path, const uint8_t key[WHERE_KEY_BYTES], struct err_note *note);
/* Reads it, or makes it when it is missing. */
PARKS int where_key_make(
	struct sys *s, const char *path, uint8_t ret_key[WHERE_KEY_BYTES], struct err_note *note);
#endif
