#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS with real processes: certificates as people make them, servers that refuse to be overheard,
clients that are let in or not, and whatever else comes to such a port."""
import json
import os
import stat
import subprocess
import sys

from house import HouseTest, run

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


if __name__ == "__main__":
    run(sys.modules[__name__])
