#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes layout.inc: a row for every struct and member of wadi.h.

usage: layout_rows.py HEADER > layout.inc"""
import re
import sys


def members(body):
    body = re.sub(r"/\*.*?\*/", " ", body, flags=re.S)
    for declaration in body.split(";"):
        words = re.findall(r"\w+|\*|,|\[[^]]*\]", declaration)
        names = [w for w in words if not w.startswith("[")]
        for part in " ".join(names).split(","):
            if part.split():
                yield part.split()[-1]


def main(header):
    with open(header) as f:
        text = f.read()
    for name, body in re.findall(r"^struct (wadi_\w+) \{(.*?)\};", text, re.S | re.M):
        print("S(%s)" % name)
        for member in members(body):
            print("F(%s, %s)" % (name, member))


main(sys.argv[1])
