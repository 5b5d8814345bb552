#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The roles apart, over TCP: one process for the metadata, one for each storage server, clients on
this host and, in a network namespace of their own, on another one."""
import itertools
import os
import re
import subprocess
import sys
import time

from house import DRAM, FLASH, PATIENCE, Failed, HouseTest, run, until

MIB = 1 << 20


class OverTcp(HouseTest):
    def setUp(self):
        super().setUp()
        self.meta, self.memory, self.flash = self.house.roles(dram="64M", listen=True)
        self.tcp = {"WADI_URL": self.meta.tcp_url,
                    "WADI_KEY": os.path.join(self.meta.data, "key")}

    def ok(self, *args, **how):
        done = self.house.wadi(*args, env=self.tcp, **how)
        self.assertEqual(done.returncode, 0, (args, done.stderr))
        return done.stdout

    def test_a_job(self):
        """Registered, at work in memory and beyond it, ended, and nothing is left."""
        wadi, folder = self.house.program, self.house.folder
        out = self.ok("job", "run", "--bill", "sh", "-c", f"""
            set -e
            head -c 30000000 /dev/urandom > {folder}/part
            for i in 1 2 3; do {wadi} put {folder}/part /part-$i; done
            for i in 1 2 3; do {wadi} cat /part-$i | cmp - {folder}/part; done
            {wadi} put --delete-on-read {folder}/part /once
            {wadi} get --wait 5s --delete /once - | cmp - {folder}/part
            echo small | {wadi} put /small
            {wadi} stat --json /part-1 /part-3 /small
            {wadi} put --persist {folder}/part /kept
            echo job $WADI_JOB_ID""")
        self.assertIn(b"dram", out)
        self.assertIn(b"flash", out)             # 64 MiB of memory hold two of the parts
        kept = "%s:/kept" % re.search(rb"job (\d+)", out).group(1).decode()
        with open(os.path.join(folder, "part"), "rb") as part:
            self.assertEqual(self.ok("cat", kept), part.read())
        status = self.house.status()
        self.assertEqual([s["state"] for s in status["servers"]], ["up", "up"])
        for server in status["servers"]:
            self.assertRegex(server["addr"], r"^tcp:127\.0\.0\.1:\d+$")
        self.ok("rm", kept)
        self.house.empty()

    def test_wrong_key(self):
        """A storage server that has the key of another cluster does not join."""
        path = os.path.join(self.house.folder, "other-key")
        with open(path, "w") as f:
            f.write("0" * 64 + "\n")
        os.chmod(path, 0o600)
        stranger = self.house.server("stranger", "store", "--meta", self.meta.tcp_url,
                                     "--key-file", path, "--dram", "64M")
        until("it says so", lambda: "token is nobody's" in stranger.said())
        self.assertEqual(len(self.house.status()["servers"]), 2)
        done = self.house.wadi("ls", env={**self.tcp, "WADI_KEY": path})
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_drained_by_a_kill(self):
        """What the dead server held in memory is LOST, at once and by that name; the rest of the
        system takes over, and takes the server back when it returns with nothing."""
        number = next(s["server"] for s in self.house.status()["servers"]
                      if s["tiers"][0]["tier"] == "dram")
        second = self.house.server("second", "store", "--meta", self.meta.tcp_url, "--key-file",
                                   self.tcp["WADI_KEY"], "--dram", "64M")
        self.house.up(3)
        admin = self.house.client()
        job, token = self.house.job(admin, tiers=DRAM)
        client = self.house.client(url=self.meta.tcp_url, token=token)
        for i in range(12):
            client("put", "-", f"k{i}", 4 * MIB, i + 1)
        held = {s["server"]: s["tiers"][0]["used_bytes"] for s in self.house.status()["servers"]
                if s["tiers"][0]["tier"] == "dram"}
        self.assertEqual(sum(held.values()), 48 * MIB)
        self.memory.kill()
        for i in range(12, 18):
            client("put", "-", f"k{i}", 4 * MIB, i + 1)
        self.memory.start()
        self.house.up(3)
        lost = 0
        for i in range(12):
            try:
                self.assertEqual(client.get("-", f"k{i}"), (4 * MIB, i + 1))
            except Failed as failed:
                self.assertEqual(failed.name, "LOST")
                lost += 1
        self.assertGreaterEqual(lost * 4 * MIB, held[number])  # an object may have several extents
        for i in range(12, 18):
            self.assertEqual(client.get("-", f"k{i}"), (4 * MIB, i + 1))
        client("put", "-", "again", 4 * MIB, 99)
        self.assertEqual(client.get("-", "again"), (4 * MIB, 99))
        client.leave()
        admin("end", job)
        self.house.empty()


class Hosts(HouseTest):
    """Two network namespaces with a cable between them: a server here, a client there."""
    numbers = itertools.count()

    def setUp(self):
        super().setUp()
        n = next(Hosts.numbers)
        self.here, self.there = (f"wadi{os.getpid()}{n}{x}" for x in "ab")
        self.net = f"10.{os.getpid() % 200 + 20}.{n}."
        if os.geteuid() != 0:
            self.skipTest("not root: no network namespaces")
        for args in (["ip", "netns", "add", self.here], ["ip", "netns", "add", self.there],
                     ["ip", "link", "add", self.here, "netns", self.here, "type", "veth",
                      "peer", "name", self.there, "netns", self.there],
                     *(["ip", "-n", name, *words] for name, at in ((self.here, 1), (self.there, 2))
                       for words in (["link", "set", "lo", "up"], ["link", "set", name, "up"],
                                     ["address", "add", f"{self.net}{at}/24", "dev", name]))):
            try:
                done = subprocess.run(args, capture_output=True, text=True, timeout=20)
            except FileNotFoundError:
                self.skipTest("no program ip: no network namespaces")
            if done.returncode != 0:
                self.skipTest(f"no network namespaces here: {' '.join(args)}: "
                              f"{done.stderr.strip()}")
            if args[:3] == ["ip", "netns", "add"]:
                self.addCleanup(subprocess.run, ["ip", "netns", "del", args[3]])
        # Cleanups run backwards: the processes end before their namespaces go.
        self.addCleanup(self.house.end)
        self.furnish()

    def furnish(self):
        wrap = ["ip", "netns", "exec", self.here]
        aloud = ["--insecure"] if b"--insecure" in self.house.wadi("serve", "--help").stdout else []
        listen = ["--listen", self.net + "1:0", *aloud]
        self.meta = self.house.server("meta", "meta", *listen, wrap=wrap)
        key = os.path.join(self.meta.data, "key")
        how = ["--meta", self.meta.tcp_url, "--key-file", key, *listen]
        self.stores = [self.house.server(name, "store", *how, f"--{tier}", "128M", wrap=wrap)
                       for name, tier in (("memory", "dram"), ("disk", "flash"))]
        self.house.up(2)
        self.admin = self.house.client()
        self.job, self.token = self.house.job(self.admin)

    def stranger(self):
        """A client that sees neither their Unix sockets nor their memory."""
        hide = " && ".join(f"mount -t tmpfs none {s.data}" for s in self.stores)
        return self.house.client(url=self.meta.tcp_url, token=self.token, wrap=[
            "ip", "netns", "exec", self.there, "unshare", "-m", "sh", "-c",
            hide + ' && exec "$0"'])

    def cable(self, state):
        subprocess.run(["ip", "-n", self.there, "link", "set", self.there, state], check=True,
                       timeout=20)

    def test_a_client_on_another_host(self):
        near = self.house.client(token=self.token)
        far = self.stranger()
        near("bucket", "memory", f"tiers={DRAM}")
        near("bucket", "files", f"tiers={FLASH}")
        for bucket in "memory", "files":
            for length in 0, 16, 4097, 5 * MIB + 3, 20 * MIB:
                far("put", bucket, f"far{length}", length, 5 if length else 0)
                near("put", bucket, f"near{length}", length, 6 if length else 0)
                self.assertEqual(near.get(bucket, f"far{length}"), (length, 5 if length else 0))
                self.assertEqual(far.get(bucket, f"near{length}"), (length, 6 if length else 0))
        self.assertEqual(near("view", "memory", "far4097")[1], "1")
        self.assertEqual(far("view", "memory", "far4097")[1], "0")
        far("delete", "memory", "far4097")
        self.assertEqual(near("look"), ["5"])
        for client in near, far:
            client("unview")
            client.leave()
        self.admin("end", self.job)
        self.house.empty()

    def test_a_cable_that_is_pulled(self):
        near = self.house.client(token=self.token)
        far = self.stranger()
        far("put", "-", "small", 100, 1)
        far("put", "-", "large", 5 * MIB, 2)
        far("timeout", int(2000 * PATIENCE))
        self.cable("down")
        for words, names in ((("get", "-", "small"), ["TIMEOUT", "UNREACH"]),
                             (("put", "-", "small", 100, 3), ["UNKNOWN"]),
                             (("put", "-", "larger", 5 * MIB, 4), ["UNKNOWN", "TIMEOUT",
                                                                    "UNREACH"])):
            began = time.monotonic()
            failed = far.fails(*words)
            self.assertIn(failed.name, names, failed)
            self.assertLess(time.monotonic() - began, 6 * PATIENCE)
            near("put", "-", "near", MIB, 5)
            self.assertEqual(near.get("-", "near"), (MIB, 5))
        self.cable("up")
        far("timeout", int(30000 * PATIENCE))
        self.assertIn(far.get("-", "small"), ((100, 1), (100, 3)))
        self.assertEqual(far.get("-", "large"), (5 * MIB, 2))
        far("put", "-", "small", 100, 6)
        far("put", "-", "larger", 5 * MIB, 7)
        self.assertEqual(near.get("-", "small"), (100, 6))
        self.assertEqual(near.get("-", "larger"), (5 * MIB, 7))
        far.leave()
        near.leave()
        self.admin("end", self.job)
        self.house.empty()


if __name__ == "__main__":
    run(sys.modules[__name__], at_once=5)
