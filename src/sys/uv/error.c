/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "sys/uv/own.h"
#include <errno.h>
#include <string.h>

static const struct {
	int os, rc;
} rows[] = {
	{ ENOENT, E_NOTFOUND },
	{ ENOTDIR, E_NOTFOUND },
	{ ESRCH, E_NOTFOUND },
	{ EEXIST, E_EXISTS },
	{ ENOTEMPTY, E_NOTEMPTY },
	{ EXDEV, E_CROSS },
	{ EACCES, E_DENIED },
	{ EPERM, E_DENIED },
	{ EROFS, E_DENIED },
	{ ENOMEM, E_NOMEM },
	{ ENOSPC, E_FULL },
	{ EDQUOT, E_FULL },
	{ EFBIG, E_TOOBIG },
	{ ENAMETOOLONG, E_TOOBIG },
	{ E2BIG, E_TOOBIG },
	{ EMSGSIZE, E_TOOBIG },
	{ EINVAL, E_INVALID },
	{ EISDIR, E_INVALID },
	{ ELOOP, E_INVALID },
	{ EAFNOSUPPORT, E_UNSUPPORTED },
	{ EOPNOTSUPP, E_UNSUPPORTED },
	{ ENOSYS, E_UNSUPPORTED },
	{ EADDRINUSE, E_INUSE },
	{ ETXTBSY, E_INUSE },
	{ EMFILE, E_BUSY },
	{ ENFILE, E_BUSY },
	{ ENOBUFS, E_BUSY },
	{ EAGAIN, E_BUSY },
	{ EBUSY, E_BUSY },
	{ ECONNRESET, E_CLOSED },
	{ EPIPE, E_CLOSED },
	{ ENOTCONN, E_CLOSED },
	{ ECONNABORTED, E_CLOSED },
	{ ETIMEDOUT, E_UNREACH }, /* a peer that is silent for too long, not a deadline of ours */
	{ ECONNREFUSED, E_UNREACH },
	{ EHOSTUNREACH, E_UNREACH },
	{ EHOSTDOWN, E_UNREACH },
	{ ENETUNREACH, E_UNREACH },
	{ ENETDOWN, E_UNREACH },
	{ EADDRNOTAVAIL, E_UNREACH },
};

int sys_err(int os)
{
	check(os > 0);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].os == os)
			return rows[i].rc;
	return E_IO;
}

const char *sys_err_words(int os)
{
	const char *words = strerrordesc_np(os); /* static, unlike strerror() */

	return words != NULL ? words : "unknown error";
}
