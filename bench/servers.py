# SPDX-License-Identifier: Apache-2.0
"""The two servers under measurement: each a real process in a directory of its own."""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def memory_of(pid, directory):
    """Bytes of memory that a process holds: anonymous pages, and what is resident of the files that
    it maps from its directory."""
    total, ours = 0, False
    with open(f"/proc/{pid}/smaps") as maps:
        for line in maps:
            head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$", line)
            if head:
                ours = head.group(1).startswith(directory + "/")
            elif line.startswith("Rss:" if ours else "Anonymous:"):
                total += int(line.split()[1]) * 1024
    return total


def in_our_shadow():
    """In the child: Ctrl-C is ours to answer, and our death is its end."""
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Server:
    """A process with a directory; ready() tells when it serves."""

    def __init__(self, parent):
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix=f"{self.name}-", dir=parent)
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.start_again()

    def start_again(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WADI_")}
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL, cwd=self.directory,
                                        preexec_fn=in_our_shadow,
                                        env={**environment, "HOME": self.directory})
        self.pid = self.process.pid
        deadline = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop(keep=True)
                with open(self.log.name) as log:
                    raise RuntimeError(f"{self.name} does not start: {log.read()[-2000:]}")
            time.sleep(0.02)

    def stop(self, keep=False):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self):
        """Waits until the server does next to nothing by itself: memory has been made ready, and
        what the filling left to do is done."""
        deadline = time.monotonic() + 60
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.cpu()
            if now - before < 0.02:
                return
            before = now

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def target(self):
        return ["--peer", self.name, "--addr", f"127.0.0.1:{self.port}", "--pid", str(self.pid)]


class Redis(Server):
    name = "redis"

    def command(self):
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--maxmemory", "0", "--dir", self.directory]

    def ready(self):
        return self.listens()

    def memory(self):
        return memory_of(self.pid, self.directory)

    def environment(self):
        return {}


class Wadi(Server):
    name = "wadi"

    def __init__(self, parent, build, room):
        self.build, self.room, self.token = build, room, None
        super().__init__(parent)

    def command(self):
        return [self.binary(), "serve", "--data", os.path.join(self.directory, "data"),
                "--dram", str(self.room), "--listen", f"127.0.0.1:{self.port}",
                "--socket", self.socket()]

    def binary(self):
        return os.path.join(self.build, "wadi")

    def socket(self):
        return os.path.join(self.directory, "socket")

    def environment(self):
        """Of programs that act for the job of the measurements."""
        if self.token is None:
            self.token = self.ask("job", "register", "bench")["token"]
        return {"WADI_JOB_TOKEN": self.token}

    def url(self):
        return f"unix:{self.socket()}"

    def run(self, *words):
        return subprocess.run([self.binary(), *words, "--url", self.url()], capture_output=True,
                              text=True, timeout=60, env={**os.environ, "WADI_KEY": self.key()})

    def ask(self, *words):
        """The output of a wadi command against this server, from its JSON."""
        done = self.run(*words, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"wadi {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)

    def key(self):
        return os.path.join(self.directory, "data", "key")

    def memory(self):
        """Arenas are shared memory made ready ahead of use: only what objects use counts."""
        tiers = self.ask("status")["tiers"]
        used = sum(tier["used_bytes"] + tier["pinned_bytes"] for tier in tiers
                   if tier["tier"] == "dram")
        return memory_of(self.pid, self.directory) + used

    def ready(self):
        return self.run("status", "--wait", "1s", "--quiet").returncode == 0


class WadiMember(Wadi):
    """A node of a cluster; the first one is joined by the others."""

    def __init__(self, parent, build, room, first):
        self.first = first
        super().__init__(parent, build, room)

    def command(self):
        joins = ["--join", f"127.0.0.1:{self.first.port}", "--key-file", self.first.key()] \
            if self.first else []
        return super().command() + joins

    def key(self):
        return self.first.key() if self.first else super().key()

    def processes(self):
        """Its own and those of its children: etcd; none while it is away."""
        found = [self.pid] if self.process.poll() is None else []
        for pid in found:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                found += map(int, children.read().split())
        return found


class WadiThree:
    """Three nodes that joined each other, each with the metadata; the one that leads is asked."""
    name = "wadi"

    def __init__(self, parent, build, room):
        self.members = []
        try:
            for _ in range(3):
                first = self.members[0] if self.members else None
                self.members.append(WadiMember(parent, build, room, first))
            self.until_in_sync()
        except BaseException:
            self.stop()
            raise

    def shard(self):
        return self.members[0].ask("shard", "status")

    def until_in_sync(self, others=2, seconds=60):
        deadline = time.monotonic() + seconds
        while sum(r["in_sync"] for r in self.shard()["replicas"]) < others:
            if time.monotonic() > deadline:
                raise RuntimeError(f"wadi: the replicas are not in sync: {self.shard()}")
            time.sleep(0.2)  # each question is a process, beside what is measured

    def leader(self):
        """Nodes are numbered from 1 in the order in which they came."""
        return self.members[self.shard()["primary"] - 1]

    def target(self):
        pids = ",".join(str(pid) for member in self.members for pid in member.processes())
        return ["--peer", "wadi", "--addr", f"127.0.0.1:{self.leader().port}", "--pid", pids]

    def environment(self):
        return self.members[0].environment()

    def settle(self):
        for member in self.members:
            member.settle()

    def stop(self):
        for member in self.members:
            member.stop()


class EtcdMember(Server):
    name = "etcd"

    def __init__(self, parent, name, peer_port, initial):
        self.member, self.peer_port, self.initial = name, peer_port, initial
        super().__init__(parent)

    def command(self):
        here, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        return ["etcd", "--name", self.member, "--data-dir", os.path.join(self.directory, "data"),
                "--listen-client-urls", here, "--advertise-client-urls", here,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", self.initial, "--log-level", "warn"]

    def ready(self):
        return self.listens()


class Etcd:
    """Three members with the defaults of etcd.  Any of them would pass on what it is asked; the one
    that leads is asked itself."""
    name = "etcd"

    def __init__(self, parent):
        ports = [free_port() for _ in range(3)]
        initial = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(ports))
        self.members = []
        try:
            for i, port in enumerate(ports):
                self.members.append(EtcdMember(parent, f"m{i}", port, initial))
            self.leader = self.find_leader()
        except BaseException:
            self.stop()
            raise

    def find_leader(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for member in self.members:
                if self.leads(member):
                    return member
            time.sleep(0.1)
        raise RuntimeError("etcd: none of the three leads")

    @staticmethod
    def leads(member):
        request = urllib.request.Request(f"http://127.0.0.1:{member.port}/v3/maintenance/status",
                                         data=b"{}")
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                status = json.load(answer)
        except (OSError, ValueError):
            return False
        return status.get("leader", "0") == status["header"]["member_id"]

    def target(self):
        pids = ",".join(str(member.pid) for member in self.members)
        return ["--peer", "etcd", "--addr", f"127.0.0.1:{self.leader.port}", "--pid", pids]

    def environment(self):
        return {}

    def settle(self):
        time.sleep(2)  # its ticks are never quite still

    def stop(self):
        for member in self.members:
            member.stop()
