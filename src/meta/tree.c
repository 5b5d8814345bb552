/* SPDX-License-Identifier: Apache-2.0 */
#include "meta/tree.h"
#include "base/hash.h"

uint64_t tree_row_hash(struct bytes key, struct bytes value)
{
	return hash64(hash64(key.len, key.p, key.len), value.p, value.len);
}
