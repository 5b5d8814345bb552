/* SPDX-License-Identifier: Apache-2.0 */
/* A frame: a header that is accepted has bounded lengths and comes out the same when it is written
 * again; a frame that verifies is the one that would be written for its bytes. */
#include "base/check.h"
#include "base/limit.h"
#include "fuzz/fuzz.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	uint8_t again[FRAME_HEADER_BYTES];
	struct frame f, g;

	if (len < FRAME_HEADER_BYTES || frame_get(p, &f) < 0)
		return 0;
	check(f.body_len <= LIMIT_FRAME_BODY_BYTES_MAX);
	check(f.data_len <= LIMIT_FRAME_DATA_BYTES_MAX);
	if (len - FRAME_HEADER_BYTES < (size_t)f.body_len + f.data_len)
		return 0;
	g = f;
	frame_put(&g, p + FRAME_HEADER_BYTES, p + FRAME_HEADER_BYTES + f.body_len, again);
	check(memcmp(again, p, FRAME_HEADER_BYTES - 4) == 0);
	check(frame_verify(&f, p, p + FRAME_HEADER_BYTES, p + FRAME_HEADER_BYTES + f.body_len) ==
		(g.crc == f.crc));
	return 0;
}
