#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A simulation finds what is planted: each bug of a list, within its number of seeds.

    sim/plants_test.py [--list FILE] [--program TARGET] [--scenario NAME --seeds N] BUILD [NAME...]

Compiles the planted copies with the commands of the build directory and links them before its
libraries.  Prints how many seeds and seconds each took.  With --scenario another one has to find
them than the list says.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--list", default=os.path.join(HERE, "plants.def"), help="what is planted")
parser.add_argument("--program", default="wadi-sim", help="the target that has to find it")
parser.add_argument("--scenario", help="instead of what the list says")
parser.add_argument("--seeds", help="likewise")
parser.add_argument("build")
parser.add_argument("name", nargs="*", help="only these")
OPTIONS = parser.parse_args()
BUILD = os.path.abspath(OPTIONS.build)
ONLY = OPTIONS.name
DEADLINE_S = 1000  # a hang is the harness's to end: a machine may be slow
END = re.compile(r"^(\d+) seeds, (\d+) violations$", re.M)


def standing(paths):
    """The first of a|b that is there: a function may have moved."""
    return next(path for path in paths.split("|") if os.path.exists(os.path.join(ROOT, path)))


def plants():
    """(name, scenario, seeds, {file: [(old, new)]}) of each row."""
    rows = []
    with open(OPTIONS.list, encoding="utf-8") as text:
        for line in text:
            head = re.match(r"PLANT\((\w+), (\w+), (\d+)\)", line)
            place = re.match(r"IN\((\S+)\)", line)
            if head:
                rows.append((head[1], OPTIONS.scenario or head[2], OPTIONS.seeds or head[3], {}))
            elif place:
                edits = rows[-1][3].setdefault(standing(place[1]), [])
            elif rows and line.startswith("- "):
                edits.append((line[2:].strip(), None))
            elif rows and line.startswith("+"):
                edits[-1] = (edits[-1][0], line[1:].strip())
    return rows


def planted(path, edits):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        lines = file.read().split("\n")
    for old, new in edits:
        at = [i for i, line in enumerate(lines) if line.strip() == old]
        assert at, f"{path} has no line `{old}` any more"
        lines[at[0]] = new
    return "\n".join(lines)


def run(command):
    done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def compiled(directory, path, edits, commands):
    base = os.path.join(directory, path.replace("/", "_"))
    with open(base, "w", encoding="utf-8") as file:
        file.write(planted(path, edits))
    command = shlex.split(commands[os.path.realpath(os.path.join(ROOT, path))])
    for flag, value in (("-o", base + ".o"), ("-MF", base + ".d"), ("-MQ", base + ".o"),
                        ("-c", base)):
        command[command.index(flag) + 1] = value
    run(command + ["-Wno-error"])
    return base + ".o"


def seeds_until_found(row, directory, commands, link):
    name, scenario, seeds, files = row
    objects = [compiled(directory, path, edits, commands) for path, edits in files.items()]
    program = os.path.join(directory, name)
    command = list(link)
    command[command.index("-o") + 1] = program
    at = command.index("-Wl,--start-group") if "-Wl,--start-group" in command else len(command)
    run(command[:at] + objects + command[at:])
    began = os.times()
    done = subprocess.run([program, "--scenario", scenario, "--seeds", seeds, "--first"],
                          capture_output=True, text=True, timeout=DEADLINE_S)
    ended = os.times()
    os.unlink(program)
    end = END.search(done.stdout)
    assert end, f"{done.stdout[-500:]}{done.stderr[-500:]}"
    assert done.returncode != 0 and end[2] == "1", f"not found in {end[1]} seeds of {scenario}"
    cpu_s = ended.children_user - began.children_user
    return int(end[1]), cpu_s, (re.search(r"rule: (.*)", done.stdout) or ["", "?"])[1]


def main():
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        commands = {os.path.realpath(os.path.join(row["directory"], row["file"])): row["command"]
                    for row in json.load(file)}
    target = OPTIONS.program
    text = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", target],
                          capture_output=True, text=True, check=True).stdout
    link = shlex.split([line for line in text.splitlines() if f" -o {target} " in line][-1])
    directory = os.path.join(BUILD, "plants", os.path.basename(OPTIONS.program))
    os.makedirs(directory, exist_ok=True)
    failed = 0
    for row in plants():
        if ONLY and row[0] not in ONLY:
            continue
        try:
            n, cpu_s, rule = seeds_until_found(row, directory, commands, link)
            print(f"{n:4} seeds of {row[1]}, {cpu_s:.0f} s: {rule}")
            print(f"[       OK ] {row[0]}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as problem:
            failed += 1
            print(f"[  FAILED  ] {row[0]}: {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
