/* SPDX-License-Identifier: Apache-2.0 */
#include "node/place.h"
#include "base/limit.h"
#include "wadi.h"
#include <stdio.h>
#include <string.h>

enum { DRAM_PART = 4, DRAM_FREE_PART = 2, FLASH_PERCENT = 80, SOCKET_PATH_MAX = 107 };
#define ROUND_TO ((uint64_t)LIMIT_EGROUP_BYTES)

static uint64_t rounded(uint64_t bytes)
{
	return bytes / ROUND_TO * ROUND_TO;
}

static uint64_t dram_default(struct sys *s)
{
	uint64_t part = sys_memory_total(s) / DRAM_PART, left = sys_memory_free(s) / DRAM_FREE_PART;
	uint64_t bytes = rounded(part < left ? part : left);

	return bytes > ROUND_TO ? bytes : ROUND_TO;
}

PARKS static int rooms_find(struct sys *s, const struct node_opts *o, struct place_found *p,
	struct err_note *note)
{
	uint64_t left, total;
	int rc = sys_disk_room(s, p->data, &left, &total, note);

	if (rc < 0)
		return rc;
	p->dram_bytes = o->dram_bytes != NODE_DEFAULT ? o->dram_bytes : dram_default(s);
	p->flash_bytes = o->flash_bytes != NODE_DEFAULT ? o->flash_bytes
		: rounded(left / 100 * FLASH_PERCENT);
	p->disk_bytes = o->disk_bytes != NODE_DEFAULT ? o->disk_bytes : 0;
	/* More than there is would be found out by whoever stores the first byte too many. */
	if (p->dram_bytes > sys_memory_total(s))
		return err_set(note, E_TOOBIG, "--dram %llu MiB: this machine has %llu MiB",
			(unsigned long long)(p->dram_bytes >> 20),
			(unsigned long long)(sys_memory_total(s) >> 20));
	if (p->flash_bytes > total || p->disk_bytes > total)
		return err_set(note, E_TOOBIG, "%s is on a file system of %llu MiB", p->data,
			(unsigned long long)(total >> 20));
	if (p->dram_bytes + p->flash_bytes + p->disk_bytes == 0 && (o->roles & NODE_STORE))
		return err_set(note, E_INVALID, "no tier has any room");
	return 0;
}

/* Every folder on the way, as mkdir -p does. */
PARKS static int folder_make(struct sys *s, const char *path, struct err_note *note)
{
	char part[WHERE_MAX];

	for (const char *slash = strchr(path + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		int rc;

		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		rc = sys_mkdir(s, part, note);
		if (rc < 0)
			return rc;
	}
	return sys_mkdir(s, path, note);
}

PARKS static int below_make(struct sys *s, const char *folder, const char *name,
	char ret_path[WHERE_MAX], struct err_note *note)
{
	int rc = where_join(folder, name, ret_path, note);

	return rc < 0 ? rc : sys_mkdir(s, ret_path, note);
}

/* A relative path would mean something else to whoever reads a message about it. */
static int data_path(struct sys *s, const struct node_opts *o, struct place_found *p,
	struct err_note *note)
{
	const char *home = sys_getenv(s, "HOME"), *here = sys_getenv(s, "PWD");
	const char *last = o->roles & NODE_META ? ".wadi/data" : ".wadi/store";

	if (o->data != NULL && o->data[0] != '/') {
		if (here == NULL || here[0] != '/')
			return err_set(note, E_INVALID, "--data %.200s: give the whole path",
				o->data);
		return where_join(here, o->data, p->data, note);
	}
	if (o->data != NULL) {
		if (strlen(o->data) >= WHERE_MAX)
			return err_set(note, E_TOOBIG, "--data: a path of %zu bytes",
				strlen(o->data));
		memcpy(p->data, o->data, strlen(o->data) + 1);
		return 0;
	}
	if (home == NULL || home[0] != '/')
		return err_set(note, E_INVALID,
			"HOME is not set: --data says where to keep things");
	return where_join(home, last, p->data, note);
}

static int socket_addr(const char *path, char ret_addr[WHERE_MAX], struct err_note *note)
{
	if (path[0] != '/' || strlen(path) > SOCKET_PATH_MAX)
		return err_set(note, E_INVALID,
			"%.150s: a socket has a whole path of at most %d bytes", path,
			SOCKET_PATH_MAX);
	snprintf(ret_addr, WHERE_MAX, "unix:%.*s", SOCKET_PATH_MAX, path);
	return 0;
}

/* "tcp:HOST:PORT" that nobody outside of this host can reach. */
static bool is_loopback(const char *addr)
{
	static const char *const hosts[] = { "localhost:", "127.", "[::1]:" };

	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
		if (strncmp(addr + 4, hosts[i], strlen(hosts[i])) == 0)
			return true;
	return false;
}

static int listen_parse(const struct node_opts *o, struct place_found *p, struct err_note *note)
{
	char url[WHERE_MAX];
	int rc;

	if (o->listen == NULL || strncmp(o->listen, "unix:", 5) == 0)
		return 0;
	if (snprintf(url, sizeof url, "wadi://%s", o->listen) >= (int)sizeof url)
		return err_set(note, E_INVALID, "--listen: an address that is too long");
	rc = where_addr(url, p->tcp, note);
	if (rc < 0)
		return rc;
	if (!o->insecure && p->cert[0] != '\0')
		memcpy(p->tcp, "tls", 3);
	else if (!o->insecure && !is_loopback(p->tcp))
		return err_set(note, E_INVALID, "--listen %.60s: others reach it, so it needs TLS: "
			"wadi cert issue ~/wadi-ca --host %.*s --out %.60s/cert (or --insecure)",
			o->listen, (int)strcspn(o->listen, ":") < 60
				? (int)strcspn(o->listen, ":") : 60, o->listen, p->data);
	snprintf(p->store_tcp, sizeof p->store_tcp, "%.*s:0",
		(int)(strrchr(p->tcp, ':') - p->tcp), p->tcp);
	return 0;
}

/* A folder that was named must do; the default one counts when it holds a certificate. */
PARKS static int cert_find(struct sys *s, const struct node_opts *o, struct place_found *p,
	struct err_note *note)
{
	char path[WHERE_MAX];
	struct sys_file *f;
	int rc;

	if (o->cert_dir != NULL && strlen(o->cert_dir) >= sizeof p->cert)
		return err_set(note, E_TOOBIG, "--cert-dir: a path of %zu bytes",
			strlen(o->cert_dir));
	if (o->cert_dir != NULL) {
		memcpy(p->cert, o->cert_dir, strlen(o->cert_dir) + 1);
		return 0;
	}
	rc = where_join(p->data, WHERE_CERT, p->cert, note);
	if (rc == 0)
		rc = where_join(p->cert, "wadi.crt", path, note);
	if (rc < 0)
		return rc;
	rc = sys_open(s, path, SYS_READ, &f, NULL);
	if (rc == 0)
		sys_close(f);
	else
		p->cert[0] = '\0';
	return 0;
}

static int sockets_find(const struct node_opts *o, struct place_found *p, struct err_note *note)
{
	char path[WHERE_MAX];
	int rc;

	if (o->listen != NULL && strncmp(o->listen, "unix:", 5) == 0)
		rc = socket_addr(o->listen + 5, p->socket, note);
	else if (o->socket != NULL)
		rc = socket_addr(o->socket, p->socket, note);
	else if ((rc = where_join(p->folder, WHERE_SOCKET, path, note)) == 0)
		rc = socket_addr(path, p->socket, note);
	if (rc == 0)
		rc = where_join(p->run, "store", path, note);
	if (rc == 0)
		rc = socket_addr(path, p->store_socket, note);
	if (rc == 0)
		rc = listen_parse(o, p, note);
	return rc;
}

PARKS static int folders_make(struct sys *s, const struct node_opts *o, struct place_found *p,
	struct err_note *note)
{
	int rc = folder_make(s, p->data, note);

	if (rc == 0 && o->socket == NULL)
		rc = folder_make(s, p->folder, note);
	if (rc == 0)
		rc = below_make(s, p->data, "run", p->run, note);
	if (rc == 0 && (o->roles & NODE_META))
		rc = below_make(s, p->data, "meta", p->meta, note);
	if (rc == 0 && (o->roles & NODE_STORE))
		rc = below_make(s, p->data, "store", p->store, note);
	if (rc == 0 && (o->roles & NODE_STORE))
		rc = where_join(p->store, "flash", p->flash, note);
	if (rc == 0 && (o->roles & NODE_STORE))
		rc = where_join(p->store, "disk", p->disk, note);
	return rc;
}

/* The copy beside the user's own socket, where clients look. */
PARKS static int key_publish(struct sys *s, const struct place_found *p, struct err_note *note)
{
	char path[WHERE_MAX], there[WHERE_KEY_CHARS + 1], line[WHERE_KEY_CHARS + 2];
	struct sys_file *f;
	int rc = where_join(p->folder, WHERE_KEY, path, note);

	if (rc < 0)
		return rc;
	if (where_key_read(s, path, there, NULL) == 0 && strcmp(there, p->key_text) == 0)
		return 0;
	/* A new file: whoever has the old one open, or may read it, does not see the new key. */
	rc = sys_unlink(s, path, note);
	if (rc < 0 && rc != E_NOTFOUND)
		return rc;
	rc = sys_open(s, path, SYS_WRITE | SYS_CREATE | SYS_EXCL, &f, note);
	if (rc < 0)
		return rc;
	snprintf(line, sizeof line, "%s\n", p->key_text);
	rc = sys_pwrite(f, line, WHERE_KEY_CHARS + 1, 0, note);
	sys_close(f);
	return rc;
}

/* A metadata shard keeps its key with its data; a store shows the one that it was given. */
PARKS static int key_find(struct sys *s, const struct node_opts *o, struct place_found *p,
	struct err_note *note)
{
	const char *given = o->key_file != NULL ? o->key_file : sys_getenv(s, "WADI_KEY");
	bool meta = (o->roles & NODE_META) != 0;
	int rc = 0;

	if (given != NULL)
		snprintf(p->key_path, sizeof p->key_path, "%s", given);
	else
		rc = where_join(p->data, WHERE_KEY, p->key_path, note);
	if (rc == 0 && meta)
		rc = token_key_load(s, p->key_path, p->key, note);
	if (rc < 0)
		return rc;
	rc = where_key_read(s, p->key_path, p->key_text, note);
	/* One that has joined a cluster was given its key; another is its user's. */
	if (rc == E_NOTFOUND && !meta && given == NULL &&
		(rc = where_join(p->folder, WHERE_KEY, p->key_path, note)) == 0)
		rc = where_key_read(s, p->key_path, p->key_text, note);
	if (rc == E_NOTFOUND && !meta && given == NULL)
		return 0; /* over a Unix socket none is needed */
	if (rc == 0 && meta && given == NULL && !node_elsewhere(o))
		rc = key_publish(s, p, note);
	return rc;
}

PARKS int place_data(struct sys *s, const struct node_opts *o, struct place_found *ret_p,
	struct err_note *note)
{
	int rc;

	memset(ret_p, 0, sizeof *ret_p);
	rc = data_path(s, o, ret_p, note);
	if (rc == 0)
		rc = folder_make(s, ret_p->data, note);
	if (rc == 0)
		rc = cert_find(s, o, ret_p, note);
	if (rc == 0)
		rc = listen_parse(o, ret_p, note);
	return rc;
}

PARKS int place_find(struct sys *s, const struct node_opts *o, struct place_found *ret_p,
	struct err_note *note)
{
	int rc;

	memset(ret_p, 0, sizeof *ret_p);
	rc = where_folder(s, ret_p->folder, note);
	if (rc < 0 && o->socket == NULL && o->listen == NULL)
		return rc;
	rc = data_path(s, o, ret_p, note);
	if (rc == 0)
		rc = folders_make(s, o, ret_p, note);
	if (rc == 0)
		rc = cert_find(s, o, ret_p, note);
	if (rc == 0)
		rc = sockets_find(o, ret_p, note);
	if (rc == 0)
		rc = rooms_find(s, o, ret_p, note);
	if (rc == 0)
		rc = key_find(s, o, ret_p, note);
	return rc;
}
