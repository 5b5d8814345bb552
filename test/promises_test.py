#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of promises, cell by cell: what happens to each kind of data in each event.

CELLS is the table.  docs/promises.md is made from it (promises_test.py --doc > docs/promises.md)
and compared; a cell that a test with real processes can show is a test here, named event__kind; the
others name who else shows them, or what they wait for, and are reported as skipped."""
import glob
import json
import mmap
import os
import struct
import subprocess
import sys
import time
import unittest

from frames import Refused, Wire
from house import DRAM, FLASH, LIFETIME_PERSIST, PATIENCE, Failed, SharedHouseTest, run, until

MIB = 1 << 20
KINDS = {
    "small": "small, unprotected (up to 4 KiB, in the memory of the metadata)",
    "memory": "in memory, unprotected",
    "flash": "on flash or disk, unprotected",
    "kept": "kept: `persist` or durable, one copy on a medium",
    "metadata": "metadata: names, buckets, jobs, answers",
    "lineage": "`lineage`",
    "copies": "`copies=2` of three storage servers",
}
EVENTS = {
    "client_dies": "a client dies",
    "storage_dies": "a storage process dies",
    "storage_returns": "... and is started again",
    "disk_lost": "... and its disk has been emptied",
    "metadata_dies": "the metadata process dies and is started again",
    "all_die": "`wadi serve` dies and is started again",
    "power_cut": "power cut everywhere",
    "flipped_bit": "a flipped bit on a medium",
}
PUT = "what it had not committed vanishes, the rest stays till its job ends"
SAME, LOST = "untouched", "`LOST`, never other bytes"
BACK = "read errors name the server until the deadline; nothing is lost"
ROT = ("`CORRUPT`, never other bytes, then `LOST` at once, for its server has read it again; all "
       "other objects are read")
SIM = "simulation: "   # the scenarios; the promise
UNIT = "unit test: "   # the file; the promise
LATER = "later: "
LINEAGE = LATER + "nothing recomputes files yet; a bucket that asks for it is refused"
EC = LATER + "`ec=K+M` is not built; a bucket that asks for it is refused"
CELLS = {
    "client_dies": {"small": PUT, "memory": PUT, "flash": PUT, "kept": PUT,
                    "metadata": "its answers are remembered for a retry", "copies": PUT},
    "storage_dies": {"small": SAME, "memory": LOST + ", at once where its host is seen",
                     "flash": BACK, "kept": BACK, "metadata": SAME,
                     "copies": "untouched: read at another one, and written while there are two"},
    "storage_returns": {"small": SAME, "memory": LOST, "flash": "back, whole",
                        "kept": "back, whole", "metadata": SAME,
                        "copies": "untouched, and it has its copies again"},
    "disk_lost": {"small": SAME, "memory": SAME, "flash": LOST, "kept": LOST, "metadata": SAME,
                  "copies": "untouched, and its copies are made again"},
    "metadata_dies": {"small": LOST + ": it is their storage process", "memory": SAME,
                      "flash": SAME, "kept": SAME,
                      "metadata": "nothing acknowledged is lost", "copies": SAME},
    "all_die": {"small": LOST, "memory": LOST, "flash": "back, whole", "kept": "back, whole",
                "metadata": "nothing acknowledged is lost", "copies": "back, whole"},
    "power_cut": {"small": SIM + "small; `LOST`", "memory": SIM + "large; `LOST`",
                  "flash": SIM + "large; what was synced is back, else `LOST` or `CORRUPT`",
                  "kept": SIM + "small, large; back, whole",
                  "metadata": SIM + "log, small, jobs; what waited for the sync is kept, the "
                              "rest is kept or absent, never contradictory",
                  "copies": SIM + "copies; back, whole"},
    "flipped_bit": {"small": UNIT + "src/meta/shard_test.c; each get compares its checksum: "
                             "`CORRUPT`",
                    "memory": "`CORRUPT` to whoever reads over a network; readers on the host "
                              "look at the memory itself",
                    "flash": ROT, "kept": ROT,
                    "copies": "read at another one, and repaired from it when it is read or "
                              "scrubbed; rotten on both it is `LOST`",
                    "metadata": "the shard stops with the file and the place, or takes the older "
                                "copy of its tree and the log; `wadi fsck` tells what is lost "
                                "and salvages the rest (`test/fsck_test.py`)"},
}
for row in CELLS.values():
    row.update(lineage=LINEAGE)
MORE = {  # promises of the same table that have no row of their own
    "erasure_codes": EC,
}
HEAD = """# What is promised

<!-- made by test/promises_test.py --doc; change the table there -->

What happens to which data. A cell is shown by the test of that name in `test/promises_test.py`,
with real processes; or by what it names: scenarios of the simulation (`sim/README.md`), where power
can be cut, or a unit test. How each is kept is in [ARCHITECTURE.md](../ARCHITECTURE.md).

"""
TAIL = """
And for all of them:

1. A read returns the bytes that were written, or an error: never other bytes, never a hang. Every
   wait has a deadline. (`test/kill_test.py`, `test/stop_test.py`)
2. Memory and disk are bounded by configuration. Running out is `FULL`, with the numbers, to the one
   who asked; `wadi status` adds up exactly. (`test/bad_input_test.py`)
3. What comes from outside is parsed as hostile; no input stops a server. (`test/bad_input_test.py`,
   `fuzz/`)
4. A job sees no other job's bytes, user ids permitting. (`test/isolation_test.py`;
   `test/bad_input_test.py`, class `Tokens`)
5. Clocks may jump: durations run on the monotonic clock, and only a `ttl` reads the wall clock.
   (the simulation makes it jump, and wakes timers late)

Not yet: """


def page():
    lines = [HEAD, "| | " + " | ".join(KINDS.values()) + " |\n",
             "|---" * (len(KINDS) + 1) + "|\n"]
    for event, text in EVENTS.items():
        cells = []
        for kind in KINDS:
            cell = CELLS[event][kind]
            if cell.startswith((SIM, UNIT)):
                where, promise = cell.split("; ", 1)
                cell = f"{promise} ({where})"
            cells.append("not yet" if cell.startswith(LATER) else cell)
        lines.append(f"| **{text}** | " + " | ".join(cells) + " |\n")
    later = sorted({c[len(LATER):] for c in (LINEAGE, *MORE.values())})
    return "".join(lines) + TAIL + "; ".join(later) + ".\n"


def egroups(server):
    return glob.glob(os.path.join(server.data, "store", "flash", "eg-*"))


def empty(server):
    for path in egroups(server):
        os.unlink(path)


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


class Event(SharedHouseTest):
    """Objects of every kind, then the event; the tests look at one kind each."""
    PLACES = {"small": ("scratch", 1000), "memory": ("memory", 3 * MIB),
              "flash": ("files", 3 * MIB), "kept": ("kept", 3 * MIB)}

    @classmethod
    def furnish(cls):
        cls.servers = cls.build()
        cls.admin = cls.house.client()
        cls.job, cls.token = cls.house.job(cls.admin)
        cls.client = cls.house.client(token=cls.token)
        for bucket, policy in (("scratch", []), ("memory", [f"tiers={DRAM}"]),
                               ("files", [f"tiers={FLASH}"]),
                               ("kept", [f"lifetime={LIFETIME_PERSIST}"])):
            cls.client("bucket", bucket, *policy)
            cls.fill(cls.client, bucket)
        cls.client("put", "kept", "small", 1000, 6)
        cls.client("put", "kept", "packed", 3000, 7)
        cls.client("put", "kept", "gone", 3000, 7)
        cls.client("delete", "kept", "gone")
        cls.wire = Wire(cls.house.servers[0].socket, 30)
        cls.addClassCleanup(cls.wire.close)
        cls.wire.hello(cls.token.encode(), client=4711)
        buckets = cls.wire.ask("bucket_list", {"job": cls.job, "max": 9})["buckets"]
        cls.kept = next(b["bucket"] for b in buckets if b["name"] == b"kept")
        cls.version = cls.ask_once(cls.wire)
        cls.event()

    @classmethod
    def build(cls):
        return cls.house.roles()

    @classmethod
    def fill(cls, client, bucket):
        size = {b: n for b, n in cls.PLACES.values()}[bucket]
        client("put", bucket, "k", size, 5)

    @classmethod
    def ask_once(cls, wire):
        """The same numbered request each time: put if it is absent."""
        return wire.ask("put", {"bucket": cls.kept, "flags": 1, "name": b"once"}, b"x",
                        cookie=40)["version"]

    def reads(self, kind):
        bucket, size = self.PLACES[kind]
        self.assertEqual(self.client.get(bucket, "k"), (size, 5))
        self.client("put", bucket, "more", size, 8)
        self.assertEqual(self.client.get(bucket, "more"), (size, 8))

    def fails(self, kind, *names):
        bucket, size = self.PLACES[kind]
        began = time.monotonic()
        failed = self.client.fails("get", bucket, "k")
        self.assertIn(failed.name, names)
        self.assertTrue(failed.sentence)
        return failed, time.monotonic() - began

    def lost(self, kind):
        """And nothing else: the name stands until it is deleted, the bucket takes new ones."""
        bucket, size = self.PLACES[kind]
        failed, took = self.fails(kind, "LOST")
        self.assertLess(took, 5 * PATIENCE)
        self.assertEqual(self.client("stat", bucket, "k")[0], str(size))
        self.client("put", bucket, "again", size, 9)
        self.assertEqual(self.client.get(bucket, "again"), (size, 9))

    def nothing_acknowledged_is_lost(self):
        self.assertEqual(self.client.get("kept", "small"), (1000, 6))
        self.assertEqual(self.client.get("kept", "packed"), (3000, 7))
        self.assertEqual(self.client.fails("get", "kept", "gone").name, "NOTFOUND")
        for bucket, size in self.PLACES.values():
            self.assertEqual(self.client("stat", bucket, "k")[0], str(size))
        self.assertIn("k", self.client("list", "files"))
        self.assertEqual(self.house.status()["jobs"], 1)
        self.answers_are_remembered()

    def answers_are_remembered(self):
        wire = Wire(self.house.servers[0].socket, 30)
        self.addCleanup(wire.close)
        wire.hello(self.token.encode(), client=4711)
        self.assertEqual(self.ask_once(wire), self.version)
        with self.assertRaises(Refused) as refused:
            wire.ask("put", {"bucket": self.kept, "flags": 1, "name": b"once"}, b"x", cookie=41)
        self.assertEqual(refused.exception.code, "EXISTS")


class ClientDies(Event):
    @classmethod
    def event(cls):
        cls.wire.close()
        for bucket, size in cls.PLACES.values():
            victim = cls.house.client(token=cls.token)
            cls.fill(victim, bucket)
            victim("open", bucket, "half", 8, 8 * MIB)
            victim("write", 5 * MIB if bucket != "scratch" else 2000)
            victim.kill()

    def holds(self, kind):
        self.reads(kind)
        self.assertEqual(self.client.fails("get", self.PLACES[kind][0], "half").name, "NOTFOUND")
        self.assertNotIn("half", self.client("list", self.PLACES[kind][0]))

    def test_client_dies__small(self):
        self.holds("small")

    def test_client_dies__memory(self):
        self.holds("memory")

    def test_client_dies__flash(self):
        self.holds("flash")

    def test_client_dies__kept(self):
        self.holds("kept")

    def test_client_dies__metadata(self):
        self.answers_are_remembered()


class StorageDies(Event):
    @classmethod
    def event(cls):
        for server in cls.servers[1:]:
            server.kill()
        cls.client("timeout", int(1500 * PATIENCE))

    def test_storage_dies__small(self):
        self.reads("small")

    def test_storage_dies__memory(self):
        _, took = self.fails("memory", "LOST")
        self.assertLess(took, PATIENCE)

    def unreachable(self, kind):
        failed, took = self.fails(kind, "TIMEOUT", "UNREACH", "UNAVAILABLE")
        self.assertIn("storage server", failed.sentence)
        self.assertLess(took, 4 * PATIENCE)

    def test_storage_dies__flash(self):
        self.unreachable("flash")

    def test_storage_dies__kept(self):
        self.unreachable("kept")

    def test_storage_dies__metadata(self):
        self.nothing_acknowledged_is_lost()


class StorageReturns(Event):
    @classmethod
    def event(cls):
        for server in cls.servers[1:]:
            server.kill()
        for server in cls.servers[1:]:
            server.start()
        cls.house.up(2)

    def test_storage_returns__small(self):
        self.reads("small")

    def test_storage_returns__memory(self):
        self.lost("memory")

    def test_storage_returns__flash(self):
        self.reads("flash")

    def test_storage_returns__kept(self):
        self.reads("kept")

    def test_storage_returns__metadata(self):
        self.nothing_acknowledged_is_lost()


class DiskLost(Event):
    @classmethod
    def event(cls):
        flash = cls.servers[2]
        flash.kill()
        empty(flash)
        flash.start()
        cls.house.up(2)

    def test_disk_lost__small(self):
        self.reads("small")

    def test_disk_lost__memory(self):
        self.reads("memory")

    def test_disk_lost__flash(self):
        self.lost("flash")

    def test_disk_lost__kept(self):
        self.lost("kept")

    def test_disk_lost__metadata(self):
        self.nothing_acknowledged_is_lost()


class MetadataDies(Event):
    @classmethod
    def event(cls):
        cls.servers[0].kill()
        cls.servers[0].start()

    def test_metadata_dies__small(self):
        self.lost("small")

    def test_metadata_dies__memory(self):
        self.reads("memory")

    def test_metadata_dies__flash(self):
        self.reads("flash")

    def test_metadata_dies__kept(self):
        self.reads("kept")

    def test_metadata_dies__metadata(self):
        self.nothing_acknowledged_is_lost()


class AllDie(Event):
    @classmethod
    def build(cls):
        return [cls.house.serve()]

    @classmethod
    def event(cls):
        cls.servers[0].kill()
        cls.servers[0].start()

    def test_all_die__small(self):
        self.lost("small")

    def test_all_die__memory(self):
        self.lost("memory")

    def test_all_die__flash(self):
        self.reads("flash")

    def test_all_die__kept(self):
        self.reads("kept")

    def test_all_die__metadata(self):
        self.nothing_acknowledged_is_lost()


class FlippedBit(Event):
    @classmethod
    def build(cls):
        return cls.house.roles(listen=True)

    @classmethod
    def event(cls):
        """In the first egroup of each domain: that is where the first objects are."""
        cls.client("put", "files", "before", MIB, 4)
        cls.servers[2].stop()
        for path in egroups(cls.servers[2]):
            flip(path, 2 * MIB)
        cls.servers[2].start()
        cls.house.up(2)

    def corrupt(self, kind):
        """Its server is asked to read it again once somebody has met it."""
        self.fails(kind, "CORRUPT", "LOST")
        until("it is called lost", lambda: self.fails(kind, "CORRUPT", "LOST")[0].name == "LOST")
        bucket, size = self.PLACES[kind]
        self.client("put", bucket, "more", size, 8)
        self.assertEqual(self.client.get(bucket, "more"), (size, 8))
        if kind == "flash":
            self.assertEqual(self.client.get(bucket, "before"), (MIB, 4))
        self.client("delete", bucket, "k")

    def test_flipped_bit__memory(self):
        """In the arena itself, through the descriptor of its process."""
        memory, begin = self.servers[1], struct.pack("<QQ", 5, 3 * MIB)
        far = self.far_client(memory)
        self.assertEqual(far.get("memory", "k"), (3 * MIB, 5))
        arenas = {os.stat(fd).st_ino: fd for fd in glob.glob(f"/proc/{memory.pid}/fd/*")
                  if os.readlink(fd).startswith("/memfd:")}
        for fd in arenas.values():
            with open(fd, "r+b") as f, mmap.mmap(f.fileno(), 0) as arena:
                at = arena.find(begin)
                if at >= 0:
                    arena[at + MIB] ^= 1
        self.assertEqual(far.fails("get", "memory", "k").name, "CORRUPT")
        far("put", "memory", "more", 3 * MIB, 8)
        self.assertEqual(far.get("memory", "more"), (3 * MIB, 8))

    def far_client(self, server):
        """On this host, but it does not see the Unix socket of that server."""
        hide = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {server.data} && exec "$0" "$@"']
        done = subprocess.run([*hide, "true"], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no mount namespaces here: {done.stderr.strip()}")
        return self.house.client(token=self.token, wrap=hide)

    def test_flipped_bit__flash(self):
        self.corrupt("flash")

    def test_flipped_bit__kept(self):
        self.corrupt("kept")

    def test_flipped_bit__metadata(self):
        """The last record of the log, which the tree cannot know; then every page of the tree."""
        meta = self.servers[0]
        for i in range(20):
            self.admin("bucket", f"b{i}")
        meta.kill()
        log = max(glob.glob(os.path.join(meta.data, "meta", "log", "*.log")))
        with open(log, "rb") as f:
            end = len(f.read().rstrip(b"\0"))
        flip(log, end - 40)
        meta.start(wait=False)
        self.assertEqual(meta.process.wait(30 * PATIENCE), 1)
        meta.ready.close()
        self.assertRegex(meta.said(), r"checksum.*\.log: record \d+ at byte \d+ is damaged")
        flip(log, end - 40)
        tree = os.path.join(meta.data, "meta", "tree")
        with open(tree, "r+b") as f:
            size = os.path.getsize(tree)
            for at in range(size // 2, size, 4096):
                f.seek(at + 100)
                f.write(b"\xff" * 64)
        meta.start()
        self.client("timeout", int(20000 * PATIENCE))
        self.assertEqual(self.client.get("kept", "packed"), (3000, 7))
        self.assertIn("b19", self.house.wadi("ls").stdout.decode().split())


class Copied(SharedHouseTest):
    """Objects of two copies on three storage servers; then the event."""
    SIZE = 3 * MIB

    @classmethod
    def furnish(cls):
        cls.meta = cls.house.server("meta", "meta")
        cls.stores = [cls.house.server(f"flash{i}", "store", "--meta", cls.meta.url, "--flash",
                                       "128M") for i in range(3)]
        cls.house.up(3)
        cls.client = cls.house.client(timeout_ms=10000)
        cls.client("bucket", "copied", "copies=2")
        cls.client("put", "copied", "k", cls.SIZE, 5)
        cls.client("put", "copied", "other", cls.SIZE, 6)
        cls.event()

    @classmethod
    def places(cls, seed=5):
        """Each file with the first bytes of an object, and where: two, on two servers."""
        found, begin = [], struct.pack("<QQ", seed, cls.SIZE)
        for server in cls.stores:
            for path in egroups(server):
                with open(path, "rb") as f:
                    at = f.read().find(begin)
                if at >= 0:
                    found.append((server, path, at))
        return found

    def reads(self):
        self.assertEqual(self.client.get("copied", "k"), (self.SIZE, 5))
        self.assertEqual(self.client.get("copied", "other"), (self.SIZE, 6))

    def writes(self):
        self.client("put", "copied", "more", self.SIZE, 8)
        self.assertEqual(self.client.get("copied", "more"), (self.SIZE, 8))

    def each_copy_is_read(self):
        """From one server while the others are stopped."""
        for server, _, _ in self.places():
            others = [s for s in self.stores if s is not server]
            for other in others:
                other.pause()
            try:
                self.assertEqual(self.client.get("copied", "k"), (self.SIZE, 5))
            finally:
                for other in others:
                    other.resume()

    def scrub(self):
        done = self.house.wadi("--json", "fsck")
        return done.returncode, json.loads(done.stdout)


class CopiedClientDies(Copied):
    @classmethod
    def event(cls):
        victim = cls.house.client()
        victim("put", "copied", "whole", cls.SIZE, 7)
        victim("open", "copied", "half", 8, 8 * MIB)
        victim("write", 5 * MIB)
        victim.kill()

    def test_client_dies__copies(self):
        self.reads()
        self.assertEqual(self.client.get("copied", "whole"), (self.SIZE, 7))
        self.assertEqual(self.client.fails("get", "copied", "half").name, "NOTFOUND")


class CopiedStorageDies(Copied):
    """One that has the object: killed, then started again."""
    @classmethod
    def event(cls):
        cls.victim = cls.places()[0][0]
        cls.victim.kill()

    def test_storage_dies__copies(self):
        began = time.monotonic()
        self.reads()
        self.assertLess(time.monotonic() - began, 5 * PATIENCE)
        self.writes()

    def test_storage_returns__copies(self):
        self.victim.start()
        self.house.up(3)
        self.assertEqual(self.scrub()[1]["rotten"], 0)
        self.each_copy_is_read()


class CopiedDiskLost(Copied):
    @classmethod
    def event(cls):
        victim = cls.places()[0][0]
        victim.kill()
        empty(victim)
        victim.start()
        cls.house.up(3)

    def test_disk_lost__copies(self):
        self.reads()
        until("two copies of each", lambda: len(self.places()) == 2 == len(self.places(6)))
        until("that are whole", lambda: self.scrub()[1]["rotten"] == 0)
        self.each_copy_is_read()


class CopiedMetadataDies(Copied):
    """Alone, and later with everybody else."""
    @classmethod
    def event(cls):
        cls.meta.kill()
        cls.meta.start()
        cls.house.up(3)

    def test_metadata_dies__copies(self):
        self.reads()
        self.writes()
        self.each_copy_is_read()

    def test_all_die__copies(self):
        everybody = [self.meta, *self.stores]
        for server in everybody:
            server.kill()
        for server in everybody:
            server.start()
        self.house.up(3)
        self.reads()
        self.writes()
        self.each_copy_is_read()


class CopiedFlippedBit(Copied):
    @classmethod
    def event(cls):
        _, path, at = cls.places()[0]
        flip(path, at + MIB)

    def test_flipped_bit__copies(self):
        self.reads()
        self.repaired_by_a_scrub()
        self.repaired_for_a_reader()

    def repaired_by_a_scrub(self):
        """Nobody has to read it."""
        for _, path, at in self.places(6)[:1]:
            flip(path, at + MIB)
        code, said = self.scrub()
        self.assertEqual((code, said["clean"], said["rotten"]), (1, True, 0))
        self.assertGreaterEqual(said["extents_found"], 1)
        self.assertGreaterEqual(said["extents"], 4)
        self.assertEqual(self.scrub()[0], 0)

    def repaired_for_a_reader(self):
        """It is met when the other copy cannot be asked."""
        server, path, at = self.places()[0]
        others = [s for s in self.stores if s is not server]
        met, repaired = server.said().count("not what was"), self.house.status()["copied_bytes"]
        flip(path, at + MIB)
        for other in others:
            other.pause()
        self.client("timeout", int(500 * PATIENCE))
        until("it is met", lambda: self.client.fails("get", "copied", "k") and
              server.said().count("not what was") > met)
        for other in others:
            other.resume()
        self.client("timeout", int(10000 * PATIENCE))
        self.house.up(3)
        until("it is repaired", lambda: self.house.status()["copied_bytes"] > repaired, 40)
        self.each_copy_is_read()


class CopiedFlippedBits(Copied):
    @classmethod
    def event(cls):
        for _, path, at in cls.places():
            flip(path, at + MIB)

    def test_flipped_bit__copies_on_both(self):
        code, said = self.scrub()
        self.assertEqual((code, said["clean"], said["rotten"]), (1, False, 2))
        self.assertEqual(self.client.fails("get", "copied", "k").name, "LOST")
        self.assertEqual(self.house.status()["unrepaired"], 1)
        self.assertEqual(self.client.get("copied", "other"), (self.SIZE, 6))
        self.writes()
        self.client("delete", "copied", "k")
        self.assertEqual(self.house.status()["unrepaired"], 0)
        self.assertEqual(self.scrub()[0], 0)


class NotYet(unittest.TestCase):
    """What no test with real processes can show, each with its reason."""

    def test_the_page_is_this_table(self):
        docs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs")
        with open(os.path.join(docs, "promises.md")) as f:
            self.assertEqual(f.read(), page(), "run test/promises_test.py --doc")

    def test_every_cell_is_here(self):
        shown = {name for case in (*Event.__subclasses__(),
                                       *Copied.__subclasses__(), NotYet) for name in dir(case)}
        for event, row in CELLS.items():
            self.assertEqual(set(row), set(KINDS))
            for kind in row:
                self.assertIn(f"test_{event}__{kind}", shown)


def later(reason):
    return lambda self: self.skipTest(reason)


for _event, _row in CELLS.items():
    for _kind, _cell in _row.items():
        if _cell.startswith((SIM, UNIT, LATER)):
            setattr(NotYet, f"test_{_event}__{_kind}", later(_cell))
for _name, _cell in MORE.items():
    setattr(NotYet, f"test_{_name}", later(_cell))


if __name__ == "__main__":
    if sys.argv[1:] == ["--doc"]:
        sys.stdout.write(page())
    else:
        run(sys.modules[__name__], at_once=4)
