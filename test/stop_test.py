#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A process that stops for a while, as under a debugger or on a machine that hangs, and wakes up:
meanwhile everybody else is answered in time, and afterwards it does no harm."""
import os
import sys
import time

from frames import ROLE_STORE, Ended, Refused, Wire, frame
from house import DRAM, FLASH, LIFETIME_PERSIST, PATIENCE, HouseTest, run, until

MIB = 1 << 20
FENCED_S = 11.3         # STORE_FENCE_MS and an eighth: then the controller counts on its silence


class StoppedStore(HouseTest):
    def setUp(self):
        super().setUp()
        self.meta, self.memory, self.flash = self.house.roles()
        self.admin = self.house.client()
        self.job, self.token = self.house.job(self.admin)
        self.client = self.house.client(token=self.token)
        self.client("bucket", "memory", f"tiers={DRAM}")
        self.client("bucket", "any")
        self.client("bucket", "files", f"tiers={FLASH}")
        for bucket in "memory", "files":
            for i in range(3):
                self.client("put", bucket, f"k{i}", MIB, i + 1)
        self.client("timeout", int(3000 * PATIENCE))

    def capability(self, bucket, key):
        """What reads an object's first block at its server, by hand."""
        wire = Wire(self.meta.socket, 30)
        self.addCleanup(wire.close)
        wire.hello(self.token.encode())
        buckets = wire.ask("bucket_list", {"job": self.job, "max": 99})["buckets"]
        number = next(b["bucket"] for b in buckets if b["name"] == bucket.encode())
        got = wire.ask("get", {"bucket": number, "name": key.encode()})
        return {"egroup": got["places"][0]["egroup"], "extent": got["places"][0]["extent"],
                "len": 4096, **{f: got[f] for f in ("cap_job", "cap_until_ms", "cap")}}

    def fails_in_time(self, *words):
        began = time.monotonic()
        failed = self.client.fails(*words)
        self.assertLess(time.monotonic() - began, 8 * PATIENCE, words)
        self.assertTrue(failed.sentence, failed)
        return failed.name

    def test_beyond_its_fence(self):
        read = self.capability("memory", "k1")
        witness = self.house.client(token=self.token)
        history = os.path.join(self.house.folder, "history")
        witness("history", history)
        witness.tell("traffic", "w", 1, "files")
        store = Wire(os.path.join(self.memory.data, "run", "store"), 60)
        self.addCleanup(store.close)
        store.hello()
        self.assertEqual(len(store.ask("extent_read", read)["data"]), 4096)
        self.memory.pause()
        stopped = time.monotonic()

        # Reads of what it holds end by their deadline; everybody else goes on.
        self.assertIn(self.fails_in_time("get", "memory", "k0"),
                      ("TIMEOUT", "UNAVAILABLE", "UNREACH", "LOST"))
        self.assertEqual(self.client.get("files", "k0"), (MIB, 1))
        until("it is silent", lambda: "silent" in [
            s["state"] for s in self.house.status()["servers"]])
        self.client("put", "any", "elsewhere", MIB, 9)  # dram first: but that is silent
        self.assertEqual(self.client.get("any", "elsewhere"), (MIB, 9))
        self.assertIn(self.fails_in_time("put", "memory", "more", MIB, 9),
                      ("BUSY", "TIMEOUT"))

        # A delete is answered when the server can no longer serve what it did not hear about.
        self.client("timeout", int(25000 * PATIENCE))
        self.client("delete", "memory", "k1")
        deleted = time.monotonic()
        self.assertGreater(deleted - stopped, FENCED_S - 2.5)
        self.assertEqual(self.client.fails("get", "memory", "k1").name, "NOTFOUND")

        # Woken, it must not give the old bytes to who asked while it slept.
        store.send(frame("extent_read", read, cookie=1 << 63 | 99))
        self.memory.resume()
        name, values, data, _ = store.frame()
        self.assertEqual(name, "error", values)
        self.assertIn(values["code"], (25, 18))         # UNAVAILABLE, GONE
        self.house.up(2)
        until("the drop was done", lambda: self.asked(store, read) == "GONE")

        # It is the same incarnation: what was not deleted is there.
        for i in 0, 2:
            self.assertEqual(self.client.get("memory", f"k{i}"), (MIB, i + 1))
        self.client("put", "memory", "again", MIB, 7)
        self.assertEqual(self.client.get("memory", "again"), (MIB, 7))
        witness.tell("")
        self.assertGreater(int(witness.hear()[0]), 100)
        with open(history) as lines:
            bad = [x for x in lines if " end " in x and x.split()[2] not in ("ok", "NOTFOUND")]
        self.assertEqual(bad, [])
        witness.leave()
        self.client.leave()
        self.admin("end", self.job)
        self.house.empty()

    def asked(self, store, read):
        try:
            store.ask("extent_read", read)
        except Refused as refused:
            return refused.code
        raise AssertionError("a deleted object was read")

    def test_another_life_is_refused(self):
        """Who says it is the storage server, and is not the process that registered."""
        with open(os.path.join(self.meta.data, "key"), "rb") as f:
            key = f.read().strip()
        wire = Wire(self.meta.socket, 30)
        self.addCleanup(wire.close)
        wire.hello(key, role=ROLE_STORE, client=0)
        for server in 1, 2, 3, 1024, 0xffffffff:
            for incarnation in 0, 1:
                refused = wire.refused("heartbeat", {"server": server,
                                                     "incarnation": incarnation})
                self.assertEqual(refused.code, "STALE")
        self.house.up(2)
        store = Wire(os.path.join(self.memory.data, "run", "store"), 30)
        self.addCleanup(store.close)
        store.hello()
        for ask in "extent_drop", "egroup_drop", "egroup_list":
            with self.assertRaises((Refused, Ended)):   # only the controller's connection may
                store.ask(ask, {"epoch": 1 << 40})
        self.assertEqual(self.client.get("memory", "k0"), (MIB, 1))


class Stopped(HouseTest):
    def test_metadata(self):
        """Longer than storage servers go on without it; then everything goes on."""
        meta, _, _ = self.house.roles()
        admin = self.house.client()
        job, token = self.house.job(admin, lease=1000)
        client = self.house.client(token=token)
        client("bucket", "memory", f"tiers={DRAM}")
        client("put", "memory", "k", MIB, 5)
        client("put", "memory", "small", 100, 6)
        viewer = self.house.client(token=token)
        self.assertEqual(viewer("view", "memory", "k")[1], "1")
        client("timeout", int(2000 * PATIENCE))
        meta.pause()
        began = time.monotonic()
        self.assertEqual(client.fails("get", "memory", "k").name, "TIMEOUT")
        failed = client.fails("put", "memory", "other", 100, 7)
        self.assertEqual(failed.name, "UNKNOWN")
        self.assertIn("did not answer in time", failed.sentence)
        self.assertLess(time.monotonic() - began, 9 * PATIENCE)
        self.assertEqual(viewer("look"), ["5"])
        time.sleep(max(0, 12 - (time.monotonic() - began)))
        meta.resume()
        client("timeout", int(20000 * PATIENCE))
        self.assertEqual(client.get("memory", "small"), (100, 6))
        self.house.up(2)                       # a pause of the controller counts against nobody
        self.assertEqual(client.get("memory", "k"), (MIB, 5))
        self.assertEqual(viewer("look"), ["5"])
        client("put", "memory", "after", MIB, 8)
        client("put", "memory", "other", 100, 9)
        self.assertEqual(client.get("memory", "other"), (100, 9))
        viewer.leave()
        client.leave()
        until("its lease is over", lambda: self.house.status()["jobs"] == 0, 10)
        self.house.empty()

    def test_client(self):
        """With a lease, a pin and half a put: it holds what it has, and nothing else."""
        self.house.serve()
        admin = self.house.client()
        job, token = self.house.job(admin, lease=1000)
        client = self.house.client(token=token)
        self.other = self.house.client(token=token)
        self.other("put", "-", "k", 8 * MIB, 5)
        self.assertEqual(client("view", "-", "k")[1], "1")
        client("open", "-", "half", 6, 40 * MIB)
        client("write", 20 * MIB)
        client.pause()
        self.other("delete", "-", "k")
        until("pinned room is shown", lambda: self.house.tier("dram")["pinned_bytes"] == 8 * MIB)
        self.other("put", "-", "more", 8 * MIB, 7)
        self.assertEqual(self.other.get("-", "more"), (8 * MIB, 7))
        self.other.leave()
        time.sleep(2.5)                        # its connection is open: the lease goes on
        self.assertEqual(self.house.status()["jobs"], 1)
        began = time.monotonic()
        admin("end", job)
        self.assertLess(time.monotonic() - began, 10 * PATIENCE)
        self.assertEqual(self.house.status()["jobs"], 0)
        self.assertEqual(self.house.tier("dram")["pinned_bytes"], 8 * MIB)
        client.resume()
        self.assertEqual(client("look"), ["5"])  # what it holds does not change under it
        failed = client.fails("close")
        self.assertIn(failed.name, ("GONE", "UNKNOWN", "DENIED"))
        self.assertIn("has ended", failed.sentence)
        client("unview")
        client.leave()
        self.house.empty()

    def test_all_in_one(self):
        """The whole system stops for longer than every limit of silence."""
        server = self.house.serve()
        admin = self.house.client()
        job, token = self.house.job(admin, lease=1000)
        client = self.house.client(token=token)
        client("put", "-", "k", MIB, 5)
        admin("bucket", "kept")
        admin("put", "kept", "k", MIB, 6)
        server.pause()
        time.sleep(12)
        server.resume()
        self.assertEqual(client.get("-", "k"), (MIB, 5))
        client("put", "-", "after", MIB, 7)
        self.assertEqual(client.get("-", "after"), (MIB, 7))
        self.assertEqual(admin.get("kept", "k"), (MIB, 6))
        admin("delete", "kept", "k")
        client.leave()
        admin.leave()
        self.house.empty()


if __name__ == "__main__":
    run(sys.modules[__name__], at_once=6)
