/* SPDX-License-Identifier: Apache-2.0 */
/* meter.h: bytes held, times how long: what one job is billed for in one tier.
 *
 * Told of every change at its time, so the integral is exact.  Times are nanoseconds of any clock
 * that does not go back; a time before the last one counts as that. */
#ifndef CORE_METER_H
#define CORE_METER_H
#include <stdint.h>

struct meter {
	uint64_t held_bytes, at_ns; /* since then */
	uint64_t peak_bytes;        /* the most that was held for any time */
	unsigned __int128 byte_ns;  /* up to at_ns */
};

/* So many bytes more, or less, are held from now_ns on. */
void meter_change(struct meter *m, uint64_t now_ns, int64_t change);
/* The held bytes are these from now_ns on; nothing was held before the first call. */
void meter_hold(struct meter *m, uint64_t now_ns, uint64_t held_bytes);
/* The integral up to now_ns; changes nothing but the place from which it goes on. */
void meter_settle(struct meter *m, uint64_t now_ns);
#endif
