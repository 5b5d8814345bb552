/* SPDX-License-Identifier: Apache-2.0 */
/* A record of the log: its header, then the effects of its payload.  A header that is accepted
 * comes out the same when it is written again; effects stay inside the payload and come out the
 * same. */
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "meta/record.h"

static void effects(const uint8_t *p, size_t len)
{
	struct reader r = reader_of(p, len);
	const uint8_t *at = r.p;
	struct effect e;

	while (effect_get(&r, &e)) {
		static uint8_t again[EFFECT_KEY_MAX + (128 << 10)];
		size_t n = (size_t)(r.p - at);

		check(e.key.len <= EFFECT_KEY_MAX);
		check(e.key.p >= p && e.key.p + e.key.len <= p + len);
		if (n <= sizeof again) {
			uint8_t *end = effect_put(again, e.kind, e.key, e.value);

			check(end == again + n);
			check(memcmp(again, at, n) == 0);
		}
		at = r.p;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	uint8_t again[LOG_HEADER_BYTES];
	struct record rec;

	effects(p, len);
	if (len < LOG_HEADER_BYTES || record_get(p, &rec) < 0)
		return 0;
	record_put(&rec, again);
	check(memcmp(again, p, LOG_HEADER_BYTES) == 0);
	if (len - LOG_HEADER_BYTES >= rec.length)
		record_verify(&rec, 0, p + LOG_HEADER_BYTES);
	return 0;
}
