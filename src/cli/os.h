/* SPDX-License-Identifier: Apache-2.0 */
/* os.h: the command's own side of the door: its terminal, its user's files, its child.  Blocking,
 * for the command is one thread that waits for its user's machine anyway; what waits for Wadi goes
 * through the library.  Codes are those of err.def, sentences name the file. */
#ifndef CLI_OS_H
#define CLI_OS_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OS_PATH_MAX = 2048, OS_STDIN = 0, OS_STDOUT = 1, OS_STDERR = 2 };

bool os_terminal(int fd);
unsigned os_columns(void);           /* of the terminal; 80 when it cannot be told */
void os_line(const char *text);      /* on standard error, in place of the last such line */
void os_line_wipe(void);             /* when there is one; a signal that ends us does it too */
/* A file that must not stay when a signal ends us; NULL: none.  Borrowed until the next call. */
void os_leftover(const char *path);
uint64_t os_now_ms(void);            /* monotonic */
uint64_t os_now_ns(void);
uint64_t os_wall_s(void);            /* Unix time */
void os_sleep_ms(uint64_t ms);
const char *os_env(const char *name);
void os_set_env(const char *name, const char *value);
void os_time_text(uint64_t wall_ms, char *ret_text, size_t room); /* local: 2024-05-31 17:04:05 */

/* ---- files ---- */
enum os_kind { OS_MISSING, OS_FILE, OS_FOLDER, OS_OTHER };
enum os_kind os_kind(const char *path, uint64_t *ret_bytes); /* bytes: of a file, else UINT64_MAX */
int os_open_read(const char *path, int *ret_fd, struct err_note *note);
/* Creates or empties it, folders on the way too. */
int os_open_write(const char *path, int *ret_fd, struct err_note *note);
/* A whole text file that replaces one of that name at once, folders on the way too; secret: mode
 * 0600 from its first byte. */
int os_put_text(const char *path, const char *text, bool secret, struct err_note *note);
/* The file as a string; E_TOOBIG when it does not fit. */
int os_get_text(const char *path, char *ret_text, size_t room, struct err_note *note);
int os_close(int fd, const char *path, struct err_note *note);
/* As much as fits, or what there is before the end; 0 at the end. */
int64_t os_read(int fd, void *buf, size_t cap, const char *path, struct err_note *note);
int os_write(int fd, const void *buf, size_t len, const char *path, struct err_note *note);
void os_remove(const char *path);
int os_rename(const char *from, const char *to, struct err_note *note);
/* Every file below path, in order of names; each() ends the walk with a code below 0. */
int os_walk(const char *path, int (*each)(void *arg, const char *path), void *arg,
	struct err_note *note);

/* ---- a child ---- */
struct os_child { int pid, fd; };    /* fd is readable once the child has ended */
/* env: "NAME=VALUE" strings, added to ours, ended by NULL.  From then on the signals that ask a
 * program to end are passed on to the child. */
int os_spawn(const char *const *argv, const char *const *env, struct os_child *ret_child,
	struct err_note *note);
bool os_ended(struct os_child *c, int *ret_exit); /* as the shell counts: 128 + signal */
/* Replaces this program; returns on failure only. */
int os_exec(const char *const *argv, struct err_note *note);
/* FOLDER-OF-THIS-PROGRAM/name when that can be run, else name. */
void os_beside(const char *name, char ret_path[OS_PATH_MAX]);
/* Waits until one of the descriptors can be read. */
void os_wait(int fd_1, int fd_2, int timeout_ms);
#endif
