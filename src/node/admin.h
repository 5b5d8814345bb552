/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h: what `wadi node` and `wadi shard` ask of nodes, each time from a door of its own. */
#ifndef NODE_ADMIN_H
#define NODE_ADMIN_H
#include "cli/nodes.h"

extern const struct cli_admin node_admin;
#endif
