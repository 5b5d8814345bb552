/* SPDX-License-Identifier: Apache-2.0 */
/* One release of version_test.def: compiled once for each value of OURS. */
#include "wire/version_test.h"

#define STATIC static __attribute__((unused))
#define WIRE_DEF "wire/version_test.def"
#define WIRE_LINKAGE STATIC
#include "wire/declare.h"

#define WIRE_DEF "wire/version_test.def"
#define WIRE_LINKAGE STATIC
#define WIRE_OURS OURS
#define WIRE_OP find
#include "wire/define.h"

#if OURS == 1
const struct wire_op *version_1_op(uint16_t op) { return find(op); }
#elif OURS == 2
const struct wire_op *version_2_op(uint16_t op) { return find(op); }
#else
const struct wire_op *version_3_op(uint16_t op) { return find(op); }
#endif
