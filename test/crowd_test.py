#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server with as many connections as it takes: the one too many is told so, nobody else notices,
and what an idle one costs stays what docs/limits.md says."""
import os
import resource
import socket
import sys

from house import PATIENCE, HouseTest, run, until

# hello of wire version 1: a client without a session, named "idle"
HELLO = bytes.fromhex("574144491f0000000000000001000100000000000000008000000000ee94adf3"
                      "01000100000000000000000000000000000000000000000400000069646c65")
OP_AT, OP_HELLO_OK, OP_ERROR = 12, 2, 3
SHARE = 4             # of a process's open files, connections may be
CONNECTIONS_MAX = 4096
IDLE_BYTES = 32 << 10 # stated: about 20 KiB


def knock(path):
    """The socket and the answer to its hello."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * PATIENCE)
    s.connect(path)
    try:
        s.sendall(HELLO)
    except BrokenPipeError:
        pass # it may have been answered all the same
    return s, s.recv(4096)


def let_in(answer):
    return int.from_bytes(answer[OP_AT:OP_AT + 2], "little") == OP_HELLO_OK


def private_bytes(pid):
    """Without the arenas, which are being faulted in meanwhile."""
    with open(f"/proc/{pid}/status") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


class Crowd(HouseTest):
    def fill(self, path):
        """All that are let in, and what the first one outside was told."""
        crowd, unheard = [], 0
        while True:
            try:
                s, answer = knock(path)
            except ConnectionResetError:  # a busy server has half a second to say why
                unheard += 1
                self.assertLess(unheard, 10 * PATIENCE)
                continue
            if not let_in(answer):
                s.close()
                return crowd, answer[32:].decode("utf-8", "replace")
            crowd.append(s)
            self.addCleanup(s.close)

    def works(self, client, n):
        client("put", self.bucket, f"small{n}", 100, n)
        client("put", self.bucket, f"large{n}", 300000, n)
        self.assertEqual(client.get(self.bucket, f"small{n}"), (100, n))
        self.assertEqual(client.get(self.bucket, f"large{n}"), (300000, n))

    def begin(self, *options, **how):
        self.server = self.house.server("all", "serve", "--dram", "128M", "--flash", "128M",
                                        *options, **how)
        client = self.house.client()
        self.bucket = "crowd"
        client("bucket", self.bucket)
        self.works(client, 1) # it is connected to the storage server, too
        return client

    def test_few_files(self):
        """The limit follows what the process may open."""
        client = self.begin(wrap=("prlimit", "--nofile=400:400"))
        crowd, told = self.fill(self.server.socket)
        limit = 400 // SHARE
        self.assertIn(f"this server has {limit} connections: no more", told)
        self.assertTrue(limit - 8 <= len(crowd) <= limit, len(crowd))
        self.works(client, 2)
        more, told = self.fill(self.server.data + "/run/store") # the storage server's own
        self.assertIn(f"this server has {limit} connections: no more", told)
        self.works(client, 3)
        done = self.house.wadi("--timeout", "1s", "status", timeout=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"connections: no more", done.stderr)
        crowd.pop().close()
        until("somebody left, and another one gets in",
              lambda: self.house.wadi("status").returncode == 0)

    def test_at_the_limit(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < SHARE * CONNECTIONS_MAX:
            self.skipTest(f"{hard} open files are too few for {CONNECTIONS_MAX} connections")
        if os.environ.get("WADI_SANITIZE") == "thread":
            self.skipTest("to ThreadSanitizer a fiber is a thread, and it ends at 8,128 of them")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.house.environment.pop("MALLOC_PERTURB_", None) # it writes what nobody would
        client = self.begin()
        before = private_bytes(self.server.pid)
        crowd, told = self.fill(self.server.socket)
        self.assertIn(f"this server has {CONNECTIONS_MAX} connections: no more", told)
        self.assertGreater(len(crowd), CONNECTIONS_MAX - 8)
        each = (private_bytes(self.server.pid) - before) / len(crowd)
        print(f"{each:.0f} bytes for each idle connection", flush=True)
        if PATIENCE == 1: # sanitizers have their own price
            self.assertLess(each, IDLE_BYTES)
        self.works(client, 2)
        for s in crowd:
            s.close()
        until("they are gone", lambda: self.house.wadi("status").returncode == 0)
        self.works(client, 3)


if __name__ == "__main__":
    run(sys.modules[__name__])
