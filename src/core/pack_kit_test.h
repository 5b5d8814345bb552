/* SPDX-License-Identifier: Apache-2.0 */
/* pack_kit_test.h: jobs and servers for the tests of core/pack.h. */
#ifndef CORE_PACK_KIT_TEST_H
#define CORE_PACK_KIT_TEST_H
#include "core/pack.h"

#define GB UINT64_C(1000000000)
enum { SHARES = 64, MANY = 10000 };

extern const struct pack_limits whole; /* figures that people can follow */
extern const struct pack_type types[2];

struct job {
	struct pack_ask ask;
	struct pack_share *shares; /* room for SHARES */
	uint32_t n;
	struct pack_plan plan;
	bool live;
};

/* A server that is up, with one tier. */
void add(struct pack *p, uint32_t id, uint8_t tier, uint64_t bytes, uint64_t bps);
/* The shares of one stay as they are until as many more were made. */
struct job job_of(uint64_t bytes, uint64_t bps);
const struct pack_share *share_on(const struct job *j, uint32_t server); /* the first, or NULL */
uint64_t weights(const struct pack_share *shares, uint32_t n);           /* their sum */
/* Places it, and holds what it got and what lacks against what it needs. */
void place(struct pack *p, struct job *j);
uint64_t digest(const struct job *j, uint64_t seed); /* without what lies between the fields */
void expect(const struct job *j, uint32_t server, uint64_t bytes, uint64_t bps);
#endif
