/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h: who is calling.  The controller knows tokens; a shard only asks. */
#ifndef META_AUTH_H
#define META_AUTH_H
#include "base/bytes.h"
#include "base/err.h"
#include <stdbool.h>

/* An administrator sees everything; a job sees its own buckets only. */
struct principal {
	bool admin;
	uint64_t job;
};

/* resolve() does not park.  E_DENIED: the token is nobody's.  Never called with an empty token: an
 * empty one is an administrator on a Unix socket whose peer has the server's own user id, else
 * nobody. */
struct auth {
	int (*resolve)(
		void *arg, struct bytes token, struct principal *ret_p, struct err_note *note);
	void *arg;
};
#endif
