/* SPDX-License-Identifier: Apache-2.0 */
/* ask.h: Wadi's protocol as blocking questions and answers on one socket, for wadi-bench only. */
#ifndef BENCH_ASK_H
#define BENCH_ASK_H
#include "wire/wire.h"

/* All return 0 or -1 with the reason printed. */
int wadi_send(int fd, uint16_t op, uint64_t cookie, const void *msg, struct bytes data);
/* The answer must be op; its fields are decoded into ret_msg and borrow from room, its data go to
 * data. */
int wadi_recv(int fd, uint16_t op, const char *what, void *room, size_t cap, void *ret_msg,
	void *data, size_t data_cap);
int wadi_hello(int fd, uint64_t client_lo, uint64_t *ret_job); /* with WADI_JOB_TOKEN */
uint64_t wadi_client_id(void); /* a fresh one each time; any thread */
int wadi_bucket(int fd, uint64_t job, uint64_t *ret_bucket);
#endif
