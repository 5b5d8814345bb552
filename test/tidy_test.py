#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of tidy.py finds the fault it is there for, and nothing in a tree without faults."""
import os
import subprocess
import sys
import tempfile

import tidy

LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"
GOOD = {
    "src/base/README.md": "base\n",
    "src/base/a.h": LICENCE + "#ifndef A_H\n#define A_H\n#include <stddef.h>\n"
                              "size_t a_len(const char *s);\n#endif\n",
    "src/base/a.c": LICENCE + '#include "base/a.h"\n#include <string.h>\n\n'
                              "size_t a_len(const char *s)\n{\n\treturn strlen(s);\n}\n",
    "src/core/README.md": "core\n",
    "src/core/c.c": LICENCE + '#include "base/a.h"\n\nint c_step(const char *s);\n'
                              "int c_step(const char *s)\n{\n\treturn (int)a_len(s);\n}\n",
    "include/wadi.h": LICENCE + "#ifdef __cplusplus\nextern \"C\" {\n#endif\nint wadi_ok(void);\n"
                                "#ifdef __cplusplus\n}\n#endif\n",
    "include/README.md": "include\n",
}
LONG = "int f(void);\nint f(void)\n{\n" + "\tf();\n" * 69 + "\treturn 0;\n}\n"
# check -> (path, text, what the complaint holds)
FAULTS = [
    ("layers", "src/base/b.c", '#include "core/c.h"\n', "core/c.h"),
    ("layers", "src/core/c.h", '#include "a.h"\n', "not a path"),
    ("layers", "src/attic/x.c", "int x;\n", "not in the list"),
    ("layers", "src/core/d.c", '#include "base/a.h"\n#include "sys/s.h"\n', "may not include sys"),
    ("headers_of_others", "src/base/b.c", "#include <unistd.h>\n", "unistd.h"),
    ("headers_of_others", "src/core/d.h", "#include <openssl/evp.h>\n", "openssl"),
    ("one_door", "src/core/d.c", "long time(long *); long d(void);\n"
                                 "long d(void) { return time(0); }\n", "time"),
    ("one_door", "src/core/d.c", "void *malloc(unsigned long); void *d(void);\n"
                                 "void *d(void) { return malloc(8); }\n", "malloc"),
    ("one_door", "src/base/b.c", "int c_step(const char *s); int b(void);\n"
                                 'int b(void) { return c_step(""); }\n', "c_step"),
    ("file_sizes", "src/base/b.c", "\n" * 1001, "1002 lines"),
    ("function_sizes", "src/base/b.c", LONG, "f() has 72 lines"),
    ("columns", "src/base/b.c", "\t" * 12 + "int x;\n", "102 columns"),
    ("licence", "src/base/b.c", None, "no SPDX"),
    ("licence", "scripts/thing", "#!/bin/sh\ntrue\n", "no SPDX"),
    ("readmes", "src/rpc/r.c", "int r;\n", "src/rpc: no README"),
    ("lone_headers", "src/base/b.h", "size_t b;\n", "size_t"),
    ("lone_headers", "include/wadi.h", "typedef int class;\nint wadi(class);\n", "c++"),
    ("banned_calls", "src/base/b.c", "void b(char *t) { strcpy(t, t); }\n", "strcpy"),
    ("words", "src/base/b.c", "/* TODO later */\n", "TODO"),
    ("words", "docs/x.md", "see /ho" "me/me/x\n", "one machine"),
    ("words", "src/base/b.c", "int x; \n", "blanks"),
    ("assertions", "src/base/b.c", "void b(int x) { assert(x); }\n", "assert"),
    ("exported", "src/client/x.c", "int leaked;\n", "leaked"),
]
ALLOWED = [
    ("words", "src/base/b.c", "/* TODO(a second measurement decides) */\n"),
    ("banned_calls", "src/base/b.c", "/* strcpy() */ void b(void) { x->gets(); my_strcpy(1); }\n"),
    ("layers", "src/core/c_test.c", '#include "sys/s.h"\n'),
    ("columns", "src/base/b.c", "\t" * 12 + "int;\n"),
    ("one_door", "src/core/d.c", "unsigned long strlen(const char *); int d(const char *);\n"
                                 "int d(const char *s) { return (int)strlen(s); }\n"),
]


def write(root, files):
    for path, text in files.items():
        where = os.path.join(root, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w") as file:
            file.write(text)


def compile_all(root, build):
    """Archives as Meson lays them out: BUILD/src/LAYER/libLAYER.a of NAME.c.o."""
    for layer in sorted(os.listdir(os.path.join(root, "src"))):
        folder = os.path.join(build, "src", layer)
        os.makedirs(folder, exist_ok=True)
        sources = [n for n in os.listdir(os.path.join(root, "src", layer))
                   if n.endswith(".c") and not n.endswith("_test.c")]
        for name in sources:
            path = os.path.join(root, "src", layer, name)
            subprocess.run(["cc", "-w", "-O1", "-fPIC", "-fno-builtin", "-I" + root + "/src", "-c",
                            "-o", os.path.join(folder, name + ".o"), path], check=True)
        objects = [os.path.join(folder, name + ".o") for name in sources]
        subprocess.run(["ar", "crT", os.path.join(folder, f"lib{layer}.a"), *objects], check=True,
                       stderr=subprocess.DEVNULL)
        if layer == "client" and objects:
            subprocess.run(["cc", "-shared", "-o", os.path.join(folder, "libwadi.so.0"), *objects],
                           check=True)


def faults_of(name, change):
    function = next(f for f in tidy.CHECKS if f.__name__ == name)
    with tempfile.TemporaryDirectory() as top:
        root, build = os.path.join(top, "tree"), os.path.join(top, "out")
        write(root, {**GOOD, **change})
        write(root, {"src/sys/s.h": LICENCE})
        if name in ("one_door", "exported"):
            compile_all(root, build)
        return list(function(tidy.Tree(root, build)))


def report(name, problem):
    if problem:
        print(f"    {problem}")
    print(f"[  FAILED  ] {name}" if problem else f"[       OK ] {name}")
    return 1 if problem else 0


def main():
    n_bad, seen = 0, set()
    for name, path, text, part in FAULTS:
        seen.add(name)
        licence = "" if name == "licence" or path.startswith(("docs", "scripts")) else LICENCE
        found = faults_of(name, {path: licence + (text or "int x;\n")})
        problem = None if any(part in line for line in found) else f"not found, but {found}"
        n_bad += report(f"{name} finds {part!r} in {path}", problem)
    for name, path, text in ALLOWED:
        found = faults_of(name, {path: LICENCE + text})
        n_bad += report(f"{name} allows {path}", found)
    for function in tidy.CHECKS:
        n_bad += report(f"{function.__name__} is quiet", faults_of(function.__name__, {}))
        if function.__name__ not in seen:
            n_bad += report(f"{function.__name__} has a planted fault", "it has none")
    sys.exit(1 if n_bad else 0)


if __name__ == "__main__":
    main()
