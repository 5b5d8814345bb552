#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wadi-sim finds what is planted, says how to see it again, and repeats a seed in every process.

    sim/wadi_sim_test.py WADI_SIM
"""
import os
import re
import subprocess
import sys

SIM = sys.argv[1]
DEADLINE_S = 1000  # a hang is the harness's to end: a machine may be slow


def run(*args, env=None):
    done = subprocess.run([SIM, *args], capture_output=True, text=True, timeout=DEADLINE_S, env=env)
    return done.returncode, done.stdout, done.stderr


def banked_seeds_pass():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "bank.def")) as bank:
        rows = re.findall(r"^BANK\((\w+), (\d+), ", bank.read(), re.M)
    assert rows
    for scenario, seed in rows:
        code, out, _ = run("--scenario", scenario, "--seed", seed)
        assert code == 0, out


def planted_is_found():
    code, out, _ = run("--scenario", "planted", "--seed", "1", "--seeds", "9")
    assert code == 1, code
    assert out.endswith("9 seeds, 3 violations\n"), out
    assert "violation: seed 3, scenario planted" in out
    assert "rule: no seed is a multiple of 3" in out
    assert "half way" in out
    again = re.search(r"again: wadi-sim (.*)", out).group(1).split()
    code, out, _ = run(*again)
    assert code == 1 and out.endswith("1 seeds, 1 violations\n"), out


def first_stops():
    code, out, _ = run("--scenario", "planted", "--seeds", "100", "--first")
    assert code == 1 and out.endswith("3 seeds, 1 violations\n"), out


def failed_check_is_reported():
    code, out, err = run("--scenario", "planted", "--seed", "1000")
    assert code < 0, code
    assert "check failed" in err
    assert "again: wadi-sim --scenario planted --seed 1000" in out
    assert out.endswith("1 seeds, 1 violations\n"), out


def seeds_repeat():
    texts = set()
    for spread in ("", "x" * 1000, "x" * 30000):
        code, out, _ = run("--seeds", "24", "--verbose", env={"SPREAD": spread})
        assert code == 0, out
        texts.add("".join(line for line in out.splitlines(True) if line.startswith("seed ")))
    assert len(texts) == 1
    unseeds = re.findall(r"unseed (\w+)", texts.pop())
    assert len(unseeds) == 24 and len(set(unseeds)) == 24


def seconds_end():
    code, out, _ = run("--seconds", "1", "--list-coverage")
    assert code == 0, out
    assert re.search(r"^\d+ seeds, 0 violations$", out, re.M), out
    assert re.search(r"^\d+ points, \d+ never taken$", out, re.M), out


def failures_are_minimised():
    """Of thirty misfortunes two matter; what is printed fails again, and nothing else happens."""
    for seed in ("500", "501", "503"):
        code, out, _ = run("--scenario", "planted", "--seed", seed, "--minimise")
        assert code == 0 and "rule: nobody is killed twice" in out, out
        happens = re.findall(r"^ +[0-9.]+ s +(\w+) +(.*)$", out, re.M)
        assert len(happens) == 2 and happens[0] == happens[1], out
        again = re.search(r"again: wadi-sim (.*) --trace", out).group(1).split()
        code, out, _ = run(*again)
        assert code == 1 and "rule: nobody is killed twice" in out, out
    code, out, _ = run("--scenario", "planted", "--seed", "1000", "--minimise")
    assert code == 0 and "check failed: sc->seed < DEADLY" in out, out
    code, out, _ = run("--scenario", "planted", "--seed", "1", "--minimise")
    assert code == 1 and "breaks no rule" in out, out
    assert run("--less", "nonsense")[0] == 2


def summary_counts():
    code, out, _ = run("--scenario", "small", "--seed", "7", "--summary")
    assert code == 0, out
    for line in (r"^faults: [1-9]\d*$", r"^ +[1-9]\d*  each version is given once$",
                 r"^rare paths taken: [1-9]\d* of \d+$", r"^[1-9]\d* operations of clients: ",
                 r"^[1-9]\d* simulated seconds in "):
        assert re.search(line, out, re.M), (line, out)


def misuse_is_told():
    for args in (["--seeds", "x"], ["--scenario", "none"], ["more"], ["--unknown"]):
        code, out, err = run(*args)
        assert code == 2 and "usage:" in err and out == "", args


TESTS = [banked_seeds_pass, planted_is_found, first_stops, failed_check_is_reported, seeds_repeat,
         seconds_end, failures_are_minimised, summary_counts, misuse_is_told]
FAILED = 0
for test in TESTS:
    try:
        test()
        print(f"[       OK ] {test.__name__}")
    except AssertionError as problem:
        FAILED += 1
        print(f"[  FAILED  ] {test.__name__}: {problem!r}")
sys.exit(1 if FAILED else 0)
