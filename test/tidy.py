#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the tree to the rules of tidy_rules.py: layers, one door, sizes, lone headers, words.

    test/tidy.py [--root DIR] [--build DIR] [CHECK ...]

Prints one line for each check in cmocka's form and one for each fault; exits 1 when there is any.
tidy_test.py plants every fault once and sees it found.
"""
import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys

import tidy_rules as rules

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]', re.M)
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
FUNCTION_NAME = re.compile(r"(\w+)\s*\(")
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def matches(text, patterns):
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def inside(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


class Tree:
    """The files of the project by their path from its root; texts are read once."""

    def __init__(self, root, build=None):
        self.root, self.build, self.texts = root, build, {}
        self.paths = sorted(self.walk())

    def walk(self):
        for at, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not matches(name, rules.SKIP_FOLDERS)]
            for name in files:
                path = os.path.join(at, name)
                if not os.path.islink(path):
                    yield os.path.relpath(path, self.root)

    def named(self, *patterns):
        return [p for p in self.paths if matches(os.path.basename(p), patterns)
                or matches(p, patterns)]

    def text(self, path):
        if path not in self.texts:
            with open(os.path.join(self.root, path), "rb") as file:
                raw = file.read()
            self.texts[path] = "" if b"\0" in raw else raw.decode("utf-8", "replace")
        return self.texts[path]

    def code(self, path):
        """The text without comments and literals, line numbers kept."""
        def blank(match):
            return re.sub(r"[^\n]", " ", match.group(0))
        return NOT_CODE.sub(blank, self.text(path))


def layer_of(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def allowed_layers(path):
    layer = layer_of(path)
    allowed = [layer] + rules.LAYERS.get(layer, [])
    if path.endswith("_test.c"):
        allowed = allowed + rules.TEST_EXTRA
    return allowed + [to for (of, to) in rules.LAYER_EXCEPTIONS if of == path]


@check
def layers(tree):
    """Quoted includes are written from src and follow the graph."""
    for path in tree.named("*.c", "*.h", "*.def"):
        layer = layer_of(path)
        if layer is not None and layer not in rules.LAYERS:
            yield f"{path}: folder {layer} is not in the list of layers"
            continue
        text = tree.text(path)
        for match in INCLUDE.finditer(text):
            if match.group(1) != '"':
                continue
            name, line = match.group(2), line_of(text, match.start())
            first = name.split("/")[0]
            known = [f"src/{name}", f"include/{name}", name]
            if not any(p in tree.paths for p in known) and not name.endswith(".inc"):
                yield f'{path}:{line}: "{name}" is not a path from src or include'
            elif layer is not None and "*" not in rules.LAYERS[layer] \
                    and first not in allowed_layers(path):
                yield f"{path}:{line}: {layer} may not include {name}"


@check
def headers_of_others(tree):
    """System headers come in through the door, a library's through its adapter."""
    for path in tree.named("*.c", "*.h"):
        if inside(path, rules.OPEN_FOLDERS) or path.endswith("_test.c"):
            continue
        text = tree.text(path)
        for match in INCLUDE.finditer(text):
            name = match.group(2)
            if match.group(1) != "<" or name in rules.PURE_HEADERS:
                continue
            places = [p for pattern, where in rules.FOREIGN_HEADERS.items()
                      if fnmatch.fnmatchcase(name, pattern) for p in where]
            if not inside(path, places):
                yield f"{path}:{line_of(text, match.start())}: <{name}> has no place here"


def undefined(archive):
    """(object's source name, symbol) for each symbol the archive's objects leave undefined."""
    out = subprocess.run(["nm", "-A", "-u", archive], capture_output=True, text=True, check=True)
    for line in out.stdout.splitlines():
        where, _, symbol = line.rpartition(" ")
        name = re.search(r"([\w.-]+)\.o:", where.replace("/", ":"))
        yield (name.group(1) if name else "?"), symbol.split("@")[0]


def defined(archive):
    out = subprocess.run(["nm", "-g", "--defined-only", archive], capture_output=True, text=True,
                         check=True)
    return {line.split()[-1] for line in out.stdout.splitlines() if len(line.split()) == 3}


def archives(tree):
    """Static libraries of src by layer."""
    found = []
    for at, _, files in os.walk(os.path.join(tree.build, "src")):
        folder = os.path.relpath(at, tree.build)
        found += [(layer_of(folder + "/x"), os.path.join(at, f), folder)
                  for f in files if f.endswith(".a") and f not in rules.COMPOSED_ARCHIVES]
    return [row for row in found if row[0] in rules.LAYERS]


def unfortified(symbol):
    """What the source calls, where the C library has a checked name for it."""
    match = re.fullmatch(r"__(\w+)_chk|__(\w+)_2", symbol)
    return match.group(1) or match.group(2) if match else symbol


def symbol_allowed(symbol, layer, path, ours):
    if any(symbol in ours.get(below, ()) for below in [layer] + rules.LAYERS[layer]):
        return True
    allowed = rules.SYMBOLS.get(layer, rules.SYMBOLS["*"]) + rules.OBJECT_SYMBOLS.get(path, [])
    return matches(symbol, allowed) or matches(unfortified(symbol), allowed)


@check
def one_door(tree):
    """What an object leaves undefined is ours from below, or a function without outside effect."""
    if tree.build is None:
        return
    found = archives(tree)
    if not found:
        yield f"{tree.build}: no static library of src is built"
    ours = {}
    for layer, archive, _ in found:
        ours.setdefault(layer, set()).update(defined(archive))
    seen = set()
    for layer, archive, folder in found:
        if layer in rules.OPEN_SYMBOLS or "*" in rules.LAYERS[layer]:
            continue
        for name, symbol in undefined(archive):
            path = f"{folder}/{name}"
            if not symbol_allowed(symbol, layer, path, ours) and (path, symbol) not in seen:
                seen.add((path, symbol))
                yield f"{path}: calls {symbol}, which does not pass the door"


@check
def file_sizes(tree):
    """Files of code have at most FILE_LINES lines."""
    for path in tree.named("*.c", "*.h", "*.py", "*.def"):
        n = tree.text(path).count("\n")
        if n > rules.FILE_LINES and path not in rules.FILE_EXCEPTIONS:
            yield f"{path}: {n} lines; find the noun hiding in it"


def functions(text):
    """(name, first line, lines) of functions whose brace stands in column 0."""
    start, head = None, ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("{") and not line.startswith("{ "):
            start = number
        elif line.startswith("}") and start is not None:
            names = FUNCTION_NAME.findall(head)
            yield (names[0] if names else "?"), start, number - start + 1
            start, head = None, ""
        elif start is None:
            head = line if re.match(r"\w", line) else head + line


@check
def function_sizes(tree):
    """Functions have at most FUNCTION_LINES lines."""
    for path in tree.named("*.c", "*.h"):
        for name, line, n in functions(tree.code(path)):
            if n > rules.FUNCTION_LINES and (path, name) not in rules.FUNCTION_EXCEPTIONS:
                yield f"{path}:{line}: {name}() has {n} lines"


@check
def columns(tree):
    """Lines have at most COLUMNS columns, a tab reaching to the next multiple of 8."""
    for path in tree.named("*.c", "*.h", "*.def", "*.py", "*.S", "scripts/*", ".ci/*", "bench/run"):
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            if (width := len(line.expandtabs(8))) > rules.COLUMNS:
                yield f"{path}:{number}: {width} columns"


@check
def licence(tree):
    """The first line of code, after an interpreter's, names the licence."""
    for path in tree.named(*rules.SPDX_NAMES):
        lines = tree.text(path).split("\n", 2)
        first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        if rules.SPDX not in first and tree.text(path) and not path.endswith(".md"):
            yield f"{path}: no {rules.SPDX}"


@check
def readmes(tree):
    """Each folder that holds code explains itself."""
    for pattern in rules.README_FOLDERS:
        depth = pattern.count("/") + 1
        folders = {"/".join(p.split("/")[:depth]) for p in tree.named("*.c", "*.py")
                   if p.count("/") >= depth}
        for folder in sorted(f for f in folders if fnmatch.fnmatchcase(f, pattern)):
            if f"{folder}/README.md" not in tree.paths:
                yield f"{folder}: no README.md (purpose, invariants, formats, failure modes)"


def compile_alone(tree, compiler, flags, paths):
    """One run of the compiler over all; what it says, when it fails."""
    command = [compiler, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
               "-Wno-pragma-once-outside-header", "-Isrc", "-Iinclude", *flags, *paths]
    if "clang" not in compiler:
        command.remove("-Wno-pragma-once-outside-header")
    done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True)
    return [line for line in done.stderr.splitlines() if "error" in line] \
        or ([done.stderr] if done.returncode else [])


@check
def lone_headers(tree):
    """Every header compiles with nothing before it."""
    inner = [p for p in tree.named("*.h") if p.startswith("src/")]
    if inner:
        for line in compile_alone(tree, "cc", ["-std=gnu11", "-D_GNU_SOURCE", "-x", "c"], inner):
            yield line
    public = [p for p in tree.paths if re.fullmatch(r"include/[^/]+\.h", p)]
    for compiler in [c for c in ("gcc", "clang") if shutil.which(c)] if public else []:
        for flags in (["-std=c11", "-pedantic-errors", "-x", "c"],
                      ["-std=c++17", "-pedantic-errors", "-x", "c++"]):
            for line in compile_alone(tree, compiler, flags, public):
                yield f"{compiler} {flags[0]}: {line}"


@check
def banned_calls(tree):
    """No call without a bound, a hidden state, or a time zone."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(rules.BANNED_CALLS) + r")\s*\(")
    for path in tree.named("*.c", "*.h"):
        code = tree.code(path) if not path.endswith("_test.c") else ""
        for match in pattern.finditer(code):
            if match.group(1) not in rules.BANNED_EXCEPTIONS.get(path, []):
                yield f"{path}:{line_of(code, match.start())}: {match.group(1)}()"


@check
def words(tree):
    """No promise without a condition, no path of one machine, no stray blanks."""
    for path in tree.named("*.c", "*.h", "*.def", "*.py", "*.md", "*.build", "*.txt", "*.S", "*.sh",
                           "scripts/*", ".ci/*", "Makefile", "bench/run"):
        if path in rules.WORD_EXCEPTIONS:
            continue
        text = tree.text(path)
        for pattern, instead in rules.BANNED_WORDS:
            for match in re.finditer(pattern, text, re.M):
                yield f"{path}:{line_of(text, match.start())}: {instead}"


@check
def assertions(tree):
    """A bug uses check(), which stays on, never assert(), which may be compiled out."""
    for path in tree.named("src/*.c", "src/*.h"):
        if path.endswith("_test.c"):
            continue
        code = tree.code(path)
        for match in re.finditer(r"(?<![\w])assert\s*\(", code):
            yield f"{path}:{line_of(code, match.start())}: assert()"


@check
def exported(tree):
    """Shared libraries export only names that begin with wadi_."""
    if tree.build is None:
        return
    for at, _, files in os.walk(os.path.join(tree.build, "src")):
        for name in [f for f in files if re.fullmatch(r"lib\w+\.so(\.\d+)*", f)]:
            path = os.path.join(at, name)
            if os.path.islink(path):
                continue
            out = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True,
                                 text=True, check=True)
            for line in out.stdout.splitlines():
                symbol = line.split()[-1].split("@")[0]
                if line.split()[-2] != "A" and not symbol.startswith("wadi_"):
                    yield f"{name}: exports {symbol}"


def run(tree, names):
    n_faults = 0
    for function in CHECKS:
        if names and function.__name__ not in names:
            continue
        faults = list(function(tree))
        verdict = "[  FAILED  ]" if faults else "[       OK ]"
        for fault in faults:
            print(f"    {fault}")
        print(f"{verdict} {function.__name__}")
        n_faults += len(faults)
    return n_faults


def main():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=here)
    parser.add_argument("--build", help="where the libraries are; else they are not looked at")
    parser.add_argument("check", nargs="*", help="only these")
    options = parser.parse_args()
    unknown = set(options.check) - {function.__name__ for function in CHECKS}
    if unknown:
        parser.error(f"no such check: {' '.join(sorted(unknown))}")
    sys.exit(1 if run(Tree(options.root, options.build), options.check) else 0)


if __name__ == "__main__":
    main()
