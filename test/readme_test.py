#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's first five minutes, line by line as it stands, and what surprised somebody who knew
only the README.

WADI_PROGRAM says which wadi; WADI_LIB which library, where python can load it."""
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from fcntl import ioctl
from termios import TIOCSWINSZ

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
PROGRAM = os.path.realpath(os.environ["WADI_PROGRAM"])
SMALL = ("--dram", "64M", "--flash", "64M")


def blocks():
    """(language, text) of each block of the section."""
    with open(os.path.join(TOP, "README.md")) as f:
        section = f.read().split("## The first five minutes")[1].split("\n## ")[0]
    return BLOCK.findall(section)


class Home(unittest.TestCase):
    """A user who has just come: a home of their own, the build's wadi in the PATH."""

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="wadi-home-")
        self.addCleanup(shutil.rmtree, self.home, True)
        self.work = os.path.join(self.home, "wadi")
        os.mkdir(self.work)
        for name in ("README.md", "python"):
            os.symlink(os.path.join(os.path.realpath(TOP), name), os.path.join(self.work, name))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("WADI_")}
        self.env.update(HOME=self.home, PATH=os.path.dirname(PROGRAM) + ":" + self.env["PATH"],
                        NO_COLOR="1")
        self.env.pop("XDG_RUNTIME_DIR", None)

    def shell(self, text, code=0):
        done = subprocess.run(["bash", "-euc", text], env=self.env, cwd=self.work, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, code, (text, done.stdout, done.stderr))
        return done.stdout, done.stderr

    def serve(self, *options):
        """wadi serve in the background; it must end by itself and with 0 when asked."""
        log = open(os.path.join(self.home, "log"), "a+")
        server = subprocess.Popen([PROGRAM, "serve", *options], env=self.env, cwd=self.work,
                                  stdout=log, stderr=log)

        def end():
            server.send_signal(signal.SIGINT)
            code = server.wait(30)
            log.seek(0)
            text = log.read()
            log.close()
            self.assertEqual(code, 0, text)
        self.addCleanup(end)
        self.shell("wadi status --wait 30s --quiet")
        return server

    def terminal(self, *command, columns=80, until=None):
        """What the command shows on a terminal; Ctrl-C is typed once until was seen."""
        ours, theirs = pty.openpty()
        ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        child = subprocess.Popen(command, env=self.env, cwd=self.work, stdin=theirs,
                                 stdout=theirs, stderr=theirs, start_new_session=True,
                                 preexec_fn=lambda: ioctl(0, 0x540E, 0))  # TIOCSCTTY
        os.close(theirs)
        seen, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if until is not None and until in seen:
                os.write(ours, b"\x03")
                until = None
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # nobody is on the other side any more
                    break
            elif child.poll() is not None:
                break
        os.close(ours)
        return child.wait(10), seen.decode()


class Readme(Home):
    def test_every_block_does_what_it_says(self):
        done = {"serve": 0, "shell": 0, "python": 0, "make": 0, "export": 0}
        for language, text in blocks():
            if text == "make\nexport PATH=\"$PWD/build:$PATH\"\n":
                done["make"] += 1  # whoever runs this has
            elif text == "wadi serve\n":
                self.serve()
                done["serve"] += 1
            elif language == "sh" and text.startswith("export "):
                self.assertTrue(text.startswith("export PYTHONPATH=python WADI_LIB=build/src/"))
                self.env.update(PYTHONPATH="python", WADI_LIB=os.environ.get("WADI_LIB", ""))
                done["export"] += 1
            elif language == "sh":
                out, errors = self.shell(text)
                self.assertEqual(errors, "", text)
                done["shell"] += 1
                self.look(text, out)
            elif language == "python":
                done["python"] += 1
                if self.env.get("WADI_LIB"):  # a sanitizer's library cannot be loaded
                    self.env["CODE"] = text
                    self.assertEqual(self.shell('exec python3 -c "$CODE"')[0], "b'81'\n")
            else:
                self.fail(f"the README has a block that this test does not know: {text}")
        self.assertEqual(done, {"serve": 1, "shell": 3, "python": 1, "make": 1, "export": 1})

    def look(self, text, out):
        """What the reader is led to expect."""
        if "bucket create" in text:
            self.assertIn("# Wadi\n", out)
            self.assertIn(" readme\n", out)
        elif "job run" in text:
            self.assertRegex(out, r"(?m)^ +\d+ the$")
            self.assertRegex(out, r"(?m)^ +\d+  words +ended ")
            status = json.loads(self.shell("wadi status --json")[0])
            self.assertEqual((status["jobs"], status["objects"]), (0, 1))
            self.assertEqual(status["slab_used_bytes"], 0)
            used = {t["tier"]: t["used_bytes"] for t in status["tiers"]}
            self.assertEqual(used["dram"], 0)
            self.assertIn(used["flash"], (0, os.stat(os.path.join(TOP, "README.md")).st_size))
        else:
            self.assertEqual(out, "seven\n")
            self.shell("wadi stat docs/part-7", code=5)

    def test_the_exit_codes(self):
        self.shell("wadi status", code=3)
        self.serve(*SMALL)
        self.shell("wadi bucket create b; echo 1 | wadi put b/k", code=0)
        self.shell("wadi put b/k --nonsense", code=2)
        self.shell("WADI_JOB_TOKEN=j1.2.3 wadi ls", code=4)
        self.shell("wadi cat b/none", code=5)
        self.shell("wadi put --if-absent README.md b/k", code=6)
        self.shell("head -c 200M /dev/zero | wadi put b/large", code=7)
        self.shell("wadi serve", code=1)

    def test_the_table_is_that_of_the_program(self):
        with open(os.path.join(TOP, "README.md")) as f:
            rows = re.findall(r"^\| (\d) \| ([^|]+) \| (\d) \| ([^|]+) \|$", f.read(), re.M)
        codes = sorted(int(code) for row in rows for code in (row[0], row[2]))
        self.assertEqual(codes, list(range(8)))


class Surprises(Home):
    def test_who_else_has_the_data_is_named(self):
        server = self.serve(*SMALL)
        for command in ("wadi serve", "wadi meta", "wadi serve --socket /tmp/none-of-these"):
            self.assertIn(f"in use by pid {server.pid} (wadi)", self.shell(command, code=1)[1])
        elsewhere = f"wadi serve --data {self.home}/other"
        self.assertIn(f"in use by pid {server.pid} (wadi)", self.shell(elsewhere, code=1)[1])

    def test_others_are_not_served_by_accident(self):
        for host in ("0.0.0.0:0", "[::]:0", "10.1.2.3", "localhost.example"):
            self.assertIn("--insecure", self.shell(f"wadi meta --listen {host}", code=2)[1])

    def test_ctrl_c_leaves_nothing(self):
        self.serve("--dram", "64M", "--flash", "1G")
        with open(os.path.join(self.work, "big"), "wb") as f:
            f.truncate(400 << 20)
        self.shell("wadi bucket create b")
        code, seen = self.terminal(PROGRAM, "put", "big", "b/big", until=b"MiB/s")
        self.assertEqual(code, -signal.SIGINT, seen)
        self.assertTrue(seen.endswith("\r\033[K"), seen[-200:])
        self.assertEqual(self.shell("wadi ls b/")[0], "")
        self.shell("wadi put big b/big")
        code, seen = self.terminal(PROGRAM, "get", "b/big", "back", until=b"MiB/s")
        self.assertEqual(code, -signal.SIGINT, seen)
        self.assertEqual([n for n in os.listdir(self.work) if n.startswith("back")], [])

    def test_a_narrow_terminal(self):
        self.serve(*SMALL)
        for columns in (48, 60, 80, 120):
            code, seen = self.terminal(PROGRAM, "status", columns=columns)
            self.assertEqual(code, 0)
            for line in seen.splitlines():
                self.assertLessEqual(len(line), columns, line)

    def test_help_pages_fit_and_are_complete(self):
        overview = self.shell("wadi help")[0].split("First steps")[0]
        commands = re.findall(r"(?m)^  (\w+(?: \w+)?)  ", overview)
        self.assertGreater(len(commands), 20)
        for command in commands:
            page = self.shell(f"wadi help {command}")[0]
            self.assertIn("\nExamples\n", page)
            for line in page.splitlines():
                self.assertLessEqual(len(line), 88, (command, line))
                if line.startswith("      --") and line[27:28].strip():
                    self.assertNotIn(" ", line[28:], command)  # a line of its own

    def test_a_demo_that_cannot_be(self):
        for size in ("-5", "64x", "1", ""):
            self.assertIn("the size is", self.shell(f"wadi demo --size '{size}'", code=2)[1])
        self.shell("wadi demo --size 255T", code=2)
        self.shell("truncate -s 1000 r; wadi demo sort r r", code=2)
        self.assertEqual(os.stat(os.path.join(self.work, "r")).st_size, 1000)

    def test_a_demo_that_is_stopped_leaves_nothing(self):
        self.env["TMPDIR"] = os.path.join(self.home, "t")
        os.mkdir(self.env["TMPDIR"])
        code, seen = self.terminal(PROGRAM, "demo", "--size", "256M", until=b"workers, ")
        self.assertEqual(code, 130, seen)
        self.assertEqual(os.listdir(self.env["TMPDIR"]), [])


if __name__ == "__main__":
    sys.exit(unittest.main())
