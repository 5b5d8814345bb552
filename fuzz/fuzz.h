/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h: one function for each target, called by libFuzzer or by replay.c. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len); /* 0 */
#endif
