/* SPDX-License-Identifier: Apache-2.0 */
/* version_test.h: the messages of version_test.def as each release knows them. */
#ifndef WIRE_VERSION_TEST_H
#define WIRE_VERSION_TEST_H
#include "wire/wire.h"

const struct wire_op *version_1_op(uint16_t op);
const struct wire_op *version_2_op(uint16_t op);
const struct wire_op *version_3_op(uint16_t op);
#endif
