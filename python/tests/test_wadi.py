# SPDX-License-Identifier: Apache-2.0
"""The module against a real server: what goes in comes out, errors are exceptions, a job's end
leaves nothing."""
import array
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import unittest

from served import Served

import wadi


class WithServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.served = Served()
        cls.addClassCleanup(cls.served.end)

    def setUp(self):
        self.w = wadi.connect(self.served.url)
        self.addCleanup(self.w.close)
        self.bucket = self.w.create_bucket(self.id().rsplit(".", 1)[1])


class Objects(WithServer):
    def test_bytes(self):
        for size in 0, 1, 4096, 4097, 100000, 5 << 20:
            data = os.urandom(size)
            info = self.bucket.put("k", data)
            self.assertEqual(info.size, size)
            self.assertEqual(self.bucket.get("k"), data)
            self.assertEqual(self.bucket.stat("k").size, size)

    def test_buffers(self):
        for data in bytearray(b"abc"), memoryview(b"abc"), array.array("B", b"abc"):
            self.bucket.put("k", data)
            self.assertEqual(self.bucket.get("k"), b"abc")
        room = bytearray(5)
        self.assertEqual(self.bucket.get_into("k", room), 3)
        self.assertEqual(room, b"abc\0\0")
        with self.assertRaises(wadi.Invalid):
            self.bucket.get_into("k", bytearray(2))
        with self.assertRaises(TypeError):
            self.bucket.get_into("k", b"ro")
        with self.assertRaises(TypeError):
            self.bucket.put("k", 7)

    def test_ranges(self):
        data = os.urandom(300000)
        self.bucket.put("k", data)
        for offset, length in (0, 10), (4095, 2), (100000, 100000), (299990, 100), (300000, 5):
            self.assertEqual(self.bucket.get("k", offset=offset, length=length),
                             data[offset:offset + length])

    def test_view_outlives_release_and_delete(self):
        data = os.urandom(1 << 20)
        self.bucket.put("k", data)
        view = self.bucket.view("k")
        some = view.data[100:200]
        self.assertTrue(view.data.readonly)
        self.assertEqual(len(view), len(data))
        self.assertTrue(view.valid())
        self.bucket.delete("k")
        view.release()
        del view
        gc.collect()
        self.bucket.put("other", os.urandom(1 << 20))
        self.assertEqual(bytes(some), data[100:200])

    def test_view_outlives_close(self):
        self.bucket.put("k", b"x" * 100000)
        with wadi.connect(self.served.url) as other:
            data = other.bucket(self.bucket.name).view("k").data
        self.assertEqual(bytes(data[:3]), b"xxx")

    def test_list(self):
        names = sorted(f"{a}/{i}" for a in "xy" for i in range(30))
        self.bucket.put_many((n, b"1") for n in names)
        self.assertEqual([e.name for e in self.bucket.list()], names)
        self.assertEqual([e.name for e in self.bucket.list("y/2")],
                         [n for n in names if n.startswith("y/2")])
        folded = list(self.bucket.list(delimiter="/"))
        self.assertEqual([(e.name, e.kind) for e in folded], [("x/", "prefix"), ("y/", "prefix")])
        self.assertIn("x/1", self.bucket)
        self.assertNotIn("x/99", self.bucket)

    def test_conditions(self):
        version = self.bucket.put("k", b"1").version
        with self.assertRaises(wadi.Exists):
            self.bucket.put("k", b"2", if_absent=True)
        with self.assertRaises(wadi.Conflict):
            self.bucket.put("k", b"2", if_version=version + 1)
        self.bucket.put("k", b"2", if_version=version)
        with self.assertRaises(wadi.NotFound):
            self.bucket.get("nothing")
        with self.assertRaises(LookupError):
            self.w.bucket("nobody").put("k", b"")
        with self.assertRaises(wadi.Invalid):
            self.bucket.put("", b"")
        with self.assertRaises(wadi.Invalid):
            self.bucket.put("k" * 1025, b"")

    def test_rename_delete(self):
        self.bucket.put("a", b"1")
        self.bucket.rename("a", "b")
        self.assertEqual(self.bucket.get("b"), b"1")
        self.bucket.delete("b")
        self.bucket.delete("b", missing_ok=True)
        with self.assertRaises(wadi.NotFound):
            self.bucket.delete("b")

    def test_errors_travel_between_processes(self):
        with self.assertRaises(wadi.NotFound) as caught:
            self.bucket.get("nothing")
        again = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual((type(again), str(again), again.name),
                         (wadi.NotFound, str(caught.exception), "NOTFOUND"))

    def test_unreachable(self):
        with self.assertRaises(ConnectionError):
            wadi.connect("unix:/nowhere/at/all")
        with self.assertRaises(ValueError):
            wadi.connect("ftp://here")


class Jobs(WithServer):
    def test_end_frees_everything(self):
        with self.w.job("all") as job:
            job.put("small", b"1")
            job.put("large", bytes(1 << 20))
            job.create_bucket("more").put("k", b"2")
            self.assertIn("dram", job.bill())
        with self.assertRaises(ValueError):
            job.put("late", b"")
        with self.assertRaises(wadi.Error):
            wadi.connect(self.served.url, token=job.token)
        self.assertNotIn("more", list(self.w.buckets()))

    def test_delete_on_read(self):
        with self.w.job() as job:
            for size in 10, 100000:
                job.put("k", bytes(size), delete_on_read=True)
                self.assertEqual(len(job.get("k")), size)
                self.assertNotIn("k", job)
                job.put("k", bytes(size))
                job.get("k", delete=True)
                self.assertNotIn("k", job)

    def test_waiting(self):
        with self.w.job() as job:
            def later():
                time.sleep(0.2)
                with wadi.connect(self.served.url, token=job.token) as other:
                    other.own.put("k", b"came")

            thread = threading.Thread(target=later)
            thread.start()
            self.assertEqual(job.get("k", wait=20), b"came")
            thread.join()
            self.assertEqual(job.wait("k", 5).size, 4)
            with self.assertRaises(TimeoutError):
                job.wait("never", 0.05)

    def test_child_acts_for_the_job(self):
        with self.w.job("parent") as job:
            code = ("import wadi\nwith wadi.connect() as w:\n assert w.job_id\n"
                    " w.own.put('child', b'was here')\n")
            subprocess.run([sys.executable, "-c", code], check=True, env=job.environment())
            self.assertEqual(job.get("child"), b"was here")

    def test_jobs_are_apart(self):
        with self.w.job("one") as one, self.w.job("two") as two:
            one.put("k", b"1")
            self.assertNotIn("k", two)

    def test_persist(self):
        with self.w.job() as job:
            job.put("k", b"1")
            job.persist("k")

    def test_wordcount(self):
        here = os.path.dirname(os.path.abspath(__file__))
        path = os.path.join(self.served.folder, "words")
        with open(path, "w") as f:
            for i in range(5000):
                f.write("the quick fox and the slow fox number n%d\n" % (i % 7))
        out = subprocess.run(
            [sys.executable, os.path.join(here, "..", "examples", "wordcount.py"), path, "3", "2"],
            check=True, text=True, stdout=subprocess.PIPE, timeout=120,
            env=dict(os.environ, WADI_URL=self.served.url)).stdout
        self.assertIn("10000  fox", out)
        self.assertIn("10000  the", out)


class Forks(WithServer):
    def test_child_of_a_fork_is_told(self):
        pid = os.fork()
        if pid == 0:
            try:
                self.bucket.put("k", b"")
            except ValueError:
                os._exit(0)
            os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.bucket.put("k", b"still works")


if __name__ == "__main__":
    unittest.main()
