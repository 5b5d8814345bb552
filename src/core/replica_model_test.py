#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replica.pml holds as it is, and each of its rules is needed: without it something goes wrong.

    src/core/replica_model_test.py            what `make check` runs
    src/core/replica_model_test.py --far 15   larger bounds, up to 15 minutes for each
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "replica.pml")
DEADLINE_S = 200
CALM = {"LATE": 0, "CRASHES": 0, "CUTS": 0, "REVISIONS": 3}
ONE = CALM | {"RECORDS": 1}
# As far as it is explored in full within seconds: each kind of misfortune by itself.
INTACT = [CALM, ONE | {"LATE": 1}, ONE | {"CUTS": 1}, CALM | {"CRASHES": 1, "EPOCHS": 2}]
# What is remembered of a state is a few bits of a table of 2**bits: in a large one none is missed
# that matters, in a full one some are.
BITS = 27
FAR_BITS = 34
FAR = [CALM | {"LATE": 1}, {"REVISIONS": 3}, {}, {"REVISIONS": 5, "EPOCHS": 4, "LATE": 2,
       "CRASHES": 2, "RECORDS": 3, "SLOTS": 3}]
# The least misfortune that shows what a rule is for.
BROKEN = {
    "R1": ONE, "R1OWN": ONE | {"CRASHES": 1, "EPOCHS": 2}, "R2": ONE, "R2SWAP": ONE | {"LATE": 1},
    "R3": ONE, "R4": ONE | {"LATE": 1, "EPOCHS": 2}, "R4FIRST": ONE, "R5": ONE,
    "R6": ONE | {"EPOCHS": 2}, "R6UNION": ONE | {"LATE": 1, "EPOCHS": 2}, "R7": ONE,
    "R8": ONE | {"EPOCHS": 2}, "R8CAND": ONE | {"LATE": 1, "EPOCHS": 2},
    "R8START": ONE | {"CRASHES": 1, "EPOCHS": 2}, "R9": ONE | {"CUTS": 1},
    "R10": CALM | {"CRASHES": 1, "EPOCHS": 2},
}


def run(command, directory, deadline_s=DEADLINE_S):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True,
                          timeout=deadline_s)
    return done.stdout + done.stderr


def explored(bounds, rule="NONE", minutes=0):
    """What the search says, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="wadi-model-") as directory:
        options = [f"-D{name}={value}" for name, value in bounds.items()]
        said = run(["spin", "-a", *options, f"-DBREAK={rule}", MODEL], directory)
        assert os.path.exists(os.path.join(directory, "pan.c")), said
        # To compile well takes longer than to find what is near.
        said = run(["cc", "-w", "-O2" if rule == "NONE" else "-O0", "-DSAFETY", "-DNOREDUCE",
                    "-DBITSTATE", "-o", "pan", "pan.c"], directory)
        assert os.path.exists(os.path.join(directory, "pan")), said
        said = run(["./pan", "-E", "-m20000"] + ([f"-w{FAR_BITS}", f"-Q{minutes}"] if minutes else
                                                 [f"-w{BITS}"]), directory,
                   DEADLINE_S + 60 * minutes)
        assert "max search depth too small" not in said, said
        assert re.search(r"errors: \d", said), said
        return said


def states(said):
    return int(float(re.search(r"([\d.e+]+) states, stored", said)[1]))


def holds(bounds, minutes=0):
    said = explored(bounds, minutes=minutes)
    in_part = "not completed" in said
    assert "errors: 0" in said and (minutes or not in_part), said
    return f"{states(said)} states" + (", there are more" if in_part else "")


def is_needed(bounds, rule):
    said = explored(bounds, rule)
    found = re.search(r"assertion violated (.*)\n", said)
    assert found and "errors: 1" in said, f"nothing goes wrong without {rule}\n{said}"
    return f"{states(said)} states, then not {found[1]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--far", type=int, metavar="MINUTES")
    far = parser.parse_args().far
    if not shutil.which("spin"):
        print("no spin here, which explores the model: apt-get install spin", file=sys.stderr)
        return 1
    runs = [(f"holds {bounds}", lambda bounds=bounds: holds(bounds)) for bounds in INTACT]
    runs += [(f"needs {rule}", lambda rule=rule, bounds=bounds: is_needed(bounds, rule))
             for rule, bounds in BROKEN.items()]
    if far:
        runs = [(f"holds {bounds}", lambda bounds=bounds: holds(bounds, far)) for bounds in FAR]
    failed = 0
    for name, test in runs:
        try:
            print(f"{test()}\n[       OK ] {name}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as problem:
            failed += 1
            print(f"[  FAILED  ] {name}: {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
