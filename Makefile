# SPDX-License-Identifier: BSD-3-Clause
# libshmem. `make help` lists what there is to make.
#
# CFLAGS, CXXFLAGS, CPPFLAGS, LDFLAGS, CC, CXX, PREFIX, LIBDIR, DESTDIR are the
# user's; V=1 shows commands. All products go to $(BUILD).

VERSION = 0.1.0
SONAME  = libshmem.so.0
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
INCDIR   = $(PREFIX)/include
MANDIR   = $(PREFIX)/share/man
COMPDIR  = $(PREFIX)/share/bash-completion/completions
BUILD   ?= .build
CFLAGS  ?= -O2 -g
CXXFLAGS ?= $(CFLAGS)
INSTALL ?= install
V       ?= 0
ifeq ($(V),0)
Q = @
say = @printf '  %-7s %s\n' "$(1)" "$(2)";
endif

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wundef -Werror=implicit-function-declaration \
	-Werror=incompatible-pointer-types $(WERROR)
OUR_CPPFLAGS = -D_GNU_SOURCE -Iinclude $(LAYERS:%=-Isrc/%) -DTMC_VERSION='"$(VERSION)"'
OUR_CFLAGS = -std=gnu11 $(WARN) -MMD -MP $(SAN_FLAGS)
OUR_CXXFLAGS = -std=c++11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(WERROR) \
	-MMD -MP $(SAN_FLAGS)
LIB_CFLAGS = -fvisibility=hidden -fPIC -ftls-model=initial-exec
OUR_LDFLAGS = $(SAN_FLAGS)
ALL_CFLAGS = $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS)

LAYERS = os arena heap api
SRCS = $(wildcard $(LAYERS:%=src/%/*.c))
OBJS = $(SRCS:src/%.c=$(BUILD)/src/%.o)
A = $(BUILD)/libshmem.a
SO = $(BUILD)/libshmem.so
CTL = $(BUILD)/shmemctl
CTL_OBJS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/shmemctl/*.c))
EXAMPLES = $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
EXAMPLES_CXX = $(patsubst examples/%.cpp,$(BUILD)/examples/%,\
	$(wildcard examples/*.cpp))
ODP = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/demo.c,\
	$(wildcard examples/odp_shm/*.c)))
ODP_DEMO = $(BUILD)/examples/odp_shm/demo
TESTS = $(patsubst tests/%.c,$(BUILD)/tests/%,\
	$(wildcard tests/unit/test_*.c tests/crash/test_*.c))
SUPPORT = $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(wildcard tests/support/*.c))
AGENTS = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/agents/*.c))
BENCHES = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/bench/bench_*.c))
MANS = $(wildcard src/man/*.[1-9])

all: $(A) $(SO) $(CTL) $(EXAMPLES) $(EXAMPLES_CXX) $(ODP_DEMO)

help:
	@echo 'make            libshmem.a, libshmem.so, shmemctl and the examples'
	@echo 'make demo       producer and consumer share growing memory'
	@echo 'make check      all tests; installs what they need, or says how'
	@echo 'make rounds     the tests N=50 times, in two checkouts at once'
	@echo 'make bench      speed, as ratios to the bare system calls'
	@echo 'make bench-heap the heap and other allocators; BENCH=pair,batch ONLY=ours,libc'
	@echo 'make shim       sqlite3, python3, cc1, redis-server on a heap in an arena'
	@echo 'make soak       every instruction, thousands of kills, fuzzers: hours'
	@echo 'make model fuzz the lock and the heap for spin; the fuzzers for a minute'
	@echo 'make asan tsan  the tests under sanitizers'
	@echo 'make clang      the tests with the other compiler'
	@echo "make valgrind   the heap's tests under memcheck"
	@echo 'make lint       format, warnings, static analysis, symbols, manual'
	@echo 'make coverage   lines of src/ that the tests run'
	@echo 'make cross      clean builds for other machines'
	@echo 'make deps       install what check needs (deps-all: all targets)'
	@echo 'make install uninstall   PREFIX LIBDIR DESTDIR'
	@echo 'make clean      removes what was built'

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) -c -o $@ $<

$(A): $(OBJS)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(OBJS)

$(SO): $(OBJS) src/libshmem.map
	$(call say,LD,$@)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -shared \
		-Wl,-soname,$(SONAME) -Wl,--version-script,src/libshmem.map \
		$(if $(SAN_FLAGS),,-Wl,-z,defs) -Wl,-z,relro,-z,now -o $@ \
		$(OBJS) -pthread
	$(Q)ln -sf libshmem.so $(BUILD)/$(SONAME)

# With the archive, so that it runs wherever it is put.
$(CTL): $(CTL_OBJS) $(A)
	$(call say,LD,$@)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $(CTL_OBJS) $(A) -pthread

$(BUILD)/examples/%: examples/%.c $(A)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -Iinclude $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) \
		$(OUR_LDFLAGS) $(LDFLAGS) -o $@ $< $(A) -pthread

# OpenDataPlane's shared memory calls on libshmem; some tests link it, too.
$(ODP_DEMO): $(BUILD)/examples/odp_shm/demo.o $(ODP) $(A)
	$(call say,LD,$@)$(CC) $(OUR_LDFLAGS) $(LDFLAGS) -o $@ $^ -pthread
WITH_ODP = $(foreach t,$(TESTS) $(BENCHES),$(if $(findstring odp,$t),$t))
$(WITH_ODP): $(ODP)
$(WITH_ODP): OBJECTS = $(ODP)

# Those in C++ are left out where there is no compiler for it.
$(BUILD)/examples/%: examples/%.cpp $(A)
	@mkdir -p $(@D)
	$(call say,LD,$@)if ! echo '#include <map>' | \
		$(CXX) -x c++ -fsyntax-only - 2>/dev/null; then \
		rm -f $@; echo '  left out: $@, since $(CXX) is no C++ compiler'; \
	else $(CXX) -Iinclude $(CPPFLAGS) $(OUR_CXXFLAGS) $(CXXFLAGS) \
		$(OUR_LDFLAGS) $(LDFLAGS) -o $@ $< $(A) -pthread; fi

# Test programs are linked with the archive, so that they can reach modules;
# tests/support/kernel.c can stand in the way of its system calls.
WRAPPED = stat lstat fstat fstatat fstatfs dup3 linkat link renameat fchmod pread pwrite \
	pwritev ftruncate getrandom mprotect calloc open openat fcntl fallocate mmap mremap madvise syscall
WRAP = $(WRAPPED:%=-Wl,--wrap=%)
$(BUILD)/tests/%: tests/%.c $(A) $(SUPPORT)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -Itests/support $(ALL_CFLAGS) \
		$(OUR_LDFLAGS) $(LDFLAGS) -o $@ $< $(OBJECTS) $(SUPPORT) $(A) \
		$(if $(findstring /bench/,$@)$(findstring /agents/,$@),,-lcmocka) $(WRAP) \
		-pthread -lm
$(filter $(BUILD)/tests/unit/test_shmemctl%,$(TESTS)): | $(CTL)
$(BUILD)/tests/support/%.o: ALL_CFLAGS += -Itests/support

export SAN_FLAGS CC
check: need-cmocka all $(TESTS) $(AGENTS)
	$(Q)BUILD=$(BUILD) tests/support/run.sh $(TESTS) \
		$(wildcard tests/install/*.sh)

# N times in two checkouts at once.
rounds: need-cmocka all $(TESTS) $(AGENTS)
	$(Q)BUILD=$(BUILD) tests/support/rounds.sh $(N)

demo: $(EXAMPLES) $(EXAMPLES_CXX) $(ODP_DEMO)
	$(Q)BUILD=$(BUILD) examples/demo.sh

bench: $(BENCHES)
	$(Q)for b in $(BENCHES); do $$b || exit 1; done

# The heap's benchmark: a worker for each allocator that can be had; of those
# that replace malloc, LIBS_ come before the C library.
HEAP_WORKERS = ours mimalloc tcmalloc jemalloc libc boost pmemobj empty
LIBS_ours = -L$(BUILD) -lshmem -Wl,-rpath,$(abspath $(BUILD))
LIBS_mimalloc = -lmimalloc
LIBS_tcmalloc = -ltcmalloc_minimal
LIBS_jemalloc = -ljemalloc
LIBS_pmemobj = -lpmemobj
LIBS_boost = $(BUILD)/bench-heap/boost.o -lstdc++ -lrt
bench-heap: $(SO) deps-bench
	$(Q)rm -f $(BUILD)/bench-heap/work-*
	$(Q)$(MAKE) --no-print-directory -k \
		$(HEAP_WORKERS:%=$(BUILD)/bench-heap/work-%) 2>$(BUILD)/bench-heap.log || \
		echo 'not all could be built: $(BUILD)/bench-heap.log'
	$(Q)tests/bench/heap/run.py $(BUILD)/bench-heap
	$(Q)tests/bench/heap/picture.py $(BUILD)/bench-heap/heap.csv \
		>$(BUILD)/bench-heap/heap.svg
$(HEAP_WORKERS:%=$(BUILD)/bench-heap/work-%): $(BUILD)/bench-heap/work-%: \
		tests/bench/heap/work.c $(SO)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) -fno-builtin-malloc -fno-builtin-free \
		-DUSE_$(shell echo $* | tr a-z A-Z) $(LDFLAGS) -Wl,-z,now \
		-o $@ $< $(LIBS_$*) -pthread
$(BUILD)/bench-heap/work-boost: $(BUILD)/bench-heap/boost.o
$(BUILD)/bench-heap/boost.o: tests/bench/heap/boost.cpp
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) -O2 -g $(CPPFLAGS) -c -o $@ $<

# Real programs with all their blocks in an arena.
$(BUILD)/shim.so: tests/shim/shim.c $(A)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) $(LDFLAGS) -shared \
		-Wl,--exclude-libs,ALL -Wl,-z,defs -o $@ $< $(A) -pthread
shim: $(BUILD)/shim.so
	$(Q)tests/support/deps.sh $(DEPS_SHIM)
	$(Q)tests/shim/run.py $<

asan: SAN = address,undefined
tsan: SAN = thread
# Where the thread sanitizer lets a program be, 64 tries elsewhere come first
# (place.c) and take longer than most tests.
ifeq ($(shell uname -m),x86_64)
tsan: export TMC_SHMEM_ZONE = 550000000000-555500000000
endif
asan tsan: need-cmocka
	$(Q)$(MAKE) --no-print-directory check BUILD=$(BUILD)/$@ \
		CFLAGS="-O1 -g -fno-omit-frame-pointer" \
		SAN_FLAGS="-fsanitize=$(SAN) -fno-sanitize-recover=all"

# The heap's tests under memcheck. Its search for leaks reads whole arenas. It
# follows a fork and no exec, and knows nothing of what another process writes.
VALGRIND_TESTS = $(patsubst %,$(BUILD)/tests/unit/test_%,mspace mspace_memory \
	mspace_misuse heap_exchange)
valgrind: need-cmocka all $(VALGRIND_TESTS)
	$(Q)command -v valgrind >/dev/null || tests/support/deps.sh valgrind
	$(Q)VALGRIND=1 UNDER="valgrind -q --leak-check=no --error-exitcode=99" \
		BUILD=$(BUILD) tests/support/run.sh $(VALGRIND_TESTS)

# The other compiler, without and with optimisation. No warning passes.
CLANG_LEVELS = -O0 -O2
clang: need-cmocka
	$(Q)for o in $(CLANG_LEVELS); do $(MAKE) --no-print-directory check CC=clang \
		WERROR=-Werror BUILD=$(BUILD)/clang$$o CFLAGS="$$o -g" || exit 1; done

coverage: need-cmocka
	$(Q)rm -rf $(BUILD)/cov
	$(Q)TEST_TIMEOUT=600 $(MAKE) --no-print-directory check BUILD=$(BUILD)/cov \
		CFLAGS="-O0 -g" SAN_FLAGS="--coverage -fprofile-update=atomic \
		-fno-builtin-fork -DWITH_GCOV" \
		WRAP="$(WRAP) -Wl,--wrap=_exit,--wrap=abort"
	$(Q)tests/support/coverage.py $(BUILD)/cov

lint:
	$(Q)CC="$(CC)" BUILD=$(BUILD) MAKE="$(MAKE)" tests/support/lint.sh

cross:
	$(Q)MAKE="$(MAKE)" BUILD=$(BUILD) tests/support/cross.sh

# Every instruction, thousands of kills, ten million forged files: hours.
soak: need-cmocka all $(TESTS) $(AGENTS)
	$(Q)SOAK=1 tests/model/run.sh
	$(Q)SOAK=1 TEST_TIMEOUT=7200 BUILD=$(BUILD) tests/support/run.sh \
		$(filter $(BUILD)/tests/crash/%,$(TESTS))
	$(Q)BUILD=$(BUILD) ONLY="header calls" tests/fuzz/run.sh 10000000x
	$(Q)BUILD=$(BUILD) ONLY="heap heap_forged" tests/fuzz/run.sh 1000000x

model:
	$(Q)tests/model/run.sh

fuzz:
	$(Q)BUILD=$(BUILD) tests/fuzz/run.sh

DEPS = libcmocka-dev
DEPS_ALL = $(DEPS) clang clang-tidy clang-format cppcheck groff python3 spin \
	gcc-aarch64-linux-gnu gcc-riscv64-linux-gnu qemu-user libc6-dev-arm64-cross \
	libc6-dev-riscv64-cross libclang-rt-14-dev debootstrap xfsprogs btrfs-progs \
	tmux valgrind $(DEPS_SHIM)
DEPS_BENCH = python3 g++ libmimalloc-dev libgoogle-perftools-dev libjemalloc-dev \
	libboost-dev libpmemobj-dev
DEPS_SHIM = python3 libpython3.11-testsuite sqlite3 redis-server
# One by one: what cannot be had is a row less.
deps-bench:
	$(Q)for p in $(DEPS_BENCH); do tests/support/deps.sh $$p || :; done
deps deps-all:
	$(Q)tests/support/deps.sh $(if $(filter deps-all,$@),$(DEPS_ALL),$(DEPS))

need-cmocka:
	$(Q)printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <cmocka.h>\n' | \
		$(CC) -E - >/dev/null 2>&1 || $(MAKE) --no-print-directory deps

install: all
	$(INSTALL) -d "$(DESTDIR)$(INCDIR)"/tmc "$(DESTDIR)$(LIBDIR)"/pkgconfig
	$(INSTALL) -m 644 include/shmem.h "$(DESTDIR)$(INCDIR)"
	$(INSTALL) -m 644 include/tmc/*.h "$(DESTDIR)$(INCDIR)"/tmc
	$(INSTALL) -m 644 $(A) "$(DESTDIR)$(LIBDIR)"
	$(INSTALL) -m 755 $(SO) "$(DESTDIR)$(LIBDIR)"/libshmem.so.$(VERSION)
	ln -sf libshmem.so.$(VERSION) "$(DESTDIR)$(LIBDIR)"/$(SONAME)
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)"/libshmem.so
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCDIR@|$(INCDIR)|; s|@VERSION@|$(VERSION)|' \
		src/libshmem.pc.in > "$(DESTDIR)$(LIBDIR)"/pkgconfig/shmem.pc
	chmod 644 "$(DESTDIR)$(LIBDIR)"/pkgconfig/shmem.pc
	$(INSTALL) -d "$(DESTDIR)$(PREFIX)"/bin "$(DESTDIR)$(COMPDIR)"
	$(INSTALL) -m 755 $(CTL) "$(DESTDIR)$(PREFIX)"/bin
	$(INSTALL) -m 644 src/shmemctl/shmemctl.bash "$(DESTDIR)$(COMPDIR)"/shmemctl
	for m in $(MANS); do s=$${m##*.}; \
		$(INSTALL) -d "$(DESTDIR)$(MANDIR)"/man$$s; \
		$(INSTALL) -m 644 $$m "$(DESTDIR)$(MANDIR)"/man$$s; done

uninstall:
	rm -f "$(DESTDIR)$(INCDIR)"/shmem.h
	for h in $(notdir $(wildcard include/tmc/*.h)); do \
		rm -f "$(DESTDIR)$(INCDIR)"/tmc/$$h; done
	-rmdir "$(DESTDIR)$(INCDIR)"/tmc
	rm -f "$(DESTDIR)$(LIBDIR)"/libshmem.a "$(DESTDIR)$(LIBDIR)"/libshmem.so*
	rm -f "$(DESTDIR)$(LIBDIR)"/pkgconfig/shmem.pc
	rm -f "$(DESTDIR)$(PREFIX)"/bin/shmemctl "$(DESTDIR)$(COMPDIR)"/shmemctl
	for m in $(notdir $(MANS)); do rm -f "$(DESTDIR)$(MANDIR)"/man$${m##*.}/$$m; done

clean:
	rm -rf $(BUILD)

.PHONY: all help check rounds demo bench asan tsan valgrind clang coverage lint cross soak model fuzz deps \
	deps-all deps-bench bench-heap shim need-cmocka install uninstall clean
.DELETE_ON_ERROR:
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
