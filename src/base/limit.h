/* SPDX-License-Identifier: Apache-2.0 */
/* limit.h: the named limits of limit.def as constants: LIMIT_NAME_BYTES_MAX and so on. */
#ifndef BASE_LIMIT_H
#define BASE_LIMIT_H

enum {
#define LIMIT(name, value, text) LIMIT_##name = (value),
#include "base/limit.def"
#undef LIMIT
};
#endif
