# SPDX-License-Identifier: Apache-2.0
"""Real processes for tests: servers that are started, killed, stopped and started again on their
data, clients that do what they are told, and a runner for tests that mostly wait.

WADI_PROGRAM says which wadi, WADI_PUPPET which client (puppet.c)."""
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PATIENCE = float(os.environ.get("WADI_PATIENCE", "1"))  # slower builds wait longer
DRAM, FLASH, DISK = 1, 2, 4                             # bits of tiers
LIFETIME_JOB, LIFETIME_PERSIST = 1, 3
IF_ABSENT, IF_VERSION, PERSIST, DELETE_ON_READ, DURABLE = 1, 2, 4, 8, 16
PARTS = ("used", "pinned", "granted", "orphaned", "reserved", "free")


def until(what, look, seconds=20):
    """What look() says as soon as it is true; look() is asked again and again."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {what}")
        time.sleep(0.02)


def all_stopped(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as f:
            if f.read().rsplit(")", 1)[1].split()[0] != "T":
                return False
    return True


class Server:
    """One process of wadi: serve, meta or store."""

    def __init__(self, house, name, command, *options, wrap=()):
        self.house, self.name, self.command, self.options = house, name, command, options
        self.data = os.path.join(house.folder, name)
        self.socket = os.path.join(house.folder, name + ".sock")
        self.wrap = wrap
        self.process = None
        self.start()

    @property
    def url(self):
        return "unix:" + self.socket

    @property
    def tcp(self):
        """(host, port) of the network address, from what it said when it started."""
        found = re.findall(r"wadi://([^\s:]+):(\d+)", self.said())
        return found[-1][0], int(found[-1][1])

    @property
    def tcp_url(self):
        return "wadi://%s:%d" % self.tcp

    def start(self, wait=True):
        ready, done = os.pipe()
        with open(os.path.join(self.house.folder, self.name + ".log"), "ab") as log:
            self.began = log.tell()
            self.process = subprocess.Popen(
                [*self.wrap, self.house.program, self.command, "--data", self.data,
                 "--socket", self.socket, "--ready-fd", str(done), *self.options],
                env=self.house.environment, pass_fds=[done], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        os.close(done)
        self.ready = os.fdopen(ready)
        if wait:
            self.until_ready()

    def until_ready(self):
        with self.ready as ready:
            seen, _, _ = select.select([ready], [], [], 60 * PATIENCE)
            if not seen or not ready.readline().startswith("ready"):
                raise AssertionError(f"{self.name} did not start:\n{self.said()}")

    def said(self):
        """Since it was last started."""
        with open(os.path.join(self.house.folder, self.name + ".log"), errors="replace") as f:
            f.seek(self.began)
            return f.read()

    @property
    def pid(self):
        return self.process.pid

    def signal(self, which):
        self.process.send_signal(which)

    def pause(self):
        """Until each thread has stopped."""
        self.signal(signal.SIGSTOP)
        until(f"{self.name} has stopped", lambda: all_stopped(self.pid))

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        """The exit code of a clean stop."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(30 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return "did not end"


class Failed(Exception):
    def __init__(self, line, answer):
        super().__init__(f"{line}: {answer}")
        words = answer.split(" ", 2)
        self.name = words[1] if words[0] == "err" and len(words) > 1 else answer
        self.sentence = words[2] if len(words) > 2 else ""


class Puppet:
    """A client process; its own connection and session."""

    def __init__(self, house, url=None, token="-", timeout_ms=20000, wrap=(), env=None):
        self.house, self.token = house, token
        self.process = subprocess.Popen(
            [*wrap, house.puppet], env={**house.environment, **(env or {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.line = None
        if url is not False:
            self("connect", url or house.url, token, int(timeout_ms * PATIENCE))

    def tell(self, *words):
        """Without waiting for the answer."""
        self.line = " ".join(str(w) for w in words)
        self.process.stdin.write(self.line.encode("utf-8", "surrogateescape") + b"\n")

    def hear(self, seconds=60):
        """The words of the answer; raises Failed."""
        answer, end = b"", time.monotonic() + seconds * PATIENCE
        while not answer.endswith(b"\n"):
            seen, _, _ = select.select([self.process.stdout], [], [],
                                       max(0, end - time.monotonic()))
            if not seen:
                raise AssertionError(f"{self.line}: no answer within {seconds * PATIENCE:.0f} s")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise AssertionError(f"{self.line}: the client died: {self.process.wait()}")
            answer += piece
        words = answer.decode("utf-8", "surrogateescape").split()
        if words[0] != "ok":
            raise Failed(self.line, answer.decode("utf-8", "replace").strip())
        return words[1:]

    def __call__(self, *words, seconds=60):
        self.tell(*words)
        return self.hear(seconds)

    def fails(self, *words, seconds=60):
        """The Failed that the command ends with."""
        try:
            answer = self(*words, seconds=seconds)
        except Failed as failed:
            return failed
        raise AssertionError(f"{self.line}: ok {answer}, but it cannot be")

    def get(self, bucket, key, *options):
        """(length, seed) of a whole object."""
        words = self("get", bucket, key, *options)
        return int(words[0]), int(words[1])

    def kill(self):
        self.process.kill()
        self.leave()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        until("the client has stopped", lambda: all_stopped(self.process.pid))

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def leave(self):
        """Closes its connection in order, if it lives."""
        self.process.stdin.close()
        try:
            self.process.wait(20 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class House:
    """A folder with everything in it; ends everything when it is left."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="wadi-test-")
        self.program = os.environ["WADI_PROGRAM"]
        self.puppet = os.environ["WADI_PUPPET"]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("WADI_")}
        self.environment.pop("XDG_RUNTIME_DIR", None)
        self.environment.update(HOME=self.folder, NO_COLOR="1")
        self.url, self.servers, self.puppets = None, [], []

    def server(self, name, command, *options, **how):
        server = Server(self, name, command, *options, **how)
        self.servers.append(server)
        if command != "store" and self.url is None:
            self.url = server.url
            self.environment["WADI_URL"] = server.url
        return server

    def serve(self, *options, dram="128M", flash="128M"):
        return self.server("all", "serve", "--dram", dram, "--flash", flash, *options)

    def roles(self, *options, dram="128M", flash="128M", listen=False):
        """Metadata, a store of memory and one of flash, as three processes."""
        meta = self.server("meta", "meta", *(["--listen", "127.0.0.1:0"] if listen else []),
                           *options)
        how = ["--meta", meta.url]
        if listen:
            how = ["--meta", meta.tcp_url, "--key-file", os.path.join(meta.data, "key"),
                   "--listen", "127.0.0.1:0"]
        memory = self.server("memory", "store", *how, "--dram", dram)
        disk = self.server("flash", "store", *how, "--flash", flash)
        self.up(2)
        return meta, memory, disk

    def client(self, **how):
        puppet = Puppet(self, **how)
        self.puppets.append(puppet)
        return puppet

    def job(self, client, name="job", **hints):
        """(id, token)"""
        job, token = client("job", name, *(f"{k}={v}" for k, v in hints.items()))
        return int(job), token

    def wadi(self, *args, stdin=b"", env=None, timeout=60):
        return subprocess.run([self.program, *args], input=stdin, capture_output=True,
                              timeout=timeout * PATIENCE,
                              env={**self.environment, **(env or {})})

    def status(self, *args):
        """Looked at with the command; the tiers must add up."""
        done = self.wadi("--json", "status", *args)
        if done.returncode != 0:
            raise AssertionError(f"status: {done.stderr}")
        status = json.loads(done.stdout)
        for tiers in [status["tiers"], *(s["tiers"] for s in status["servers"])]:
            for tier in tiers:
                total = sum(tier[part + "_bytes"] for part in PARTS)
                if total != tier["capacity_bytes"]:
                    raise AssertionError(f"status does not add up: {tier}")
        return status

    def tier(self, name):
        return next(t for t in self.status()["tiers"] if t["tier"] == name)

    def up(self, n=1):
        return until(f"{n} storage servers are up", lambda: n == sum(
            s["state"] == "up" for s in self.status()["servers"]))

    def empty(self, seconds=20):
        """Until every byte is free."""
        last = {}

        def look():
            last.update(self.status())
            return all(t[p + "_bytes"] == 0 for t in last["tiers"] for p in PARTS
                       if p not in ("free", "reserved")) and last["slab_used_bytes"] == 0
        try:
            until("", look, seconds)
        except AssertionError:
            raise AssertionError(f"room is not given back: {last}") from None

    def end(self):
        """Stops everything; complains about servers that do not stop cleanly."""
        bad = []
        for puppet in self.puppets:
            if puppet.process.poll() is None:
                puppet.process.send_signal(signal.SIGCONT)
                puppet.kill()
            elif not puppet.process.stdin.closed:
                puppet.leave()
        for server in reversed(self.servers):
            if server.alive():
                code = server.stop()
                if code != 0:
                    bad.append(f"{server.name} ended with {code}:\n{server.said()[-4000:]}")
        shutil.rmtree(self.folder, ignore_errors=True)
        if bad:
            raise AssertionError("\n".join(bad))


class HouseTest(unittest.TestCase):
    """A house for each test."""

    def setUp(self):
        self.house = House()
        self.addCleanup(self.house.end)


class SharedHouseTest(unittest.TestCase):
    """A house for the class, made by furnish()."""

    @classmethod
    def setUpClass(cls):
        cls.house = House()
        cls.addClassCleanup(cls.house.end)
        cls.furnish()


# ---- running ----
class Result(unittest.TestResult):
    """Says each verdict in the words of cmocka, which scripts/check counts."""

    def say(self, verdict, test, more=""):
        name = test.id().replace("__main__.", "") if hasattr(test, "id") else str(test)
        print(f"[{verdict:>10} ] {name}{more}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say("OK", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.say("FAILED", test, "\n" + self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say("FAILED", test, "\n" + self.failures[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("SKIPPED", test, ": " + reason)


def run(module, at_once=4):
    """All tests of a module, the classes side by side: most of their time is waiting."""
    names = sys.argv[1:]
    loader = unittest.TestLoader()
    suites = []
    for case in vars(module).values():
        if not isinstance(case, type) or not issubclass(case, unittest.TestCase):
            continue
        tests = [t for t in loader.loadTestsFromTestCase(case)
                 if not names or any(n in t.id() for n in names)]
        if not tests:
            continue
        if getattr(case, "house", None) is None and issubclass(case, HouseTest):
            suites += [[t] for t in tests]
        else:
            suites.append(tests)
    results = [Result() for _ in suites]
    queue = list(zip(suites, results))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not queue:
                    return
                tests, result = queue.pop(0)
            began = time.monotonic()
            unittest.TestSuite(tests).run(result)
            if "WADI_TIMES" in os.environ:
                print(f"{time.monotonic() - began:7.1f} s  {tests[0].id()} ({len(tests)})")
    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = all(r.wasSuccessful() for r in results) and sum(r.testsRun for r in results) > 0
    sys.exit(0 if good else 1)
