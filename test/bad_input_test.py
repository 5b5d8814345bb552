#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, by whatever port: a clear error to the one who sent it, in time, nothing to
anybody else, and the server alive afterwards.

A witness, a client with a job of its own, works on through each class of these tests: none of its
requests may fail or take long (where everything is filled up, it finds no room either)."""
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
import time

from frames import (BODY_MAX, DATA_MAX, HEADER, MESSAGES, OPS, PLAIN, REPLY, ROLE_STORE, Ended,
                    Refused, Wire, crc32c, encode, frame)
from house import (DELETE_ON_READ, DRAM, FLASH, LIFETIME_PERSIST, PATIENCE, Failed, HouseTest,
                   SharedHouseTest, run, until)
from kill_test import Ledger

KIB, MIB = 1 << 10, 1 << 20
PORTS = ("meta_unix", "meta_tcp", "store_unix", "store_tcp")


class Witnessed(SharedHouseTest):
    """A server with every port, and the witness at work."""
    OPTIONS = {}
    GOOD = ("ok", "NOTFOUND")  # what the witness may be told

    @classmethod
    def furnish(cls):
        cls.server = cls.house.serve("--listen", "127.0.0.1:0", **cls.OPTIONS)
        addr = cls.house.status()["servers"][0]["addr"].split(":")
        cls.ports = {"meta_unix": cls.server.socket, "meta_tcp": cls.server.tcp,
                     "store_unix": os.path.join(cls.server.data, "run", "store"),
                     "store_tcp": (addr[1], int(addr[2]))}
        with open(os.path.join(cls.server.data, "key"), "rb") as f:
            cls.key = f.read().strip()
        cls.admin = cls.house.client()
        cls.witness_job, token = cls.house.job(cls.admin, "witness")
        cls.witness = cls.house.client(token=token)
        cls.witness("bucket", "memory", f"tiers={DRAM}")
        cls.witness("bucket", "kept", f"lifetime={LIFETIME_PERSIST}")
        cls.history = os.path.join(cls.house.folder, "witness")
        cls.witness("history", cls.history)
        cls.witness.tell("traffic", "w", 1, "memory", "kept")

    @classmethod
    def tearDownClass(cls):
        cls.witness.tell("")
        cls.witness.hear()
        ledger, slowest, bad, began = Ledger(cls.history), 0, [], 0
        with open(cls.history) as lines:
            for line in lines:
                at, what, *words = line.split()
                if what == "begin":
                    began = float(at)
                else:
                    slowest = max(slowest, float(at) - began)
                    bad += [line] if words[0] not in cls.GOOD else []
        cls.server_lives()
        said = cls.server.said()
        if ledger.wrong or bad or ledger.ops < 20 or slowest > 8 * PATIENCE:
            raise AssertionError(f"the witness: {ledger.wrong} {bad}, {ledger.ops} operations, "
                                 f"the slowest took {slowest:.1f} s\n{said[-2000:]}")

    @classmethod
    def server_lives(cls):
        if not cls.server.alive():
            raise AssertionError("the server died:\n" + cls.server.said())

    def tearDown(self):
        self.server_lives()

    def wire(self, port="meta_unix", hello=True, token=None, **how):
        wire = Wire(self.ports[port], 15 * PATIENCE)
        self.addCleanup(wire.close)
        if hello:
            wire.hello(self.key if token is None and port == "meta_tcp" else token or b"", **how)
        return wire

    def bucket(self, wire, name=None, **fields):
        name = name or self.id().rsplit(".", 1)[1].encode()
        return wire.ask("bucket_create", {"name": name, "exists_ok": 1, **fields},
                        numbered=True)["bucket"][0]["bucket"]


class Frames(Witnessed):
    """At each port, with the hello behind and without."""

    def ends(self, port, data, hello=True, codes=(["CORRUPT"],), shut=True):
        """The connection is closed, after an error that says why, within the deadline."""
        wire = self.wire(port, hello)
        wire.send(data)
        if shut:
            wire.socket.shutdown(1)
        self.assertIn(wire.until_closed(), list(codes), (port, data[:64]))

    def test_garbage(self):
        chance = random.Random(1)
        for port in PORTS:
            for size in 32, 33, 1000, 100000:
                for hello in True, False:
                    self.ends(port, chance.randbytes(size), hello)
            self.ends(port, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 2, False)
            self.ends(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), False)

    def test_headers_that_lie(self):
        for port in PORTS:
            for wrong in ({"magic": 0x49444158}, {"version": 0}, {"flags": 0x80}, {"crc": 1},
                          {"body": BODY_MAX + 1}, {"body": 0xffffffff},
                          {"data_len": DATA_MAX + 1}, {"data_len": 0xffffffff}):
                self.ends(port, frame("ping", **wrong))
                self.ends(port, frame("hello", {"version": 1}, cookie=0, **wrong), False)

    def test_one_bit_more(self):
        """Any flipped bit of a request: refused, or another request that is answered."""
        chance = random.Random(2)
        good = frame("stat", {"bucket": 7, "name": b"some name"})
        for port in PORTS:
            for at in range(HEADER.size * 8) if port == "meta_unix" else range(0, 256, 7):
                bad = bytearray(good)
                bad[at // 8] ^= 1 << at % 8
                self.ends(port, bytes(bad), codes=(["CORRUPT"], [], ["UNSUPPORTED"]))
            for _ in range(20):
                bad = bytearray(good)
                bad[chance.randrange(HEADER.size, len(bad))] ^= 1 << chance.randrange(8)
                self.ends(port, bytes(bad))

    def test_truncated(self):
        """A frame that stops anywhere, and then the connection does."""
        whole = frame("put", {"bucket": 7, "name": b"name"}, b"some data")
        for port in PORTS:
            for n in range(0, len(whole), 5):
                self.ends(port, whole[:n], codes=([],))
        for name, (op, _) in MESSAGES.items():
            if op is None:
                continue
            body = encode(name, {})
            for n in {0, len(body) // 2, max(0, len(body) - 1)}:
                head = HEADER.pack(0x49444157, n, 0, op, 1, PLAIN | 9, 0, 0)[:28]
                cut = head + struct.pack("<I", crc32c(head + body[:n])) + body[:n]
                for port in "meta_unix", "store_unix":
                    wire = self.wire(port)
                    wire.send(cut)
                    wire.socket.shutdown(1)
                    for code in wire.until_closed():
                        self.assertIn(code, ("CORRUPT", "UNSUPPORTED", "DENIED", "INVALID",
                                             "NOTFOUND", "STALE", "GONE", "BUSY"), (name, n))

    def test_before_hello(self):
        for port in PORTS:
            self.ends(port, frame("ping"), False)
            self.ends(port, frame("status"), False)
            self.ends(port, frame("extent_read", {"len": 10}), False)
            self.ends(port, frame("hello", {"version": 0, "role": 1}, cookie=0), False,
                      codes=(["CORRUPT"], ["UNSUPPORTED"], ["INVALID"]))

    def test_hello_twice(self):
        for port in PORTS:
            self.ends(port, frame("hello", {"version": 1, "role": 1}, cookie=0),
                      codes=(["CORRUPT"], ["UNSUPPORTED"]))

    def test_who_says_nothing_is_let_go(self):
        wires = [self.wire(port, False) for port in PORTS]
        for wire in wires[:2]:
            wire.send(frame("hello", {"version": 1})[:20])
        began = time.monotonic()
        for wire in wires:
            wire.until_closed()
        self.assertLess(time.monotonic() - began, 14 * PATIENCE)

    def test_unknown_messages(self):
        for port in "meta_unix", "store_unix":
            wire = self.wire(port)
            for op in set(range(256)) - set(OPS):
                bad = frame("ping", cookie=PLAIN | op, op=op)
                wire.send(bad)
                name, values, _, cookie = wire.frame()
                self.assertEqual((name, values["code"], cookie), ("error", 19, PLAIN | op))
            self.assertEqual(wire.ask("ping")["data"], b"")

    def test_replies_that_nobody_asked_for(self):
        for port in "meta_unix", "store_unix":
            wire = self.wire(port)
            for cookie in 0, 1, PLAIN | 5:
                wire.send(frame("ok", cookie=cookie, flags=REPLY))
            try:
                self.assertEqual(wire.ask("ping")["data"], b"")
            except (Ended, Refused):
                pass  # cookie 0 is the connection itself

    def test_replayed(self):
        """The same bytes again: within a session the answer of the first time and no second
        effect; on the connection of somebody else what they would get anyway."""
        wire = self.wire(client=77)
        bucket = self.bucket(wire)
        put = frame("put", {"bucket": bucket, "flags": 1, "name": b"once"}, b"bytes", cookie=50)
        answers = []
        for _ in range(3):
            wire.send(put)
            answers.append(wire.frame())
        again = self.wire(client=77)
        again.send(put)
        answers.append(again.frame())
        self.assertEqual([a[0] for a in answers], ["put_ok"] * 4)
        self.assertEqual(len({a[1]["version"] for a in answers}), 1)
        other = self.wire(client=78)
        other.send(put)
        name, values, _, _ = other.frame()
        self.assertEqual((name, values["code"]), ("error", 9))
        stale = frame("put", {"bucket": bucket, "name": b"late"}, b"x", cookie=3)
        for n in range(51, 130):
            wire.ask("put", {"bucket": bucket, "name": b"n"}, b"", cookie=n)
        wire.send(stale)
        name, values, _, _ = wire.frame()
        self.assertEqual((name, values["code"]), ("error", 21))
        self.assertEqual(wire.refused("stat", {"bucket": bucket, "name": b"late"}).code,
                         "NOTFOUND")

    def test_chance(self):
        """Well-formed frames with chance in their fields, a few thousand of them."""
        chance = random.Random(3)

        def value(kind, of, depth=0):
            if kind == "F":
                return chance.choice([0, 1, 2, 7, 255]) if of == "u8" else chance.choice(
                    [0, 1, 2, chance.getrandbits(16), (1 << 8 * {"u16": 2, "u32": 4,
                                                                  "u64": 8}[of]) - 1])
            if kind == "B":
                return chance.randbytes(chance.choice([0, 1, 16, 32, 64]))
            return [] if depth else [{n: value(k, o, 1) for k, n, o, _ in MESSAGES[of][1]}
                                     for _ in range(chance.randrange(3))]
        names = [n for n, (op, _) in MESSAGES.items() if op is not None
                 and not n.endswith("ok") and n not in ("hello", "error", "get")]
        for port in PORTS:
            token = self.house.job(self.admin, "chance")[1].encode()
            wire, answered = self.wire(port, token=token), 0
            for _ in range(500):
                name = chance.choice(names)
                fields = {n: value(k, o) for k, n, o, _ in MESSAGES[name][1]}
                data = chance.randbytes(chance.choice([0, 0, 5, 4096, 5000]))
                try:
                    wire.ask(name, fields, data, numbered=chance.random() < 0.3)
                    answered += 1
                except Refused as refused:
                    self.assertTrue(refused.note, (name, refused.code))
                    answered += 1
                except Ended:
                    try:
                        wire = self.wire(port, token=token)
                    except Refused as refused:  # it ended its own job
                        self.assertEqual(refused.code, "GONE")
                        token = self.house.job(self.admin, "chance")[1].encode()
                        wire = self.wire(port, token=token)
            self.assertGreater(answered, 250)

    def test_many_connections(self):
        """More at once than anybody needs, none of which says anything."""
        wires = [self.wire("meta_unix", False) for _ in range(300)]
        self.assertEqual(self.wire().ask("ping")["data"], b"")
        for wire in wires:
            wire.close()


class Tokens(Witnessed):
    def denied(self, token, port="meta_tcp"):
        refused = None
        wire = Wire(self.ports[port], 15 * PATIENCE)
        try:
            wire.hello(token)
        except Refused as r:
            refused = r
        wire.close()
        self.assertIsNotNone(refused, token)
        return refused

    def test_wrong(self):
        good = self.house.job(self.admin, "good")[1].encode()
        job, epoch, proof = good[1:].split(b".")
        wrong = [b"", b"x", b"j", b"j..", b"\0" * 64, b"f" * 64, self.key[:-1],
                 self.key.upper() if self.key.upper() != self.key else b"A" * 64,
                 b"j" + job + b"." + epoch + b"." + proof[:-1],
                 b"j" + job + b"." + epoch + b"." + b"0" * 32,
                 b"j" + job + b".2." + proof, b"j7777." + epoch + b"." + proof,
                 b"j" + job + b"." + epoch + b"." + proof + b" ", good.upper()]
        for token in wrong:
            self.assertEqual(self.denied(token).code, "DENIED", token)
        for token in wrong[1:]:
            self.assertEqual(self.denied(token, "meta_unix").code, "DENIED", token)
        done = self.house.wadi("ls", env={"WADI_JOB_TOKEN": "j1.1." + "0" * 32})
        self.assertEqual((done.returncode, b"token" in done.stderr), (4, True), done.stderr)

    def test_of_a_job_that_has_ended(self):
        job, token = self.house.job(self.admin, "short")
        client = self.house.client(token=token)
        client("put", "-", "k", 100, 1)
        self.admin("end", job)
        failed = client.fails("get", "-", "k")
        self.assertEqual(failed.name, "GONE")
        self.assertIn("has ended", failed.sentence)
        refused = self.denied(token.encode(), "meta_unix")
        self.assertEqual(refused.code, "GONE")
        self.assertIn("has ended", refused.note)

    def test_of_another_job(self):
        one, token_one = self.house.job(self.admin, "one")
        two, token_two = self.house.job(self.admin, "two")
        wire = self.wire(token=token_one.encode())
        bucket = self.bucket(wire)
        put = wire.ask("put", {"bucket": bucket, "name": b"k"}, b"secret", numbered=True)
        other = self.wire(token=token_two.encode())
        for ask in (("get", {"bucket": bucket, "name": b"k"}),
                    ("get", {"bucket": bucket, "inode": put["inode"]}),
                    ("stat", {"bucket": bucket, "name": b"k"}), ("list", {"bucket": bucket,
                                                                          "max": 10}),
                    ("grant", {"bucket": bucket, "bytes": 1}),
                    ("put", {"bucket": bucket, "name": b"k"}),
                    ("delete", {"bucket": bucket, "name": b"k"}),
                    ("bucket_drop", {"bucket": bucket}),
                    ("bucket_open", {"job": one, "name": b"-"}),
                    ("bucket_create", {"job": one, "name": b"mine"}),
                    ("bucket_list", {"job": one, "max": 10}), ("job_end", {"job": one}),
                    ("job_renew", {"job": one}), ("job_bill", {"job": one}),
                    ("job_register", {"name": b"more"}), ("status", {"job": one})):
            refused = other.refused(*ask, numbered=ask[0] not in (
                "get", "stat", "list", "bucket_open", "bucket_list", "job_bill", "status"))
            self.assertEqual(refused.code, "DENIED", ask)
        self.assertEqual(other.ask("job_list", {"max": 100})["jobs"][0]["job"], two)
        self.assertEqual(wire.ask("get", {"bucket": bucket, "name": b"k"})["data"], b"secret")

    def test_of_a_job_makes_no_storage_server(self):
        _, token = self.house.job(self.admin, "one")
        wire = self.wire(token=token.encode(), role=ROLE_STORE, client=0)
        refused = wire.refused("store_register", {"uuid_hi": 1, "uuid_lo": 2, "incarnation": 3,
                                                  "addr": b"tcp:1.2.3.4:5"})
        self.assertEqual(refused.code, "DENIED")
        self.assertEqual(wire.refused("heartbeat", {"server": 1, "incarnation": 3}).code, "STALE")
        self.house.up(1)

    def test_capabilities(self):
        """Changed in any field, or another's: the storage server gives nothing."""
        number, token = self.house.job(self.admin, "one")
        job = self.house.client(token=token)
        job("put", "-", "k", 100000, 5)
        wire = self.wire(token=token.encode())
        bucket = wire.ask("bucket_list", {"job": number, "max": 9})["buckets"][0]["bucket"]
        got = wire.ask("get", {"bucket": bucket, "name": b"k"})
        place = got["places"][0]
        good = {"egroup": place["egroup"], "extent": place["extent"], "len": 4096,
                **{f: got[f] for f in ("cap_job", "cap_until_ms", "cap")}}
        for port in "store_unix", "store_tcp":
            store = self.wire(port)
            self.assertEqual(len(store.ask("extent_read", good)["data"]), 4096)
            for wrong in ({"cap_job": got["cap_job"] + 1}, {"cap": bytes(44)}, {"cap": b""},
                          {"cap_until_ms": got["cap_until_ms"] + 1},
                          {"cap": got["cap"][:-1] + bytes([got["cap"][-1] ^ 1])}):
                self.assertEqual(store.refused("extent_read", {**good, **wrong}).code, "DENIED")
            # Of a key that is not in use: whoever may, asks for another one.
            for other in bytes(32), got["cap"][:32] + b"\x63" + got["cap"][33:]:
                self.assertEqual(store.refused("extent_read", {**good, "cap": other}).code, "STALE")
            refused = store.refused("extent_read", {**good, "cap_until_ms": 1000})
            self.assertIn(refused.code, ("STALE", "DENIED"))
            self.assertEqual(store.refused("extent_read", {
                **good, "extent": place["extent"] + 999}).code, "GONE")
            self.assertEqual(store.refused("extent_read", {
                **good, "offset": 1 << 40}).code, "INVALID")
        part = wire.ask("grant", {"bucket": bucket, "bytes": 1}, numbered=True)["parts"][0]
        write = {**good, "epoch": part["epoch"], "extent_first": 1,
                 "extent_count": 64, "credit_bytes": MIB}
        del write["len"]
        self.assertEqual(store.refused("extent_write", write, b"x" * 100).code, "DENIED")


class Names(Witnessed):
    BAD = ((b"", "INVALID"), (b"a\0b", "INVALID"), (b"\0", "INVALID"), (b"a\xff", "INVALID"),
           (b"\xc0\xaf", "INVALID"), (b"\xed\xa0\x80", "INVALID"), (b"\xf5\x80\x80\x80", "INVALID"),
           (b"\xe2\x82", "INVALID"), (b"k" * 1025, "CORRUPT"))  # no field has room for it

    def test_refused_by_the_server(self):
        """What the library would not let through, by hand."""
        wire = self.wire()
        bucket = self.bucket(wire)
        for name, code in self.BAD:
            for ask, numbered in (("put", True), ("get", False), ("stat", False),
                                  ("delete", True), ("persist", True), ("commit", True)):
                refused = wire.refused(ask, {"bucket": bucket, "name": name}, numbered=numbered)
                self.assertEqual(refused.code, code, (ask, name[:20], refused.note))
            refused = wire.refused("rename", {"bucket": bucket, "to_bucket": bucket,
                                              "from": b"x", "to": name}, numbered=True)
            self.assertIn(refused.code, (code, "NOTFOUND"))
        self.assertEqual(wire.ask("list", {"bucket": bucket, "max": 10})["entries"], [])
        wire.ask("put", {"bucket": bucket, "name": b"k" * 1024}, b"x", numbered=True)

    def test_of_buckets(self):
        wire = self.wire()
        for name in b"", b"a/b", b"\xff", b"a\0":
            refused = wire.refused("bucket_create", {"name": name}, numbered=True)
            self.assertEqual(refused.code, "INVALID", name)
        done = self.house.wadi("bucket", "create", "b" * 256)
        self.assertEqual((done.returncode, b"255" in done.stderr), (2, True), done.stderr)

    def test_refused_by_the_command(self):
        self.house.wadi("bucket", "create", "names")
        for key, words in ((b"a\xff", b"UTF-8"), (b"k" * 1025, b"1024")):
            done = self.house.wadi("put", b"names/" + key, stdin=b"x")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)
        self.assertEqual(self.house.wadi("put", "names/", "-").returncode, 2)

    def test_other_policies_that_cannot_be(self):
        wire = self.wire()
        for fields in ({"kind": 2}, {"lifetime": 9}, {"tiers": 0x80}, {"protection": 9},
                       {"lifetime": 2}, {"ttl_ms": 1, "lifetime": 3}, {"protection": 2}):
            refused = wire.refused("bucket_create", {"name": b"policy", **fields}, numbered=True)
            self.assertIn(refused.code, ("INVALID", "UNSUPPORTED"), fields)

    def test_objects_of_no_bytes(self):
        job, token = self.house.job(self.admin, "empty")
        client = self.house.client(token=token)
        for bucket, policy in (("none", ()), ("files", (f"tiers={FLASH}",)),
                               ("kept", (f"lifetime={LIFETIME_PERSIST}",))):
            client("bucket", bucket, *policy)
            client("put", bucket, "empty", 0, 0)
            self.assertEqual(client.get(bucket, "empty"), (0, 0))
            self.assertEqual(client("view", bucket, "empty")[0], "0")
            client("unview")
            self.assertEqual(client.get(bucket, "empty", "offset=5", "len=10"), (0, 0))
            self.assertEqual(client("stat", bucket, "empty")[0], "0")
            client("open", bucket, "streamed", 1, 0)
            client("close")
            self.assertEqual(client("list", bucket), ["empty", "streamed"])
            client("put", bucket, "once", 0, 0, DELETE_ON_READ)
            self.assertEqual(client.get(bucket, "once"), (0, 0))
            self.assertEqual(client.fails("get", bucket, "once").name, "NOTFOUND")
            client("put", bucket, "empty", 100000, 3)
            client("put", bucket, "empty", 0, 0)
            self.assertEqual(client.get(bucket, "empty"), (0, 0))
            client("delete", bucket, "empty")
        client.leave()
        self.admin("end", job)


class Room(Witnessed):
    """Full is an error to whoever asks for more."""
    OPTIONS = {"dram": "256M", "flash": "192M"}  # the witness takes one or two arenas of memory
    GOOD = ("ok", "NOTFOUND", "FULL")

    def job(self, **hints):
        job, token = self.house.job(self.admin, self.id().rsplit(".", 1)[1], **hints)
        self.addCleanup(lambda: self.admin("end", job))
        client = self.house.client(token=token)
        self.addCleanup(client.leave)
        return client

    def full(self, failed, *words):
        self.assertEqual(failed.name, "FULL", failed)
        for word in words:
            self.assertIn(word, failed.sentence)

    def test_1_declared_size_above_all_there_is(self):
        path = os.path.join(self.house.folder, "sparse")
        with open(path, "wb") as f:
            f.truncate(40 << 30)
        self.house.wadi("bucket", "create", "declared")
        began = time.monotonic()
        done = self.house.wadi("put", path, "declared/k")
        self.assertLess(time.monotonic() - began, 5 * PATIENCE)
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertRegex(done.stderr.decode(), r"no room for \d+ bytes( in each copy)?: .*flash")
        self.assertEqual(self.house.wadi("stat", "declared/k").returncode, 5)
        job = self.job()
        self.full(job.fails("put", "-", "k", 460 * MIB, 1), "dram", "flash")
        job("put", "-", "k", 20 * MIB, 1)

    def test_2_stream_that_reaches_full(self):
        """Nobody said how long it is."""
        job = self.job(tiers=DRAM)
        stream = subprocess.Popen(["head", "-c", str(270 * MIB), "/dev/zero"],
                                  stdout=subprocess.PIPE)
        done = subprocess.run([self.house.program, "put", "/stream"], stdin=stream.stdout,
                              capture_output=True, timeout=60 * PATIENCE,
                              env={**self.house.environment, "WADI_JOB_TOKEN": job.token})
        stream.stdout.close()
        stream.wait()
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn(b"no room", done.stderr)
        self.assertEqual(job.fails("stat", "-", "stream").name, "NOTFOUND")
        until("its room is back", lambda: self.house.tier("dram")["free_bytes"] > 100 * MIB)
        job("put", "-", "k", 20 * MIB, 2)

    def fill(self, job, bucket, size):
        """Objects until one is refused: (how many are there, the Failed)."""
        for n in range(1000):
            try:
                job("put", bucket, f"k{n}", size, n + 1)
            except Failed as failed:
                return n, failed
        raise AssertionError("never full")

    def test_3_full_tiers(self):
        for tiers, name in ((DRAM, "dram"), (FLASH, "flash")):
            job = self.job(tiers=tiers)
            n, failed = self.fill(job, "-", 8 * MIB)
            self.full(failed, name)
            self.assertGreaterEqual(n, 6)
            for i in range(0, n, 3):
                self.assertEqual(job.get("-", f"k{i}"), (8 * MIB, i + 1))
            self.assertEqual(job.fails("stat", "-", f"k{n}").name, "NOTFOUND")
            job("put", "-", "small", 100, 1)
            job("delete", "-", "k0")
            job("delete", "-", "k1")
            job("put", "-", "again", 8 * MIB, 77)
            self.assertEqual(job.get("-", "again"), (8 * MIB, 77))

    def test_4_quotas(self):
        job = self.job(quota=10 * MIB)
        n, failed = self.fill(job, "-", 3 * MIB)
        self.full(failed, "quota", str(10 * MIB))
        self.assertGreater(n, 1)
        job("bucket", "little", f"quota={MIB}")
        self.full(job.fails("put", "little", "k", 2 * MIB, 1), "quota")
        other = self.job()
        other("put", "-", "k", 20 * MIB, 1)

    def test_5_spill(self):
        """A job that may use any tier goes on where there is room."""
        job = self.job(latency=1)
        n, failed = self.fill(job, "-", 8 * MIB)
        self.full(failed, "dram", "flash")
        tiers = {job("stat", "-", f"k{i}")[1] for i in range(n)}
        self.assertTrue({str(DRAM), str(FLASH)} <= tiers, tiers)
        for i in range(n):
            self.assertEqual(job.get("-", f"k{i}"), (8 * MIB, i + 1))


class FullDisk(HouseTest):
    def test_under_the_log(self):
        """Who adds is told so at once; reads and deletes go on, and make room for more."""
        data = os.path.join(self.house.folder, "meta")
        os.mkdir(data)
        wrap = ["unshare", "-m", "sh", "-c",
                f'mount -t tmpfs -o size=100m none {data} && exec "$0" "$@"']
        done = subprocess.run([*wrap, "true"], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no disk of its own can be mounted: {done.stderr.strip()}")
        meta = self.house.server("meta", "meta", wrap=wrap)
        self.house.server("memory", "store", "--meta", meta.url, "--dram", "64M")
        self.house.up(1)
        client = self.house.client()
        client("bucket", "kept")
        n, refused = 0, []
        while len(refused) < 2 and n < 40000:  # a merge between two puts may make some room
            began = time.monotonic()
            try:
                client("put", "kept", f"k{n}", 4000, n + 1)
                n, refused = n + 1, []
            except Failed as f:
                refused.append(f)
                self.assertLess(time.monotonic() - began, 2 * PATIENCE)
        for failed in refused:
            self.assertEqual(failed.name, "FULL")
            self.assertIn("disk under the metadata is full", failed.sentence)
        self.assertEqual(len(refused), 2)
        for i in range(0, n, 500):
            self.assertEqual(client.get("kept", f"k{i}"), (4000, i + 1))
        for i in range(n):
            client("delete", "kept", f"k{i}")

        def again():
            try:
                return client("put", "kept", "again", 4000, 5)
            except Failed as f:
                self.assertEqual(f.name, "FULL")
                return None
        until("there is room again", again, 30)
        self.assertEqual(client.get("kept", "again"), (4000, 5))
        self.assertTrue(meta.alive())


class Clients(HouseTest):
    """That take all there is, die, or come too late."""

    def test_full_to_the_last_byte(self):
        self.house.serve()
        admin = self.house.client()
        _, token = self.house.job(admin, tiers=DRAM)
        job = self.house.client(token=token)
        for i in range(16):
            job("put", "-", f"k{i}", 8 * MIB, i + 1)
        failed = job.fails("put", "-", "k16", 5000, 1)
        self.assertEqual(failed.name, "FULL")
        self.assertIn("dram has 0 of 134217728 bytes free", failed.sentence)
        self.assertEqual(self.house.tier("dram")["used_bytes"], 128 * MIB)
        job("delete", "-", "k3")
        job("put", "-", "again", 8 * MIB, 99)
        for i in set(range(16)) - {3}:
            self.assertEqual(job.get("-", f"k{i}"), (8 * MIB, i + 1))

    def test_killed_mid_put(self):
        self.house.serve()
        admin = self.house.client()
        _, token = self.house.job(admin)
        reader = self.house.client(token=token)
        reader("put", "-", "old", 300000, 7)
        victim = self.house.client(token=token)
        victim("open", "-", "old", 8, 40 * MIB)
        victim("write", 30 * MIB)
        another = self.house.client(token=token)
        another("open", "-", "new", 8, 40 * MIB)
        another("write", 30 * MIB)
        self.assertGreater(self.house.tier("dram")["granted_bytes"], 50 * MIB)
        victim.kill()
        another.kill()
        self.assertEqual(reader.get("-", "old"), (300000, 7))
        self.assertEqual(reader.fails("get", "-", "new").name, "NOTFOUND")
        reader("put", "-", "other", 300000, 9)
        until("the room of dead clients is back",
              lambda: self.house.tier("dram")["granted_bytes"] < 10 * MIB, 25)
        self.house.status()

    def test_killed_with_pins(self):
        self.house.serve()
        admin = self.house.client()
        _, token = self.house.job(admin)
        writer = self.house.client(token=token)
        writer("put", "-", "k", 10 * MIB, 1)
        victim = self.house.client(token=token)
        self.assertEqual(victim("view", "-", "k")[1], "1")
        writer("delete", "-", "k")
        self.assertEqual(victim("look"), ["1"])
        until("pinned room is reported",
              lambda: self.house.tier("dram")["pinned_bytes"] >= 10 * MIB)
        victim.kill()
        until("pins end with their connection",
              lambda: self.house.tier("dram")["pinned_bytes"] == 0, 5)

    def test_lease_that_runs_out_mid_put(self):
        """The job's only client lost its connection to the metadata, not the one to storage."""
        server = self.house.serve()
        admin = self.house.client()
        job, token = self.house.job(admin, lease=1000)
        wire = Wire(server.socket)
        wire.hello(token.encode())
        bucket = wire.ask("bucket_create", {"name": b"b", "job": job},
                          numbered=True)["bucket"][0]["bucket"]
        grant = wire.ask("grant", {"bucket": bucket, "bytes": 100000}, numbered=True)["parts"][0]
        store = Wire(os.path.join(server.data, "run", "store"))
        store.hello()
        self.write(store, grant, 0)
        wire.close()
        until("the job has ended", lambda: self.house.status()["jobs"] == 0)
        with self.assertRaises(Refused) as refused:
            self.write(store, grant, 1)
        self.assertEqual(refused.exception.code, "GONE")
        again = Wire(server.socket)
        with self.assertRaises(Refused) as refused:
            again.hello(token.encode())
        self.assertEqual(refused.exception.code, "GONE")
        self.assertIn("has ended", refused.exception.note)
        store.close()
        again.close()
        self.house.empty()

    def write(self, store, grant, i):
        data, extent = bytes(4096), grant["extent_first"] + i
        block = crc32c(struct.pack("<QQ", extent, 0) + data)
        fields = {f: grant[f] for f in ("egroup", "epoch", "tier", "device", "extent_first",
                                        "extent_count", "credit_bytes", "cap_job",
                                        "cap_until_ms", "cap")}
        return store.ask("extent_write", {**fields, "extent": extent,
                                          "root": crc32c(struct.pack("<I", block))}, data)

    def test_job_ended_mid_put(self):
        self.house.serve()
        admin = self.house.client()
        job, token = self.house.job(admin)
        writer = self.house.client(token=token)
        writer("open", "-", "k", 8, 40 * MIB)
        writer("write", 20 * MIB)
        admin("end", job)
        failed = writer.fails("close")  # whatever it had sent when it was cut off
        self.assertIn(failed.name, ("GONE", "UNKNOWN"))
        self.assertIn("has ended", failed.sentence)
        failed = writer.fails("put", "-", "small", 10 + 6, 1)
        self.assertEqual(failed.name, "GONE")
        self.assertIn("has ended", failed.sentence)
        self.house.empty()


if __name__ == "__main__":
    run(sys.modules[__name__])
