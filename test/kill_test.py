#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of any role in the middle of traffic: what was acknowledged is there with its bytes, what
was not is whole or absent, what was deleted stays deleted, and every byte of room comes back.

Each client writes a history before it asks and after it is answered; a ledger says what may stand
under each key and a judge looks."""
import os
import signal
import subprocess
import sys
import time

from house import (DRAM, FLASH, LIFETIME_PERSIST, Failed, HouseTest, run, until)

UNCHANGED = ("FULL", "BUSY", "TIMEOUT", "UNAVAILABLE", "UNREACH", "CLOSED", "NOTFOUND", "CONFLICT",
             "LOST", "GONE", "STALE")  # a change that ends so had no effect


class Ledger:
    """What may stand under each key of one client: a set of (length, seed), None for absent."""

    def __init__(self, path):
        self.keys, self.puts, self.wrong = {}, {}, []
        self.ops = self.acked = 0
        begun = None
        with open(path, errors="replace") as lines:
            for line in lines:
                at, what, *words = line.split()
                if what == "begin":
                    begun = (float(at), words)
                    if words[0] in ("put", "delete", "take"):
                        self.begin(float(at), *words)
                elif begun is not None:
                    self.end(*begun, words)
                    begun = None

    def begin(self, at, what, bucket, key, length=0, seed=0):
        new = (int(length), int(seed)) if what == "put" else None
        before = self.keys.setdefault((bucket, key), {None})
        self.before = set(before)
        before.add(new)
        if new:
            self.puts[bucket, key, new] = at

    def end(self, at, words, answer):
        what, place, verdict = words[0], (words[1], words[2]), answer[0]
        self.ops += 1
        if verdict == "other":
            self.wrong.append(f"{at}: other bytes: {words}")
        if what in ("put", "delete"):
            new = (int(words[3]), int(words[4])) if what == "put" else None
            if verdict == "ok" or (what == "delete" and verdict == "NOTFOUND"):
                if verdict != "ok" and None not in self.before:
                    self.wrong.append(f"{at}: deleting what is there: {words} {answer}")
                self.keys[place] = {new}
                self.acked += 1
            elif verdict in UNCHANGED:
                self.keys[place] = self.before
        elif verdict in ("ok", "NOTFOUND"):
            seen = (int(answer[1]), int(answer[2])) if verdict == "ok" else None
            self.saw(place, seen, f"{at}: {words} {answer}")
            if what == "take":
                self.keys[place] = {None} if verdict == "ok" else {seen}

    def saw(self, place, seen, where):
        may = self.keys.setdefault(place, {None})
        if seen not in may:
            self.wrong.append(f"{where}: may be {sorted(map(str, may))}")


class Kill(HouseTest):
    CLIENTS = 3

    def begin(self):
        """A job with buckets in memory, on flash, and one that is kept."""
        self.admin = self.house.client()
        self.job, self.token = self.house.job(self.admin, "traffic")
        worker = self.house.client(token=self.token)
        worker("bucket", "memory", f"tiers={DRAM}")
        worker("bucket", "files", f"tiers={FLASH}")
        worker("bucket", "kept", f"lifetime={LIFETIME_PERSIST}")
        self.judge = worker
        self.histories, self.kills, self.n = [], [], 0
        self.workers = [self.worker() for _ in range(self.CLIENTS)]

    def worker(self):
        self.n += 1
        worker = self.house.client(token=self.token)
        path = os.path.join(self.house.folder, f"history-{self.n}")
        worker("history", path)
        self.histories.append(path)
        worker.path = path
        worker.tell("traffic", f"c{self.n}", self.n, "memory", "files", "kept")
        return worker

    def progress(self, n=25):
        """Until every worker has got on with n answers."""
        def size(worker):
            return os.stat(worker.path).st_size
        before = [size(w) for w in self.workers]
        until("traffic goes on", lambda: all(size(w) > b + n * 80 for w, b in
                                             zip(self.workers, before)), 40)

    def killed(self, server):
        self.kills.append((time.monotonic(), server.name))
        server.kill()

    def may_be_lost(self, bucket, value, at):
        """A byte of an unprotected bucket in memory dies with the process that has it."""
        holder = "meta" if value and value[0] <= 4096 else "memory" if bucket == "memory" else None
        return bucket != "kept" and any(
            name == "all" and (holder == "meta" or bucket == "memory") or name == holder
            for t, name in self.kills if t > at)

    def finish(self):
        for worker in self.workers:
            worker.tell("")
            worker.hear()
            worker.leave()
        ledgers = [Ledger(path) for path in self.histories]
        wrong = [w for ledger in ledgers for w in ledger.wrong]
        looked = lost = 0
        for ledger in ledgers:
            for place, may in ledger.keys.items():
                looked += 1
                seen = self.look(place)
                if seen == "LOST" and any(v and self.may_be_lost(place[0], v, ledger.puts[
                        (*place, v)]) for v in may):
                    lost += 1
                else:
                    ledger.saw(place, seen, f"judge: {place} {seen}")
        wrong += [w for ledger in ledgers for w in ledger.wrong if w.startswith("judge")]
        self.assertEqual(wrong, [])
        acked = sum(ledger.acked for ledger in ledgers)
        self.assertGreater(acked, 50)
        print(f"{self.id()}: {len(self.kills)} kills, {sum(x.ops for x in ledgers)} operations, "
              f"{acked} changes acknowledged, {looked} keys looked at, {lost} lost as promised")
        self.give_back()

    def look(self, place):
        """What stands there: (length, seed), None, or a word. What a client was taking when it
        went away is there again when its mark has lapsed."""
        def look():
            try:
                return [self.judge.get(*place)]
            except Failed as failed:
                if failed.name == "CONFLICT":
                    return None
                return [None if failed.name == "NOTFOUND" else failed.name]
        return until(f"{place} is free again", look, 20)[0]

    def give_back(self):
        """The job ends; what is kept stays until it is dropped; then nothing is left."""
        kept = self.judge("list", "kept")
        self.house.status()
        self.judge.leave()
        self.admin("end", self.job)
        self.house.status()
        self.assertEqual(self.admin("list", f"{self.job}:kept"), kept)
        self.admin("drop", f"{self.job}:kept")
        self.house.empty(25)
        self.assertEqual(self.house.status()["objects"], 0)

    def test_all_in_one(self):
        server = self.house.serve()
        self.begin()
        for _ in range(5):
            self.progress()
            self.killed(server)
            server.start()
        self.progress()
        self.finish()

    def test_metadata(self):
        meta, _, _ = self.house.roles()
        self.begin()
        for _ in range(5):
            self.progress()
            self.killed(meta)
            meta.start()
        self.progress()
        self.finish()

    def test_storage_of_memory(self):
        _, memory, _ = self.house.roles()
        self.begin()
        for _ in range(5):
            self.progress()
            self.killed(memory)
            memory.start()
        self.progress()
        self.finish()

    def test_storage_of_flash(self):
        _, _, disk = self.house.roles()
        self.begin()
        for _ in range(5):
            self.progress()
            self.killed(disk)
            disk.start()
        self.progress()
        self.finish()

    def test_clients(self):
        """That hold puts, gets and pins."""
        self.house.serve()
        self.begin()
        for i in range(8):
            self.progress()
            victim = self.workers.pop(i % self.CLIENTS)
            victim.kill()
            self.workers.append(self.worker())
        self.progress()
        self.finish()

    def test_job_owner(self):
        """`wadi job run` dies with everything below it: the lease frees what its job had."""
        self.house.serve()
        script = (f"head -c 3000000 /dev/zero | {self.house.program} put /k; "
                  f"echo small | {self.house.program} put /s; echo up; exec sleep 60")
        owner = subprocess.Popen(
            [self.house.program, "job", "run", "--lease", "1s", "sh", "-c", script],
            env=self.house.environment, stdout=subprocess.PIPE, start_new_session=True)
        self.assertEqual(owner.stdout.readline(), b"up\n")
        self.assertGreater(self.house.tier("dram")["used_bytes"], 3000000 - 1)
        os.killpg(owner.pid, signal.SIGKILL)
        owner.wait()
        owner.stdout.close()
        self.house.empty(20)
        self.assertEqual(self.house.status()["jobs"], 0)


if __name__ == "__main__":
    run(sys.modules[__name__])
