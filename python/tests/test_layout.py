# SPDX-License-Identifier: Apache-2.0
"""The structs of _lib.py lie in memory as the compiler lays out those of wadi.h.

WADI_LAYOUT is the program made from layout.c."""
import ctypes
import os
import subprocess
import unittest

from wadi import _lib


class Layout(unittest.TestCase):
    def test_structs(self):
        out = subprocess.run([os.environ["WADI_LAYOUT"]], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
        seen = dict(line.split() for line in out.splitlines())
        for name, struct in _lib.STRUCTS.items():
            self.assertEqual(ctypes.sizeof(struct), int(seen[name]), name)
            members = {k.split(".")[1]: int(v) for k, v in seen.items()
                       if k.startswith(name + ".")}
            self.assertEqual({f[0]: getattr(struct, f[0]).offset for f in struct._fields_}, members,
                             name)


if __name__ == "__main__":
    unittest.main()
