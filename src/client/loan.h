/* SPDX-License-Identifier: Apache-2.0 */
/* loan.h: requests that may bring memory of a storage server: room to write into, extents to look
 * at.
 *
 * A descriptor travels beside the reply that announces it, and nothing but the order ties the two
 * together.  So it is taken in the moment when its reply is (L1), and the request lives until then
 * even when nobody waits for it any more (L2): a reply that was passed over would leave its
 * descriptor to the next one, and somebody would write into the wrong memory. */
#ifndef CLIENT_LOAN_H
#define CLIENT_LOAN_H
#include "client/peer.h"

/* Both connect when needed, and return a reference to the map that holds the memory; what m points
 * to is copied.  E_CORRUPT: the answer does not fit the memory. */
PARKS int loan_alloc(struct peer *p, const struct msg_extent_alloc *m, uint64_t until_ns,
	struct msg_alloc_ok *ret_ok, struct arena_map **ret_map, struct err_note *note);
PARKS int loan_pin(struct peer *p, const struct msg_extent_pin *m, uint64_t until_ns,
	struct msg_pin_ok *ret_ok, struct arena_map **ret_map, uint64_t *ret_generation,
	struct err_note *note);
#endif
