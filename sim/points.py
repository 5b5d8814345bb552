#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists every sys_reached() and sys_buggify() of the sources as rows of points.inc.

    sim/points.py DIRECTORY... OUTPUT
"""
import os
import re
import sys

POINT = re.compile(r'\b(sys_reached|sys_buggify)\(\s*[^,"]+,\s*"((?:[^"\\]|\\.)*)"')

found = set()
for directory in sys.argv[1:-1]:
    for at, _, files in os.walk(directory):
        for name in files:
            if name.endswith((".c", ".h")) and not name.endswith("_test.c"):
                with open(os.path.join(at, name), encoding="utf-8") as file:
                    found |= {match.groups() for match in POINT.finditer(file.read())}
text = "".join(f'POINT({kind}, "{what}")\n' for kind, what in sorted(found))
old = None
if os.path.exists(sys.argv[-1]):
    with open(sys.argv[-1], encoding="utf-8") as file:
        old = file.read()
if text != old:
    with open(sys.argv[-1], "w", encoding="utf-8") as file:
        file.write(text)
