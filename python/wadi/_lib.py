# SPDX-License-Identifier: Apache-2.0
"""libwadi through ctypes: the structs and functions of wadi.h, nothing else."""
import ctypes as c
import ctypes.util
import os
import sysconfig

u32, u64 = c.c_uint32, c.c_uint64


class Note(c.Structure):
    _fields_ = [("text", c.c_char * 256)]


class ConnectOpts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("token", c.c_char_p), ("key_file", c.c_char_p),
                ("name", c.c_char_p), ("timeout_ms", u32), ("connect_ms", u32), ("flags", u32),
                ("cert_dir", c.c_char_p)]


class Info(c.Structure):
    _fields_ = [("version", u64), ("size", u64), ("mtime_ms", u64), ("ctime_ms", u64),
                ("expires_ms", u64), ("inode", u64), ("flags", u32), ("tiers", u32),
                ("reserved", u64 * 4)]


class PutOpts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("flags", u32), ("timeout_ms", u32), ("if_version", u64),
                ("ttl_ms", u64), ("expect_bytes", u64)]


class GetOpts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("flags", u32), ("timeout_ms", u32), ("offset", u64),
                ("len", u64), ("wait_ms", u32)]


class Part(c.Structure):
    _fields_ = [("data", c.c_void_p), ("len", c.c_size_t)]


class Item(c.Structure):
    _fields_ = [("bucket", c.c_char_p), ("key", c.c_char_p), ("data", c.c_void_p),
                ("len", c.c_size_t), ("result", c.c_int), ("reserved", u32), ("info", Info)]


class Opts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("flags", u32), ("timeout_ms", u32), ("if_version", u64),
                ("ttl_ms", u64)]


class Entry(c.Structure):
    _fields_ = [("name", c.c_char_p), ("size", u64), ("version", u64), ("mtime_ms", u64),
                ("kind", u32), ("reserved", u32)]


class ListOpts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("prefix", c.c_char_p), ("after", c.c_char_p),
                ("delimiter", c.c_char), ("max", u32), ("timeout_ms", u32)]


class BucketOpts(c.Structure):
    _fields_ = [("size", c.c_size_t), ("kind", u32), ("lifetime", u32), ("tiers", u32),
                ("exists_ok", u32), ("ttl_ms", u64), ("quota_bytes", u64), ("timeout_ms", u32),
                ("copies", u32)]


class BucketInfo(c.Structure):
    _fields_ = [("name", c.c_char * 256), ("id", u64), ("job", u64), ("kind", u32),
                ("lifetime", u32), ("tiers", u32), ("protection", u32), ("ttl_ms", u64),
                ("quota_bytes", u64), ("files", u64), ("used_bytes", u64), ("copies", u32),
                ("reserved_1", u32), ("reserved", u64 * 3)]


class JobHints(c.Structure):
    _fields_ = [("size", c.c_size_t), ("latency", u32), ("workers", u32), ("capacity_bytes", u64),
                ("bandwidth_bps", u64), ("quota_bytes", u64), ("lease_ms", u64), ("tiers", u32),
                ("timeout_ms", u32)]


class Job(c.Structure):
    _fields_ = [("id", u64), ("lease_ms", u64), ("tiers", u32), ("token", c.c_char * 132),
                ("reserved", u64 * 4)]


class JobEnd(c.Structure):
    _fields_ = [("files", u64), ("bytes", u64), ("kept_files", u64), ("kept_bytes", u64),
                ("reserved", u64 * 4)]


class JobInfo(c.Structure):
    _fields_ = [("name", c.c_char * 256), ("id", u64), ("state", u32), ("latency", u32),
                ("tiers", u32), ("workers", u32), ("connections", u32), ("reserved_1", u32),
                ("capacity_bytes", u64), ("bandwidth_bps", u64), ("quota_bytes", u64),
                ("lease_ms", u64), ("lease_left_ms", u64), ("started_ms", u64), ("ended_ms", u64),
                ("files", u64), ("used_bytes", u64), ("reserved", u64 * 4)]


class BillLine(c.Structure):
    _fields_ = [("tier", u32), ("reserved_1", u32), ("byte_seconds", c.c_double),
                ("peak_bytes", u64), ("written_bytes", u64), ("read_bytes", u64), ("writes", u64),
                ("reads", u64), ("reserved", u64 * 2)]


class Bill(c.Structure):
    _fields_ = [("job", JobInfo), ("n_lines", u32), ("reserved_1", u32), ("lines", BillLine * 8)]


# Structs by their name in wadi.h: the test of their layout goes through this list.
STRUCTS = {"wadi_note": Note, "wadi_connect_opts": ConnectOpts, "wadi_info": Info,
           "wadi_put_opts": PutOpts, "wadi_get_opts": GetOpts, "wadi_part": Part,
           "wadi_item": Item, "wadi_opts": Opts, "wadi_entry": Entry, "wadi_list_opts": ListOpts,
           "wadi_bucket_opts": BucketOpts, "wadi_bucket_info": BucketInfo,
           "wadi_job_hints": JobHints, "wadi_job": Job, "wadi_job_end": JobEnd,
           "wadi_job_info": JobInfo, "wadi_bill_line": BillLine, "wadi_bill": Bill}

PUT_IF_ABSENT, PUT_IF_VERSION, PUT_PERSIST, PUT_DELETE_ON_READ, PUT_DURABLE = 1, 2, 4, 8, 16
GET_DELETE = 1
CONNECT_WAIT = 1
JOBS_ENDED = 1

_p = c.c_void_p
_s = c.c_char_p
_POINTER = c.POINTER

# name: (result, arguments); results that are codes are checked by the callers
_FUNCTIONS = {
    "wadi_version": (_s, []),
    "wadi_strerror": (_s, [c.c_int]),
    "wadi_error_name": (_s, [c.c_int]),
    "wadi_connect": (c.c_int, [_s, _POINTER(ConnectOpts), _POINTER(_p), _POINTER(Note)]),
    "wadi_close": (None, [_p]),
    "wadi_error": (_s, [_p]),
    "wadi_job_id": (u64, [_p]),
    "wadi_round_trips": (None, [_p, _POINTER(u64), _POINTER(u64)]),
    "wadi_put": (c.c_int, [_p, _s, _s, _p, c.c_size_t, _POINTER(PutOpts), _POINTER(Info)]),
    "wadi_get": (c.c_int, [_p, _s, _s, _p, c.c_size_t, _POINTER(GetOpts), _POINTER(c.c_size_t),
                           _POINTER(Info)]),
    "wadi_get_view": (c.c_int, [_p, _s, _s, _POINTER(GetOpts), _POINTER(_p)]),
    "wadi_view_len": (u64, [_p]),
    "wadi_view_parts": (_POINTER(Part), [_p, _POINTER(c.c_size_t)]),
    "wadi_view_shared": (c.c_int, [_p]),
    "wadi_view_check": (c.c_int, [_p]),
    "wadi_view_info": (None, [_p, _POINTER(Info)]),
    "wadi_view_close": (None, [_p]),
    "wadi_put_many": (c.c_int, [_p, _POINTER(Item), c.c_size_t, _POINTER(PutOpts)]),
    "wadi_stat": (c.c_int, [_p, _s, _s, _POINTER(Opts), _POINTER(Info)]),
    "wadi_delete": (c.c_int, [_p, _s, _s, _POINTER(Opts)]),
    "wadi_rename": (c.c_int, [_p, _s, _s, _s, _s, _POINTER(Opts)]),
    "wadi_persist": (c.c_int, [_p, _s, _s, _POINTER(Opts)]),
    "wadi_list_open": (c.c_int, [_p, _s, _POINTER(ListOpts), _POINTER(_p)]),
    "wadi_list_next": (c.c_int, [_p, _POINTER(Entry)]),
    "wadi_list_close": (None, [_p]),
    "wadi_bucket_create": (c.c_int, [_p, _s, _POINTER(BucketOpts), _POINTER(BucketInfo)]),
    "wadi_bucket_stat": (c.c_int, [_p, _s, _POINTER(BucketInfo)]),
    "wadi_bucket_drop": (c.c_int, [_p, _s]),
    "wadi_bucket_list": (c.c_int, [_p, _POINTER(u64), _POINTER(BucketInfo), c.c_size_t,
                                   _POINTER(c.c_size_t)]),
    "wadi_job_register": (c.c_int, [_p, _s, _POINTER(JobHints), _POINTER(Job)]),
    "wadi_job_end": (c.c_int, [_p, u64, _POINTER(JobEnd)]),
    "wadi_job_renew": (c.c_int, [_p, u64]),
    "wadi_job_list": (c.c_int, [_p, u32, _POINTER(u64), _POINTER(JobInfo), c.c_size_t,
                                _POINTER(c.c_size_t)]),
    "wadi_job_bill": (c.c_int, [_p, u64, _POINTER(Bill)]),
}


def _candidates():
    """WADI_LIB, then beside the package, then below the same prefix, then what the system finds."""
    if os.environ.get("WADI_LIB"):
        yield os.environ["WADI_LIB"]
        return
    here = os.path.dirname(os.path.abspath(__file__))
    yield os.path.join(here, "libwadi.so.0")
    prefix, below, _ = here.rpartition("/lib/python")
    if below:
        for folder in ("lib", "lib/" + (sysconfig.get_config_var("MULTIARCH") or ""), "lib64"):
            yield os.path.join(prefix, folder, "libwadi.so.0")
    yield "libwadi.so.0"
    found = ctypes.util.find_library("wadi")
    if found:
        yield found


def _load():
    tried = []
    for name in _candidates():
        if os.sep in name and not os.path.exists(name):
            tried.append(name)
            continue
        try:
            return c.CDLL(name)
        except OSError as e:
            tried.append("%s (%s)" % (name, e))
    raise ImportError("libwadi is not found; WADI_LIB may say where it is. Tried: "
                      + ", ".join(tried))


lib = _load()
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function = getattr(lib, _name)
    _function.restype, _function.argtypes = _result, _arguments


class _Buffer(c.Structure):
    """Py_buffer of the stable ABI, to reach the memory of read-only objects without a copy."""
    _fields_ = [("buf", _p), ("obj", c.py_object), ("len", c.c_ssize_t), ("itemsize", c.c_ssize_t),
                ("readonly", c.c_int), ("ndim", c.c_int), ("format", _s), ("shape", _p),
                ("strides", _p), ("suboffsets", _p), ("internal", _p)]


_get_buffer = c.pythonapi.PyObject_GetBuffer
_get_buffer.restype, _get_buffer.argtypes = c.c_int, [c.py_object, _POINTER(_Buffer), c.c_int]
_release_buffer = c.pythonapi.PyBuffer_Release
_release_buffer.restype, _release_buffer.argtypes = None, [_POINTER(_Buffer)]


class Borrowed:
    """The memory of an object with the buffer protocol, for as long as the context lasts."""

    def __init__(self, data):
        self._view = _Buffer()
        _get_buffer(data, c.byref(self._view), 0)  # PyBUF_SIMPLE; raises what data raises
        self.address, self.len = self._view.buf, self._view.len

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _release_buffer(c.byref(self._view))
