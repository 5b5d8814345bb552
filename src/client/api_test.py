#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The public header compiles alone as C11 and as C++11, declares what the symbol map lists, and the
libraries, shared and static, show exactly that.

usage: api_test.py HEADER MAP [LIBRARY...]"""
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


def shown_by(library):
    """Names that a program linked with the library could meet."""
    how = ["-D"] if library.endswith(".so") or ".so." in library else ["-g"]
    out = subprocess.run(["nm", *how, "--defined-only", library], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    rows = [line.split() for line in out.splitlines()]
    return {row[2].split("@")[0] for row in rows if len(row) == 3 and row[1] not in "Aa"}


def main(header, symbol_map, *libraries):
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
    for library in libraries:
        differ = shown_by(library) ^ declared
        if differ:
            fail("header and %s differ: %s" % (library, " ".join(sorted(differ))))


main(*sys.argv[1:])
