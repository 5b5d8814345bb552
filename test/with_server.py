#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program with a `wadi serve` of its own, found by WADI_URL.

usage: with_server.py PROGRAM [ARGUMENT...]        WADI_PROGRAM says which wadi"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python",
                                "tests"))
from served import Served  # noqa: E402


def main():
    served = Served(dram="256M", flash="256M")
    try:
        code = subprocess.run(sys.argv[1:], env=served.environment, check=False).returncode
    finally:
        ended = served.end()
    sys.exit(code or ended)


main()
