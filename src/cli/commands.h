/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h: the functions of the commands, one for each row of the table.  They fail by
 * cli_fail(), which sets the exit code. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H
#include "cli/out.h"

#define CMD(id, group, how, words, arguments, min, max, brief, text) void cmd_##id(struct cli *c);
#include "cli/commands.def"
#endif
