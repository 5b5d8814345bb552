/* SPDX-License-Identifier: Apache-2.0 */
#include "core/meter.h"

void meter_settle(struct meter *m, uint64_t now_ms)
{
	uint64_t span = now_ms > m->at_ms ? now_ms - m->at_ms : 0;
	unsigned __int128 sum = (unsigned __int128)m->byte_ms_hi << 64 | m->byte_ms_lo;

	sum += (unsigned __int128)m->held_bytes * span;
	m->byte_ms_hi = (uint64_t)(sum >> 64);
	m->byte_ms_lo = (uint64_t)sum;
	m->at_ms += span;
}

void meter_hold(struct meter *m, uint64_t now_ms, uint64_t held_bytes)
{
	meter_settle(m, now_ms);
	m->held_bytes = held_bytes;
	if (held_bytes > m->peak_bytes)
		m->peak_bytes = held_bytes;
}

void meter_resume(struct meter *m, uint64_t now_ms, uint64_t held_bytes)
{
	m->at_ms = now_ms;
	m->held_bytes = held_bytes;
	if (held_bytes > m->peak_bytes)
		m->peak_bytes = held_bytes;
}
