/* SPDX-License-Identifier: Apache-2.0 */
/* meter.h: the bill of one job in one tier: bytes held, times how long, and what was moved.
 *
 * Held bytes change at moments; between two of them they are constant, so the integral is exact.
 * Times are milliseconds of any clock that does not go back; a time before the last one counts as
 * that. */
#ifndef CORE_METER_H
#define CORE_METER_H
#include <stdint.h>

struct meter {
	uint64_t held_bytes, at_ms; /* since then */
	uint64_t byte_ms_hi, byte_ms_lo;
	uint64_t peak_bytes;
	uint64_t written_bytes, read_bytes, writes, reads;
};

/* held_bytes are held from now_ms on. */
void meter_hold(struct meter *m, uint64_t now_ms, uint64_t held_bytes);
/* The integral up to now_ms; changes nothing but the place from which it goes on. */
void meter_settle(struct meter *m, uint64_t now_ms);
/* After a restart: the held bytes are those of now_ms, the time between was not held. */
void meter_resume(struct meter *m, uint64_t now_ms, uint64_t held_bytes);
#endif
