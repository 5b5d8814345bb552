/* SPDX-License-Identifier: Apache-2.0 */
/* sim.h: the simulated world behind sys.h: nodes, network, disks, clocks, faults.  Only the
 * programs under sim/, tests and simulated twins of adapters include it.
 *
 * One thread, one seed, virtual time.  Each node has its own loop, disk and clock; the world draws
 * which loop runs next.  Equal seeds give equal runs in every process and by every compiler. */
#ifndef SYS_SIM_SIM_H
#define SYS_SIM_SIM_H
#include "base/prng.h"
#include "sys/sys.h"

enum { SIM_NODES_MAX = 64, SIM_DRIFT_PPM_MAX = 100000 };

/* Every number is a chance in a million per opportunity, or a bound in nanoseconds. */
struct sim_faults {
	uint32_t net_lose_ppm; /* a segment of a stream is lost: the stream breaks (reset) */
	uint64_t net_delay_min_ns,
		net_delay_max_ns; /* each connection keeps order; connections do not */
	uint32_t net_stall_ppm;   /* one segment takes up to 1 s */
	uint32_t net_split_ppm; /* what was sent at once arrives in two parts; a receive is short */
	uint32_t disk_io_ppm;   /* E_IO of a read, write or sync */
	uint32_t disk_torn_ppm; /* at a crash: an unsynced write is kept in part, by 512-byte
				   sectors */
	uint32_t disk_rot_ppm;  /* a read returns a flipped bit, which stays */
	uint32_t disk_slow_ppm; /* one operation takes up to 2 s */
	uint64_t disk_op_max_ns;
	uint32_t clock_late_ppm; /* a timer fires up to 3 s late */
	uint32_t clock_jump_ppm; /* the wall clock jumps by up to a day, either way */
	uint32_t buggify_ppm;
	bool shuffle; /* ready fibers run in drawn order */
};
extern const struct sim_faults sim_no_faults, sim_all_faults;

struct sim;
struct sim_node;

struct sim *sim_new(uint64_t seed, const struct sim_faults *f);
void sim_free(
	struct sim *w); /* cancels every fiber, waits for them, and checks that nothing is left */
void sim_faults_set(struct sim *w, const struct sim_faults *f);
/* Before the first step: fresh stacks of fibers hold that byte (-1, the default: whatever they
 * held). A run whose unseed depends on it reads what nobody wrote. */
void sim_fill_stacks(struct sim *w, int pattern);

/* A node is a name, a disk (directory tree, survives crashes) and, while it is up, a struct sys
 * with main_fn(sys, arg) as its first fiber.  The process ends when main_fn returns; by then, and
 * when its fibers have unwound after a crash, it must have closed its streams, listeners, files and
 * shared memory: what is left open is a failed check. */
typedef int sim_main_fn(struct sys *s, void *arg);
struct sim_node *sim_node_add(struct sim *w, const char *name, uint64_t disk_bytes);
void sim_node_start(struct sim_node *n, sim_main_fn *main_fn, void *arg);
bool sim_node_up(const struct sim_node *n);
int sim_node_result(const struct sim_node *n); /* of main_fn, when it has returned by itself */
/* Power off between two steps: the door of the node turns dead (every call returns E_CANCELED and
 * has no effect), its fibers unwind through their own clean-up, unsynced writes are lost or torn.
 */
void sim_node_crash(struct sim_node *n);
bool sim_dead(const struct sys *s); /* its fibers unwind: for twins with a door of their own */
void sim_node_kill(struct sim_node *n); /* the process only: what was written is kept */
void sim_node_signal(struct sim_node *n, int signal); /* what sys_signal_wait() returns there */
void sim_node_pause(struct sim_node *n, uint64_t ns); /* SIGSTOP for that long */
void sim_node_wipe(struct sim_node *n);               /* a new, empty disk; the node is down */
void sim_disk_full(struct sim_node *n, bool full);
/* The nth operation on files (with rc) or making of shared memory (E_NOMEM) of the node from now on
 * fails and has no effect; 1: the next; 0: none.  Each operation of a run can be made to fail by
 * counting up until sim_fails_nth() says that it is still to come. */
void sim_fail_nth(struct sim_node *n, uint64_t nth, int rc);
/* The same for operations of one kind, as a trace calls it ("open", "create", "read", "write",
 * "sync", "allocate", "rename", ...; NULL: any); with for_good all that follow fail too, until it
 * is called again. */
void sim_fail_nth_of(
	struct sim_node *n, const char *held_verb, uint64_t nth, int rc, bool for_good);
bool sim_fails_nth(const struct sim_node *n); /* it has not happened yet */
/* Flips one bit of a file on the disk of a node; false when there is no such file or it is empty.
 */
bool sim_disk_rot(struct sim_node *n, const char *path, uint64_t at_byte, unsigned bit);
/* Flips a drawn bit that is stored in the file, or in a drawn file below the directory. */
bool sim_disk_rot_any(struct sim_node *n, const char *path);
/* ---- every state that a power cut may leave ----
 * A node that is down gets the disk of another one, maybe of another world, as it is now, with what
 * is not synced there. */
void sim_disk_copy(struct sim_node *to, const struct sim_node *from);
/* Power off, of a node that is down: keep(arg, i) says of the i-th unsynced change (of a directory,
 * a file's length or a sector) whether it got there.  Returns how many there were. */
uint32_t sim_disk_cut(struct sim_node *n, bool (*keep)(void *arg, uint32_t i), void *arg);
uint64_t sim_disk_sum(const struct sim_node *n); /* of all that programs see of it */
uint64_t sim_disk_ops(const struct sim_node *n); /* that had their effect */

void sim_clock_jump(struct sim_node *n, int64_t wall_ms);
/* From now on, through restarts too, its monotonic clock is so much fast; negative: slow. */
void sim_clock_drift(struct sim_node *n, int32_t ppm);
void sim_net_cut(struct sim_node *from, struct sim_node *to, bool cut); /* one way */

/* ---- to find out what a run needs to fail ----
 * A *misfortune* is a call of sim_node_crash(), _kill(), _pause(), _wipe(), sim_disk_full(..true),
 * _rot(), _rot_any(), sim_clock_jump(), _drift() or sim_net_cut(..true) that would change
 * something, or such a jump by chance.  spare(arg, i, ...) is asked for the i-th of the run: true,
 * and it does not happen. */
void sim_spare(struct sim *w,
	bool (*spare)(void *arg, uint32_t i, uint64_t now_ns, const char *node, const char *what),
	void *arg);
/* No fault is ever set higher than here. */
void sim_faults_most(struct sim *w, const struct sim_faults *most);

/* Runs until virtual time until_ns, or until nothing can happen any more. */
void sim_run(struct sim *w, uint64_t until_ns);
bool sim_step(struct sim *w); /* one step of one loop; false when nothing is left to do */
uint64_t sim_now_ns(const struct sim *w);
struct prng *sim_workload(struct sim *w); /* the workload's own stream */

/* The unseed: all generators' states and a checksum of all bytes sent and written, folded into one
 * number; equal runs have equal unseeds. */
uint64_t sim_unseed(const struct sim *w);
void sim_trace(struct sim *w,
	void (*line)(void *arg, uint64_t now_ns, const char *node, const char *text), void *arg);
/* Calls each for every sys_reached() path and sys_buggify() point of this process with its count.
 */
void sim_coverage(void (*each)(void *arg, const char *what, uint64_t count), void *arg);
/* The same for every kind of fault that there was. */
void sim_fault_kinds(void (*each)(void *arg, const char *what, uint64_t count), void *arg);
struct sim_counts {
	uint64_t faults, messages, disk_ops, crashes, steps;
};
struct sim_counts sim_counts(const struct sim *w);
#endif
