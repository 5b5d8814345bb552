/* SPDX-License-Identifier: Apache-2.0 */
/* A worker process.  It knows its job from the environment, as any worker of a user's would. */
#include "base/err.h"
#include "demo/demo.h"
#include "demo/sort.h"
#include <stdio.h>
#include <stdlib.h>

int demo_worker(int argc, char **argv)
{
	struct wadi_note why = { "usage: wadi-demo worker INPUT OUTPUT RECORDS WORKERS WORKER" };
	struct sort_plan plan;
	struct wadi *w;
	int rc;

	if (argc != 5 || !sort_plan_make(&plan, argv[0], argv[1], strtoull(argv[2], NULL, 10),
				 (uint32_t)strtoul(argv[3], NULL, 10))) {
		fprintf(stderr, "%s\n", why.text);
		return err_exit(E_INVALID);
	}
	rc = wadi_connect(NULL, NULL, &w, &why);
	if (rc == 0) {
		rc = sort_work(&plan, (uint32_t)strtoul(argv[4], NULL, 10), w, &why);
		wadi_close(w);
	}
	if (rc < 0)
		fprintf(stderr, "demo: worker %s: %s\n", argv[4], why.text);
	return err_exit(rc);
}
