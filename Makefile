# hyperpool: build, tests and demo.  `make help` lists the targets.

MODULE_big = hyperpool
EXTENSION  = hyperpool
DATA       = $(wildcard sql/hyperpool--*.sql)
OBJS       = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

# -isystem keeps PostgreSQL's own headers out of -Wextra, -Wno-clobbered its PG_TRY; make WERROR= builds on in spite of warnings.
WERROR     ?= -Werror
PG_CONFIG  ?= pg_config
PG_CPPFLAGS = -I$(srcdir)/src -I$(shell $(PG_CONFIG) --includedir) -isystem $(shell $(PG_CONFIG) --includedir-server) -MMD -MP
PG_CFLAGS   = -std=gnu11 -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wno-clobbered \
              -fvisibility=hidden -DPGDLLEXPORT='__attribute__((visibility("default")))'
SHLIB_LINK  = -lpq -lssl -lcrypto
EXTRA_CLEAN = build $(OBJS:.o=.d)

override with_llvm = no

PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifneq ($(PGXS),)
include $(PGXS)
ifneq ($(filter 9.% 10 11 12 13 14,$(MAJORVERSION)),)
$(error hyperpool needs PostgreSQL 15 or newer, $(PG_CONFIG) is of $(MAJORVERSION))
endif
-include $(OBJS:.o=.d)
else
.PHONY: all install
all install:
	@echo "PostgreSQL's build files were not found ($(PG_CONFIG) --pgxs). Run: make setup" >&2; exit 1
endif

BUILD = build
STAGE = $(CURDIR)/$(BUILD)/stage

.PHONY: help setup test test-asan test-valgrind analyze run-tests stage unit fuzz floors model regress tap wire run-regress run-tap bench bench-quick bench-docs bench-hit bench-eviction demo demo-stop fuzz-gateway soak traces

help:
	@echo 'make            builds hyperpool.so'
	@echo 'make install    installs it into the PostgreSQL of $(PG_CONFIG)'
	@echo 'make setup      installs missing packages (Debian), or says which'
	@echo 'make test       setup and every test; as root the servers run as $${TEST_USER:-postgres}'
	@echo 'make unit | floors | model | regress | tap | wire | soak       one kind of test; PROVE_TESTS="test/t/001_x.pl" picks files'
	@echo 'make traces     records anew what the drivers of test/drivers say'
	@echo 'make fuzz       every fuzz target for FUZZ_SECONDS=60, then make fuzz-gateway;  FUZZ="exchange link" picks targets'
	@echo 'make test-asan  a subset of tap with sanitizers;  make test-valgrind  under valgrind;  make analyze  cppcheck and clang-tidy'
	@echo 'make bench      hyperpool beside PgBouncer and Pgpool-II, half an hour;  make bench-quick  3 minutes;  BENCH="--only pooled" picks parts'
	@echo 'make bench-docs the last results of make bench into docs/benchmarks.md'
	@echo 'make bench-hit  a cache hit beside a bare echo and Pgpool-II;  make bench-eviction  the policy beside LRU and the optimum'
	@echo 'make demo       two throw-away servers with 125 ms between them;  make demo-stop  ends them'

setup:
	@test/tools/setup

# What `setup` installed is seen by a make that starts after it.
test: setup
	@$(MAKE) --no-print-directory run-tests

run-tests:
	@MAKE='$(MAKE)' test/tools/run-tests

# ---- unit: core/ and net/, which need no PostgreSQL, with the sanitizers where the compiler has them ----
UNIT_CC     ?= $(CC)
UNIT_SANITIZE = $(eval UNIT_SANITIZE := $(shell mkdir -p $(BUILD) && echo 'int main(void){return 0;}' > $(BUILD)/probe.c && \
	$(UNIT_CC) -fsanitize=address,undefined $(BUILD)/probe.c -o $(BUILD)/probe 2>/dev/null && $(BUILD)/probe 2>/dev/null && \
	echo -fsanitize=address,undefined -fno-sanitize-recover=undefined))$(UNIT_SANITIZE)
# What is not initialised is never 0 by chance (gcc 12, clang 8).
UNIT_PATTERN = $(eval UNIT_PATTERN := $(shell $(UNIT_CC) -ftrivial-auto-var-init=pattern -E -x c /dev/null >/dev/null 2>&1 && echo -ftrivial-auto-var-init=pattern))$(UNIT_PATTERN)
UNIT_CFLAGS = -std=gnu11 -g -O1 -fno-omit-frame-pointer -Wall -Wextra $(WERROR) $(UNIT_SANITIZE) $(UNIT_PATTERN) -Isrc -Itest/unit -MMD -MP
UNIT_OBJS   = $(patsubst src/%.c,$(BUILD)/unit/%.o,$(wildcard src/core/*.c src/net/*.c))
UNIT_TESTS  = $(patsubst test/unit/%.c,$(BUILD)/unit/%,$(wildcard test/unit/test_*.c))

$(BUILD)/unit/%.o: src/%.c
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) -c -o $@ $<

$(BUILD)/unit/test_%.o: test/unit/test_%.c
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) -c -o $@ $<

$(BUILD)/unit/test_%: $(BUILD)/unit/test_%.o $(UNIT_OBJS)
	$(UNIT_CC) $(UNIT_SANITIZE) -o $@ $^ -lssl -lcrypto

.PRECIOUS: $(BUILD)/unit/test_%.o
-include $(UNIT_OBJS:.o=.d) $(UNIT_TESTS:=.d)

# The fuzz targets, with a main that replays their corpora.
FUZZ_TARGETS = $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
FUZZ_REPLAYS = $(FUZZ_TARGETS:%=$(BUILD)/unit/replay_%)

$(BUILD)/unit/replay_%.o: test/fuzz/fuzz_%.c
	@mkdir -p $(@D)
	$(UNIT_CC) $(UNIT_CFLAGS) -DFUZZ_REPLAY -c -o $@ $<

$(BUILD)/unit/replay_%: $(BUILD)/unit/replay_%.o $(UNIT_OBJS)
	$(UNIT_CC) $(UNIT_SANITIZE) -o $@ $^ $(FUZZ_LIBS) -lssl -lcrypto

# One target is about files of the server: with its headers and its small libraries, and the target stands for the rest of it. There an empty list is
# NULL, and clang would have NULL + 0 for an error.
CATALOG_FILES = origin/catalog_ask origin/catalog_classes origin/catalog_closure origin/catalog_doubt
CATALOG_FLAGS = -I$(shell $(PG_CONFIG) --includedir) -isystem $(shell $(PG_CONFIG) --includedir-server) -Wno-unused-parameter -fno-sanitize=pointer-overflow
CATALOG_LIBS  = -L$(shell $(PG_CONFIG) --pkglibdir) -L$(shell $(PG_CONFIG) --libdir) -lpgcommon -lpgport

$(CATALOG_FILES:%=$(BUILD)/unit/%.o) $(BUILD)/unit/replay_catalog.o: UNIT_CFLAGS += $(CATALOG_FLAGS)
$(BUILD)/unit/replay_catalog: $(CATALOG_FILES:%=$(BUILD)/unit/%.o)
$(BUILD)/unit/replay_catalog: FUZZ_LIBS = $(CATALOG_LIBS)

.PRECIOUS: $(BUILD)/unit/replay_%.o
-include $(FUZZ_REPLAYS:=.d) $(CATALOG_FILES:%=$(BUILD)/unit/%.d)

unit: $(UNIT_TESTS) $(FUZZ_REPLAYS)
	@test -n '$(UNIT_TESTS)' || { echo 'no unit tests in test/unit/' >&2; exit 1; }
	@prove --exec '' $(UNIT_TESTS) $(FUZZ_REPLAYS)

# ---- fuzz: the same targets under libFuzzer; needs clang ----
FUZZ_CC      ?= $(firstword $(foreach c,clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14,$(if $(shell command -v $(c)),$(c))) clang)
FUZZ_SECONDS ?= 60
FUZZ_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_CFLAGS   = -std=gnu11 -g -O1 -fno-omit-frame-pointer -Wall -Wextra $(WERROR) $(FUZZ_SANITIZE) -Isrc -MMD -MP
FUZZ_OBJS     = $(patsubst src/%.c,$(BUILD)/fuzz/%.o,$(wildcard src/core/*.c))
FUZZERS       = $(FUZZ_TARGETS:%=$(BUILD)/fuzz/fuzz_%)

$(BUILD)/fuzz/%.o: src/%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(BUILD)/fuzz/fuzz_%.o: test/fuzz/fuzz_%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@ $<

# An archive, so that a target is linked with what it needs alone, and its coverage is of that.
$(BUILD)/fuzz/core.a: $(FUZZ_OBJS)
	@rm -f $@ && ar rcs $@ $^

$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/core.a
	$(FUZZ_CC) $(FUZZ_SANITIZE) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)

# Without sanitizers, whose own branches nothing should take, for the coverage of what was found.
FUZZ_PLAIN    = $(FUZZ_TARGETS:%=$(BUILD)/fuzz/plain_%)
FUZZ_PLAIN_OBJS = $(FUZZ_OBJS:$(BUILD)/fuzz/%=$(BUILD)/fuzz/plain/%)
$(FUZZ_PLAIN:=.o): FUZZ_SANITIZE =

$(BUILD)/fuzz/plain/%.o: FUZZ_SANITIZE = -fno-inline -fsanitize=fuzzer-no-link
$(BUILD)/fuzz/plain/%.o: src/%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@ $<

$(BUILD)/fuzz/plain/core.a: $(FUZZ_PLAIN_OBJS)
	@rm -f $@ && ar rcs $@ $^

$(BUILD)/fuzz/plain_%.o: test/fuzz/fuzz_%.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@ $<

$(BUILD)/fuzz/plain_%: $(BUILD)/fuzz/plain_%.o $(BUILD)/fuzz/plain/core.a
	$(FUZZ_CC) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)

$(CATALOG_FILES:%=$(BUILD)/fuzz/%.o) $(CATALOG_FILES:%=$(BUILD)/fuzz/plain/%.o) $(BUILD)/fuzz/fuzz_catalog.o $(BUILD)/fuzz/plain_catalog.o: FUZZ_CFLAGS += $(CATALOG_FLAGS)
$(BUILD)/fuzz/fuzz_catalog: $(CATALOG_FILES:%=$(BUILD)/fuzz/%.o)
$(BUILD)/fuzz/plain_catalog: $(CATALOG_FILES:%=$(BUILD)/fuzz/plain/%.o)
$(BUILD)/fuzz/fuzz_catalog $(BUILD)/fuzz/plain_catalog: FUZZ_LIBS = $(CATALOG_LIBS)

.PRECIOUS: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/plain_%.o
-include $(FUZZ_OBJS:.o=.d) $(FUZZ_PLAIN_OBJS:.o=.d) $(FUZZERS:=.d) $(CATALOG_FILES:%=$(BUILD)/fuzz/%.d) $(CATALOG_FILES:%=$(BUILD)/fuzz/plain/%.d)

fuzz: $(FUZZERS) $(FUZZ_PLAIN)
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' test/fuzz/run $(FUZZ)
	@$(if $(FUZZ),true,$(MAKE) --no-print-directory fuzz-gateway)

# A whole gateway full of sanitizers, and an origin that lies to it.
fuzz-gateway:
	@HP_FUZZ_SECONDS='$(FUZZ_SECONDS)' SEED="$${SEED:-$$(date +%s)}" $(MAKE) --no-print-directory test-asan \
		ASAN_TESTS='test/t/052_fuzzed_gateway.pl test/t/053_lying_origin.pl'

floors:
	@test/tools/floors

# The cache's version protocol, checked exhaustively by Spin; says how to install it where it is missing.
model:
	@test/model/run

# ---- servers: from a staging folder, so nothing installed is overwritten ----
$(BUILD)/relay $(BUILD)/crowd: $(BUILD)/%: test/tools/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra $(WERROR) -o $@ $< $(TOOL_LIBS)

$(BUILD)/crowd: TOOL_LIBS = -lssl -lcrypto

# The programs of the oracle, and what they share.
WIRE_SHARED   = bytes language login stream
PLAYER_OBJS   = $(patsubst test/wire/%.c,$(BUILD)/wire/%.o,$(wildcard test/wire/player*.c)) $(WIRE_SHARED:%=$(BUILD)/wire/%.o)
TOKENS_OBJS   = $(patsubst test/wire/%.c,$(BUILD)/wire/%.o,$(wildcard test/wire/tokens*.c)) $(WIRE_SHARED:%=$(BUILD)/wire/%.o)

$(BUILD)/wire/%.o: test/wire/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O1 -g -Wall -Wextra $(WERROR) -Wno-unused-parameter -MMD -MP -c -o $@ $<

$(BUILD)/player: $(PLAYER_OBJS)
$(BUILD)/tokens: $(TOKENS_OBJS)
$(BUILD)/player $(BUILD)/tokens:
	$(CC) -o $@ $^ -lssl -lcrypto -lpthread

-include $(PLAYER_OBJS:.o=.d) $(TOKENS_OBJS:.o=.d)

$(BUILD)/wall_clock.so: test/tools/wall_clock.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra $(WERROR) -shared -fPIC -o $@ $<

stage: all $(BUILD)/relay $(BUILD)/crowd $(BUILD)/player $(BUILD)/tokens $(BUILD)/wall_clock.so
	@rm -rf '$(STAGE)'
	@$(MAKE) --no-print-directory -s install DESTDIR='$(STAGE)'

regress: stage
	@test/tools/as-user $(MAKE) --no-print-directory run-regress

tap: stage
	@test/tools/as-user $(MAKE) --no-print-directory run-tap PROVE_TESTS='$(PROVE_TESTS)'

# The oracle with new seeds, for SOAK_SECONDS of each kind of client by each way (some 55 times); SOAK_KINDS picks some, SEED says from where on.
SOAK_SECONDS ?= 60
soak: stage
	@test/tools/as-user env SOAK_SECONDS='$(SOAK_SECONDS)' $(MAKE) --no-print-directory run-tap PROVE_FLAGS=-v PROVE_TESTS=test/soak/wire_generated.pl

# What drivers say to PostgreSQL, recorded anew for test/wire/traces.
traces: stage
	@test/tools/as-user $(MAKE) --no-print-directory run-tap PROVE_TESTS=test/wire/record_drivers.pl
	@cp $(BUILD)/tap/tmp_check/log/traces/*.wire test/wire/traces/

wire: stage
	@test/tools/as-user $(MAKE) --no-print-directory run-tap PROVE_TESTS='$(or $(wildcard test/t/*wire*.pl),test/t/wire.pl)'

# In sql/ a name with -- is an install script, one without is an input of pg_regress. LANG makes initdb choose UTF-8 (the test tools drop LC_ALL).
REGRESS_TESTS ?= $(sort $(foreach f,$(wildcard sql/*.sql),$(if $(findstring --,$(f)),,$(basename $(notdir $(f))))))
PROVE_TESTS     ?=
TEST_ENV       = PG_CONFIG='$(PG_CONFIG)' LANG=C.UTF-8 LC_ALL=C.UTF-8 RELAY='$(CURDIR)/$(BUILD)/relay' CROWD='$(CURDIR)/$(BUILD)/crowd' WALL_CLOCK='$(CURDIR)/$(BUILD)/wall_clock.so' \
                 HP_PLAYER='$(CURDIR)/$(BUILD)/player' HP_TOKENS='$(CURDIR)/$(BUILD)/tokens'

run-regress:
	@test -n '$(REGRESS_TESTS)' || { echo 'no regress inputs in sql/' >&2; exit 1; }
	@rm -rf $(BUILD)/regress && mkdir -p $(BUILD)/regress
	@test/tools/test-config '$(STAGE)' --gateway > $(BUILD)/regress/regress.conf
	@$(TEST_ENV) $(top_builddir)/src/test/regress/pg_regress --bindir='$(bindir)' --inputdir=. --outputdir=$(BUILD)/regress \
		--temp-instance=$(BUILD)/regress/instance --temp-config=$(BUILD)/regress/regress.conf \
		--use-existing --dbname=postgres $(REGRESS_TESTS) \
		|| { rc=$$?; cat $(BUILD)/regress/regression.diffs 2>/dev/null; tail -n 40 $(BUILD)/regress/log/*.log 2>/dev/null; exit $$rc; }

run-tap:
	@rm -rf $(BUILD)/tap && mkdir -p $(BUILD)/tap/tmp_check/log
	@test/tools/test-config '$(STAGE)' > $(BUILD)/tap/tap.conf
	@PROVE='$(PROVE)' PGXS_TEST='$(top_builddir)/src/test' BINDIR='$(bindir)' $(TEST_ENV) \
		$(if $(SANITIZED),SANITIZED='$(CURDIR)/$(SANITIZED)') $(if $(VALGRIND),VALGRIND='$(CURDIR)/$(VALGRIND)') test/tools/run-tap '$(CURDIR)/$(BUILD)/tap' $(PROVE_TESTS)

# ---- the same servers, with a hyperpool full of sanitizers; some ten minutes ----
ASAN_TESTS ?= $(addsuffix .pl,$(addprefix test/t/,020_login_hba 021_login_methods 032_pool_modes 037_ends_of_links 040_state_leaks 041_cancel 050_bad_input \
	052_fuzzed_gateway 053_lying_origin 080_wire 080_wire_cached 110_cache_sql 132_cache_isolation 133_cache_writes 134_cache_flights 137_cache_descriptions 163_errors_inside))

test-asan: setup
	@MAKE='$(MAKE)' test/tools/asan $(ASAN_TESTS)

# The same under valgrind, which sees what was never written to; a few files, for it is slow.
VALGRIND_TESTS ?= test/t/050_bad_input.pl test/t/110_cache_sql.pl

test-valgrind: setup
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/tools/valgrind $(VALGRIND_TESTS)

# ---- cppcheck and clang-tidy: .clang-tidy, test/tools/cppcheck.cfg ----
analyze:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/analyze

# ---- measuring: docs/benchmarks.md ----
bench: stage
	@test/bench/setup
	@PG_CONFIG='$(PG_CONFIG)' test/bench/bench $(BENCH)

bench-quick: stage
	@test/bench/setup
	@PG_CONFIG='$(PG_CONFIG)' test/bench/bench --quick $(BENCH)

bench-docs:
	@test/bench/docs

bench-hit: stage
	@PG_CONFIG='$(PG_CONFIG)' test/bench/hit --setup

$(BUILD)/eviction: test/bench/eviction.c src/core/eviction.c src/core/bytes.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -Wall -Wextra $(WERROR) -Isrc -o $@ $^ -lm

bench-eviction: $(BUILD)/eviction
	@$(BUILD)/eviction

demo: setup
	@echo 'building hyperpool' && $(MAKE) -s --no-print-directory stage
	@PG_CONFIG='$(PG_CONFIG)' test/demo/demo

demo-stop:
	@test/demo/stop
