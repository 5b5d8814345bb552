# Verbs for people; meson.build holds everything else.  Three builds live side by side:
#   build         what users run, without the tests: self-checks on, slow audits off
#   build-check   what tests and the simulation run: audits on
#   build-asan, build-tsan, build-clang, build-fuzz
B     ?= build
C     ?= build-check
OPTS  ?=
ROWS  ?=
PREFIX ?= /usr/local
NINJA  = ninja $(if $(JOBS),-j$(JOBS))
SANE   = -Db_lundef=false

all: deps-build $B/build.ninja
	@$(NINJA) -C $B programs
$B/build.ninja:
	@scripts/deps build
	@meson setup $B -Daudit=false $(OPTS)
$C/build.ninja:
	@scripts/deps check
	@meson setup $C $(OPTS)

demo: all
	@$B/wadi demo $(if $(DEMO_SIZE),--size $(DEMO_SIZE))
check: deps-check $C/build.ninja
	@scripts/check --build $C $(CHECK)
sim: deps-check $C/build.ninja
	@$(NINJA) -C $C wadi-sim
	@$C/wadi-sim --summary $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(SEED),--seed $(SEED))
bench: deps-bench bench-programs
	@bench/run --build $B --kind short --rows '$(ROWS)'
bench-long: deps-bench bench-programs
	@bench/run --build $B --kind long --rows '$(ROWS)'
bench-programs: deps-build $B/build.ninja
	@$(NINJA) -C $B bench-programs

asan: deps-all
	@$(MAKE) --no-print-directory check C=build-asan OPTS="-Db_sanitize=address,undefined $(SANE)"
tsan: deps-all
	@$(MAKE) --no-print-directory check C=build-tsan OPTS="-Db_sanitize=thread $(SANE)"
fuzz: deps-all
	@scripts/fuzz --build build-fuzz $(if $(SECONDS),--seconds $(SECONDS))
format: deps-all
	@git ls-files '*.[ch]' | xargs clang-format -i

# PREFIX says where it will be used, DESTDIR where to put it meanwhile (for packages).
install: all
	@meson configure $B -Dprefix=$(abspath $(PREFIX))
	@$(NINJA) -C $B programs
	@meson install -C $B --no-rebuild --quiet
	@echo "installed below $(DESTDIR)$(abspath $(PREFIX))"
uninstall:
	@$(NINJA) -C $B uninstall >/dev/null
	@xargs -d '\n' rm -f <$B/meson-logs/pages.txt
	@echo "removed what $B had installed"
clean:
	rm -rf $B $C build-asan build-tsan build-clang build-fuzz

deps-%:
	@scripts/deps $*
.PHONY: all demo check sim bench bench-long asan tsan fuzz format install uninstall \
	clean bench-programs
.DEFAULT_GOAL := all
