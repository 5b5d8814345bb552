#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is installed is enough to build a program with: pkg-config finds the library under a prefix,
and a program linked with the static one runs without the shared one.

usage: install_test.py BUILD"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

PROGRAM = """
#include <stdio.h>
#include <wadi.h>

/* A name that the library has inside, too: it must stay the program's. */
int crc32c(void) { return 7; }

int main(void)
{
	struct wadi_note why;
	struct wadi *w;

	if (crc32c() != 7 || wadi_connect("unix:/nowhere/socket", NULL, &w, &why) != WADI_E_UNREACH)
		return 1;
	puts(wadi_version());
	return 0;
}
"""


def run(*words, **how):
    done = subprocess.run(words, text=True, capture_output=True, timeout=60, **how)
    if done.returncode != 0:
        sys.exit("install_test: %s: %s%s" % (" ".join(words), done.stdout, done.stderr))
    return done.stdout


def install(build, root):
    """What belongs to the library, without a trace in the build that an uninstall would read."""
    for source, place in json.loads(run("meson", "introspect", build, "--installed")).items():
        ours = re.fullmatch(r"libwadi\..*|wadi\.(h|pc)", os.path.basename(place))
        if ours and os.path.isabs(source):
            place = os.path.dirname(root + place)
            os.makedirs(place, exist_ok=True)
            links = re.sub(r"\.so\..*", ".so*", source)
            for name in [source] if links == source else glob.glob(links):
                if not os.path.isdir(name):
                    shutil.copy(name, place, follow_symlinks=False)


def main(build):
    if shutil.which("pkg-config") is None:
        print("SKIP: no pkg-config here")
        return
    root = tempfile.mkdtemp(prefix="wadi-install-")
    try:
        install(build, root)
        pc, = glob.glob(root + "/**/wadi.pc", recursive=True)
        os.environ["PKG_CONFIG_PATH"] = os.path.dirname(pc)
        os.environ["PKG_CONFIG_SYSROOT_DIR"] = root
        libraries = os.path.dirname(os.path.dirname(pc))
        source, program = root + "/program.c", root + "/program"
        with open(source, "w") as f:
            f.write(PROGRAM)
        compiler = os.environ.get("CC", "cc")
        flags = run("pkg-config", "--cflags", "--libs", "wadi").split()
        run(compiler, "-o", program, source, *flags)
        shared = run(program, env={**os.environ, "LD_LIBRARY_PATH": libraries})
        for library in glob.glob(libraries + "/libwadi.so*"):
            os.unlink(library)
        flags = run("pkg-config", "--static", "--cflags", "--libs", "wadi").split()
        run(compiler, "-o", program, source, *flags)
        static = run(program)
        if not shared or shared != static:
            sys.exit("install_test: version %r shared, %r static" % (shared, static))
    finally:
        shutil.rmtree(root)


main(*sys.argv[1:])
