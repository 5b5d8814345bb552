/* SPDX-License-Identifier: Apache-2.0 */
/* out.h: one run of the command: what was asked, the connection, and what it says. */
#ifndef CLI_OUT_H
#define CLI_OUT_H
#include "cli/os.h"
#include "cli/parse.h"
#include "cli/progress.h"
#include "wadi.h"
#include <jansson.h>

struct cli_roles;
struct cli_fsck;
struct cli_admin;
struct meter;

struct cli {
	struct args a;
	struct wadi *w;              /* NULL until cli_connect() */
	const struct cli_roles *roles;
	struct meter *over;          /* of several transfers; NULL: each shows its own */
	bool json, quiet, color;
	int exit;                    /* of the first failure */
};

/* Connects once, as the options and the environment tell; wait_ms > 0: also while nobody answers.
 * Says why not. */
bool cli_connect(struct cli *c, uint32_t wait_ms);
uint32_t cli_timeout_ms(const struct cli *c); /* 0: the default */

/* ---- failures: each says a sentence, counts for the exit code, and returns false ---- */
/* About a call of the library that returned rc; object is what the user typed. */
bool cli_failed(struct cli *c, const char *object, int rc);
/* About something else; hint may be NULL. */
bool cli_fail(struct cli *c, const char *object, int rc, const char *text, const char *hint);

/* ---- results ---- */
/* One JSON object on a line; takes it.  "status":"ok" is added: it has no such field of its own. */
void out_json(json_t *object);
/* A remark on standard error, unless --quiet or --json. */
void out_note(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *out_bold(const struct cli *c);    /* escape sequences, or "" */
const char *out_plain(const struct cli *c);

/* ---- progress ---- */
struct meter {
	struct cli *c;
	struct meter *over;          /* shown in place of this one */
	struct progress p;
	uint64_t done_bytes, drawn_ms;
	bool on, drawn;
};
void meter_start(struct meter *m, struct cli *c, const char *what, uint64_t total_bytes);
void meter_add(struct meter *m, uint64_t bytes);
void meter_end(struct meter *m);              /* wipes the line */
/* A line that stays until os_line_wipe(), on a terminal that wants to know: what is waited for. */
void out_waiting(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- names ---- */
/* BUCKET/KEY or /KEY, with or without "wadi:" in front. */
struct name { char bucket[256], key[1025]; };
/* key: must there be one?  Says what is wrong. */
bool name_parse(struct cli *c, const char *text, bool key, struct name *ret_n);
bool name_is_wadi(const char *text);          /* begins with "wadi:" */

/* ---- what runs servers: made by the program, which knows src/node ---- */
struct cli_roles {
	int (*serve)(const struct cli *c);        /* exit codes */
	int (*meta)(const struct cli *c);
	int (*store)(const struct cli *c);
	int (*fsck)(struct cli_fsck *v, struct err_note *note); /* 0 or an error; see fsck.h */
	const struct cli_admin *admin; /* see nodes.h */
};
int cli_main(int argc, char **argv, const struct cli_roles *roles);
#endif
