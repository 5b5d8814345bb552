# Verbs for people; meson.build holds everything else.
B    ?= build
OPTS ?=

all: $B/build.ninja ; @ninja -C $B
$B/build.ninja: ; meson setup $B $(OPTS)
check: $B/build.ninja ; meson test -C $B --print-errorlogs
format: ; clang-format -i $$(git ls-files '*.[ch]')
.PHONY: all check format
.DEFAULT_GOAL := all
