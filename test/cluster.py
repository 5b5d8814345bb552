# SPDX-License-Identifier: Apache-2.0
"""Clusters of real processes, each in a network namespace of its own: they are started, joined,
killed, stopped, cut off and filled up while clients work, and what the clients saw is judged.

The namespaces hang on one bridge, in a namespace where the clients are.  WADI_LINEAR is the judge
of histories (sim/linear.h)."""
import glob
import itertools
import os
import random
import signal
import subprocess
import threading
import time
import unittest

from house import PATIENCE, Failed, Puppet, Server, until

PORT = 9234
# A put that ends so may take effect at any time; any other failure is one that a client has seen.
UNKNOWN = ("UNKNOWN", "TIMEOUT")


def call(*args, check=True):
    done = subprocess.run(args, capture_output=True, text=True, timeout=30)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(args)}: {done.stderr.strip()}")
    return done


class Net:
    """n namespaces on a bridge.  Raises SkipTest where there can be none."""
    numbers = itertools.count()

    def __init__(self, n):
        self.names, self.mounts = [], []
        if os.geteuid() != 0:
            raise unittest.SkipTest("not root: no network namespaces")
        stem = f"wadi{os.getpid()}c{next(Net.numbers)}"
        self.prefix = f"10.{os.getpid() % 150 + 50}.{os.getpid() // 150 % 250}."
        self.outside = stem + "x"
        try:
            self.add(self.outside)
            ip = self.ip
            ip(self.outside, "link", "add", "bridge", "type", "bridge")
            ip(self.outside, "address", "add", self.prefix + "250/24", "dev", "bridge")
            ip(self.outside, "link", "set", "bridge", "up")
            self.hosts = []
            for i in range(1, n + 1):
                host = f"{stem}h{i}"
                self.add(host)
                self.hosts.append(host)
                ip(self.outside, "link", "add", f"h{i}", "type", "veth", "peer", "name", "eth",
                   "netns", host)
                ip(self.outside, "link", "set", f"h{i}", "master", "bridge")
                ip(self.outside, "link", "set", f"h{i}", "up")
                ip(host, "address", "add", f"{self.prefix}{i}/24", "dev", "eth")
                ip(host, "link", "set", "eth", "up")
        except FileNotFoundError as gone:
            self.end()
            raise unittest.SkipTest(f"no program {gone.filename}: no network namespaces")
        except AssertionError as failed:
            self.end()
            raise unittest.SkipTest(f"no network namespaces here: {failed}")

    def add(self, name):
        call("ip", "netns", "add", name)
        self.names.append(name)
        self.ip(name, "link", "set", "lo", "up")

    @staticmethod
    def ip(name, *words, check=True):
        return call("ip", "-n", name, *words, check=check)

    def address(self, i):
        return f"{self.prefix}{i}"

    def cable(self, i, state):
        self.ip(self.outside, "link", "set", f"h{i}", state)

    def deafen(self, i, j, on=True):
        """What i sends to j is lost; what j sends to i arrives."""
        self.ip(self.hosts[i - 1], "route", "add" if on else "del", "blackhole",
                self.address(j) + "/32")

    def disk(self, path, megabytes):
        os.makedirs(path, exist_ok=True)
        call("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", path)
        self.mounts.append(path)

    def pids(self, name):
        done = call("ip", "netns", "pids", name, check=False)
        return [int(p) for p in done.stdout.split()]

    def end(self):
        """Nothing that was started in there is left."""
        for name in self.names:
            for _ in range(50):
                pids = self.pids(name)
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                if not pids:
                    break
                time.sleep(0.1)
        for path in self.mounts:
            call("umount", "-l", path, check=False)
        for name in reversed(self.names):
            call("ip", "netns", "del", name, check=False)


FAKETIME = "libfaketimeMT.so.1"


def wrong_clock(offset):
    """How to run a program whose wall clock is wrong by so much: "+1h", "-20m"."""
    if os.environ.get("WADI_SANITIZE", "none") != "none":
        raise unittest.SkipTest("a sanitizer lets nothing be loaded before it")
    found = glob.glob(f"/usr/lib/*/faketime/{FAKETIME}")
    if not found:
        raise unittest.SkipTest(f"no {FAKETIME}: clocks cannot be wrong (package faketime)")
    return ["env", f"LD_PRELOAD={found[0]}", f"FAKETIME={offset}", "DONT_FAKE_MONOTONIC=1"]


class Node(Server):
    """wadi serve in a namespace."""

    def __init__(self, cluster, i, *options):
        self.cluster, self.number = cluster, i
        clock = wrong_clock(cluster.clocks[i]) if i in cluster.clocks else []
        net, plain = cluster.net, [] if cluster.authority else ["--insecure"]
        super().__init__(cluster.house, f"n{i}", "serve", "--listen", net.address(i), *plain,
                         "--dram", "64M", "--flash", "64M", *options,
                         wrap=["ip", "netns", "exec", net.hosts[i - 1], *clock])

    @property
    def etcd_pid(self):
        try:
            with open(os.path.join(self.data, "etcd.pid")) as f:
                return int(f.read())
        except (OSError, ValueError):
            return None

    def kill_etcd(self, how=signal.SIGKILL):
        pid = self.etcd_pid
        if pid:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass


class Cluster:
    """n nodes, the first alone and the others joined to it: n commands."""

    def __init__(self, house, n=3, hosts=3, small_disk=(), tls=False, options=(),
                 clocks=None):
        self.house, self.options, self.clocks = house, options, clocks or {}
        self.net = Net(hosts)
        self.nodes = []
        self.authority = os.path.join(house.folder, "ca") if tls else None
        try:
            for i in small_disk:
                self.net.disk(os.path.join(house.folder, f"n{i}"), 600)
            for i in range(1, hosts + 1 if tls else 1):
                self.cert("issue", "--host", self.net.address(i), "--out",
                          os.path.join(house.folder, f"n{i}", "cert"))
            if tls:
                self.cert("client", "tester", "--out", os.path.join(house.folder, "client"))
            for i in range(1, n + 1):
                self.grow()
        except BaseException:
            self.end()
            raise

    def cert(self, what, *options):
        call(self.house.program, "cert", what, self.authority, *options)

    def grow(self):
        i = len(self.nodes) + 1
        how = []
        if i > 1 and "--coord" not in self.options:
            how = ["--join", self.net.address(1)]
        if i > 1 and not self.authority:
            how += ["--key-file", self.key]
        self.nodes.append(Node(self, i, *how, *self.options))
        self.house.servers.append(self.nodes[-1])

    @property
    def key(self):
        return os.path.join(self.house.folder, "n1", "key")

    @property
    def url(self):
        return ("wadis://" if self.authority else "wadi://") + ",".join(
            f"{self.net.address(n.number)}:{PORT}" for n in self.nodes)

    @property
    def outside(self):
        return ["ip", "netns", "exec", self.net.outside]

    @property
    def env(self):
        return {"WADI_KEY": self.key, "WADI_URL": self.url,
                "WADI_CERT": os.path.join(self.house.folder, "client")}

    def wadi(self, *args, check=True, timeout=30, env=None):
        done = subprocess.run([*self.outside, self.house.program, *args], capture_output=True,
                              text=True, timeout=timeout * PATIENCE,
                              env={**self.house.environment, **self.env, **(env or {})})
        if check and done.returncode != 0:
            raise AssertionError(f"wadi {' '.join(args)}: {done.stderr}")
        return done

    def look(self):
        """What `wadi node ls` tells, or None while nobody can."""
        import json
        done = self.wadi("--json", "--timeout", "3", "node", "ls", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def status(self):
        import json
        return json.loads(self.wadi("--json", "status").stdout)

    def whole(self, seconds=40, revive=()):
        """Until all nodes that live are in sync and vote; which one leads.  revive: nodes that are
        started again should they end."""
        seen = None

        def look():
            nonlocal seen
            for node in revive:
                if not node.alive():
                    node.start()
            seen = self.look()
            if not seen:
                return None
            n = sum(node["in_sync"] for node in seen["nodes"])
            want = min(3, len(self.nodes))
            votes = seen["etcd_voters"] == want and seen["etcd_learners"] == 0
            return seen["primary"] if n == want and (want < 3 or votes) else None
        try:
            return until("all replicas are in sync", look, seconds)
        except AssertionError as failed:
            said = "".join(f"-- {n.name}:\n{n.said()[-3000:]}\n" for n in self.nodes)
            raise AssertionError(f"{failed}\nlast seen: {seen}\n{said}") from None

    @property
    def primary(self):
        def look():
            seen = self.look()
            return seen and seen["primary"]
        return self.nodes[until("somebody leads", look) - 1]

    def hand_over(self, number):
        """One that is given up on a busy machine is asked for again."""
        until(f"{number} leads", lambda: self.primary.number == number or self.wadi(
            "shard", "handover", str(number), check=False) is None)

    def backup(self):
        leads = self.primary.number
        return next(n for n in self.nodes if n.number != leads)

    def puppet(self, **how):
        puppet = Puppet(self.house, url=self.url, wrap=self.outside, env=self.env, **how)
        self.house.puppets.append(puppet)
        return puppet

    def end(self):
        self.net.end()
        for node in self.nodes:
            if node.process:
                node.process.poll() is None and node.process.kill()
                node.process.wait()
            for left in glob.glob(f"/dev/shm/*faketime_*_{node.pid}") if node.process else []:
                os.unlink(left)
        self.house.servers = [s for s in self.house.servers if s not in self.nodes]


class Load:
    """Clients that put, get and delete a few keys, and write down what they were told and when."""

    def __init__(self, cluster, clients=4, keys=6, pause=0.002, seed=1):
        self.cluster, self.pause, self.keys = cluster, pause, keys
        self.bucket = f"history{seed}"
        self.values = itertools.count(1)
        self.lock = threading.Lock()
        self.lines, self.errors, self.acks, self.late = [], [], [], []
        self.epoch, self.going = 0, True
        self.n_ops = 0
        self.path = os.path.join(cluster.house.folder, f"{self.bucket}.txt")
        first = cluster.puppet(timeout_ms=40000)
        first("bucket", self.bucket)
        self.puppets = [first] + [cluster.puppet(timeout_ms=40000) for _ in range(clients - 1)]
        self.threads = [threading.Thread(target=self.work, args=(p, seed * 1000 + i))
                        for i, p in enumerate(self.puppets)]
        self.threads.append(threading.Thread(target=self.canary))
        for thread in self.threads:
            thread.start()

    def canary(self):
        """When this machine itself was too late by this much, nobody else is to be blamed."""
        while self.going:
            before = time.monotonic()
            time.sleep(0.02)
            woken = time.monotonic()
            if woken - before - 0.02 > 0.05:
                self.late.append((before, woken))

    def record(self, begin, end, *words):
        end = "-" if end is None else str(end)
        with self.lock:
            self.lines.append(f"{begin} {end} " + " ".join(str(w) for w in words))
            self.n_ops += 1
            # a key's history is bounded: go on with fresh keys
            if self.n_ops % (self.keys * 150) == 0:
                self.epoch += 1

    def work(self, puppet, seed):
        chance = random.Random(seed)
        try:
            while self.going:
                self.one(puppet, chance, f"k{chance.randrange(self.keys)}.{self.epoch}")
                time.sleep(self.pause)
        except Exception as failed:  # shown by stop()
            self.errors.append(f"a client ended: {failed!r}")

    def one(self, puppet, chance, key):
        draw = chance.random()
        begin = time.monotonic_ns()
        try:
            if draw < 0.5:
                value = next(self.values)
                durable = chance.random() < 0.3
                words = ["put", key, value] + (["durable"] if durable else [])
                puppet("put", self.bucket, key, chance.choice((16, 100, 1000)), value,
                       *([16] if durable else []))
                end = time.monotonic_ns()
                self.acks.append((begin, end))
            elif draw < 0.9:
                words = ["get", key]
                try:
                    words.append(puppet.get(self.bucket, key)[1])
                except Failed as failed:
                    if failed.name != "NOTFOUND":
                        raise
                    words.append("absent")
                end = time.monotonic_ns()
            else:
                words = ["delete", key]
                try:
                    puppet("delete", self.bucket, key)
                except Failed as failed:
                    if failed.name != "NOTFOUND":
                        raise
                    words.append("absent")
                end = time.monotonic_ns()
                self.acks.append((begin, end))
        except Failed as failed:
            self.errors.append(f"{' '.join(map(str, words))}: {failed}")
            if draw < 0.5 or draw >= 0.9:
                self.record(begin, None, *words, "unknown")
            return
        self.record(begin, end, *words)

    def first_ack_after(self, at_ns, seconds=30):
        """Milliseconds from then to the first acknowledgement of a change that began later."""
        def look():
            return [end for begin, end in self.acks[-400:] if begin > at_ns]
        return (min(until("a change is acknowledged", look, seconds)) - at_ns) / 1e6

    def progress(self, n=40, seconds=30):
        before = len(self.acks)
        until(f"{n} more changes", lambda: len(self.acks) >= before + n, seconds)

    def stop(self):
        self.going = False
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(60 * PATIENCE)

    def judge(self):
        """Reads every key once more; is the whole history linearizable?  What the judge says."""
        reader = self.cluster.puppet(timeout_ms=40000)
        for epoch in range(self.epoch + 1):
            for key in range(self.keys):
                begin, name = time.monotonic_ns(), f"k{key}.{epoch}"
                try:
                    seen = reader.get(self.bucket, name)[1]
                except Failed as failed:
                    if failed.name != "NOTFOUND":
                        raise
                    seen = "absent"
                self.record(begin, time.monotonic_ns(), "get", name, seen)
        with open(self.path, "w") as f:
            f.write("\n".join(self.lines) + "\n")
        done = subprocess.run([os.environ["WADI_LINEAR"], self.path], capture_output=True,
                              text=True, timeout=300)
        if done.returncode != 0:
            keep = f"/tmp/wadi-history-{os.getpid()}.txt"
            with open(keep, "w") as f:
                f.write("\n".join(self.lines) + "\n")
            raise AssertionError(f"{done.stdout}{done.stderr}\nthe history is in {keep}")
        return done.stdout.strip()
