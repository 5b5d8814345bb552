# SPDX-License-Identifier: Apache-2.0
"""A real `wadi serve` in a folder of its own, for tests. WADI_PROGRAM says which wadi."""
import os
import shutil
import signal
import subprocess
import tempfile


class Served:
    def __init__(self, *options, dram="64M", flash="64M"):
        self.folder = tempfile.mkdtemp(prefix="wadi-test-")
        self.socket = os.path.join(self.folder, "sock")
        self.url = "unix:" + self.socket
        self.options = [*options, "--dram", dram, "--flash", flash]
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith("WADI_") or k in ("WADI_LIB", "WADI_PROGRAM")}
        self.environment.update(WADI_URL=self.url, HOME=self.folder, NO_COLOR="1")
        self.environment.pop("XDG_RUNTIME_DIR", None)
        self.process = None
        self.start()

    @property
    def program(self):
        return os.environ["WADI_PROGRAM"]

    def start(self):
        """Returns when clients are served."""
        ready, done = os.pipe()
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            [self.program, "serve", "--data", os.path.join(self.folder, "data"),
             "--socket", self.socket, "--ready-fd", str(done), *self.options],
            env=self.environment, pass_fds=[done], stdout=self.log, stderr=self.log)
        os.close(done)
        with os.fdopen(ready) as f:
            if not f.readline().startswith("ready"):
                raise RuntimeError("wadi serve did not start:\n" + self.log_text())

    def log_text(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as f:
            return f.read()

    def stop(self, how=signal.SIGTERM):
        """The exit code."""
        if self.process is None:
            return None
        self.process.send_signal(how)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        self.log.close()
        return code

    def end(self):
        code = self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code
