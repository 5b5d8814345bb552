#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The public header compiles alone as C11 and as C++11, declares what the symbol map lists, and the
shared library shows exactly that.

usage: api_test.py HEADER MAP [LIBRARY]"""
import os
import re
import shutil
import subprocess
import sys


def fail(text):
    sys.exit("api_test: " + text)


def compile_alone(compiler, language, standard, header):
    if shutil.which(compiler) is None:
        print("SKIP: no %s here, the header was not compiled as %s" % (compiler, standard))
        return
    subprocess.run([compiler, "-x", language, "-std=" + standard, "-pedantic", "-Wall", "-Wextra",
                    "-Werror", "-fsyntax-only", header], check=True)


def main(header, symbol_map, library=None):
    compile_alone(os.environ.get("CC", "cc").split()[0], "c", "c11", header)
    compile_alone(os.environ.get("CXX", "c++").split()[0], "c++", "c++11", header)
    with open(header) as f:
        declared = set(re.findall(r"^WADI_API [^(]*?\**(wadi_\w+)\(", f.read(), re.M))
    with open(symbol_map) as f:
        listed = set(re.findall(r"^\t(wadi_\w+);", f.read(), re.M))
    if not declared:
        fail("found no declaration in " + header)
    if declared != listed:
        fail("header and map differ: " + " ".join(sorted(declared ^ listed)))
    if library is None:
        return
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    shown = {line.split()[2].split("@")[0] for line in out.splitlines()
             if line.split()[1] not in "Aa"}
    if shown != declared:
        fail("header and library differ: " + " ".join(sorted(shown ^ declared)))


main(*sys.argv[1:])
