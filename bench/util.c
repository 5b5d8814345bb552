/* SPDX-License-Identifier: Apache-2.0 */
#include "base/prng.h"
#include "bench/bench.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void key_of(uint64_t number, char to[KEY_BYTES])
{
	static const char hex[] = "0123456789abcdef";
	uint64_t state = number, mixed = prng_mix(&state);

	for (int i = 0; i < KEY_BYTES; i++)
		to[i] = hex[(mixed >> (60 - 4 * i)) & 15];
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns_of_one(long pid)
{
	char path[64], text[1024], *p;
	unsigned long long user = 0, system = 0;
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	if ((f = fopen(path, "r")) == NULL)
		return 0;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	/* The name may hold anything: fields are counted from behind its bracket. */
	if ((p = strrchr(text, ')')) == NULL)
		return 0;
	for (int field = 2; p != NULL && field < 14; field++)
		p = strchr(p + 1, ' ');
	if (p == NULL)
		return 0;
	user = strtoull(p, &p, 10);
	system = strtoull(p, &p, 10);
	return (user + system) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t cpu_ns_of(const char *pids)
{
	uint64_t sum = 0;
	char *end;

	while (pids != NULL && *pids != '\0') {
		sum += cpu_ns_of_one(strtol(pids, &end, 10));
		pids = *end == ',' ? end + 1 : NULL;
	}
	return sum;
}

int dial(const char *addr)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	const char *colon = strrchr(addr, ':');
	char host[64];
	int fd, one = 1;

	if (colon == NULL || (size_t)(colon - addr) >= sizeof host) {
		fprintf(stderr, "wadi-bench: %s is not HOST:PORT\n", addr);
		return -1;
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - addr), addr);
	to.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
		fprintf(stderr, "wadi-bench: %s is not an IPv4 address\n", host);
		return -1;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		fprintf(stderr, "wadi-bench: connect %s: %s\n", addr, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

void hang_up(int fd) { close(fd); }

int send_all(int fd, const void *p, size_t len)
{
	const uint8_t *at = p;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int send_vector(int fd, struct iovec *iov, int n)
{
	while (n > 0) {
		ssize_t sent = writev(fd, iov, n);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		while (n > 0 && (size_t)sent >= iov->iov_len) {
			sent -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + sent;
			iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

int recv_all(int fd, void *p, size_t len)
{
	uint8_t *at = p;

	while (len > 0) {
		ssize_t n = recv(fd, at, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

void fill_random(uint64_t seed, void *p, size_t len)
{
	struct prng r = prng_fork(seed, 1);
	uint8_t *at = p;

	for (; len >= 8; len -= 8, at += 8) {
		uint64_t v = prng_next(&r);

		memcpy(at, &v, 8);
	}
	memset(at, 0x5a, len);
}

/* Values below HIST_STEPS have a step each; above, the bits behind the highest one choose. */
void hist_add(struct hist *h, uint64_t v)
{
	unsigned shift = v < HIST_STEPS ? 0 : 63 - HIST_BITS - (unsigned)__builtin_clzll(v);

	h->at[v < HIST_STEPS ? v : (shift + 1) * HIST_STEPS + ((v >> shift) & (HIST_STEPS - 1))]++;
	h->n++;
	if (v > h->max)
		h->max = v;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->n), sum = 0;

	for (unsigned i = 0; i < sizeof h->at / sizeof h->at[0]; i++) {
		sum += h->at[i];
		if (sum > want)
			return i < HIST_STEPS ? i :
				(uint64_t)(HIST_STEPS + i % HIST_STEPS) << (i / HIST_STEPS - 1);
	}
	return h->max;
}
