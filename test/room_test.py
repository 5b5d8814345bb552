#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is deleted goes back to the file system, block by block, while its neighbours stay; what one
client keeps for later, others can have."""
import glob
import os
import sys
import threading

from house import DRAM, Failed, LIFETIME_PERSIST, HouseTest, run, until

MIB = 1 << 20
OBJECTS = 12


class Blocks(HouseTest):
    def blocks(self):
        """Bytes that the files of egroups take on the disk."""
        found = glob.glob(os.path.join(self.server.data, "**", "eg-*"), recursive=True)
        return sum(os.stat(f).st_blocks * 512 for f in found)

    def test_deletes_are_punched(self):
        self.server = self.house.serve()
        client = self.house.client()
        client("bucket", "kept", f"lifetime={LIFETIME_PERSIST}")
        for i in range(OBJECTS):
            client("put", "kept", f"k{i}", MIB, i)
        full = self.blocks()
        self.assertGreaterEqual(full, OBJECTS * MIB)
        for i in range(OBJECTS):
            if i % 4:
                client("delete", "kept", f"k{i}")
        left = OBJECTS // 4
        until("the blocks are back", lambda: self.blocks() < (left + 1) * MIB)
        self.assertGreaterEqual(self.blocks(), left * MIB)
        for i in range(0, OBJECTS, 4): # their neighbours are whole
            self.assertEqual(client.get("kept", f"k{i}"), (MIB, i))
            client("delete", "kept", f"k{i}")
        until("nothing is left", lambda: self.blocks() < MIB)
        client.leave() # and with it its grants
        self.house.empty()


class Ahead(HouseTest):
    def test_what_one_keeps_for_later_another_one_gets(self):
        self.server = self.house.serve("--dram", "128M")
        admin = self.house.client()
        _, token = self.house.job(admin, tiers=DRAM)
        early, late = self.house.client(token=token), self.house.client(token=token)
        for i in range(400):
            early("put", "-", f"e{i}", 30000, i)
        kept = self.house.tier("dram")["granted_bytes"]
        self.assertGreater(kept, 5 * MIB)
        self.assertLessEqual(kept, 128 * MIB // 8)
        used = self.house.tier("dram")["used_bytes"]
        stop, failed = threading.Event(), []

        def go_on():  # whoever does nothing cannot be asked
            i = 0
            while not stop.wait(0.01):
                try:
                    early("put", "-", f"e{i % 400}", 30000, i)
                except Failed as f:
                    failed.append(f)
                i += 1
        worker = threading.Thread(target=go_on)
        worker.start()
        self.addCleanup(worker.join)
        self.addCleanup(stop.set)
        n = (128 * MIB - used) // MIB - 5
        for i in range(n):  # more than what nobody keeps
            late("put", "-", f"l{i}", MIB, i)
        self.assertGreater(n * MIB, 128 * MIB - used - kept)
        stop.set()
        worker.join()
        self.assertEqual(failed, [])
        self.assertEqual(late.get("-", f"l{n - 1}"), (MIB, n - 1))
        self.assertEqual(late.fails("put", "-", "more", 8 * MIB, 1).name, "FULL")


if __name__ == "__main__":
    run(sys.modules[__name__])
