#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A job with a token, grants and capabilities of its own reaches for another job's things by every
request that there is, on every port, and gets nothing: no byte, no change, no hint."""
import json
import os
import sys
import time

from frames import MESSAGES, ROLE_STORE, Refused, Wire
from house import DRAM, FLASH, PATIENCE, SharedHouseTest, run

LENGTH, SEED = 100000, 7
TIERS = ("vault-m", DRAM), ("vault-f", FLASH)
READS = ("bucket_open", "bucket_list", "get", "list", "stat", "job_list", "job_bill", "status",
         "heartbeat", "egroup_list")
# Not requests, or part of no job: the opening, and what only servers say to each other's callers.
ANSWERS = ("ok", "error", "hello", "ping")


class Isolation(SharedHouseTest):
    @classmethod
    def furnish(cls):
        cls.server = cls.house.serve("--listen", "127.0.0.1:0")
        addr = cls.house.status()["servers"][0]["addr"].split(":")
        cls.ports = {"meta_unix": cls.server.socket, "meta_tcp": cls.server.tcp,
                     "store_unix": os.path.join(cls.server.data, "run", "store"),
                     "store_tcp": (addr[1], int(addr[2]))}
        cls.admin = cls.house.client()
        cls.owner, cls.owner_token = cls.house.job(cls.admin, "owner")
        cls.thief, cls.thief_token = cls.house.job(cls.admin, "thief")
        cls.client = cls.house.client(token=cls.owner_token)
        cls.tried = set()
        for bucket, tier in TIERS:
            cls.client("bucket", bucket, f"tiers={tier}")
            cls.client("put", bucket, "k", LENGTH, SEED)

    def wire(self, port, token=b"", **how):
        wire = Wire(self.ports[port], 15 * PATIENCE)
        self.addCleanup(wire.close)
        wire.hello(token, **how)
        return wire

    def looked_up(self, wire, job):
        """{bucket's name: (its number, what a get of "k" in it says)}"""
        found = wire.ask("bucket_list", {"job": job, "max": 9})["buckets"]
        return {b["name"].decode(): (b["bucket"], wire.ask("get", {"bucket": b["bucket"],
                                                                   "name": b"k"}))
                for b in found if b["name"].startswith(b"vault-")}

    def refused(self, wire, name, fields, codes, data=b""):
        self.tried.add(name)
        answer = wire.refused(name, fields, data, numbered=name not in READS
                              and MESSAGES[name][0] < 96)
        self.assertIn(answer.code, codes, (name, fields, answer.note))
        self.assertNotIn("vault-", answer.note, (name, fields))

    def test_metadata(self):
        owner = self.wire("meta_unix", self.owner_token.encode())
        theirs = self.looked_up(owner, self.owner)
        for port in "meta_unix", "meta_tcp":
            wire = self.wire(port, self.thief_token.encode())
            mine = wire.ask("bucket_create", {"name": b"mine", "exists_ok": 1},
                            numbered=True)["bucket"][0]["bucket"]
            wire.ask("put", {"bucket": mine, "name": b"k"}, b"own", numbered=True)
            for bucket, got in theirs.values():
                inode, place = got["inode"], got["places"][0]
                stolen = [{f: place[f] for f in ("egroup", "extent", "offset", "len", "root")}]
                for name, ask in (
                        ("put", {"name": b"k"}), ("put", {"name": b"new"}),
                        ("commit", {"name": b"k", "extents": stolen}), ("get", {"name": b"k"}),
                        ("get", {"inode": inode}), ("delete", {"name": b"k"}),
                        ("done", {"inode": inode}), ("list", {"max": 10}),
                        ("stat", {"name": b"k"}), ("persist", {"name": b"k"}),
                        ("rename", {"to_bucket": bucket, "from": b"k", "to": b"j"}),
                        ("mkdir", {"name": b"d"}), ("grant", {"bytes": 1}), ("bucket_drop", {})):
                    self.refused(wire, name, {"bucket": bucket, **ask}, ("DENIED",))
                for way in {"bucket": mine, "to_bucket": bucket}, {"bucket": bucket,
                                                                   "to_bucket": mine}:
                    self.refused(wire, "rename", {**way, "from": b"k", "to": b"j"},
                                 ("DENIED", "CROSS"))  # which is so for one's own as well
                # Room and extents of another job, under its own name.
                part = owner.ask("grant", {"bucket": bucket, "bytes": LENGTH},
                                 numbered=True)["parts"][0]
                self.refused(wire, "grant_return", {f: part[f] for f in (
                    "egroup", "extent_first")}, ("DENIED",))
                self.refused(wire, "commit", {"bucket": mine, "name": b"loot", "extents": stolen},
                             ("DENIED", "INVALID", "STALE", "CONFLICT", "GONE", "NOTFOUND"))
            for name, ask in (("bucket_create", {"name": b"b"}),
                              ("bucket_open", {"name": b"vault-f"}),
                              ("bucket_list", {"max": 9}), ("job_end", {}), ("job_renew", {}),
                              ("job_bill", {}), ("status", {}), ("job_revoke", {})):
                self.refused(wire, name, {"job": self.owner, **ask}, ("DENIED",))
            self.refused(wire, "job_register", {"name": b"more"}, ("DENIED",))
            for name in ("scrub", "key_rotate", "replica_say", "replica_copy", "join",
                         "node_list", "node_drain", "node_remove", "shard_status", "shard_move"):
                self.refused(wire, name, {}, ("DENIED",))
            self.tried.add("job_list")
            self.assertEqual([j["job"] for j in wire.ask("job_list", {"max": 100})["jobs"]],
                             [self.thief])
            self.assertEqual(wire.ask("get", {"bucket": mine, "name": b"k"})["data"], b"own")
            # Whoever read bad bytes may say so: it is looked into, and nothing is changed by it.
            self.tried.add("extent_bad")
            wire.ask("extent_bad", {"extents": [
                {"egroup": got["places"][0]["egroup"], "extent": got["places"][0]["extent"]}
                for _, got in theirs.values()]})
            # It is no storage server either, nor does the metadata take what those are told.
            store = self.wire(port, self.thief_token.encode(), role=ROLE_STORE, client=0)
            self.refused(store, "store_register", {"uuid_hi": 1, "uuid_lo": 2, "incarnation": 3,
                                                   "addr": b"tcp:1.2.3.4:5"}, ("DENIED",))
            self.refused(store, "heartbeat", {"server": 1, "incarnation": 3}, ("STALE", "DENIED"))
            for name in ("egroup_list", "egroup_drop", "extent_drop", "extent_copy", "arena_gone",
                         "grant_recall"):
                self.refused(store, name, {}, ("UNSUPPORTED",))

    def test_storage(self):
        meta = self.wire("meta_unix", self.thief_token.encode())
        theirs = self.looked_up(self.wire("meta_unix", self.owner_token.encode()), self.owner)
        own = self.house.client(token=self.thief_token)
        for bucket, tier in TIERS:
            own("bucket", bucket, f"tiers={tier}")
            own("put", bucket, "k", LENGTH, SEED + 1)
        mine = self.looked_up(meta, self.thief)
        for kind, (_, got) in theirs.items():
            place, ours = got["places"][0], mine[kind][1]
            cap = {f: ours[f] for f in ("cap_job", "cap_until_ms", "cap")}
            self.assertEqual(cap["cap_job"], self.thief)
            grant = meta.ask("grant", {"bucket": mine[kind][0], "bytes": LENGTH},
                             numbered=True)["parts"][0]
            write = {f: grant[f] for f in ("egroup", "extent_first", "extent_count",
                                           "credit_bytes", "cap_job", "cap_until_ms", "cap",
                                           "tier", "device", "epoch") if f in grant}
            write.setdefault("epoch", 1)
            write["extent"] = grant["extent_first"]
            for port in "store_unix", "store_tcp":
                wire = self.wire(port)
                it = {"egroup": place["egroup"], "extent": place["extent"]}
                # What it may do works, so that what follows fails for the right reason.
                good = {"egroup": ours["places"][0]["egroup"],
                        "extent": ours["places"][0]["extent"], "len": 4096, **cap}
                self.assertEqual(len(wire.ask("extent_read", good)["data"]), 4096)
                self.refused(wire, "extent_read", {**it, "len": 4096, **cap}, ("GONE", "DENIED"))
                self.refused(wire, "extent_read", {**it, "len": 4096, **cap,
                                                   "cap_job": self.owner}, ("DENIED",))
                self.refused(wire, "extent_read", {**it, "len": 4096, **{
                    f: write[f] for f in ("cap_job", "cap_until_ms", "cap")}}, ("DENIED",))
                near = port == "store_unix"
                pinned = ("GONE", "DENIED") if near else ("GONE", "DENIED", "UNSUPPORTED")
                self.refused(wire, "extent_pin", {**it, **cap}, pinned)
                self.refused(wire, "extent_pin", {**it, **cap, "cap_job": self.owner},
                             ("DENIED", "UNSUPPORTED"))
                self.refused(wire, "extent_unpin", it, ("NOTFOUND", "GONE", "INVALID", "DENIED",
                                                        "UNSUPPORTED"))
                for name, more, data in (("extent_write", {}, b"x" * 4096),
                                         ("extent_alloc", {"len": 4096}, b"")):
                    bad = ("DENIED",) if name == "extent_write" else \
                        ("UNSUPPORTED",) if not near else \
                        ("DENIED", "INVALID") if kind == "vault-f" else ("DENIED",)
                    for change in ({"egroup": place["egroup"]}, it, {"cap_job": self.owner},
                                   {**it, "cap_job": self.owner}):
                        self.refused(wire, name, {**write, **more, **change}, bad, data)
                    self.refused(wire, name, {**write, **more, "extent": place["extent"]},
                                 bad + ("INVALID", "EXISTS", "CONFLICT"), data)
                self.refused(wire, "extent_seal", it, ("NOTFOUND", "GONE", "INVALID", "DENIED",
                                                       "CORRUPT", "UNSUPPORTED"), bytes(100))
                for name in ("extent_drop", "egroup_drop", "extent_copy", "egroup_list",
                             "arena_gone", "store_register", "heartbeat"):
                    self.refused(wire, name, {}, ("UNSUPPORTED",))
            self.assertEqual(self.client.get(kind, "k"), (LENGTH, SEED))
        own.leave()

    def test_revoked(self):
        """A token that leaked, and what was given for it, opens nothing once it was revoked."""
        job, token = self.house.job(self.admin, "leaky")
        client = self.house.client(token=token)
        client("bucket", "leaky", "tiers=flash")
        client("put", "leaky", "k", LENGTH, SEED)
        meta = self.wire("meta_tcp", token.encode())
        bucket = meta.ask("bucket_open", {"job": job, "name": b"leaky"})["bucket"][0]["bucket"]
        got = meta.ask("get", {"bucket": bucket, "name": b"k"})
        grant = meta.ask("grant", {"bucket": bucket, "bytes": LENGTH}, numbered=True)["parts"][0]
        read = {f: got["places"][0][f] for f in ("egroup", "extent")}
        read.update({f: got[f] for f in ("cap_job", "cap_until_ms", "cap")}, len=4096)
        write = {f: grant[f] for f in ("egroup", "epoch", "extent_first", "extent_count", "tier",
                                       "credit_bytes", "cap_job", "cap_until_ms", "cap", "device")}
        write["extent"] = grant["extent_first"]
        store = self.wire("store_tcp")
        self.assertEqual(len(store.ask("extent_read", read)["data"]), 4096)
        # With the key of capabilities changed as well, it would still be good for a while.
        self.house.wadi("key", "rotate")
        self.assertEqual(len(store.ask("extent_read", read)["data"]), 4096)
        new = json.loads(self.house.wadi("job", "revoke", str(job), "--json").stdout)["token"]
        until = time.monotonic() + 5 * PATIENCE
        while True:  # heartbeats carry it
            try:
                store.ask("extent_read", read)
            except Refused as refused:
                self.assertEqual(refused.code, "STALE", refused.note)
                break
            self.assertLess(time.monotonic(), until)
            time.sleep(0.05)
        refused = store.refused("extent_write", write, bytes(4096))
        self.assertEqual(refused.code, "STALE", refused.note)
        with self.assertRaises(Refused) as caught:
            self.wire("meta_tcp", token.encode())
        self.assertEqual(caught.exception.code, "DENIED")
        self.assertNotEqual(new, token)
        again = self.house.client(token=new)
        self.assertEqual(again.get("leaky", "k"), (LENGTH, SEED))
        again.leave()
        client.leave()
        self.admin("end", job)

    @classmethod
    def tearDownClass(cls):
        for bucket, _ in TIERS:
            found = cls.client.get(bucket, "k")
            if found != (LENGTH, SEED):
                raise AssertionError(f"{bucket}: {found}")
        requests = {n for n, (op, _) in MESSAGES.items() if op is not None
                    and not n.endswith("_ok") and n not in ANSWERS}
        if cls.tried != requests and len(sys.argv) == 1:
            raise AssertionError(f"requests that nobody tried: {sorted(requests - cls.tried)}")
        for job in cls.owner, cls.thief:
            cls.admin("end", job)
        cls.house.empty()


if __name__ == "__main__":
    run(sys.modules[__name__])
