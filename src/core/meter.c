/* SPDX-License-Identifier: Apache-2.0 */
#include "core/meter.h"
#include "base/check.h"

void meter_settle(struct meter *m, uint64_t now_ns)
{
	uint64_t span = now_ns > m->at_ns ? now_ns - m->at_ns : 0;

	if (span > 0 && m->held_bytes > m->peak_bytes)
		m->peak_bytes = m->held_bytes;
	m->byte_ns += (unsigned __int128)m->held_bytes * span;
	m->at_ns += span;
}

void meter_hold(struct meter *m, uint64_t now_ns, uint64_t held_bytes)
{
	meter_settle(m, now_ns);
	m->held_bytes = held_bytes;
}

void meter_change(struct meter *m, uint64_t now_ns, int64_t change)
{
	check(change >= 0 || m->held_bytes >= -(uint64_t)change);
	meter_hold(m, now_ns, m->held_bytes + (uint64_t)change);
}
