/* SPDX-License-Identifier: Apache-2.0 */
/* open.h: the store that a URL names.  Part of coord_etcd, for it stands on libcurl. */
#ifndef COORD_OPEN_H
#define COORD_OPEN_H
#include "coord/coord.h"
#include "sys/http.h"

struct coord_open_opts {
	/* "embedded:/DIR", or one of etcd.h. */
	const char *url;
	bool create; /* embedded: makes the file when it is missing */
	struct sys_http_tls tls, key_tls; /* the second one for ETCD_KEYED */
	/* A file with one line USER:PASSWORD for etcd; NULL: the one that WADI_COORD_LOGIN names,
	 * and without that etcd asks for none. */
	const char *login_file;
};
/* An embedded store that has moved opens the one that it has moved to.  ret_url, of COORD_URL_MAX
 * bytes, is the URL of what was opened; it may be the one in the options.  Errors as in embedded.h
 * and etcd.h. */
PARKS int coord_open(struct sys *s, const struct coord_open_opts *o, struct coord **ret_c,
	char *ret_url, struct err_note *note);
bool coord_url_embedded(const char *url);
#endif
