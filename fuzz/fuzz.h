/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h: one function for each target, called by libFuzzer or by replay.c. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len); /* 0 */
/* What a target may also have.  Inputs of its own making: replay.c runs them beside the corpus,
 * and writes them when asked.  And in how many places replay.c changes an input, when runs
 * are dear. */
__attribute__((weak)) extern const unsigned fuzz_changes_max; /* places to change in an input */
__attribute__((weak)) void fuzz_seeds(void (*run)(const uint8_t *p, size_t len));
#endif
