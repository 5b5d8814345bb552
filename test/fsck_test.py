#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whatever byte rots in the files of a node that was stopped or killed: fsck finds it and says
what is lost; and after a salvage the node starts, all that was not named as lost reads right, and
what was damaged is still there, aside."""
import json
import os
import struct
import subprocess
import sys

from house import HouseTest, run, until

MAGIC = 0x474C4457
HEADER = 96


def records(path):
    """(offset, lsn, kind, length) of the records at the front of a segment."""
    with open(path, "rb") as f:
        data = f.read()
    found, at = [], 0
    while at + HEADER <= len(data):
        magic, = struct.unpack_from("<I", data, at)
        if magic != MAGIC:
            if at % 4096 == 0:
                break
            at = (at + 4095) // 4096 * 4096
            continue
        lsn, kind, _, length = struct.unpack_from("<QHHI", data, at + 24)
        if found and lsn != found[-1][1] + 1:
            break
        found.append((at, lsn, kind, length))
        at += (HEADER + length + 7) // 8 * 8
    return found


def flip(path, at, bit=0x10):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ bit]))


class Fsck(HouseTest):
    """Each test has its own server with SMALL small and LARGE large objects in it."""
    SMALL, LARGE = 12, 3

    def setUp(self):
        super().setUp()
        self.server = self.house.serve(dram="16M", flash="256M")
        self.wadi("bucket", "create", "--lifetime", "persist", "b")
        self.objects = {}
        for i in range(self.SMALL):
            self.put(f"small-{i}", f"{i} ".encode() * (20 + i))
            if i < self.LARGE:
                self.put(f"large-{i}", os.urandom(300_000))

    def wadi(self, *words, data=None, code=0):
        done = subprocess.run([self.house.program, *words], input=data, capture_output=True,
                              env={**self.house.environment, "WADI_URL": self.server.url},
                              timeout=60, check=False)
        self.assertEqual(done.returncode, code, (words, done.stdout, done.stderr))
        return done.stdout

    def put(self, key, data):
        self.wadi("put", "--persist", "-", f"b/{key}", data=data)
        self.objects[key] = data

    @property
    def meta(self):
        return os.path.join(self.server.data, "meta")

    @property
    def segments(self):
        folder = os.path.join(self.meta, "log")
        return [os.path.join(folder, n) for n in sorted(os.listdir(folder)) if n[0] == "0"]

    def fsck(self, *options, code=1):
        """(damages, names lost, the last line)"""
        lines = [json.loads(line) for line in
                 self.wadi("fsck", "--json", *options, self.server.data, code=code).splitlines()]
        damages = [line for line in lines if "damage" in line]
        for d in damages:
            self.assertTrue(d["where"] and d["lost"] and d["do"], d)
        self.assertEqual(lines[-1]["damages"], len(damages))
        return damages, [line["lost"] for line in lines if "change" in line], lines[-1]

    def kinds(self, damages):
        return sorted({d["damage"] for d in damages})

    def begins(self):
        """Whether the server starts as it is; it is left running."""
        self.server.start(wait=False)
        with self.server.ready as ready:
            return ready.readline().startswith("ready")

    def reads_right(self, without=()):
        for key, data in self.objects.items():
            if key not in without:
                self.assertEqual(self.wadi("cat", f"b/{key}"), data, key)

    def kept(self):
        return [n for n in os.listdir(self.server.data) if n.startswith("meta.damaged.")]

    def salvage(self):
        before = {p: open(p, "rb").read() for p in self.segments}
        damages, lost, end = self.fsck("--salvage")
        self.assertEqual(len(self.kept()), 1)
        for path, data in before.items():       # what was damaged is as it was
            aside = path.replace(self.meta, os.path.join(self.server.data, self.kept()[0]))
            with open(aside, "rb") as f:
                self.assertEqual(f.read(), data)
        self.assertEqual(self.fsck(code=0)[0], [])
        self.assertTrue(self.begins())
        return lost, end

    # ---- the log ----
    def test_merged_records(self):
        """Rot in what the merged rows hold too: nothing is lost, but the server does not start."""
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(self.fsck(code=0)[0], [])
        at, _, _, length = [r for r in records(self.segments[0]) if r[3] > 100][3]
        flip(self.segments[0], at + HEADER + length // 2)
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["log"])
        self.assertIn("nothing", damages[0]["lost"])
        lost, _ = self.salvage()
        self.assertEqual(lost, [])
        self.reads_right()

    def test_records_that_only_the_log_has(self):
        self.server.kill()
        self.assertEqual(self.fsck(code=0)[0], [])
        found = records(self.segments[-1])
        at, lsn, _, length = [r for r in found if r[3] > 100][-6]
        flip(self.segments[-1], at + HEADER + length // 2)
        self.assertFalse(self.begins())
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["log"])
        self.assertIn(f"records {lsn} to {lsn}", damages[0]["lost"])
        lost, end = self.salvage()
        self.assertGreater(end["last_index"], end["index"])
        self.assertTrue(lost)
        gone = {name.split("/", 1)[1] for name in lost}
        there = {line.split("/")[-1] for line in self.wadi("ls", "b").decode().split()}
        # What was lost is named, but for the one record that cannot be read.
        self.assertLessEqual(len(set(self.objects) - there - gone), 1)
        self.assertGreater(len(there), self.SMALL // 2)
        self.reads_right(without=set(self.objects) - there)
        self.put("afterwards", b"new bytes")    # and ids are new
        self.put("large-afterwards", os.urandom(300_000))
        self.reads_right(without=set(self.objects) - there - {"afterwards", "large-afterwards"})

    def test_the_torn_end(self):
        """What nobody was told to be synced is no damage."""
        self.server.kill()
        found, path = records(self.segments[-1]), self.segments[-1]
        end = found[-1][0] + (HEADER + found[-1][3] + 7) // 8 * 8
        with open(path, "r+b") as f:             # a record that begins and does not end
            f.seek(found[-1][0])
            head = f.read(HEADER)
            f.seek((end + 4095) // 4096 * 4096)
            f.write(head[:60])
        self.assertEqual(self.fsck(code=0)[0], [])
        self.assertTrue(self.begins())
        self.reads_right()

    # ---- the mark ----
    def test_the_mark(self):
        self.server.kill()
        mark = os.path.join(self.meta, "log", "mark")
        flip(mark, 20)
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["mark"])
        self.assertIn("nothing", damages[0]["lost"])
        for slot in 1, 2, 3:
            flip(mark, slot * 4096 + 20)
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["mark"])
        self.assertFalse(self.begins())
        lost, _ = self.salvage()
        self.assertEqual(lost, [])
        self.reads_right()

    # ---- merged rows ----
    def test_the_tree(self):
        self.assertEqual(self.server.stop(), 0)
        tree = os.path.join(self.meta, "tree")
        with open(tree, "rb") as f:
            at = f.read().rindex(b"small-7")
        flip(tree, at + len("small-7") + 8)
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["tree"])
        self.assertIn("nothing", damages[0]["lost"])
        lost, _ = self.salvage()
        self.assertEqual(lost, [])
        self.reads_right()

    def test_the_structure_of_the_tree(self):
        """Lengths, offsets and kinds of nodes, which lead out of the file when believed."""
        self.assertEqual(self.server.stop(), 0)
        tree = os.path.join(self.meta, "tree")
        with open(tree, "rb") as f:
            data = f.read()
        node = data.rindex(b"n", 0, data.rindex(b"small-7")) - 8
        page = node // 4096 * 4096
        for at, bit in [(node + i, 1 << k) for i in range(8) for k in (0, 2, 7)] + \
                       [(page + i, 0x20) for i in (10, 11, 12, 13, 15, 16, 17)]:
            flip(tree, at, bit)
            self.assertEqual(self.kinds(self.fsck()[0]), ["tree"], (at - page, bit))
            flip(tree, at, bit)
        flip(tree, node + 4, 4)                  # the server makes another tree
        self.assertTrue(self.begins())
        self.reads_right()
        self.assertIn("tree.bad", os.listdir(self.meta))

    # ---- extents ----
    def test_an_extent(self):
        self.assertEqual(self.server.stop(), 0)
        folder = os.path.join(self.server.data, "store", "flash")
        needle = self.objects["large-1"][150_000:150_064]
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                at = f.read().find(needle)
            if at >= 0:
                flip(path, at)
                break
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["extent"])
        self.assertEqual(len(damages), 1)
        self.assertIn("b/large-1", damages[0]["lost"])
        self.fsck("--salvage")                   # there is nothing of the metadata to salvage
        self.assertEqual(self.kept(), [])
        self.assertTrue(self.begins())
        self.reads_right(without=["large-1"])
        self.wadi("cat", "b/large-1", code=1)
        self.wadi("rm", "b/large-1")

    def test_an_extent_that_is_gone(self):
        self.assertEqual(self.server.stop(), 0)
        folder = os.path.join(self.server.data, "store", "flash")
        for name in os.listdir(folder):
            if name.startswith("eg-"):
                os.unlink(os.path.join(folder, name))
        damages, _, _ = self.fsck()
        self.assertEqual(self.kinds(damages), ["extent"])
        self.assertEqual(sorted(d["lost"].split("b/", 1)[1][:7] for d in damages),
                         [f"large-{i}" for i in range(self.LARGE)])

    # ---- while it runs ----
    def online(self, code):
        return json.loads(self.wadi("fsck", "--json", code=code))

    def test_a_log_that_rots_under_a_running_server(self):
        clean = self.online(0)
        self.assertTrue(clean["clean"])
        self.assertGreater(clean["records"], self.SMALL)
        path = self.segments[0]
        at, _, _, length = records(path)[self.SMALL // 2]
        flip(path, at + HEADER + length // 2)
        self.assertEqual(self.online(1)["damages"], 1)
        until("the log is made anew", lambda: not os.path.exists(path))
        self.assertTrue(self.online(0)["clean"])
        self.server.kill()
        self.assertEqual(self.fsck(code=0)[0], [])
        self.server.start()
        for key, data in self.objects.items():
            self.assertEqual(self.wadi("cat", f"b/{key}"), data)

    # ---- who may look ----
    def test_where_it_cannot_look(self):
        said = subprocess.run([self.house.program, "fsck", self.server.data],
                              capture_output=True, timeout=60, check=False,
                              env=self.house.environment)
        self.assertNotIn(said.returncode, (0,))
        self.assertIn(f"pid {self.server.pid}".encode(), said.stderr)
        self.wadi("fsck", self.house.folder, code=5)
        until("it serves still", lambda: self.wadi("cat", "b/small-0") == self.objects["small-0"])


if __name__ == "__main__":
    run(sys.modules[__name__])
