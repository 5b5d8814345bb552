/* SPDX-License-Identifier: Apache-2.0 */
/* lane.h: a stack with the registers saved on it, and the switch between two of them.
 *
 * A switch keeps what the ABI calls preserved: general registers, and on aarch64 the low halves of
 * v8-v15.  The x86 control words (mxcsr, x87) are not saved: nothing here changes them.  Which
 * switch is built: assembly for x86-64 and aarch64, ucontext for the rest and with
 * -Dfiber=ucontext. The address and thread sanitizers are told of each switch. */
#ifndef FIBER_LANE_H
#define FIBER_LANE_H
#include <stddef.h>
#include <stdint.h>
#if defined(WADI_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define LANE_UCONTEXT 1
#include <ucontext.h>
#else
#define LANE_UCONTEXT 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define LANE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LANE_ASAN 1
#endif
#endif
#ifndef LANE_ASAN
#define LANE_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define LANE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LANE_TSAN 1
#endif
#endif
#ifndef LANE_TSAN
#define LANE_TSAN 0
#endif

struct lane {
#if LANE_UCONTEXT
	ucontext_t regs;
#else
	void *sp;
#endif
	void *low; /* of the stack, above its guard; of a thread's own stack only ASan knows it */
	size_t bytes;
	void *asan_fake, *tsan;
};

/* Maps a stack with a guard page below it.  0 or E_NOMEM. */
int lane_map(struct lane *t, size_t bytes);
void lane_unmap(struct lane *t); /* not the running one */
/* The next switch to t calls entry(), which never returns, on a stack that starts skew bytes below
 * the top: stacks of equal alignment would all compete for the same few cache sets. */
void lane_reset(struct lane *t, void (*entry)(void), size_t skew);
/* fill: the pattern for the whole stack before lane_reset(). */
void lane_fill(struct lane *t, uint8_t fill);
/* Makes t the lane of the thread that runs now. */
void lane_home(struct lane *t);

void lane_switch(struct lane *from, struct lane *to); /* returns when from is switched to again */
/* The same for good: from will be reset before it runs. */
_Noreturn void lane_leave(struct lane *from, struct lane *to);
/* To be called first after each arrival on a lane, by entry() and behind lane_switch(): prev is the
 * lane that was left. */
#if LANE_ASAN
void lane_arrive(struct lane *now, struct lane *prev);
#else
static inline void lane_arrive(struct lane *now, struct lane *prev)
{
	(void)now, (void)prev;
}
#endif
#endif
