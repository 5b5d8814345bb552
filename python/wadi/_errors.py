# SPDX-License-Identifier: Apache-2.0
"""Codes of the library as exceptions."""
from ._lib import lib


class Error(Exception):
    """Something went wrong; code and name are those of wadi.h."""

    def __init__(self, code, note):
        super().__init__(code, note)  # so that it can be pickled: results of process pools are
        self.code, self.note = code, note
        self.name = lib.wadi_error_name(code).decode()

    def __str__(self):
        text = lib.wadi_strerror(self.code).decode()
        return "%s: %s" % (text, self.note) if self.note else text


class NotFound(Error, LookupError):
    """There is no such bucket, object or job."""


class Exists(Error):
    """The name is taken."""


class Conflict(Error):
    """A condition of the request does not hold."""


class Denied(Error, PermissionError):
    """Access was denied."""


class Timeout(Error, TimeoutError):
    """The deadline passed and nothing was changed."""


class Unknown(Error):
    """The deadline passed; the change may have happened or not."""


class Unreachable(Error, ConnectionError):
    """The system cannot be reached."""


class Full(Error):
    """No room is left, or a quota is used up."""


class Lost(Error):
    """The bytes died with their server."""


class Invalid(Error, ValueError):
    """An argument makes no sense, or exceeds a fixed limit."""


_CLASSES = {-4: Conflict, -6: Invalid, -8: NotFound, -9: Exists, -10: Conflict, -11: Denied,
            -12: Invalid, -13: Timeout, -14: Unreachable, -15: Unreachable, -16: Full, -17: Lost,
            -18: NotFound, -21: Unknown, -24: Invalid}


def raise_code(code, note):
    raise _CLASSES.get(code, Error)(code, note)
