# SPDX-License-Identifier: Apache-2.0
"""Wadi: storage that is there while a job runs.

    import wadi

    with wadi.connect() as w, w.job("squares") as job:
        job.put("nine", b"81")
        print(job.get("nine"))

A connection may be used by several threads, one call at a time: whoever waits in it holds up the
others. Threads that shall work side by side connect each for itself. Times are seconds.
"""
import collections
import ctypes as c
import os
import threading

from . import _lib
from ._errors import (Conflict, Denied, Error, Exists, Full, Invalid, Lost, NotFound, Timeout,
                      Unknown, Unreachable, raise_code)
from ._lib import lib

__all__ = ["connect", "version", "Wadi", "Bucket", "Job", "View", "Info", "Entry", "Error",
           "NotFound", "Exists", "Conflict", "Denied", "Timeout", "Unknown", "Unreachable", "Full",
           "Lost", "Invalid"]

Info = collections.namedtuple("Info", "size version mtime expires persist delete_on_read tiers")
Entry = collections.namedtuple("Entry", "name size version mtime kind")

_TIERS = ("dram", "flash", "disk")
_KINDS = ("object", "directory", "prefix")
_BUCKET_KINDS = ("flat", "tree")
_LIFETIMES = ("default", "job", "ttl", "persist")
_LATENCIES = ("any", "sensitive", "insensitive")
_STATES = ("?", "active", "ending", "ended")
_PAGE = 64


def version():
    return lib.wadi_version().decode()


def _ms(seconds):
    if seconds is None:
        return 0
    if seconds < 0:
        raise ValueError("a time below zero")
    return max(1, int(seconds * 1000)) if seconds else 0


def _text(value):
    return None if value is None else os.fsencode(value)


def _index(words, word, what):
    try:
        return words.index(word)
    except ValueError:
        raise ValueError("%s is one of %s, not %r" % (what, ", ".join(words), word)) from None


def _bits(tiers):
    if isinstance(tiers, str):
        tiers = tiers.split(",")
    return sum({1 << _index(_TIERS, t, "a tier") for t in tiers or ()})


def _names(bits):
    return tuple(name for i, name in enumerate(_TIERS) if bits & 1 << i)


def _info(i):
    return Info(i.size, i.version, i.mtime_ms / 1000, i.expires_ms / 1000 if i.expires_ms else None,
                bool(i.flags & _lib.PUT_PERSIST), bool(i.flags & _lib.PUT_DELETE_ON_READ),
                _names(i.tiers))


def connect(url=None, *, token=None, key_file=None, cert_dir=None, name="python", timeout=None,
            wait=None):
    """A connection: to url, or WADI_URL, or the user's own `wadi serve`.

    token: of a job to act for; None takes WADI_JOB_TOKEN, "" none. cert_dir: for wadis://, the
    folder of certificates; None takes WADI_CERT, or ~/.wadi/cert. timeout: of each call, 30 s
    when left out. wait: keep trying so long while nobody answers."""
    return Wadi(url, token, key_file, cert_dir, name, timeout, wait)


class _Handle:
    """One connection of the library, and the lock that lets threads share it."""

    def __init__(self, url, token, key_file, cert_dir, name, timeout, wait):
        opts = _lib.ConnectOpts(c.sizeof(_lib.ConnectOpts), _text(token), _text(key_file),
                                _text(name), _ms(timeout), _ms(wait),
                                _lib.CONNECT_WAIT if wait else 0, _text(cert_dir))
        handle, why = c.c_void_p(), _lib.Note()
        rc = lib.wadi_connect(_text(url), c.byref(opts), c.byref(handle), c.byref(why))
        if rc < 0:
            raise_code(rc, why.text.decode(errors="replace"))
        self._handle, self._lock, self._pid = handle, threading.RLock(), os.getpid()
        self._views = 0
        self._closing = False

    def call(self, function, *arguments):
        """Calls with the handle in front; raises when the result is a code."""
        with self._lock:
            self._check()
            rc = function(self._handle, *arguments)
            if rc < 0:
                raise_code(rc, lib.wadi_error(self._handle).decode(errors="replace"))
            return rc

    def on(self, function, thing, *arguments):
        """Calls with something made from the handle in front."""
        with self._lock:
            self._check()
            rc = function(thing, *arguments)
            if rc is not None and isinstance(rc, int) and rc < 0:
                raise_code(rc, lib.wadi_error(self._handle).decode(errors="replace"))
            return rc

    def _check(self):
        if self._handle is None:
            raise ValueError("the connection is closed")
        if self._pid != os.getpid():
            raise ValueError("a connection does not survive a fork: connect again in the child")

    def view_opened(self):
        self._views += 1

    def view_closed(self, view):
        with self._lock:
            if self._handle is None or self._pid != os.getpid():
                return
            lib.wadi_view_close(view)
            self._views -= 1
            if self._closing and self._views == 0:
                self._close()

    def _close(self):
        lib.wadi_close(self._handle)
        self._handle = None

    def close(self):
        """Now, or when the last view of this connection is released."""
        with self._lock:
            if self._handle is None or self._pid != os.getpid():
                return
            self._closing = True
            if self._views == 0:
                self._close()

    @property
    def job_id(self):
        with self._lock:
            self._check()
            return lib.wadi_job_id(self._handle)


class View:
    """An object's bytes in place: shared with the storage server on this host, nothing copied,
    where that is possible. Has the buffer protocol through .data; with several parts (objects of
    several extents) .data joins them, which copies, and .parts does not."""

    def __init__(self, handle, view):
        self._handle, self._view = handle, view
        handle.view_opened()
        n = c.c_size_t()
        parts = lib.wadi_view_parts(view, c.byref(n))
        self.parts = tuple(self._memory(parts[i]) for i in range(n.value))
        info = _lib.Info()
        lib.wadi_view_info(view, c.byref(info))
        self.info, self.shared = _info(info), bool(lib.wadi_view_shared(view))
        self._joined = None

    def _memory(self, part):
        # The memoryview keeps its exporter alive, and the exporter keeps us.
        kind = type("Held", (c.c_ubyte * part.len,), {})
        held = kind.from_address(part.data) if part.len else kind()
        held.view = self._anchor()
        return memoryview(held).cast("B").toreadonly()

    def _anchor(self):
        anchor = getattr(self, "_anchored", None)
        if anchor is None:
            anchor = self._anchored = _Anchor(self._handle, self._view)
        return anchor

    @property
    def data(self):
        """A read-only memoryview of the whole."""
        self._check()
        if len(self.parts) == 1:
            return self.parts[0]
        if self._joined is None:
            self._joined = memoryview(b"".join(self.parts))
        return self._joined

    def _check(self):
        if self.parts is None:
            raise ValueError("the view is released")

    def valid(self):
        """False once the server that shares the bytes went away."""
        self._check()
        try:
            self._handle.on(lib.wadi_view_check, self._view)
        except Error:
            return False
        return True

    def __len__(self):
        self._check()
        return sum(len(p) for p in self.parts)

    def __bytes__(self):
        self._check()
        return b"".join(self.parts)

    def release(self):
        """Gives the room back, at the latest when no slice of .data is left."""
        self.parts = self._joined = self._anchored = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()


class _Anchor:
    """Closes the library's view when the last memoryview of it has gone."""

    def __init__(self, handle, view):
        self._handle, self._view = handle, view

    def __del__(self):
        self._handle.view_closed(self._view)


class Bucket:
    """The objects of one bucket."""

    def __init__(self, handle, name):
        self._handle, self.name = handle, name
        self._name = name.encode()

    def __repr__(self):
        return "<wadi.Bucket %s>" % (self.name or "of the job")

    def put(self, key, data, *, persist=False, durable=False, delete_on_read=False,
            if_absent=False, if_version=None, ttl=None, timeout=None):
        """Stores anything with the buffer protocol, without a copy of its own."""
        flags = (_lib.PUT_PERSIST * persist | _lib.PUT_DURABLE * durable
                 | _lib.PUT_DELETE_ON_READ * delete_on_read | _lib.PUT_IF_ABSENT * if_absent
                 | _lib.PUT_IF_VERSION * (if_version is not None))
        opts = _lib.PutOpts(c.sizeof(_lib.PutOpts), flags, _ms(timeout), if_version or 0, _ms(ttl))
        info = _lib.Info()
        with _lib.Borrowed(data) as d:
            self._handle.call(lib.wadi_put, self._name, key.encode(), d.address, d.len,
                              c.byref(opts), c.byref(info))
        return _info(info)

    def _get_opts(self, delete, wait, offset, length, timeout):
        return _lib.GetOpts(c.sizeof(_lib.GetOpts), _lib.GET_DELETE * delete, _ms(timeout), offset,
                            length or 0, _ms(wait))

    def get(self, key, *, delete=False, wait=None, offset=0, length=None, timeout=None):
        """The bytes. wait: so many seconds for the object to appear. delete: once they are here."""
        if length == 0:
            return b""
        with self.view(key, delete=delete, wait=wait, offset=offset, length=length,
                       timeout=timeout) as v:
            return bytes(v)

    def view(self, key, *, delete=False, wait=None, offset=0, length=None, timeout=None):
        """The bytes in place: a View, to be released."""
        opts, view = self._get_opts(delete, wait, offset, length, timeout), c.c_void_p()
        self._handle.call(lib.wadi_get_view, self._name, key.encode(), c.byref(opts),
                          c.byref(view))
        return View(self._handle, view)

    def get_into(self, key, buffer, *, delete=False, wait=None, offset=0, length=None,
                 timeout=None):
        """Into a writable buffer; how many bytes."""
        opts = self._get_opts(delete, wait, offset, length, timeout)
        n, info = c.c_size_t(), _lib.Info()
        if memoryview(buffer).readonly:
            raise TypeError("the buffer cannot be written")
        with _lib.Borrowed(buffer) as b:
            self._handle.call(lib.wadi_get, self._name, key.encode(), b.address, b.len,
                              c.byref(opts), c.byref(n), c.byref(info))
        return n.value

    def wait(self, key, timeout):
        """Until the object exists; what is known about it. Timeout otherwise."""
        opts = self._get_opts(False, timeout, (1 << 64) - 1, None, None)
        n, info = c.c_size_t(), _lib.Info()
        self._handle.call(lib.wadi_get, self._name, key.encode(), None, 0, c.byref(opts),
                          c.byref(n), c.byref(info))
        return _info(info)

    def put_many(self, items, *, persist=False, delete_on_read=False, timeout=None):
        """Pairs of key and data, whose requests travel together."""
        pairs = [(key.encode(), _lib.Borrowed(data)) for key, data in dict(items).items()]
        opts = _lib.PutOpts(c.sizeof(_lib.PutOpts), _lib.PUT_PERSIST * persist
                            | _lib.PUT_DELETE_ON_READ * delete_on_read, _ms(timeout), 0, 0)
        array = (_lib.Item * len(pairs))()
        try:
            for item, (key, data) in zip(array, pairs):
                item.bucket, item.key, item.data, item.len = (self._name, key, data.address,
                                                              data.len)
            self._handle.call(lib.wadi_put_many, array, len(pairs), c.byref(opts))
        finally:
            for _, data in pairs:
                data.__exit__()

    def stat(self, key):
        info = _lib.Info()
        self._handle.call(lib.wadi_stat, self._name, key.encode(), None, c.byref(info))
        return _info(info)

    def delete(self, key, *, missing_ok=False, if_version=None):
        opts = _lib.Opts(c.sizeof(_lib.Opts), _lib.PUT_IF_VERSION * (if_version is not None), 0,
                         if_version or 0, 0)
        try:
            self._handle.call(lib.wadi_delete, self._name, key.encode(), c.byref(opts))
        except NotFound:
            if not missing_ok:
                raise

    def rename(self, key, to, *, if_absent=False):
        opts = _lib.Opts(c.sizeof(_lib.Opts), _lib.PUT_IF_ABSENT * if_absent, 0, 0, 0)
        self._handle.call(lib.wadi_rename, self._name, key.encode(), self._name, to.encode(),
                          c.byref(opts))

    def persist(self, key, *, ttl=None):
        """The object outlives its job."""
        opts = _lib.Opts(c.sizeof(_lib.Opts), 0, 0, 0, _ms(ttl))
        self._handle.call(lib.wadi_persist, self._name, key.encode(), c.byref(opts))

    def list(self, prefix="", *, delimiter=None, after=None):
        """Entries in byte order of their names, fetched page by page."""
        opts = _lib.ListOpts(c.sizeof(_lib.ListOpts), prefix.encode(), _text(after),
                             (delimiter or "\0").encode(), 0, 0)
        listing, e = c.c_void_p(), _lib.Entry()
        self._handle.call(lib.wadi_list_open, self._name, c.byref(opts), c.byref(listing))
        try:
            while self._handle.on(lib.wadi_list_next, listing, c.byref(e)) > 0:
                yield Entry(e.name.decode(errors="surrogateescape"), e.size, e.version,
                            e.mtime_ms / 1000, _KINDS[e.kind])
        finally:
            lib.wadi_list_close(listing)

    def __contains__(self, key):
        try:
            self.stat(key)
        except NotFound:
            return False
        return True


class Wadi:
    """A connection; see connect()."""

    def __init__(self, url, token, key_file, cert_dir, name, timeout, wait):
        self._how = (url, key_file, cert_dir, name, timeout, wait)
        self._handle = _Handle(url, token, key_file, cert_dir, name, timeout, wait)

    def close(self):
        self._handle.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def job_id(self):
        """The job that this connection acts for, or None."""
        return self._handle.job_id or None

    @property
    def own(self):
        """The own bucket of the job that this connection acts for."""
        return Bucket(self._handle, "")

    def bucket(self, name):
        """A bucket that is there: the job's, or without a job one that belongs to none;
        "17:results" and "17:" are the bucket results of job 17 and its own."""
        return Bucket(self._handle, name)

    def create_bucket(self, name, *, kind="flat", lifetime="default", ttl=None, tiers=(), quota=0,
                      exists_ok=False, copies=0):
        """copies: on how many storage servers its objects are, so that they survive any but the
        last of them."""
        opts = _lib.BucketOpts(c.sizeof(_lib.BucketOpts), _index(_BUCKET_KINDS, kind, "kind"),
                               _index(_LIFETIMES, lifetime, "lifetime"), _bits(tiers), exists_ok,
                               _ms(ttl), quota, 0, copies)
        self._handle.call(lib.wadi_bucket_create, name.encode(), c.byref(opts), None)
        return Bucket(self._handle, name)

    def drop_bucket(self, name):
        """With everything in it."""
        self._handle.call(lib.wadi_bucket_drop, name.encode())

    def buckets(self):
        """Names of the buckets that this connection may see."""
        cursor, n, page = c.c_uint64(), c.c_size_t(), (_lib.BucketInfo * _PAGE)()
        while True:
            self._handle.call(lib.wadi_bucket_list, c.byref(cursor), page, _PAGE, c.byref(n))
            for i in range(n.value):
                yield page[i].name.decode(errors="surrogateescape")
            if cursor.value == 0:
                return

    def job(self, name="python", **hints):
        """Registers a job; hints are those of Job. As a context it ends the job."""
        return Job(self, name, **hints)


class Job(Bucket):
    """A job, and the objects of its own bucket. Ended by end(), or at the end of its context: then
    everything that is not persistent is freed."""

    def __init__(self, w, name, *, latency="any", workers=0, capacity=0, bandwidth=0, quota=0,
                 lease=None, tiers=()):
        hints = _lib.JobHints(c.sizeof(_lib.JobHints), _index(_LATENCIES, latency, "latency"),
                              workers, capacity, bandwidth, quota, _ms(lease), _bits(tiers), 0)
        job = _lib.Job()
        w._handle.call(lib.wadi_job_register, name.encode(), c.byref(hints), c.byref(job))
        self._parent, self.id, self.token = w, job.id, job.token.decode()
        self.lease, self.tiers = job.lease_ms / 1000, _names(job.tiers)
        url, key_file, cert_dir, _, timeout, wait = w._how
        self._url = url
        try:
            super().__init__(_Handle(url, self.token, key_file, cert_dir, name,
                                     timeout, wait), "")
        except BaseException:
            w._handle.call(lib.wadi_job_end, self.id, None)
            raise

    def __repr__(self):
        return "<wadi.Job %d>" % self.id

    def bucket(self, name):
        return Bucket(self._handle, name)

    def create_bucket(self, name, **policy):
        """A bucket that ends with the job."""
        return Wadi.create_bucket(self, name, **policy)

    def environment(self):
        """For processes that shall act for the job: what wadi job run would give them."""
        env = dict(os.environ, WADI_JOB_ID=str(self.id), WADI_JOB_TOKEN=self.token)
        if self._url is not None:
            env["WADI_URL"] = self._url
        return env

    def renew(self):
        self._handle.call(lib.wadi_job_renew, self.id)

    def bill(self):
        """What the job used so far, tier by tier."""
        bill = _lib.Bill()
        self._parent._handle.call(lib.wadi_job_bill, self.id, c.byref(bill))
        return {_TIERS[line.tier]: {
            "byte_seconds": line.byte_seconds, "peak_bytes": line.peak_bytes,
            "written_bytes": line.written_bytes, "read_bytes": line.read_bytes,
            "writes": line.writes, "reads": line.reads}
            for line in bill.lines[:bill.n_lines] if line.tier < len(_TIERS)}

    def end(self):
        """Frees everything that is not persistent; the room can be used again. The freed bytes."""
        end = _lib.JobEnd()
        self._handle.close()
        self._parent._handle.call(lib.wadi_job_end, self.id, c.byref(end))
        return end.bytes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
