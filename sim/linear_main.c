/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-linear FILE: are these histories (linear.h) linearizable?  Exits 0 when they are, 1 when one
 * is not, 3 when one was too hard to say (and none is wrong), 2 when FILE is not such a file. */
#include "sim/linear.h"
#include <string.h>

enum { TOLD_MAX = 20 };

int main(int argc, char **argv)
{
	char why[LINEAR_KEY_BYTES_MAX + 300];
	struct linear *l;
	FILE *from;
	uint32_t n[3] = { 0 };

	if (argc != 2 || argv[1][0] == '\0') {
		fprintf(stderr, "usage: wadi-linear FILE   (- is the standard input)\n");
		return 2;
	}
	from = strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "r");
	if (from == NULL) {
		fprintf(stderr, "wadi-linear: cannot open %s\n", argv[1]);
		return 2;
	}
	l = linear_new();
	if (!linear_read(l, from, why, sizeof why)) {
		fprintf(stderr, "wadi-linear: %s: %s\n", argv[1], why);
		linear_free(l);
		return 2;
	}
	for (uint32_t key = 0; key < linear_keys(l); key++) {
		enum linear_verdict v = linear_check(l, key, why, sizeof why);

		n[v]++;
		if (v != LINEAR_OK && n[v] <= TOLD_MAX)
			printf("%s\n", why);
	}
	printf("%u operations, %u keys: %u linearizable, %u not, %u too hard\n", linear_ops(l),
		linear_keys(l), n[LINEAR_OK], n[LINEAR_BROKEN], n[LINEAR_TOO_HARD]);
	linear_free(l);
	if (from != stdin)
		fclose(from);
	return n[LINEAR_BROKEN] > 0 ? 1 : n[LINEAR_TOO_HARD] > 0 ? 3 : 0;
}
