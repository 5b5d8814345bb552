/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/lane.h"
#include "base/check.h"
#include "base/err.h"
#include <string.h>
#include <sys/mman.h>
#if LANE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if LANE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum { GUARD_BYTES = 4096 };

int lane_map(struct lane *t, size_t bytes)
{
	char *p = mmap(NULL, bytes + GUARD_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	check(bytes % GUARD_BYTES == 0);
	if (p == MAP_FAILED)
		return E_NOMEM;
	if (mprotect(p, GUARD_BYTES, PROT_NONE) != 0) {
		munmap(p, bytes + GUARD_BYTES);
		return E_NOMEM;
	}
	t->low = p + GUARD_BYTES;
	t->bytes = bytes;
	return 0;
}

void lane_unmap(struct lane *t)
{
#if LANE_TSAN
	if (t->tsan != NULL)
		__tsan_destroy_fiber(t->tsan);
	t->tsan = NULL;
#endif
	if (t->low == NULL)
		return;
#if LANE_ASAN
	__asan_unpoison_memory_region(t->low, t->bytes);
#endif
	check(munmap((char *)t->low - GUARD_BYTES, t->bytes + GUARD_BYTES) == 0);
	t->low = NULL;
}

void lane_fill(struct lane *t, uint8_t fill)
{
#if LANE_ASAN
	__asan_unpoison_memory_region(t->low, t->bytes);
#endif
	memset(t->low, fill, t->bytes);
}

/* ---- the switch itself ---- */
#if LANE_UCONTEXT
#define SWITCH(from, to) check(swapcontext(&(from)->regs, &(to)->regs) == 0)

static void prepare(struct lane *t, void (*entry)(void), size_t skew)
{
	check(getcontext(&t->regs) == 0);
	t->regs.uc_stack.ss_sp = t->low;
	t->regs.uc_stack.ss_size = t->bytes - skew;
	t->regs.uc_link = NULL;
	makecontext(&t->regs, entry, 0);
}
#else
/* Saves the preserved registers on the stack, the stack pointer in *ret_sp, and goes on from sp. */
void lane_jump(void **ret_sp, void *sp) __attribute__((visibility("hidden")));
#define SWITCH(from, to) lane_jump(&(from)->sp, (to)->sp)

#if defined(__x86_64__)
/* Words from the saved stack pointer: r15 r14 r13 r12 rbx rbp, where to go on. */
enum { SAVED_WORDS = 7, AT_PC = 6 };
__asm__(".text\n"
	".p2align 4\n"
	".globl lane_jump\n"
	".hidden lane_jump\n"
	".type lane_jump, @function\n"
	"lane_jump:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	popq %rcx\n"
	"	jmpq *%rcx\n" /* not ret: its predictor knows the other stack's callers */
	".size lane_jump, .-lane_jump\n");
#else
/* Words from the saved stack pointer: d8-d15, x19-x28, x29 (frame), x30 (where to go on). */
enum { SAVED_WORDS = 20, AT_PC = 19 };
__asm__(".text\n"
	".p2align 4\n"
	".globl lane_jump\n"
	".hidden lane_jump\n"
	".type lane_jump, %function\n"
	"lane_jump:\n"
	"	sub sp, sp, #160\n"
	"	stp d8, d9, [sp, #0]\n"
	"	stp d10, d11, [sp, #16]\n"
	"	stp d12, d13, [sp, #32]\n"
	"	stp d14, d15, [sp, #48]\n"
	"	stp x19, x20, [sp, #64]\n"
	"	stp x21, x22, [sp, #80]\n"
	"	stp x23, x24, [sp, #96]\n"
	"	stp x25, x26, [sp, #112]\n"
	"	stp x27, x28, [sp, #128]\n"
	"	stp x29, x30, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	ldp d8, d9, [sp, #0]\n"
	"	ldp d10, d11, [sp, #16]\n"
	"	ldp d12, d13, [sp, #32]\n"
	"	ldp d14, d15, [sp, #48]\n"
	"	ldp x19, x20, [sp, #64]\n"
	"	ldp x21, x22, [sp, #80]\n"
	"	ldp x23, x24, [sp, #96]\n"
	"	ldp x25, x26, [sp, #112]\n"
	"	ldp x27, x28, [sp, #128]\n"
	"	ldp x29, x30, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	br x30\n"
	".size lane_jump, .-lane_jump\n");
#endif

static void prepare(struct lane *t, void (*entry)(void), size_t skew)
{
	uintptr_t top = ((uintptr_t)t->low + t->bytes - skew) & ~(uintptr_t)15;
	void **sp;

	/* Above the saved words one zero word, or two: x86-64 enters a function with the stack 8
	 * off a multiple of 16 (as if called), aarch64 with a multiple of 16; a debugger stops at
	 * the zero. */
	sp = (void **)top - SAVED_WORDS - (SAVED_WORDS % 2 == 1 ? 3 : 2);
	memset(sp, 0, (char *)top - (char *)sp);
	sp[AT_PC] = (void *)(uintptr_t)entry;
	t->sp = sp;
}
#endif

void lane_reset(struct lane *t, void (*entry)(void), size_t skew)
{
	check(t->low != NULL);
	check(skew < t->bytes / 2);
#if LANE_ASAN
	__asan_unpoison_memory_region(t->low, t->bytes);
	t->asan_fake = NULL;
#endif
#if LANE_TSAN
	/* a fresh one for each life: the entry function never returns, and its shadow frames add up
	 */
	if (t->tsan != NULL)
		__tsan_destroy_fiber(t->tsan);
	t->tsan = __tsan_create_fiber(0);
#endif
	prepare(t, entry, skew);
}

void lane_home(struct lane *t)
{
#if LANE_TSAN
	t->tsan = __tsan_get_current_fiber();
#else
	(void)t;
#endif
}

void lane_switch(struct lane *from, struct lane *to)
{
#if LANE_ASAN
	__sanitizer_start_switch_fiber(&from->asan_fake, to->low, to->bytes);
#endif
#if LANE_TSAN
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
	SWITCH(from, to);
}

_Noreturn void lane_leave(struct lane *from, struct lane *to)
{
#if LANE_ASAN
	__sanitizer_start_switch_fiber(NULL, to->low, to->bytes);
#endif
#if LANE_TSAN
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
	SWITCH(from, to);
	check(!"a lane that has ended runs again");
	__builtin_unreachable();
}

#if LANE_ASAN
void lane_arrive(struct lane *now, struct lane *prev)
{
	const void *low = NULL;

	/* tells the bounds of the stack that was left: the only way to learn those of a thread's
	 * own */
	__sanitizer_finish_switch_fiber(now->asan_fake, &low, &prev->bytes);
	prev->low = (void *)(uintptr_t)low;
}
#endif
