#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three commands make a cluster on three hosts, and nothing that befalls one of them is seen by a
client as more than a delay: what was acknowledged is there, and the history is linearizable.

  cluster_test.py --kills N      N kills of random processes, then the same judgement
  cluster_test.py --etcd-stop S  all of etcd stopped for S seconds under load: no error
  cluster_test.py --calm S       S seconds beside as many busy processes as make this machine slow:
                                 nobody is taken for dead
  cluster_test.py --failover N   N kills of the primary: how long each took, as JSON at the end"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from cluster import PORT, Cluster, Load
from house import DRAM, FLASH, PATIENCE, Failed, House, HouseTest, run, until


class Survival(HouseTest):
    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self.house, 1)
        self.addCleanup(self.house.end)
        self.addCleanup(self.cluster.end)

    def work(self, seed):
        self.load = Load(self.cluster, clients=3, seed=seed)
        self.addCleanup(setattr, self.load, "going", False)
        return self.load

    def fail_over(self, what, act, undo=None, of=None):
        """Does it to the primary (or another node); how long until a change was acknowledged."""
        node = of or self.cluster.primary
        at = time.monotonic_ns()
        act(node)
        took = self.load.first_ack_after(time.monotonic_ns())
        self.load.progress(15)
        print(f"{what}: {took:.0f} ms to the next acknowledged change "
              f"({(time.monotonic_ns() - at) / 1e6:.0f} ms to 15)")
        if undo:
            undo(node)
        self.cluster.whole()
        self.load.progress(15)

    def test_a_cluster_of_three_survives_each(self):
        cluster = self.cluster
        load = self.work(1)
        load.progress()
        cluster.grow()                  # under load, as the next one
        self.assertIn("neither may fail", cluster.wadi("node", "ls").stdout)
        cluster.grow()
        cluster.whole()
        load.progress()
        until("any one may fail", lambda: "fail" not in cluster.wadi("node", "ls").stdout)
        # who was connected when there was one node has learned of the others
        self.fail_over("kill -9 of the first node", lambda n: n.kill(), lambda n: n.start(),
                       cluster.nodes[0])
        load.stop()
        self.assertEqual(load.errors, [])
        for puppet in load.puppets:
            puppet.leave()
        load.judge()

        load = self.work(2)
        load.progress()
        restart = (lambda node: node.start())
        self.fail_over("kill -9 of the primary", lambda n: n.kill(), restart)
        self.fail_over("kill -9 of a backup", lambda n: n.kill(), restart, cluster.backup())
        self.fail_over("the host of the primary lost", lambda n: (n.kill(), n.kill_etcd()),
                       restart)
        self.fail_over("kill -9 of an etcd", lambda n: n.kill_etcd())
        self.fail_over("SIGSTOP of the primary", lambda n: n.pause(), lambda n: n.resume())
        self.fail_over("link of the primary down", lambda n: cluster.net.cable(n.number, "down"),
                       lambda n: cluster.net.cable(n.number, "up"))
        other = cluster.backup().number
        self.fail_over("one-way cut of the primary",
                       lambda n: cluster.net.deafen(n.number, other),
                       lambda n: cluster.net.deafen(n.number, other, False))
        # a planned stop hands over: an upgrade of the binary is a stop and a start, one by one
        for node in list(cluster.nodes):
            began = time.monotonic()
            self.assertEqual(node.stop(), 0)
            load.progress(10)
            node.start()
            cluster.whole()
            print(f"node {node.number} stopped and started: {time.monotonic() - began:.1f} s")
        load.stop()
        self.assertEqual(load.errors, [])
        print(load.judge())


# Says, for each member of etcd and each of its doors, which of some questions it answered to whom.
KNOCK = """import http.client, json, socket, ssl, sys
def ask(where, how, cert, method, path, body):
    host, port = where.rsplit(":", 1)
    try:
        if how == "plain":
            c = http.client.HTTPConnection(host, int(port), timeout=5)
        else:
            tls = ssl.create_default_context()
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            if cert:
                tls.load_cert_chain(*cert)
            c = http.client.HTTPSConnection(host, int(port), timeout=5, context=tls)
        c.request(method, path, body)
        return c.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
for who, how, cert, where, *question in json.load(sys.stdin):
    if ask(where, how, cert, *question):
        print(who, where, question[1])
"""


def knock(cluster, members):
    """What strangers get out of the etcd of these nodes, and how often who has the key gets it."""
    asks = [("POST", "/v3/" + path, body) for path, body in (
        ("kv/range", '{"key": "L3dhZGkv", "range_end": "L3dhZGkw"}'),
        ("kv/put", '{"key": "L3N0cmFuZ2Vy", "value": "eA=="}'), ("cluster/member/list", "{}"),
        ("maintenance/alarm", '{"action": "GET"}'))]
    data = cluster.nodes[0].data
    insider = [os.path.join(data, "etcd-client.crt"), os.path.join(data, "etcd.key")]
    strangers = {"plain": ("plain", None), "bare": ("tls", None)}
    if cluster.authority:
        folder = os.path.join(cluster.house.folder, "client")
        strangers["client"] = ("tls", [os.path.join(folder, f"wadi.{x}") for x in ("crt", "key")])
    questions = []
    for node in members:
        with open(os.path.join(node.data, "cluster")) as f:
            words = next(line.split() for line in f if line.startswith("etcd "))
        client, peer = (url.split("//")[1] for url in words[2:4])
        for who, how in strangers.items():
            questions += [(who, *how, client, *ask) for ask in asks]
            questions.append((who, *how, peer, "GET", "/members", ""))
        questions += [("insider", "tls", insider, client, *ask) for ask in asks]
    said = subprocess.run([*cluster.outside, sys.executable, "-c", KNOCK], check=True, timeout=60,
                          input=json.dumps(questions), capture_output=True, text=True).stdout
    let_in = [line for line in said.splitlines() if not line.startswith("insider ")]
    return let_in, len(said.splitlines()) - len(let_in)


class Ways(HouseTest):
    """Other ways to a cluster, and out of it again."""

    def setUp(self):
        super().setUp()
        if os.environ.get("WADI_SANITIZE") == "thread":
            self.skipTest("replicas that are ten times slower miss their heartbeats in TLS")

    def furnish(self, *args, **how):
        cluster = Cluster(self.house, *args, **how)
        self.addCleanup(self.house.end)
        self.addCleanup(cluster.end)
        return cluster

    def test_with_certificates_and_a_fourth_that_stores(self):
        cluster = self.furnish(3, hosts=4, tls=True)
        cluster.whole()
        self.assertEqual(knock(cluster, cluster.nodes), ([], 12))
        client = cluster.puppet()
        client("bucket", "b")
        client("put", "b", "k", 100, 7)
        cluster.grow()
        fourth = cluster.look()["nodes"][3]
        self.assertEqual((fourth["roles"], fourth["state"]), ("store", "stores"))
        cluster.primary.kill()
        self.assertEqual(client.get("b", "k"), (100, 7))
        dead = next(n for n in cluster.nodes if not n.alive())
        leads = cluster.primary
        # out of the cluster: its number is gone for ever, and who comes back is somebody new
        until("the dead one is left out", lambda: not cluster.look()["nodes"][
            dead.number - 1]["in_sync"])
        cluster.wadi("node", "rm", str(dead.number))
        self.assertTrue(cluster.look()["nodes"][dead.number - 1]["removed"])
        self.assertIn("neither may fail", cluster.wadi("node", "ls").stdout)
        client("put", "b", "k", 100, 8)
        cluster.wadi("shard", "handover")
        until("another one leads", lambda: cluster.look()["primary"] not in (0, leads.number))
        self.assertEqual(client.get("b", "k"), (100, 8))

    def test_nodes_leave(self):
        cluster = self.furnish(3, hosts=4)
        cluster.whole()
        self.assertEqual(knock(cluster, cluster.nodes), ([], 12))
        cluster.grow()
        until("the fourth stores", lambda: len(cluster.status()["servers"]) == 4)
        client = cluster.puppet()
        client("bucket", "two", f"tiers={FLASH}")
        client("bucket", "one", "lifetime=2", "ttl=3600000", f"tiers={FLASH}")
        # each job begins where the most is free: something is nowhere else, on each node
        tokens = {f"memory{i}": client("job", f"j{i}", "lease=600000")[1] for i in range(4)}
        writers = {"two": client, "one": client}
        for bucket, token in tokens.items():
            writers[bucket] = cluster.puppet(token=token)
            writers[bucket]("bucket", bucket, f"tiers={DRAM}")
        keys = [(bucket, f"k{i}") for bucket in ("two", "one") for i in range(12)]
        keys += [(bucket, f"k{i}") for bucket in tokens for i in range(3)]
        for i, (bucket, key) in enumerate(keys):
            writers[bucket]("put", bucket, key, 1500000, i)
        for writer in set(writers.values()):
            writer.leave()  # what it may write into is returned
        dead, leaves = cluster.nodes[3], cluster.nodes[1]

        def held(node):
            return cluster.look()["nodes"][node.number - 1]["held_bytes"]
        self.assertGreater(held(dead), 0)
        self.assertGreater(held(leaves), 0)
        dead.kill()
        until("it is missed", lambda: cluster.status()["servers"][3]["state"] != "up")
        # nobody who reads or writes meanwhile gets an error
        busy = cluster.puppet()
        errors, going, n = [], True, 0

        def work():
            nonlocal n
            while going:
                bucket, key = keys[n % 24]
                try:
                    busy("put", bucket, f"new{n % 7}", 30000, n)
                    busy("get", bucket, f"new{n % 7}")
                except Failed as failed:
                    errors.append(str(failed))
                n += 1
        worker = threading.Thread(target=work)
        worker.start()
        self.addCleanup(worker.join)
        refused = cluster.wadi("node", "rm", str(leaves.number), check=False)
        self.assertIn(f"wadi node drain {leaves.number} first", refused.stderr)
        cluster.wadi("node", "drain", str(leaves.number), timeout=60)
        self.assertEqual(cluster.look()["nodes"][leaves.number - 1]["state"], "drained")
        self.assertEqual(held(leaves), 0)
        going = False
        worker.join()
        self.assertEqual(errors, [])
        self.assertGreater(n, 3)
        leaves.stop()
        cluster.wadi("node", "rm", str(leaves.number))
        self.assertEqual([s["server"] for s in cluster.status()["servers"]], [1, 3, 4])
        # one that is gone for good: what only it had is given up only when that is said aloud
        refused = cluster.wadi("node", "rm", str(dead.number), check=False)
        self.assertIn("wadi node rm --force 4", refused.stderr)
        cluster.wadi("node", "rm", "--force", str(dead.number), timeout=60)
        client, lost = cluster.puppet(), 0
        readers = {bucket: cluster.puppet(token=token) for bucket, token in tokens.items()}
        for i, (bucket, key) in enumerate(keys):
            try:
                self.assertEqual(readers.get(bucket, client).get(bucket, key), (1500000, i))
            except Failed as failed:
                self.assertEqual((failed.name, bucket != "two"), ("LOST", True))
                lost += 1
        self.assertGreater(lost, 0)

        def restored():
            nonlocal told
            told = cluster.status()
            return told["lacking_bytes"] == 0
        told = None
        try:
            until("what has copies has all of them again", restored)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{told}") from None
        leaves.start(wait=False)
        until("it says that it was removed", lambda: "was removed" in leaves.said())

    def at_home(self, cluster, *words, wait=True):
        """wadi as a user of its own runs it on the last host: no options but these."""
        home = os.path.join(self.house.folder, "home")
        os.makedirs(home, exist_ok=True)
        wrap = ["ip", "netns", "exec", cluster.net.hosts[-1]]
        how = {"env": {**self.house.environment, "HOME": home}, "stdin": subprocess.DEVNULL}
        if wait:
            return subprocess.run([*wrap, self.house.program, *words], capture_output=True,
                                  text=True, timeout=60 * PATIENCE, **how)
        process = subprocess.Popen([*wrap, self.house.program, *words],
                                   stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **how)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

    def test_defaults_and_somebody_elses_etcd(self):
        cluster = self.furnish(0, hosts=2)
        with open(os.path.join(self.house.folder, "etcd.log"), "w") as log:
            here, data = cluster.net.address(250), os.path.join(self.house.folder, "etcd")
            etcd = subprocess.Popen(
                [*cluster.outside, "etcd", "--data-dir", data, "--listen-client-urls",
                 f"http://{here}:2379", "--advertise-client-urls", f"http://{here}:2379",
                 "--listen-peer-urls", f"http://{here}:2380", "--initial-advertise-peer-urls",
                 f"http://{here}:2380", "--initial-cluster", f"default=http://{here}:2380"],
                stdout=log, stderr=log)
        self.addCleanup(lambda: (etcd.kill(), etcd.wait()))
        def tell(path, body):
            ask = ("import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open("
                   "u.Request(sys.argv[1], sys.argv[2].encode()), timeout=5)")
            return subprocess.run([*cluster.outside, sys.executable, "-c", ask,
                                   f"http://{here}:2379/v3/{path}", body], capture_output=True,
                                  timeout=20).returncode == 0
        until("etcd answers", lambda: tell("auth/user/add",
                                           '{"name": "root", "password": "secret"}'))
        self.assertTrue(tell("auth/role/add", '{"name": "root"}'))
        self.assertTrue(tell("auth/user/grant", '{"user": "root", "role": "root"}'))
        self.assertTrue(tell("auth/enable", "{}"))
        login = os.path.join(self.house.folder, "login")
        with open(login, "w") as f:
            f.write("root:secret\n")
        # one that was alone, with what it has
        cluster.grow()
        first = cluster.nodes[0]
        client = cluster.puppet()
        client("bucket", "b")
        client("put", "b", "k", 100, 7)
        client.leave()
        self.assertEqual(first.stop(), 0)
        cluster.options = ["--coord", f"etcd://{here}:2379/mine"]
        first.options = (*first.options, *cluster.options)
        first.start(wait=False)
        self.assertNotEqual(first.process.wait(60 * PATIENCE), 0)
        self.assertIn("password", first.said())
        cluster.options += ["--coord-login", login]
        first.options = (*first.options, "--coord-login", login)
        first.start()
        self.assertEqual(cluster.puppet().get("b", "k"), (100, 7))
        self.assertFalse(cluster.look()["alone"])
        self.assertIsNone(first.etcd_pid)
        # one that asks a node that is not there ends when it is told to
        waits = self.at_home(cluster, "serve", "--insecure", "--listen", cluster.net.address(2),
                             "--join", cluster.net.address(9), "--key-file", cluster.key,
                             wait=False)
        time.sleep(0.5)
        waits.send_signal(signal.SIGTERM)
        self.assertEqual(waits.wait(10 * PATIENCE), 0)
        second = self.at_home(cluster, "serve", "--insecure", "--listen", cluster.net.address(2),
                              "--join", cluster.net.address(1), "--key-file", cluster.key,
                              "--coord-login", login, "--dram", "64M", "--flash", "64M", wait=False)
        until("it has joined", lambda: os.path.exists(
            os.path.join(self.house.folder, "home", ".wadi", "nodes")))
        # it does not lead, and its user needs to know of nothing
        done = self.at_home(cluster, "status", "--wait", "30s")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("neither may fail", done.stdout)
        seen = cluster.look()
        self.assertEqual((len(seen["nodes"]), seen["etcd_voters"]), (2, 0))
        second.send_signal(signal.SIGTERM)
        self.assertEqual(second.wait(30 * PATIENCE), 0)

    def test_the_last_resort(self):
        cluster = self.furnish(3)
        cluster.whole()
        client = cluster.puppet(timeout_ms=60000)
        client("bucket", "b")
        client("put", "b", "k", 100, 7)
        one, two, three = cluster.nodes

        def in_sync():
            seen = cluster.look()
            return seen and [n["node"] for n in seen["nodes"] if n["in_sync"]]
        if cluster.primary is not one:
            cluster.hand_over(1)
        two.kill()
        until("1 and 3 are the set", lambda: in_sync() == [1, 3])
        client("put", "b", "k", 100, 8)
        three.kill()
        until("1 is the set", lambda: in_sync() == [1])
        client("timeout", int(1500 * PATIENCE))
        client.fails("put", "b", "k", 100, 9)
        one.kill()
        two.start(wait=False)
        only = {"WADI_URL": f"wadi://{cluster.net.address(2)}:{PORT}"}
        until("2 answers", lambda: cluster.wadi(
            "shard", "status", check=False, env=only).returncode == 0)
        refused = cluster.wadi("shard", "force", "--replica", "2", check=False, env=only)
        self.assertEqual(refused.returncode, 2)
        cluster.wadi("shard", "force", "--replica", "2", "--accept-loss", env=only)
        two.until_ready()
        client("timeout", int(30000 * PATIENCE))
        self.assertEqual(client.get("b", "k"), (100, 7))  # the loss that was accepted
        client("put", "b", "k", 100, 10)
        # the others follow it now, whatever they had
        one.start()
        three.start()
        cluster.wadi("shard", "target", "3")
        cluster.whole()
        self.assertEqual(client.get("b", "k"), (100, 10))

    def test_clocks_that_are_wrong(self):
        cluster = self.furnish(3, clocks={2: "+1h", 3: "-2h"})
        cluster.whole()
        load = Load(cluster, clients=2)
        self.addCleanup(setattr, load, "going", False)
        load.progress(15)
        for node in (2, 3, 1):  # each of them leads, after one of another time
            cluster.hand_over(node)
            load.progress(15)
        cluster.primary.kill()
        load.progress(15)
        load.stop()
        self.assertEqual(load.errors, [])
        load.judge()

    def test_everything_is_stopped_and_started(self):
        cluster = self.furnish(3)
        cluster.whole()
        client = cluster.puppet()
        client("bucket", "b")
        client("put", "b", "k", 100, 7)
        for node in cluster.nodes:
            node.kill()
            node.kill_etcd()
        for node in cluster.nodes:
            node.start(wait=False)
        for node in cluster.nodes:
            node.until_ready()
        cluster.whole()
        self.assertEqual(client.get("b", "k"), (100, 7))
        for node in cluster.nodes:
            self.assertEqual(node.stop(), 0)
        for node in cluster.nodes:
            node.start(wait=False)
        for node in cluster.nodes:
            node.until_ready()
        cluster.whole()
        self.assertEqual(client.get("b", "k"), (100, 7))

    def test_a_disk_that_is_full(self):
        cluster = self.furnish(3, small_disk=[2])
        cluster.whole()
        cluster.hand_over(2)
        client = cluster.puppet()
        client("bucket", "b")
        node = cluster.nodes[1]
        ballast = os.path.join(node.data, "ballast")
        with open(ballast, "wb") as f:
            try:
                while True:
                    f.write(bytes(1 << 20))
                    f.flush()
            except OSError:
                pass
        # with what was set aside for the log it goes on for a while; then another one leads, and
        # at last the full one falls behind
        n = 0
        while cluster.primary.number == 2 or n < 8000:
            for i in range(n, n + 200):
                client("put", "b", f"k{i % 10}", 4000, i, 16)
            n += 200
        self.assertIn("the disk under the metadata is full", node.said())
        os.unlink(ballast)
        for i in range(n - 10, n):
            self.assertEqual(client.get("b", f"k{i % 10}"), (4000, i))
        cluster.whole(revive=[node])


# ---- longer ones ----
def long_run(what):
    house = House()
    cluster = Cluster(house, 3)
    try:
        cluster.whole()
        load = Load(cluster)
        load.progress()
        what(cluster, load)
        cluster.whole()
        load.progress()
        load.stop()
        print(load.judge())
        print(f"{len(load.errors)} errors to clients; {len(load.acks)} changes acknowledged")
        for line in load.errors[:20]:
            print("  ", line)
        return 1 if load.errors else 0
    finally:
        if load := locals().get("load"):
            load.going = False
        cluster.end()
        house.end()


def kills(n, seed):
    chance = random.Random(seed)

    def work(cluster, load):
        for i in range(n):
            node = chance.choice(cluster.nodes)
            if chance.random() < 0.3:
                node.kill_etcd()
            else:
                node.kill()
                load.progress(5)
                node.start()
            cluster.whole()
            load.progress(5)
            if i % 50 == 49:
                print(f"{i + 1} kills, {len(load.acks)} changes", flush=True)
    return work


def etcd_stop(seconds):
    def work(cluster, load):
        for node in cluster.nodes:
            node.kill_etcd(signal.SIGSTOP)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            load.progress(10)
        for node in cluster.nodes:
            node.kill_etcd(signal.SIGCONT)
    return work


HOGS = 12


def calm(seconds):
    """No false alarm: the epoch stays, and nobody falls out of the set."""
    def look(cluster):
        seen = json.loads(cluster.wadi("--json", "shard", "status").stdout)
        return seen["epoch"], tuple(r["in_sync"] for r in seen["replicas"])

    def work(cluster, load):
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(HOGS)]
        try:
            before, end, alarms = look(cluster), time.monotonic() + seconds, 0
            while time.monotonic() < end:
                load.progress(10)
                now = look(cluster)
                alarms, before = alarms + (now != before), now
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        print(f"{alarms} false alarms in {seconds:.0f} s beside {HOGS} busy processes, load "
              f"{os.getloadavg()[0]:.0f}; the canary was late {len(load.late)} times, at most "
              f"{max((w - s - 0.02 for s, w in load.late), default=0) * 1e3:.0f} ms")
    return work


def failovers(n, took):
    """Appends the milliseconds from each kill to the first acknowledged change that was begun after
    it; None where this machine itself was late, which the canary knows."""
    def work(cluster, load):
        for i in range(n):
            node = cluster.primary
            load.progress(20)
            before = time.monotonic()
            node.kill()
            at = time.monotonic_ns()
            ms = load.first_ack_after(at) + (at / 1e9 - before) * 1e3
            time.sleep(0.1)
            late = any(woken > before and slept < before + ms / 1e3 for slept, woken in load.late)
            took.append(None if late else ms)
            node.start()
            cluster.whole()
            if i % 20 == 19:
                print(f"{i + 1} kills", flush=True)
    return work


def tell_failovers(took):
    good = sorted(ms for ms in took if ms is not None)

    def part(p):
        return round(good[min(len(good) - 1, int(len(good) * p))], 1)
    print(json.dumps({"kills": len(took), "left_out": len(took) - len(good), "p50_ms": part(0.5),
                      "p95_ms": part(0.95), "p99_ms": part(0.99), "max_ms": round(good[-1], 1)}))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int)
    options.add_argument("--etcd-stop", type=float)
    options.add_argument("--failover", type=int)
    options.add_argument("--calm", type=float)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("names", nargs="*")
    o = options.parse_args()
    if o.kills:
        sys.exit(long_run(kills(o.kills, o.seed)))
    if o.etcd_stop:
        sys.exit(long_run(etcd_stop(o.etcd_stop)))
    if o.calm:
        sys.exit(long_run(calm(o.calm)))
    if o.failover:
        took = []
        code = long_run(failovers(o.failover, took))
        tell_failovers(took)
        sys.exit(code)
    sys.argv = sys.argv[:1] + o.names
    run(sys.modules["__main__"])


if __name__ == "__main__":
    main()
