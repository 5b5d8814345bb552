/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "bench/large.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 128 };

struct client { struct bench *b; int fd; uint8_t *room; };

static void *open_client(struct large *l)
{
	struct client *c = calloc(1, sizeof *c);

	check(c != NULL);
	c->b = l->b;
	c->fd = dial(l->b->o.addr);
	c->room = malloc(l->b->o.value_bytes + LINE_MAX_BYTES);
	check(c->room != NULL);
	if (c->fd < 0) {
		free(c->room);
		free(c);
		return NULL;
	}
	return c;
}

/* What comes first: a short line, and behind it perhaps the beginning of the value. */
static ssize_t first_bytes(struct client *c)
{
	ssize_t n = recv(c->fd, c->room, c->b->o.value_bytes + LINE_MAX_BYTES, 0);

	while (n > 0 && memchr(c->room, '\n', (size_t)n) == NULL) {
		ssize_t more = recv(c->fd, c->room + n, LINE_MAX_BYTES, 0);

		if (more <= 0 || n > LINE_MAX_BYTES)
			return -1;
		n += more;
	}
	return n;
}

static int put(void *client, const char key[KEY_BYTES])
{
	struct client *c = client;
	char head[LINE_MAX_BYTES];
	size_t n = (size_t)snprintf(head, sizeof head,
		"*3\r\n$3\r\nSET\r\n$%d\r\n%.*s\r\n$%llu\r\n", KEY_BYTES, KEY_BYTES, key,
		(unsigned long long)c->b->o.value_bytes);
	struct iovec iov[3] = { { head, n }, { c->b->value, c->b->o.value_bytes },
		{ (char[]){ '\r', '\n' }, 2 } };

	if (send_vector(c->fd, iov, 3) < 0 || first_bytes(c) <= 0)
		return -1;
	return c->room[0] == '+' ? 0 : -1;
}

static int get(void *client, const char key[KEY_BYTES])
{
	struct client *c = client;
	char head[LINE_MAX_BYTES];
	size_t n = (size_t)snprintf(head, sizeof head, "*2\r\n$3\r\nGET\r\n$%d\r\n%.*s\r\n",
		KEY_BYTES, KEY_BYTES, key);
	uint64_t len;
	uint8_t *end;
	ssize_t have;

	if (send_all(c->fd, head, n) < 0 || (have = first_bytes(c)) <= 0 || c->room[0] != '$')
		return -1;
	len = strtoull((char *)c->room + 1, NULL, 10);
	end = memchr(c->room, '\n', (size_t)have);
	if (len != c->b->o.value_bytes)
		return -1;
	len += (uint64_t)(end + 1 - c->room) + 2;
	return recv_all(c->fd, c->room + have, len - (uint64_t)have);
}

static void close_client(void *client)
{
	struct client *c = client;

	close(c->fd);
	free(c->room);
	free(c);
}

const struct large_proto large_redis = { open_client, put, get, close_client };
