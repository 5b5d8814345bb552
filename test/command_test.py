#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command as people and scripts use it, against a real `wadi serve`: what goes in comes out,
exit codes and JSON say what happened, a job leaves nothing, a server ends and starts cleanly.

WADI_PROGRAM says which wadi."""
import json
import os
import pty
import re
import select
import signal
import shutil
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "python", "tests"))
from served import Served  # noqa: E402

SIZES = (0, 1, 4095, 4096, 4097, 65536, 100001, (9 << 20) + 5)


class Command(unittest.TestCase):
    """One server for the class, one bucket for each test."""

    @classmethod
    def setUpClass(cls):
        cls.served = Served()
        cls.addClassCleanup(cls.served.end)

    def setUp(self):
        self.bucket = self.id().rsplit(".", 1)[1]
        self.wadi("bucket", "create", self.bucket)
        self.folder = os.path.join(self.served.folder, "work-" + self.bucket)
        os.mkdir(self.folder)

    def wadi(self, *args, code=0, stdin=b"", env=None, cwd=None):
        """(standard output, standard error); the exit code must be code."""
        done = subprocess.run([self.served.program, *args], input=stdin, timeout=60, cwd=cwd,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**self.served.environment, **(env or {})})
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        return done.stdout, done.stderr.decode()

    def json(self, *args, code=0, **how):
        out, _ = self.wadi("--json", *args, code=code, **how)
        rows = [json.loads(line) for line in out.splitlines()]
        for row in rows:
            self.assertIn(row["status"], ("ok", "error"))
        return rows

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, data):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()


class Objects(Command):
    def test_stdin_and_stdout(self):
        for size in SIZES:
            data = os.urandom(size)
            self.wadi("put", f"{self.bucket}/k", stdin=data)
            self.assertEqual(self.wadi("cat", f"{self.bucket}/k")[0], data, size)
            self.wadi("put", "-", f"{self.bucket}/k", stdin=data)
            self.assertEqual(self.wadi("get", f"{self.bucket}/k", "-")[0], data, size)

    def test_files(self):
        for size in SIZES:
            data = os.urandom(size)
            path = self.file("in", data)
            self.wadi("put", path, f"{self.bucket}/a/in")
            self.wadi("get", f"{self.bucket}/a/in", self.path("new/folder/out"))
            self.assertEqual(self.read("new/folder/out"), data)
        self.wadi("put", path, self.bucket + "/")
        self.wadi("get", f"{self.bucket}/in", cwd=self.folder)
        self.assertEqual(self.read("in"), data)

    def test_get_that_fails_leaves_nothing(self):
        self.wadi("get", f"{self.bucket}/none", self.path("none"), code=5)
        self.assertEqual(os.listdir(self.folder), [])
        self.file("old", b"precious")
        self.wadi("get", f"{self.bucket}/none", self.path("old"), code=5)
        self.assertEqual(self.read("old"), b"precious")

    def test_ranges(self):
        data = os.urandom(300000)
        self.wadi("put", f"{self.bucket}/k", stdin=data)
        for offset, length in (0, 1), (4095, 2), (70000, 100000), (299999, 9):
            out, _ = self.wadi("cat", "--offset", str(offset), "--length", str(length),
                               f"{self.bucket}/k")
            self.assertEqual(out, data[offset:offset + length])

    def test_cat_several(self):
        for name in "ab":
            self.wadi("put", f"{self.bucket}/{name}", stdin=name.encode())
        self.assertEqual(self.wadi("cat", f"{self.bucket}/a", f"{self.bucket}/b")[0], b"ab")
        out, err = self.wadi("cat", f"{self.bucket}/a", f"{self.bucket}/x", f"{self.bucket}/b",
                             code=5)
        self.assertEqual(out, b"ab")
        self.assertIn(f"{self.bucket}/x", err)

    def test_ls_du_rm(self):
        names = ["a/1", "a/2", "b", "c/d/e"]
        for name in names:
            self.wadi("put", f"{self.bucket}/{name}", stdin=b"12345")
        self.assertEqual(self.wadi("ls", self.bucket)[0].decode().split(), ["a/", "b", "c/"])
        self.assertEqual(self.wadi("ls", f"{self.bucket}/a/")[0].decode().split(), ["a/1", "a/2"])
        self.assertEqual(self.wadi("ls", "-r", self.bucket)[0].decode().split(), names)
        self.assertEqual(self.wadi("ls", "-r", "--after", "a/1", "--max", "2",
                                   self.bucket)[0].decode().split(), ["a/2", "b"])
        self.assertIn("5 B", self.wadi("ls", "-l", f"{self.bucket}/b")[0].decode())
        rows = self.json("du", f"{self.bucket}/a", self.bucket)
        self.assertEqual([(r["objects"], r["bytes"]) for r in rows], [(2, 10), (4, 20)])
        self.wadi("rm", f"{self.bucket}/b")
        self.wadi("rm", f"{self.bucket}/b", code=5)
        self.wadi("rm", "-f", f"{self.bucket}/b")
        self.assertEqual(self.json("rm", "-r", f"{self.bucket}/a/")[0]["deleted"], 2)
        self.wadi("rm", "-r", f"{self.bucket}/a/", code=5)
        self.assertEqual(self.wadi("ls", "-r", self.bucket)[0].decode().split(), ["c/d/e"])

    def test_many(self):
        """More keys than a page of a listing."""
        for i in range(25):
            self.file(f"tree/{i}/file", b"%d" % i)
        for i in range(50):
            self.wadi("cp", "-r", self.path("tree"), f"wadi:{self.bucket}/{i}")
        self.assertEqual(self.json("du", self.bucket)[0]["objects"], 50 * 25)
        keys = self.wadi("ls", "-r", self.bucket)[0].decode().split()
        self.assertEqual(keys, sorted(f"{i}/{j}/file" for i in range(50) for j in range(25)))
        self.assertEqual(self.json("rm", "-r", self.bucket)[0]["deleted"], 50 * 25)

    def test_mv_stat(self):
        self.wadi("put", f"{self.bucket}/a", stdin=b"1")
        before = self.json("stat", f"{self.bucket}/a")[0]
        self.wadi("mv", f"{self.bucket}/a", f"{self.bucket}/b")
        self.assertEqual(self.json("stat", f"{self.bucket}/b")[0]["size"], before["size"])
        self.wadi("stat", f"{self.bucket}/a", code=5)
        self.wadi("put", f"{self.bucket}/a", stdin=b"2")
        self.wadi("mv", "--if-absent", f"{self.bucket}/a", f"{self.bucket}/b", code=6)
        self.wadi("mv", f"{self.bucket}/a", "elsewhere/b", code=2)
        text = self.wadi("stat", f"{self.bucket}/b")[0].decode()
        self.assertIn("version", text)

    def test_conditions(self):
        version = self.json("put", f"{self.bucket}/k", stdin=b"1")[0]["version"]
        self.wadi("put", "--if-absent", f"{self.bucket}/k", stdin=b"2", code=6)
        self.wadi("put", "--version", str(version + 1), f"{self.bucket}/k", stdin=b"2", code=6)
        self.assertEqual(self.wadi("cat", f"{self.bucket}/k")[0], b"1")
        self.wadi("put", "--version", str(version), f"{self.bucket}/k", stdin=b"2")
        self.wadi("rm", "--version", str(version), f"{self.bucket}/k", code=6)
        self.assertEqual(self.wadi("cat", f"{self.bucket}/k")[0], b"2")

    def test_conditions_of_large_objects(self):
        large = os.urandom(200000)
        self.wadi("put", f"{self.bucket}/k", stdin=large)
        self.wadi("put", "--if-absent", f"{self.bucket}/k", stdin=large, code=6)
        self.assertEqual(self.wadi("cat", f"{self.bucket}/k")[0], large)

    def test_delete_on_read(self):
        for size in 10, 100000:
            data = os.urandom(size)
            self.wadi("put", "--delete-on-read", f"{self.bucket}/k", stdin=data)
            self.assertEqual(self.wadi("cat", f"{self.bucket}/k")[0], data)
            self.wadi("cat", f"{self.bucket}/k", code=5)
            self.wadi("put", f"{self.bucket}/k", stdin=data)
            self.wadi("get", "--delete", f"{self.bucket}/k", self.path("out"))
            self.assertEqual(self.read("out"), data)
            self.wadi("stat", f"{self.bucket}/k", code=5)

    def test_waiting(self):
        getter = subprocess.Popen([self.served.program, "get", "--wait", "30s",
                                   f"{self.bucket}/k", "-"], env=self.served.environment,
                                  stdout=subprocess.PIPE)
        time.sleep(0.3)
        self.wadi("put", f"{self.bucket}/k", stdin=b"came")
        self.assertEqual(getter.communicate(timeout=30)[0], b"came")
        began = time.monotonic()
        self.wadi("get", "--wait", "200ms", f"{self.bucket}/never", "-", code=7)
        self.assertLess(time.monotonic() - began, 10)

    def test_ttl(self):
        self.wadi("put", "--ttl", "300ms", f"{self.bucket}/k", stdin=b"soon gone")
        for _ in range(100):
            out = subprocess.run([self.served.program, "stat", f"{self.bucket}/k"],
                                 env=self.served.environment, capture_output=True)
            if out.returncode == 5:
                break
            time.sleep(0.1)
        self.assertEqual(out.returncode, 5)


class Copies(Command):
    def test_trees(self):
        files = {"a": b"1", "sub/b": os.urandom(50000), "sub/deep/c": b""}
        for name, data in files.items():
            self.file("in/" + name, data)
        self.wadi("cp", "-r", self.path("in"), f"wadi:{self.bucket}/up")
        self.assertEqual(self.wadi("ls", "-r", self.bucket)[0].decode().split(),
                         sorted("up/" + n for n in files))
        self.wadi("cp", "-r", f"wadi:{self.bucket}/up", f"wadi:{self.bucket}/again")
        self.wadi("cp", "-r", f"wadi:{self.bucket}/again", self.path("out"))
        for name, data in files.items():
            self.assertEqual(self.read("out/" + name), data)
        os.mkdir(self.path("there"))
        self.wadi("cp", "-r", f"wadi:{self.bucket}/up", self.path("there"))
        self.assertEqual(self.read("there/up/a"), b"1")

    def test_one_and_several(self):
        self.file("x", b"x")
        self.file("y", b"y")
        self.wadi("cp", self.path("x"), f"wadi:{self.bucket}/one")
        self.wadi("cp", self.path("x"), self.path("y"), f"wadi:{self.bucket}/two")
        self.wadi("cp", self.path("x"), f"wadi:{self.bucket}")
        self.assertEqual(self.wadi("ls", "-r", self.bucket)[0].decode().split(),
                         ["one", "two/x", "two/y", "x"])
        self.assertEqual(self.wadi("cp", f"wadi:{self.bucket}/one", "-")[0], b"x")
        self.wadi("cp", "-", f"wadi:{self.bucket}/piped", stdin=b"p")
        self.assertEqual(self.wadi("cat", f"wadi:{self.bucket}/piped")[0], b"p")

    def test_refusals(self):
        self.wadi("cp", self.path("nothing"), f"wadi:{self.bucket}/k", code=5)
        self.wadi("cp", "/etc/hostname", "/tmp/never-made", code=2)
        self.wadi("cp", "-r", f"wadi:{self.bucket}/none", self.path("out"), code=5)
        self.wadi("put", f"{self.bucket}/../up", stdin=b"x")
        self.wadi("cp", "-r", f"wadi:{self.bucket}/", self.path("out"), code=2)
        self.assertFalse(os.path.exists(self.path("up")))


class Words(Command):
    def test_exit_codes(self):
        self.wadi("put", code=2)
        self.wadi("frobnicate", code=2)
        self.wadi("ls", "--frob", code=2)
        self.wadi("put", f"{self.bucket}/" + "k" * 1025, code=2)
        self.wadi("put", f"{self.bucket}/" + "k" * 1024, stdin=b"1")
        self.wadi("--url", "unix:/nowhere/sock", "ls", code=3)
        self.wadi("--url", "http://x", "ls", code=2)
        self.wadi("cat", "nobody/k", code=5)
        self.wadi("bucket", "create", self.bucket, code=6)
        self.wadi("ls", env={"WADI_JOB_TOKEN": "j1.1." + "0" * 32}, code=4)

    def test_hints(self):
        self.assertIn("did you mean: wadi bucket create", self.wadi("bucket", "creat", code=2)[1])
        self.assertIn("--recursive", self.wadi("ls", "--recursiv", "x", code=2)[1])
        self.assertIn("wadi bucket create nobody",
                      self.wadi("put", "nobody/k", stdin=b"x", code=5)[1])
        self.assertIn("wadi serve", self.wadi("--url", "unix:/nowhere/s", "ls", code=3)[1])

    def test_json_errors(self):
        row, = self.json("cat", f"{self.bucket}/none", code=5)
        self.assertEqual((row["status"], row["error"]["code"]), ("error", "NOTFOUND"))
        rows = self.json("stat", f"{self.bucket}/none", f"{self.bucket}/neither", code=5)
        self.assertEqual(len(rows), 2)

    def test_json_of_every_listing(self):
        self.wadi("put", f"{self.bucket}/k", stdin=b"1")
        for command in (["ls"], ["ls", self.bucket], ["bucket", "ls"],
                        ["bucket", "stat", self.bucket], ["stat", f"{self.bucket}/k"], ["status"],
                        ["du", self.bucket], ["version"]):
            self.assertTrue(self.json(*command), command)
        self.json("job", "ls", "--all")

    def test_json_says_what_the_text_says(self):
        """Each line has a status of its own, which must not stand in the place of another one."""
        job = self.json("job", "register", "seen", "--workers", "3")[0]["job"]
        row, = [j for j in self.json("job", "ls") if j["job"] == job]
        self.assertEqual((row["status"], row["state"], row["workers"], row["connections"]),
                         ("ok", "active", 3, 0))
        bill, = self.json("job", "bill", str(job))
        self.assertEqual((bill["status"], bill["state"]), ("ok", "active"))
        whole, = self.json("status")
        self.assertEqual(whole["status"], "ok")
        for server in whole["servers"]:
            self.assertEqual(server["state"], "up")
        self.json("job", "end", str(job))
        row, = [j for j in self.json("job", "ls", "--all") if j["job"] == job]
        self.assertEqual((row["status"], row["state"]), ("ok", "ended"))

    def test_help(self):
        self.assertIn(b"wadi serve", self.wadi()[0])
        for command in ("put", "job run", "bucket create", "serve"):
            out, err = self.wadi(*command.split(), "--help")
            self.assertIn(b"Examples", out)
            self.assertEqual(self.wadi("help", *command.split())[0], out)
        self.wadi("job", code=2)
        self.wadi("job", "--help")

    def test_pages_and_completion(self):
        self.wadi("man", self.path("man"))
        pages = os.listdir(self.path("man"))
        self.assertIn("wadi.1", pages)
        self.assertIn("wadi-job-run.1", pages)
        if shutil.which("groff"):
            for page in pages:
                done = subprocess.run(["groff", "-man", "-Tascii", "-ww", self.path("man/" + page)],
                                      capture_output=True)
                self.assertEqual((done.returncode, done.stderr), (0, b""), page)
        for shell in "bash", "zsh", "fish":
            script = self.wadi("completion", shell)[0]
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script, check=True)
        script = self.wadi("completion", "bash")[0].decode() + (
            '\nCOMP_WORDS=(wadi job r); COMP_CWORD=2; _wadi; echo "${COMPREPLY[*]}"')
        out = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
        self.assertEqual(out.stdout.split(), ["run", "register", "renew", "revoke"])
        self.wadi("completion", "csh", code=2)

    def test_quiet_and_colours(self):
        self.assertEqual(self.wadi("-q", "rm", "-r", "-f", self.bucket), (b"", ""))
        self.assertNotIn("\033", self.terminal("bucket", "create", self.bucket))
        self.assertIn("\033[1m", self.terminal("bucket", "create", self.bucket, colour=True))

    def terminal(self, *args, colour=False, stdin=None):
        """What the command says on a terminal (standard error)."""
        env = dict(self.served.environment)
        if colour:
            env.pop("NO_COLOR")
        ours, theirs = pty.openpty()
        child = subprocess.Popen([self.served.program, *args], env=env, stderr=theirs,
                                 stdin=stdin or subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(theirs)
        said = b""
        while True:
            ready, _, _ = select.select([ours], [], [], 0.05)
            try:
                piece = os.read(ours, 65536) if ready else None
            except OSError:
                break
            if piece == b"" or (piece is None and child.poll() is not None):
                break
            said += piece or b""
        child.wait(60)
        os.close(ours)
        return said.decode()

    def test_progress_is_drawn_on_a_terminal_only(self):
        slow = subprocess.Popen(["sh", "-c", "for i in 1 2 3 4 5 6; do head -c 5000000 /dev/zero; "
                                 "sleep 0.15; done"], stdout=subprocess.PIPE)
        said = self.terminal("put", f"{self.bucket}/slow", stdin=slow.stdout)
        slow.stdout.close()
        slow.wait()
        self.assertIn("MiB/s", said)
        self.assertTrue(said.endswith("\r\033[K"), said)
        self.assertEqual(self.wadi("cat", f"{self.bucket}/slow")[1], "")


class Buckets(Command):
    def test_policies(self):
        self.wadi("bucket", "create", "--ttl", "1h", "--tiers", "dram", "--quota", "1M", "cached")
        row, = self.json("bucket", "stat", "cached")
        self.assertEqual((row["lifetime"], row["tiers"], row["ttl_ms"], row["quota_bytes"]),
                         ("ttl", "dram", 3600000, 1 << 20))
        self.wadi("bucket", "create", "--exists-ok", "--ttl", "1h", "--tiers", "dram",
                  "--quota", "1M", "cached")
        self.wadi("bucket", "create", "--exists-ok", "cached", code=6)
        self.wadi("put", "cached/k", stdin=bytes(2 << 20), code=7)
        self.wadi("bucket", "rm", "cached")
        self.wadi("bucket", "stat", "cached", code=5)

    def test_rm(self):
        self.wadi("put", f"{self.bucket}/k", stdin=b"1")
        self.wadi("bucket", "rm", self.bucket, code=6)
        self.wadi("bucket", "rm", "--force", self.bucket)
        self.wadi("bucket", "create", self.bucket)
        self.assertEqual(self.wadi("ls", self.bucket)[0], b"")


class Jobs(Command):
    def run_job(self, script, *options, **how):
        return self.wadi("job", "run", *options, "--", "sh", "-c", script, **how)

    def test_exchange(self):
        wadi = self.served.program
        out, err = self.run_job(
            f"head -c 100000 /dev/urandom > {self.folder}/a\n"
            f"{wadi} put {self.folder}/a /part && {wadi} cat /part | cmp - {self.folder}/a\n"
            f"{wadi} bucket create mine && {wadi} put mine/k < {self.folder}/a\n"
            f"{wadi} ls; echo $WADI_JOB_ID")
        self.assertIn(b"mine", out)
        self.assertNotIn("mine", self.wadi("ls")[0].decode())
        ended = [j for j in self.json("job", "ls", "--all")
                 if j["job"] == int(out.split()[-1])]
        self.assertEqual(ended[0]["state"], "ended")

    def test_exit_code_and_signals(self):
        self.run_job("exit 42", code=42)
        self.wadi("job", "run", "/no/such/command", code=127)
        script = f"trap 'echo stopped > {self.folder}/said; exit 9' TERM\n" \
                 f"echo up > {self.folder}/up\nwhile :; do sleep 0.05; done"
        child = subprocess.Popen([self.served.program, "job", "run", "sh", "-c", script],
                                 env=self.served.environment)
        while not os.path.exists(self.path("up")):
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(30), 9)
        self.assertEqual(self.read("said"), b"stopped\n")
        self.assertEqual(self.json("job", "ls"), [])

    def test_bill(self):
        _, err = self.run_job(f"head -c 300000 /dev/zero | {self.served.program} put /k", "--bill")
        self.assertRegex(err, r"dram\s.*293\.0 KiB")

    def test_registered(self):
        lines = self.wadi("job", "register", "--shell", "--workers", "4", "mine")[0].decode()
        env = dict(re.findall(r"export (\w+)=(\S+)", lines))
        self.assertEqual(set(env), {"WADI_JOB_ID", "WADI_JOB_TOKEN"})
        self.wadi("put", "/k", stdin=b"1", env=env)
        self.assertEqual(self.wadi("cat", "/k", env=env)[0], b"1")
        self.wadi("cat", "/k", code=2)
        self.wadi("job", "renew", env=env)
        row, = self.json("job", "bill", env=env)
        self.assertEqual(row["name"], "mine")
        self.wadi("job", "end", env=env)
        self.assertIn("has ended", self.wadi("cat", "/k", env=env, code=5)[1])
        self.wadi("job", "end", "999999", code=5)
        self.wadi("job", "end", "mine", code=2)

    def test_persist(self):
        large = self.file("large", os.urandom(500000))
        out, _ = self.run_job(f"echo kept | {self.served.program} put --persist /result\n"
                              f"{self.served.program} put --persist {large} /large\n"
                              f"{self.served.program} put {large} /later\n"
                              f"{self.served.program} persist /later\n"
                              f"echo lost | {self.served.program} put /scratch; echo $WADI_JOB_ID")
        job = out.decode().split()[-1]
        self.assertEqual(self.wadi("cat", f"{job}:/result")[0], b"kept\n")
        for name in "large", "later":
            self.assertEqual(self.wadi("cat", f"{job}:/{name}")[0], self.read("large"))
        self.assertEqual(self.wadi("ls", f"{job}:")[0].decode().split(),
                         ["large", "later", "result"])
        self.wadi("rm", "-r", f"{job}:")


class Status(Command):
    def dram(self):
        return next(t for t in self.json("status")[0]["tiers"] if t["tier"] == "dram")

    def test_sums(self):
        self.wadi("put", f"{self.bucket}/k", stdin=bytes(5 << 20))
        self.run_in_job()
        for _ in range(100):
            tier = self.dram()
            if tier["used_bytes"] + tier["granted_bytes"] + tier["orphaned_bytes"] == 0:
                break
            time.sleep(0.1)
        for tier in self.json("status")[0]["tiers"]:
            self.assertEqual(tier["capacity_bytes"], sum(
                tier[k + "_bytes"] for k in ("used", "pinned", "granted", "orphaned", "reserved",
                                             "free")), tier)
        self.assertEqual(self.dram()["used_bytes"], 0)
        text = self.wadi("status")[0].decode()
        self.assertIn("dram", text)

    def run_in_job(self):
        self.wadi("job", "run", "sh", "-c",
                  f"head -c 3000000 /dev/zero | {self.served.program} put /k")

    def test_bench(self):
        rows = self.json("bench", "--count", "200", "--size", "10K")
        self.assertEqual([r["name"] for r in rows], ["put", "get"])
        self.assertTrue(all(r["ops"] > 0 for r in rows))


class Servers(unittest.TestCase):
    def setUp(self):
        self.served = Served()
        self.addCleanup(self.served.end)

    def wadi(self, *args, stdin=b"", env=None):
        return subprocess.run([self.served.program, *args], input=stdin, timeout=60,
                              capture_output=True, env={**self.served.environment, **(env or {})})

    def ok(self, *args, **how):
        done = self.wadi(*args, **how)
        self.assertEqual(done.returncode, 0, (args, done.stderr))
        return done.stdout

    def test_restart_on_existing_data(self):
        small, large = b"small", os.urandom(3 << 20)
        self.ok("bucket", "create", "b")
        self.ok("put", "b/small", stdin=small)
        self.ok("put", "b/large", stdin=large)
        for how in signal.SIGTERM, signal.SIGINT, signal.SIGKILL:
            code = self.served.stop(how)
            self.assertEqual(code, -9 if how == signal.SIGKILL else 0, self.served.log_text())
            self.served.start()
            self.assertEqual(self.ok("cat", "b/small"), small)
            self.assertEqual(self.ok("cat", "b/large"), large)

    def test_what_memory_held_is_lost_not_wrong(self):
        lines = self.ok("job", "register", "--shell").decode()
        job = dict(re.findall(r"export (\w+)=(\S+)", lines))
        for size in 100, 100000:
            self.ok("put", f"/{size}", stdin=os.urandom(size), env=job)
        self.served.stop(signal.SIGKILL)
        self.served.start()
        for size in 100, 100000:
            done = self.wadi("cat", f"/{size}", env=job)
            self.assertEqual((done.returncode, done.stdout), (1, b""), done.stderr)
            self.assertIn(b"lost", done.stderr)
        self.ok("put", "/again", stdin=bytes(100000), env=job)
        self.ok("job", "end", env=job)

    def test_in_use(self):
        pid = str(self.served.process.pid)
        done = self.wadi("serve", "--data", os.path.join(self.served.folder, "other"),
                         "--socket", self.served.socket)
        self.assertEqual(done.returncode, 1)
        self.assertIn(pid, done.stderr.decode())
        done = self.wadi("serve", "--data", os.path.join(self.served.folder, "data"),
                         "--socket", os.path.join(self.served.folder, "sock2"))
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"in use", done.stderr)

    def test_clients_outlive_a_restart(self):
        self.ok("bucket", "create", "b")
        getter = subprocess.Popen([self.served.program, "get", "--wait", "60s", "b/k", "-"],
                                  env=self.served.environment, stdout=subprocess.PIPE)
        time.sleep(0.3)
        self.served.stop(signal.SIGKILL)
        self.served.start()
        self.ok("put", "b/k", stdin=b"after")
        self.assertEqual(getter.communicate(timeout=60)[0], b"after")

    def test_wait_for_a_starting_server(self):
        self.served.stop()
        waiting = subprocess.Popen([self.served.program, "status", "--wait", "30s", "-q"],
                                   env=self.served.environment)
        time.sleep(0.2)
        self.assertIsNone(waiting.poll())
        self.served.start()
        self.assertEqual(waiting.wait(30), 0)

    def test_bad_options(self):
        for options in (["--dram", "900T"], ["--data", "/proc/nowhere"],
                        ["--listen", "not a host"], ["--socket", "relative"],
                        ["--dram", "0", "--flash", "0"]):
            done = self.wadi("serve", *options)
            self.assertNotEqual(done.returncode, 0, options)
            self.assertIn(b"wadi: ", done.stderr)


class Network(unittest.TestCase):
    def test_tcp_needs_the_key(self):
        served = Served("--listen", "127.0.0.1:0")
        self.addCleanup(served.end)
        url = re.search(r"wadi://\S+", served.log_text()).group()
        key = os.path.join(served.folder, "data", "key")
        env = {**served.environment, "WADI_URL": url}
        done = subprocess.run([served.program, "ls"], env=env, capture_output=True)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)
        env["WADI_KEY"] = key
        data = os.urandom(6 << 20)
        for args, stdin in ((["bucket", "create", "b"], b""), (["put", "b/k"], data)):
            subprocess.run([served.program, *args], env=env, input=stdin, check=True)
        out = subprocess.run([served.program, "cat", "b/k"], env=env, check=True,
                             stdout=subprocess.PIPE).stdout
        self.assertEqual(out, data)


if __name__ == "__main__":
    unittest.main()
