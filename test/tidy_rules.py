# SPDX-License-Identifier: Apache-2.0
"""The rules of the house as data.  test/tidy.py holds the tree to them, ARCHITECTURE.md explains
them."""

# ---- layers: folder of src -> folders it may include and link; an arrow may only point down ----
DOOR = ["base", "fiber", "sys"]
WIRED = DOOR + ["wire", "rpc", "core"]
PLANES = WIRED + ["meta", "store", "coord", "under"]
LAYERS = {
    "base": [],
    "fiber": ["base"],
    "sys": ["base", "fiber"],
    "wire": ["base"],
    "core": ["base", "wire"],
    "rpc": DOOR + ["wire"],
    "coord": WIRED,
    "under": WIRED,
    "meta": WIRED + ["coord"],  # a running replica asks it who leads
    "store": WIRED,
    "control": PLANES,
    "lineage": PLANES,
    "curator": PLANES,
    "client": DOOR + ["wire", "rpc"],
    "gate": DOOR + ["client", "wadi.h"],
    "cli": DOOR + ["client", "wadi.h"],
    "node": ["*"],
}
LAYERS["client"].append("wadi.h")
# One file may reach further than its folder, for a reason.
LAYER_EXCEPTIONS = {
    # (path, folder): reason
}
# Only these may be included by nobody but themselves and programs.
PROGRAM_FOLDERS = ["sim", "bench", "demo", "fuzz", "test", "python"]  # may include everything
TEST_EXTRA = ["sys"]  # a *_test.c may stand on the real or the simulated door

# ---- headers of the system and of libraries ----
PURE_HEADERS = """ctype.h errno.h inttypes.h limits.h stdalign.h stdarg.h stdatomic.h stdbool.h
stddef.h stdint.h stdio.h stdlib.h string.h strings.h sys/uio.h""".split()
# header or prefix* -> where it may be included besides src/sys
FOREIGN_HEADERS = {
    "uv.h": [],
    "lmdb.h": ["src/meta/tree_lmdb.h"],
    "malloc.h": ["src/meta/tree_lmdb.c"],
    "isa-l*": ["src/base", "src/core"],
    "crc.h": ["src/base"],
    "xxhash.h": ["src/base"],
    "openssl/*": ["src/base", "src/core/cap.c", "src/meta", "src/control", "src/client",
                  "src/coord/etcd_json.c"],
    "jansson.h": ["src/cli", "src/coord/etcd_json.c"],
    "Python.h": ["python"],
    "sanitizer/*": ["src/fiber", "src/base"],
    "valgrind/*": ["src/fiber"],
    "sys/mman.h": ["src/fiber/lane.c", "src/base/pages.c"],
    "ucontext.h": ["src/fiber/lane.h"],
    "time.h": ["src/fiber/fiber_bench.c", "src/cli/os.c"],
    "immintrin.h": ["src/base"],
    # The command's terminal, files and child; descriptors that callers of the library hand in.
    "unistd.h": ["src/cli/os.c", "src/client/api_stream.c"],
    **{name: ["src/cli/os.c"] for name in """dirent.h fcntl.h poll.h signal.h sys/ioctl.h
        sys/pidfd.h sys/stat.h sys/wait.h""".split()},
    "signal.h": ["src/cli/os.c", "src/node/node.c"],
    "nmmintrin.h": ["src/base"],
    "arm_acle.h": ["src/base"],
}
OPEN_FOLDERS = ["src/sys"] + PROGRAM_FOLDERS  # behind the door, or programs of their own

# ---- one door: undefined symbols of the static libraries (fnmatch patterns) ----
STRINGS = """memcpy memmove memset memcmp memchr memrchr mempcpy memccpy explicit_bzero bcmp strlen
strnlen strcmp strncmp strcasecmp strncasecmp strchr strrchr strchrnul strstr strspn strcspn strpbrk
memmem stpcpy strtoul strtoull strtol strtoll __isoc23_strtoul __isoc23_strtoull __isoc23_strtol
__isoc23_strtoll snprintf vsnprintf __ctype_b_loc __ctype_tolower_loc tolower toupper qsort bsearch
abort __stack_chk_fail _GLOBAL_OFFSET_TABLE_ __udivti3 __umodti3 __divti3 __modti3 __popcountdi2
__fdelt_chk strerror strtod __longjmp_chk __cpu_model""".split()
SANITIZER = "__asan_* __tsan_* __ubsan_* __sanitizer_* __gcov_* __llvm_* __msan_*".split()
MEMORY = """malloc calloc realloc reallocarray free aligned_alloc posix_memalign strdup
strndup""".split()
PRINT = """stdout stderr printf fprintf vprintf vfprintf puts fputs fputc putc putchar fwrite
fflush""".split()
PUREST = STRINGS + SANITIZER
EVERYDAY = PUREST + MEMORY + ["errno", "__errno_location"]
CRYPTO = "HMAC EVP_* CRYPTO_memcmp OPENSSL_cleanse SHA256*".split()
SYMBOLS = {
    # What a folder's objects may leave undefined, besides what lower layers of ours define.
    "base": PUREST + MEMORY + ["crc32_iscsi", "crc32c_*", "XXH3_*", "XXH64*", "XXH32*"],
    "wire": PUREST + "fprintf vfprintf fputs fputc putc fwrite".split(),  # into a FILE given
    "core": PUREST + ["calloc", "free"],  # tables, when a core is made
    "fiber": EVERYDAY + ["mmap", "mmap64", "munmap", "mprotect", "swapcontext", "makecontext",
                         "getcontext"],  # stacks with guard pages
    "meta": EVERYDAY + CRYPTO,
    "store": EVERYDAY + CRYPTO,
    "control": EVERYDAY + CRYPTO,
    "client": EVERYDAY + CRYPTO,
    "cli": EVERYDAY + PRINT + ["json_*"],
    "*": EVERYDAY,
}
# One object may do more than its folder.
OBJECT_SYMBOLS = {
    "src/base/check.c": PRINT,
    "src/base/err.c": [],
    "src/base/pages.c": ["mmap", "mmap64", "munmap", "madvise"],  # memory, as malloc
    "src/meta/tree_lmdb.c": ["mdb_*", "malloc_trim"],
    "src/meta/tree_lmdb_merge.c": ["mdb_*"],
    "src/client/api_stream.c": ["read", "write"],
    "src/cli/os.c": PRINT + """_exit access alphasort alphasort64 clock_gettime close execvp fork
        fsync getenv ioctl isatty kill localtime_r mkdir nanosleep open open64 pidfd_open poll
        putenv raise read readlink rename scandir scandir64 setenv sigaction sigfillset sigprocmask
        stat stat64 strftime unlink waitpid write""".split(),
    "src/cli/main.c": ["open_memstream", "fclose", "ferror"],
    "src/core/cap.c": CRYPTO,  # over memory only
    "src/coord/etcd_json.c": ["json_*", "EVP_*"],  # texts of etcd's gateway, over memory only
    "src/base/copy.c": ["__cpu_indicator_init", "__cpu_features2"],
}
OPEN_SYMBOLS = ["sys"]  # the door itself
COMPOSED_ARCHIVES = ["libwadi.a"]  # made of others, which are looked at one by one

# ---- sizes ----
FILE_LINES = 1000
FUNCTION_LINES = 70
COLUMNS = 100
FUNCTION_EXCEPTIONS = {
    # (path, function): reason
}
FILE_EXCEPTIONS = {
    # path: reason
}

# ---- calls and words that have no place here ----
BANNED_CALLS = """strcpy strcat strncpy strncat sprintf vsprintf gets alloca strtok strtok_r atoi
atol atoll atof rand srand random srandom drand48 system popen tmpnam tempnam mktemp localtime
gmtime asctime ctime setjmp longjmp scanf sscanf fscanf vscanf strerror_r usleep""".split()
BANNED_EXCEPTIONS = {
    # path: [calls], with the reason beside it
}
# (pattern, what to do instead); words of code and of prose alike.
BANNED_WORDS = [
    (r"\bTODO\b(?!\([^)]+\))", "write TODO(what would settle it)"),
    (r"\bFIXME\b", "fix it, or write TODO(what would settle it)"),
    (r"\bXXX\b", "say what is meant"),
    (r"\bHACK\b", "say why it is so"),
    (r"(?<![\w.$}/])/(?:home|root|work)/\w", "no path of one machine"),
    (r"[ \t]+$", "no blanks at the end of a line"),
    (r"\r", "no carriage returns"),
]
WORD_EXCEPTIONS = ["test/tidy_rules.py", "test/tidy_test.py", "LICENSE"]

# ---- what a folder and a file must have ----
README_FOLDERS = ["src/*", "sim", "bench", "fuzz", "test", "python", "include", "scripts", "docs"]
SPDX = "SPDX-License-Identifier: Apache-2.0"
SPDX_NAMES = ["*.c", "*.h", "*.S", "*.py", "*.sh", "scripts/*", ".ci/*", "bench/run"]
SKIP_FOLDERS = [".git", "build*", "__pycache__", ".cache", ".mypy_cache", "corpus", "golden"]
