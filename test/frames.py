# SPDX-License-Identifier: Apache-2.0
"""Frames by hand, from the tables in src/wire: what a client that breaks the rules would send."""
import os
import random
import re
import socket
import struct

WIRE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "wire")
MAGIC, HEADER, REPLY, PLAIN = 0x49444157, struct.Struct("<IIIHHQII"), 1, 1 << 63
BODY_MAX, DATA_MAX = 1 << 20, 16 << 20
ROLE_CLIENT, ROLE_STORE = 1, 3
NUMBERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q"}
ROW = re.compile(r"^(?:\t)?(MSG|SUB|END|END_SUB|F|B|S|L)\(([^)]*)\)", re.M)


def tables():
    """{name: (op, fields)} and {op: name}; a field is (kind, name, type of a number or part)."""
    messages, ops = {}, {}
    for source in ("common", "meta", "store", "control", "replica", "cluster"):
        with open(os.path.join(WIRE, source + ".def")) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for what, arguments in ROW.findall(text):
            a = [x.strip() for x in arguments.split(",")]
            if what in ("MSG", "SUB"):
                fields = []
                messages[a[0]] = (int(a[1]) if what == "MSG" else None, fields)
                if what == "MSG":
                    ops[int(a[1])] = a[0]
            elif what == "F":
                fields.append(("F", a[1], a[0], int(a[-1])))
            elif what in "BS":
                fields.append(("B", a[0], None, int(a[-1])))
            elif what == "L":
                fields.append(("L", a[1], a[0], int(a[-1])))
    return messages, ops


MESSAGES, OPS = tables()
ERRORS = {}
with open(os.path.join(WIRE, "..", "base", "err.def")) as err_def:
    ERRORS = {int(v): n for n, v in re.findall(r"^ERR\((\w+),\s*(\d+)", err_def.read(), re.M)}

CRC = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82f63b78 if i & 1 else 0)
    CRC.append(i)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


def encode(name, values):
    """As version 1 speaks, which all of this is written in."""
    out = b""
    for kind, field, of, since in MESSAGES[name][1]:
        if since > 1:
            continue
        value = values.get(field, 0 if kind == "F" else b"" if kind == "B" else [])
        if kind == "F":
            out += struct.pack(NUMBERS[of], value)
        elif kind == "B":
            out += struct.pack("<I", len(value)) + value
        else:
            parts = b"".join(encode(of, part) for part in value)
            out += struct.pack("<II", len(value), len(parts)) + parts
    return out


def decode(name, body, at=0, version=1):
    """(values, where they end)"""
    values = {}
    for kind, field, of, since in MESSAGES[name][1]:
        if since > version:
            continue
        if kind == "F":
            values[field], = struct.unpack_from(NUMBERS[of], body, at)
            at += struct.calcsize(NUMBERS[of])
        elif kind == "B":
            n, = struct.unpack_from("<I", body, at)
            values[field] = body[at + 4:at + 4 + n]
            at += 4 + n
        else:
            n, _ = struct.unpack_from("<II", body, at)
            at += 8
            values[field] = []
            for _ in range(n):
                part, at = decode(of, body, at, version)
                values[field].append(part)
    return values, at


def frame(name, values=None, data=b"", cookie=PLAIN | 1, **header):
    """Header fields may be given to be wrong: magic, body, data_len, op, version, flags, crc."""
    body = encode(name, values or {})
    f = {"magic": MAGIC, "body": len(body), "data_len": len(data), "op": MESSAGES[name][0],
         "version": 1, "flags": 0, **header}
    head = HEADER.pack(f["magic"], f["body"], f["data_len"], f["op"], f["version"], cookie,
                       f["flags"], 0)[:28]
    covered = head + body + (data if len(data) <= 4096 else b"")
    return head + struct.pack("<I", f.get("crc", crc32c(covered))) + body + data


class Ended(Exception):
    """The other side closed the connection."""


class Refused(Exception):
    def __init__(self, code, note):
        super().__init__(f"{code} {note}")
        self.code, self.note = code, note


class Wire:
    """A connection without a library behind it."""

    def __init__(self, where, seconds=15):
        """where: a path, or (host, port)"""
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(seconds)
        self.socket.connect(where)
        self.cookie = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """False when the other side has closed already."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError):
            return False
        return True

    def bytes(self, n):
        got = b""
        while len(got) < n:
            try:
                piece = self.socket.recv(min(n - len(got), 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Ended(got)
            got += piece
        return got

    def frame(self):
        """(name, values, data, cookie) of the next one."""
        magic, body, data, op, version, cookie, _, _ = HEADER.unpack(self.bytes(HEADER.size))
        assert magic == MAGIC and body <= BODY_MAX and data <= DATA_MAX
        rest = self.bytes(body + data)
        values, _ = decode(OPS[op], rest[:body], version=version)
        return OPS[op], values, rest[body:], cookie

    def until_closed(self):
        """What came before: the codes of errors."""
        codes = []
        while True:
            try:
                name, values, _, _ = self.frame()
            except Ended:
                return codes
            if name == "error":
                codes.append(ERRORS[values["code"]])

    def hello(self, token=b"", role=ROLE_CLIENT, client=None):
        hi = lo = random.getrandbits(64) if client is None else client
        return self.ask("hello", {"version": 1, "role": role, "client_hi": hi, "client_lo": lo,
                                  "token": token, "name": b"by hand"}, cookie=0)

    def ask(self, name, values=None, data=b"", cookie=None, numbered=False):
        """The fields of the answer (and "data"); raises Refused."""
        if cookie is None:
            self.cookie += 1
            cookie = self.cookie if numbered else PLAIN | self.cookie
        self.send(frame(name, values, data, cookie))
        while True:
            what, answer, answer_data, its = self.frame()
            if its == cookie or (what == "error" and its == 0):
                break
        if what == "error":
            raise Refused(ERRORS[answer["code"]], answer["note"].decode())
        return {**answer, "data": answer_data}

    def refused(self, *ask, **how):
        """The Refused that the request ends with."""
        try:
            answer = self.ask(*ask, **how)
        except Refused as refused:
            return refused
        raise AssertionError(f"{ask}: {str(answer)[:200]}, but it cannot be")
