#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is deleted goes back to the file system, block by block, while its neighbours stay."""
import glob
import os
import sys

from house import LIFETIME_PERSIST, HouseTest, run, until

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


if __name__ == "__main__":
    run(sys.modules[__name__])
