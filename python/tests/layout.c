/* SPDX-License-Identifier: Apache-2.0 */
/* Prints "STRUCT SIZE" and "STRUCT.FIELD OFFSET" for what test_layout.py asks on standard input, as
 * the compiler sees wadi.h. */
#include "wadi.h"
#include <stdio.h>

#define S(s) printf(#s " %zu\n", sizeof(struct s));
#define F(s, f) printf(#s "." #f " %zu\n", offsetof(struct s, f));

int main(void)
{
#include "layout.inc"
	return 0;
}
