#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS with real processes: certificates as people make them, servers that refuse to be overheard,
clients that are let in or not, and whatever else comes to such a port."""
import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
import unittest

from house import DRAM, FLASH, PATIENCE, HouseTest, SharedHouseTest, run, until

MIB = 1 << 20
EXIT_INVALID, EXIT_DENIED, EXIT_NOTFOUND, EXIT_EXISTS = 2, 4, 5, 6


class Certificates(HouseTest):
    def setUp(self):
        super().setUp()
        self.ca = os.path.join(self.house.folder, "ca")

    def cert(self, *args, code=0):
        done = self.house.wadi("cert", *args)
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        return done.stderr.decode()

    def facts(self, path, code=0):
        done = self.house.wadi("--json", "cert", "show", path)
        self.assertEqual(done.returncode, code, done.stdout)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_one_command_makes_all_of_it(self):
        said = self.cert("issue", self.ca, "--host", "n1.example.org,10.0.0.1,fe80::1")
        self.assertIn("wadi serve --listen n1.example.org", said)
        node = os.path.join(self.ca, "n1.example.org")
        self.assertEqual(sorted(os.listdir(node)), ["ca.crt", "wadi.crt", "wadi.key"])
        for path in os.path.join(node, "wadi.key"), os.path.join(self.ca, "ca.key"):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        authority, own = self.facts(node)
        self.assertEqual((authority["role"], own["role"], own["name"], own["hosts"]),
                         ("authority", "node", "n1.example.org", "n1.example.org,10.0.0.1,fe80::1"))
        self.assertAlmostEqual((own["until_s"] - own["from_s"]) / 86400, 365, delta=1)
        # What is made is what others understand by it.
        subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver",
                        "-verify_ip", "10.0.0.1", "-CAfile", os.path.join(self.ca, "ca.crt"),
                        os.path.join(node, "wadi.crt")], check=True, timeout=20,
                       stdout=subprocess.DEVNULL)

    def test_nothing_is_replaced_by_accident(self):
        self.cert("init", self.ca)
        self.cert("init", self.ca, code=EXIT_EXISTS)
        self.cert("client", self.ca, "me")
        self.cert("client", self.ca, "me", code=EXIT_EXISTS)
        self.cert("client", self.ca, "me", "--force")
        me = os.path.join(self.ca, "me")
        before = self.facts(me)[1]
        self.cert("renew", self.ca, me)
        after = self.facts(me)[1]
        self.assertNotEqual(before["sha256"], after["sha256"])
        self.assertEqual((after["role"], after["name"]), ("client", "me"))

    def test_what_cannot_be(self):
        self.cert("init", self.ca)
        self.cert("issue", self.ca, code=EXIT_INVALID)
        self.cert("issue", self.ca, "--host", "a b", code=EXIT_INVALID)
        self.cert("issue", self.ca, "--host", "", code=EXIT_INVALID)
        self.cert("client", self.ca, "../up", code=EXIT_INVALID)
        self.cert("renew", self.ca, os.path.join(self.house.folder, "nobody"), code=EXIT_NOTFOUND)
        self.cert("show", self.house.folder, code=EXIT_NOTFOUND)
        self.cert("client", self.ca, "old", "--valid", "0")
        self.assertIn("over", self.cert("show", os.path.join(self.ca, "old"), code=EXIT_DENIED))
        self.cert("client", self.ca, "new")
        with open(os.path.join(self.ca, "old", "wadi.key")) as f:
            key = f.read()
        with open(os.path.join(self.ca, "new", "wadi.key"), "w") as f:
            f.write(key)
        self.assertIn("does not fit",
                      self.cert("show", os.path.join(self.ca, "new"), code=EXIT_DENIED))
        with open(os.path.join(self.ca, "ca.key"), "w") as f:
            f.write(key)
        self.cert("client", self.ca, "third", code=EXIT_INVALID)


def make(house, ca, kind, name, *options):
    """A folder of certificates."""
    out = os.path.join(house.folder, "certs", name)
    done = house.wadi("cert", kind, ca, *([name] if kind == "client" else ["--name", name]),
                      "--out", out, *options)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return out


def network(server):
    """(host, port) where it speaks TLS."""
    host, port = re.findall(r"wadis://([^\s:]+):(\d+)", server.said())[-1]
    return host, int(port)


class Served(SharedHouseTest):
    """The roles apart on an address of their own, everything over TLS; clients that see no Unix
    socket of the storage."""

    @classmethod
    def furnish(cls):
        house = cls.house
        cls.ca = os.path.join(house.folder, "ca")
        cls.node = make(house, cls.ca, "issue", "n1", "--host", "127.0.0.2,localhost")
        cls.me = make(house, cls.ca, "client", "me")
        listen = ["--listen", "127.0.0.2:0", "--cert-dir", cls.node]
        cls.meta = house.server("meta", "meta", *listen)
        cls.url = "wadis://%s:%d" % network(cls.meta)
        cls.key = os.path.join(cls.meta.data, "key")
        house.environment.update(WADI_CERT=cls.me, WADI_KEY=cls.key)
        how = ["--meta", cls.url, "--key-file", cls.key, *listen]
        cls.stores = [house.server(name, "store", *how, f"--{tier}", "128M")
                      for name, tier in (("memory", "dram"), ("disk", "flash"))]
        house.up(2)

    def wadi(self, *args, code=0, url=None, **env):
        done = self.house.wadi("--url", url or self.url, *args, env=env)
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        return done.stderr.decode()

    def client(self, **how):
        """As on another host."""
        done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no mounts of one's own can be made: {done.stderr.strip()}")
        hide = " && ".join(f"mount -t tmpfs none {s.data}" for s in self.stores)
        return self.house.client(url=self.url, wrap=["unshare", "-m", "sh", "-c",
                                                     hide + ' && exec "$0"'], **how)

    def raw(self, port=None):
        s = socket.create_connection((port or network(self.meta)), timeout=20 * PATIENCE)
        self.addCleanup(s.close)
        return s

    def heard(self, s):
        """All that comes until the other side ends."""
        said = b""
        try:
            while piece := s.recv(65536):
                said += piece
        except ConnectionResetError:
            pass
        return said

    def context(self, folder):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(os.path.join(self.ca, "ca.crt"))
        if folder:
            tls.load_cert_chain(os.path.join(folder, "wadi.crt"), os.path.join(folder, "wadi.key"))
        return tls

    # ---- what works ----
    @unittest.skipIf(os.geteuid() != 0, "needs root to hide the Unix sockets")
    def test_everything_over_tls(self):
        admin = self.client()
        job, token = self.house.job(admin)
        one, two = self.client(token=token), self.client(token=token)
        one("bucket", "memory", f"tiers={DRAM}")
        one("bucket", "files", f"tiers={FLASH}")
        for bucket in "memory", "files":
            for length in 0, 16, 4097, 5 * MIB + 3, 20 * MIB:
                one("put", bucket, f"k{length}", length, 5 if length else 0)
                self.assertEqual(two.get(bucket, f"k{length}"), (length, 5 if length else 0))
        self.assertEqual(two("view", "memory", "k4097")[1], "0")  # not shared: it came by wire
        two("unview")
        admin("end", job)
        for server in json.loads(self.house.wadi("--url", self.url, "--json", "status").stdout)[
                "servers"]:
            self.assertTrue(server["addr"].startswith("tls:127.0.0.2:"), server)

    def test_the_host_by_its_name(self):
        self.wadi("ls", url=self.url.replace("127.0.0.2", "localhost"), code=3)  # not there
        self.wadi("ls")

    # ---- who is not let in ----
    def test_who_is_refused(self):
        nobody = os.path.join(self.house.folder, "nobody")
        self.assertIn("ca.crt", self.wadi("ls", WADI_CERT=nobody, code=5))
        other = os.path.join(self.house.folder, "other")
        foreign = make(self.house, other, "client", "foreign")
        self.assertIn("certificate", self.wadi("ls", WADI_CERT=foreign, code=4))
        shutil.copy(os.path.join(self.ca, "ca.crt"), foreign)  # now only the server can tell
        self.wadi("ls", WADI_CERT=foreign, code=4)
        old = make(self.house, self.ca, "client", "old", "--valid", "0")
        time.sleep(1)
        self.wadi("ls", WADI_CERT=old, code=4)
        # A certificate alone opens no door: who it is says the key or the job's token.
        self.wadi("ls", WADI_KEY=os.path.join(self.house.folder, "none"), code=4)
        self.wadi("ls", WADI_JOB_TOKEN="j1.1." + "0" * 32, code=4)
        with open(os.path.join(self.house.folder, "bad-key"), "w") as f:
            f.write("0" * 64 + "\n")
        self.wadi("ls", WADI_KEY=f.name, code=4)
        self.wadi("ls")

    def test_who_is_signed_and_named_by_nothing(self):
        """The authority's signature is not enough: a certificate says who of Wadi it is for."""
        folder = os.path.join(self.house.folder, "nameless")
        os.mkdir(folder)

        def openssl(*args):
            subprocess.run(["openssl", *args], check=True, timeout=20, cwd=folder,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=me", "-keyout", "wadi.key", "-out", "asked")
        for name, names, code in (("none", "DNS:me", 4), ("other", "URI:wadi:king:me", 4),
                                  ("both", "URI:wadi:client:a,URI:wadi:client:b", 4),
                                  ("good", "URI:wadi:client:me", 0)):
            with open(os.path.join(folder, "more"), "w") as f:
                f.write(f"subjectAltName={names}\nextendedKeyUsage=clientAuth\n")
            openssl("x509", "-req", "-in", "asked", "-days", "1", "-extfile", "more", "-CA",
                    os.path.join(self.ca, "ca.crt"), "-CAkey", os.path.join(self.ca, "ca.key"),
                    "-out", "wadi.crt")
            shutil.copy(os.path.join(self.ca, "ca.crt"), folder)
            self.wadi("ls", WADI_CERT=folder, code=code)

    def test_no_certificate_and_no_old_tls(self):
        for folder, version, good in ((self.me, ssl.TLSVersion.TLSv1_3, True),
                                      (None, ssl.TLSVersion.TLSv1_3, False),
                                      (self.me, ssl.TLSVersion.TLSv1_2, False)):
            tls = self.context(folder)
            tls.maximum_version = version
            try:
                with tls.wrap_socket(self.raw(), server_hostname="127.0.0.2") as s:
                    s.sendall(b"not a frame, but inside of TLS " * 4)
                    said = s.recv(4096)
                    self.assertTrue(good, (folder, version, said))
                    self.assertGreater(len(said), 0)
            except (ssl.SSLError, ConnectionResetError):
                self.assertFalse(good)

    # ---- what is not TLS ----
    def test_plain_to_a_tls_port(self):
        plain = self.url.replace("wadis:", "wadi:")
        self.assertIn("wadis://", self.wadi("ls", url=plain, code=3))
        store = json.loads(self.house.wadi("--url", self.url, "--json", "status").stdout)[
            "servers"][0]["addr"].split(":")
        for port in network(self.meta), (store[1], int(store[2])):
            s = self.raw(port)
            s.sendall(b"WADI" + bytes(200))
            said = self.heard(s)
            self.assertLessEqual(len(said), 7)  # an alert and nothing of ours

    def test_tls_to_a_plain_port(self):
        plain = self.house.server("plain", "meta", "--listen", "127.0.0.1:0")
        url = "wadis://127.0.0.1:%d" % plain.tcp[1]
        began = time.monotonic()
        self.assertIn("TLS", self.wadi("ls", url=url, code=1))
        self.assertLess(time.monotonic() - began, 4 * PATIENCE)
        self.assertEqual(plain.stop(), 0)

    def test_pieces_of_a_handshake(self):
        hello = ssl.MemoryBIO()  # the bytes that a real caller begins with
        coming = ssl.MemoryBIO()
        talk = self.context(self.me).wrap_bio(coming, hello, server_hostname="127.0.0.2")
        try:
            talk.do_handshake()
        except ssl.SSLWantReadError:
            pass
        first = hello.read()
        self.assertGreater(len(first), 100)
        for cut in (1, 4, 5, 6, 43, len(first) // 2, len(first) - 1):
            s = self.raw()
            s.sendall(first[:cut])
            s.shutdown(socket.SHUT_WR)
            self.assertLessEqual(len(self.heard(s)), 7)
        for at in range(0, len(first), 29):
            s = self.raw()
            s.sendall(first[:at] + bytes([first[at] ^ 0xff]) + first[at + 1:])
            s.shutdown(socket.SHUT_WR)
            self.heard(s)
        self.wadi("ls")

    # ---- new certificates ----
    def test_rotation_while_connected(self):
        client = self.house.client(url=self.url)
        client("bucket", "rotation", f"tiers={FLASH}")
        client("put", "rotation", "before", MIB, 1)

        def shown():
            with self.context(self.me).wrap_socket(self.raw(), server_hostname="127.0.0.2") as s:
                return s.getpeercert(True)
        before = shown()
        done = self.house.wadi("cert", "renew", self.ca, self.node)
        self.assertEqual(done.returncode, 0, done.stderr)
        until("the new certificate is shown", lambda: shown() != before)
        self.assertEqual(client.get("rotation", "before"), (MIB, 1))
        client("put", "rotation", "after", MIB, 2)
        client("delete", "rotation", "before")
        client("delete", "rotation", "after")
        with open(os.path.join(self.node, "wadi.key")) as f:
            good = f.read()
        with open(os.path.join(self.node, "wadi.key"), "w") as f:
            f.write("broken")
        until("it is said that they cannot be used", lambda: shown() and "stay in force" in
              self.meta.said())
        self.wadi("ls")
        with open(os.path.join(self.node, "wadi.key"), "w") as f:
            f.write(good)


class Slowness(HouseTest):
    def test_those_who_dawdle(self):
        house = self.house
        node = make(house, os.path.join(house.folder, "ca"), "issue", "n1", "--host", "127.0.0.2")
        meta = house.server("meta", "meta", "--listen", "127.0.0.2:0", "--cert-dir", node)
        url = "wadis://%s:%d" % network(meta)
        slow = [socket.create_connection(network(meta), timeout=20 * PATIENCE) for _ in range(300)]
        for s in slow:
            self.addCleanup(s.close)
        began = time.monotonic()
        slow[-1].sendall(b"\x16")
        done = house.wadi("--url", url, "ls",  # holds up nobody; a node is a client as well
                          env={"WADI_CERT": node, "WADI_KEY": os.path.join(meta.data, "key")})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(slow[0].recv(9), b"")  # more than may be: the oldest had to go
        self.assertLess(time.monotonic() - began, 4 * PATIENCE)
        self.assertLessEqual(len(slow[-1].recv(9)), 7)
        self.assertGreater(time.monotonic() - began, 3)
        self.assertLess(time.monotonic() - began, 9 * PATIENCE)


class Refusals(HouseTest):
    def serve(self, *options):
        data = os.path.join(self.house.folder, "data")
        done = self.house.wadi("serve", "--data", data, "--dram", "64M", "--flash", "0",
                               "--socket", os.path.join(self.house.folder, "s"), *options)
        return done.returncode, done.stderr.decode()

    def test_other_hosts_need_tls(self):
        code, said = self.serve("--listen", "192.0.2.1:9234")
        self.assertEqual(code, EXIT_INVALID)
        command = re.search(r"wadi (cert issue \S+ --host \S+ --out \S+)", said).group(1)
        # What it says is what helps.
        done = self.house.wadi(*command.replace("~", self.house.folder).split())
        self.assertEqual(done.returncode, 0, done.stderr)
        code, said = self.serve("--listen", "192.0.2.1:9234")
        self.assertNotIn("TLS", said)
        self.assertIn("192.0.2.1", said)  # it is no address of this host, and that is all
        code, said = self.serve("--listen", "192.0.2.1:9234", "--insecure")
        self.assertIn("tcp:192.0.2.1", said)

    def test_a_server_leaves_no_core_and_gains_no_rights(self):
        meta = self.house.server("meta", "meta")
        with open(f"/proc/{meta.pid}/limits") as limits, open(f"/proc/{meta.pid}/status") as status:
            self.assertRegex(limits.read(), r"Max core file size +0 ")
            self.assertRegex(status.read(), r"NoNewPrivs:\s+1")

    def test_certificates_that_are_not_there(self):
        code, said = self.serve("--listen", "127.0.0.1:0", "--cert-dir", "/nowhere")
        self.assertEqual(code, EXIT_NOTFOUND)
        self.assertIn("/nowhere/ca.crt", said)


if __name__ == "__main__":
    run(sys.modules[__name__], at_once=5)
