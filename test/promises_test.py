#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of promises, cell by cell: what happens to each kind of data in each event.

CELLS is the table.  docs/promises.md is made from it (promises_test.py --doc > docs/promises.md)
and compared; a cell that a test with real processes can show is a test here, named event__kind; the
others name who else shows them, or what they wait for, and are reported as skipped."""
import glob
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
    "copies": "`copies=N`, `ec=K+M`",
}
EVENTS = {
    "client_dies": "a client dies",
    "storage_dies": "a storage process dies",
    "storage_returns": "... and is started again",
    "metadata_dies": "the metadata process dies and is started again",
    "all_die": "`wadi serve` dies and is started again",
    "power_cut": "power cut everywhere",
    "flipped_bit": "a flipped bit on a medium",
}
PUT = "what it had not committed vanishes, the rest stays till its job ends"
SAME, LOST = "untouched", "`LOST`, never other bytes"
BACK = "read errors name the server until the deadline; nothing is lost"
SIM = "simulation: "   # the scenarios; the promise
UNIT = "unit test: "   # the file; the promise
LATER = "later: "
LINEAGE = LATER + "nothing recomputes files yet; a bucket that asks for it is refused"
COPIES = LATER + "needs several replicas"
CELLS = {
    "client_dies": {"small": PUT, "memory": PUT, "flash": PUT, "kept": PUT,
                    "metadata": "its answers are remembered for a retry"},
    "storage_dies": {"small": SAME, "memory": LOST + ", at once where its host is seen",
                     "flash": BACK, "kept": BACK, "metadata": SAME},
    "storage_returns": {"small": SAME, "memory": LOST, "flash": "back, whole",
                        "kept": "back, whole", "metadata": SAME},
    "metadata_dies": {"small": LOST + ": it is their storage process", "memory": SAME,
                      "flash": SAME, "kept": SAME,
                      "metadata": "nothing acknowledged is lost"},
    "all_die": {"small": LOST, "memory": LOST, "flash": "back, whole", "kept": "back, whole",
                "metadata": "nothing acknowledged is lost"},
    "power_cut": {"small": SIM + "small; `LOST`", "memory": SIM + "large; `LOST`",
                  "flash": SIM + "large; what was synced is back, else `LOST` or `CORRUPT`",
                  "kept": SIM + "small, large; back, whole",
                  "metadata": SIM + "log, small, jobs; what waited for the sync is kept, the "
                              "rest is kept or absent, never contradictory"},
    "flipped_bit": {"small": UNIT + "src/meta/shard_test.c; each get compares its checksum: "
                             "`CORRUPT`",
                    "memory": "`CORRUPT` to whoever reads over a network; readers on the host "
                              "look at the memory itself",
                    "flash": "`CORRUPT`, never other bytes; all other objects are read",
                    "kept": "`CORRUPT`, never other bytes; all other objects are read",
                    "metadata": "the shard stops with the file and the place, or takes the older "
                                "copy of its tree and the log; `wadi fsck` tells what is lost "
                                "and salvages the rest (`test/fsck_test.py`)"},
}
for row in CELLS.values():
    row.update(lineage=LINEAGE, copies=COPIES)
MORE = {  # promises of the same table that have no row of their own
    "fail_over": LATER + "another replica takes over in < 0.5 s: needs several replicas",
    "repair_from_a_peer": LATER + "a flipped bit is repaired: needs several replicas",
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
    later = sorted({c[len(LATER):] for c in (LINEAGE, COPIES, *MORE.values())})
    return "".join(lines) + TAIL + "; ".join(later) + ".\n"


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
        for path in glob.glob(os.path.join(cls.servers[2].data, "store", "flash", "eg-*")):
            cls.flip(path, 2 * MIB)
        cls.servers[2].start()
        cls.house.up(2)

    @staticmethod
    def flip(path, at):
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))

    def corrupt(self, kind):
        self.fails(kind, "CORRUPT")
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
        self.flip(log, end - 40)
        meta.start(wait=False)
        self.assertEqual(meta.process.wait(30 * PATIENCE), 1)
        meta.ready.close()
        self.assertRegex(meta.said(), r"checksum.*\.log: record \d+ at byte \d+ is damaged")
        self.flip(log, end - 40)
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


class NotYet(unittest.TestCase):
    """What no test with real processes can show, each with its reason."""

    def test_the_page_is_this_table(self):
        docs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs")
        with open(os.path.join(docs, "promises.md")) as f:
            self.assertEqual(f.read(), page(), "run test/promises_test.py --doc")

    def test_every_cell_is_here(self):
        shown = {name for case in (*Event.__subclasses__(), NotYet) for name in dir(case)}
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
