/* SPDX-License-Identifier: Apache-2.0 */
/* What the codecs of the small-object path cost.  Run it by hand; it is no test. */
#include "base/hash.h"
#include "wire/frame.h"
#include "wire/wire.h"
#include <time.h>

enum { ROUNDS = 2000000 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define KEEP(x) __asm__ volatile("" : : "r"(x) : "memory")
#define BENCH(what, stmt) do { \
	uint64_t t0 = now_ns(); \
	for (int i = 0; i < ROUNDS; i++) { \
		KEEP(&m); \
		stmt; \
		KEEP(buf); \
	} \
	printf("%-24s %6.1f ns\n", what, (double)(now_ns() - t0) / ROUNDS); \
} while (0)

int main(void)
{
	static uint8_t buf[8192], data[4096];
	static struct {
		struct msg_put put;
		struct msg_put_ok put_ok;
		struct msg_get get;
		struct msg_get_ok get_ok;
		struct frame f;
	} m;
	struct writer w;
	size_t len;

	m.put.name = m.get.name = BYTES("sixteen-byte-key");
	m.get_ok.cap = bytes_of(data, 32);
	BENCH("put encode", w = writer_of(buf, 8192); msg_put_put(&w, &m.put, 1));
	len = (size_t)(w.p - buf);
	BENCH("put decode", msg_put_get(buf, len, 1, &m.put));
	BENCH("put_ok encode", w = writer_of(buf, 8192); msg_put_ok_put(&w, &m.put_ok, 1));
	len = (size_t)(w.p - buf);
	BENCH("put_ok decode", msg_put_ok_get(buf, len, 1, &m.put_ok));
	BENCH("get encode", w = writer_of(buf, 8192); msg_get_put(&w, &m.get, 1));
	len = (size_t)(w.p - buf);
	BENCH("get decode", msg_get_get(buf, len, 1, &m.get));
	BENCH("get_ok encode", w = writer_of(buf, 8192); msg_get_ok_put(&w, &m.get_ok, 1));
	len = (size_t)(w.p - buf);
	BENCH("get_ok decode", msg_get_ok_get(buf, len, 1, &m.get_ok));
	m.f = (struct frame){ .body_len = 54, .data_len = 1024, .op = OP_put, .version = 1 };
	BENCH("frame put, 1 KiB", frame_put(&m.f, buf + 32, buf + 86, buf));
	BENCH("frame get", frame_get(buf, &m.f));
	BENCH("frame verify, 1 KiB", KEEP(frame_verify(&m.f, buf, buf + 32, buf + 86)));
	BENCH("crc32c of 28", KEEP(crc32c(0, buf, 28)));
	BENCH("crc32c of 1078", KEEP(crc32c(0, buf, 1078)));
	BENCH("crc32c of 4096", KEEP(crc32c(0, buf, 4096)));
	return 0;
}
