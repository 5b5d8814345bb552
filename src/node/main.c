/* SPDX-License-Identifier: Apache-2.0 */
/* The wadi program: the command line, and the roles it can run. */
#include "cli/out.h"
#include "node/admin.h"
#include "node/fsck.h"
#include "node/node.h"

static uint64_t bytes_of_tier(const struct cli *c, enum option_id o, uint64_t otherwise)
{
	return c->a.given[o] ? c->a.number[o] : otherwise;
}

static int run(const struct cli *c, unsigned roles, uint64_t tiers_default)
{
	struct node_opts o = {
		.roles = roles,
		.data = c->a.text[O_data],
		.listen = c->a.text[O_listen],
		.socket = c->a.text[O_socket],
		.meta = c->a.text[O_meta],
		.key_file = c->a.text[O_key_file],
		.cert_dir = c->a.text[O_cert_dir],
		.join = c->a.text[O_join],
		.coord = c->a.text[O_coord],
		.coord_login = c->a.text[O_coord_login],
		.rack = c->a.text[O_rack],
		.dram_bytes = bytes_of_tier(c, O_dram, tiers_default),
		.flash_bytes = bytes_of_tier(c, O_flash, tiers_default),
		.disk_bytes = bytes_of_tier(c, O_disk, tiers_default),
		.ready_fd = c->a.given[O_ready_fd] ? (int)c->a.number[O_ready_fd] : -1,
		.quiet = c->quiet,
		.insecure = c->a.given[O_insecure],
	};

	return node_run(&o);
}

static int run_serve(const struct cli *c)
{
	return run(c, NODE_META | NODE_STORE, NODE_DEFAULT);
}

static int run_meta(const struct cli *c)
{
	return run(c, NODE_META, 0);
}

/* A storage server that somebody sets up offers what it is told to. */
static int run_store(const struct cli *c)
{
	bool told = c->a.given[O_dram] || c->a.given[O_flash] || c->a.given[O_disk];

	return run(c, NODE_STORE, told ? 0 : NODE_DEFAULT);
}

int main(int argc, char **argv)
{
	static const struct cli_roles roles = { run_serve, run_meta, run_store, node_fsck,
		&node_admin };

	return cli_main(argc, argv, &roles);
}
