#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Equal seeds end in equal states, by gcc as by clang, optimised or not, in every process.

    sim/compilers_test.py BUILD

Builds wadi-sim with the other compiler, without optimisation, below the build directory, and
compares the final states of its generators for a few seeds of each scenario.  Exits 77 (skipped)
when there is no other compiler.
"""
import os
import re
import shutil
import subprocess
import sys

BUILD = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEADLINE_S = 1000  # a hang is the harness's to end: a machine may be slow
SEEDS = 6
UNSEED = re.compile(r"^seed \d+ \w+ unseed \w+ at \d+ ms.*$", re.M)


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, **more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def other_compiler():
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        ours = re.search(r'"command": "(\S+)', file.read())[1]
    version = run([ours, "--version"])
    return "gcc" if "clang" in version else "clang"


def other_build(compiler):
    directory = os.path.join(BUILD, "other-compiler")
    if not os.path.exists(os.path.join(directory, "build.ninja")):
        run(["meson", "setup", directory, ROOT, "--buildtype=debug", "-Dwerror=false"],
            env={**os.environ, "CC": compiler})
    run(["ninja", "-C", directory, "wadi-sim"])
    return directory


def states(directory, scenario):
    """Of the first seeds; whether their rules hold is the business of others."""
    done = subprocess.run([os.path.join(directory, "wadi-sim"), "--scenario", scenario, "--seed",
                           "1", "--seeds", str(SEEDS), "--verbose"],
                          capture_output=True, text=True, timeout=DEADLINE_S)
    return UNSEED.findall(done.stdout)


def main():
    compiler = other_compiler()
    if shutil.which(compiler) is None or shutil.which("meson") is None:
        print(f"{compiler} or meson is not installed")
        return 77
    other = other_build(compiler)
    names = re.findall(r"^(\w+) +(?!.*only by)", run([os.path.join(BUILD, "wadi-sim"), "--list"]),
                       re.M)
    assert len(names) > 3, names
    failed = 0
    for name in names:
        ours, theirs, again = states(BUILD, name), states(other, name), states(BUILD, name)
        assert len(ours) == SEEDS, ours
        same = ours == theirs and ours == again
        failed += not same
        print(f"[  {'     OK' if same else 'FAILED '} ] {name}_as_by_{compiler}")
        for pair in zip(ours, theirs, again):
            if len(set(pair)) > 1:
                print("    " + "\n    ".join(pair))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
