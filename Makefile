# lightning: a storage engine for stock PostgreSQL.
#
#	make				builds lightning.so (PG_CONFIG=... chooses the server)
#	make install		installs library, control file, SQL script
#	make installcheck	regression tests against a running server that has the
#						library in shared_preload_libraries
#	make LIGHTNING_TEST=1	builds what the tests in t/ need besides
#
# These need nothing but a Debian system; they install what is missing and work
# on private servers only:
#
#	make check			all tests; the last line is "N passed, N failed"
#	make check-postgres	PostgreSQL's own suites on heap and on lightning
#	make check-programs	sysbench, pgTAP, Alembic and PostGIS on lightning tables
#	make check-sanitizer	regression and isolation tests, built with ASan and UBSan
#	make check-valgrind	regression tests on a server under valgrind (TESTS="scan ...")
#	make soak			the crash cycles, standby and simulation for much longer
#	make demo			heap and lightning side by side, and a crash (KEEP=1)
#	make bench			benchmarks: the server, and the engine as a library
#	make lint			formatting, layering, static analysis
#
# The engine's own library and tests are in engine/Makefile.

DRIVERS = check check-postgres check-programs check-sanitizer check-valgrind soak demo bench bench-server bench-kv bench-writes lint deps
ifneq (,$(filter $(DRIVERS),$(MAKECMDGOALS)))

# These goals run before PostgreSQL's headers may even be installed, and PGXS
# has a "check" of its own that only refuses.
check:
	@t/check.sh
check-postgres:
	@t/check_postgres.sh $(PARTS)
check-sanitizer:
	@t/check.sh sanitizer
check-valgrind:
	@t/check.sh valgrind
check-programs:
	@t/check.sh programs
soak:
	@LIGHTNING_CYCLES=$${LIGHTNING_CYCLES:-300} LIGHTNING_SIM_SEEDS=$${LIGHTNING_SIM_SEEDS:-20000} \
		t/check.sh sim tap
demo:
	@KEEP=$(KEEP) bench/demo.sh
bench: bench-server bench-kv
bench-server:
	@bench/server.sh
bench-kv:
	@bench/kv.sh
# progress, latency and bytes written under a write load; takes 40 minutes
bench-writes:
	@bench/writes.sh
lint:
	@t/lint.sh
deps:
	@.ci/deps

.PHONY: $(DRIVERS)

else

MODULE_big = lightning
EXTENSION = lightning
DATA = sql/lightning--1.0.sql

# LIGHTNING_TEST=1: stop points and failing file operations, which most tests in
# t/ use, and the extension lightning_test, whose functions set them.
ifdef LIGHTNING_TEST
EXTENSION += t/lightning_test
DATA += t/lightning_test--1.0.sql
TEST_CPPFLAGS = -DLIGHTNING_TEST
ENGINE_CPPFLAGS += -DLTG_STOP_POINTS
endif
PGFILEDESC = "lightning - LSM storage engine"

# src/ is the PostgreSQL side; the engine's objects are built in place, without
# PostgreSQL's headers in reach.  engine/port, engine/lt and engine/test belong
# to the embedded library only.
ENGINE_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard engine/*.c engine/base/*.c \
	engine/storage/*.c engine/tree/*.c)))
SRC_OBJS = $(filter-out $(if $(LIGHTNING_TEST),,src/stoppoint.o),$(patsubst %.c,%.o,$(sort $(wildcard src/*.c))))
OBJS = $(SRC_OBJS) $(ENGINE_OBJS)

REGRESS = $(patsubst sql/%.sql,%,$(filter-out sql/lightning--%.sql,$(sort $(wildcard sql/*.sql))))
ISOLATION = $(patsubst specs/%.spec,%,$(sort $(wildcard specs/*.spec)))
ISOLATION_OPTS = --load-extension=lightning
REGRESS_OPTS = --inputdir=. --load-extension=lightning

# An installation's own optimisation level may be a debugging one.
OPT ?= -O2
# -MD, not -MMD: what -idirafter finds counts as the system's.
PG_CFLAGS = $(OPT) -MD -MP -Wno-declaration-after-statement
SHLIB_LINK = -lzstd -llz4

EXTRA_CLEAN = $(OBJS:.o=.d) $(OBJS:.o=.bc) src/stoppoint.o src/stoppoint.d $(KIND)

# No bitcode: inlining these functions into queries gains nothing.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Objects of a test build are of no use in another one.
KIND = src/kind.d
ifneq ($(file <$(KIND)),test=$(LIGHTNING_TEST))
$(file >$(KIND),test=$(LIGHTNING_TEST))
endif
$(OBJS): $(KIND)

# The engine's headers come last for src/: "storage/block.h" must mean
# PostgreSQL's there.
$(SRC_OBJS): override CPPFLAGS += -idirafter engine $(TEST_CPPFLAGS)

# Engine objects see only the engine, and export nothing: extensions are loaded
# with RTLD_GLOBAL.
$(ENGINE_OBJS): override CPPFLAGS := -Iengine -D_GNU_SOURCE $(ENGINE_CPPFLAGS)
$(ENGINE_OBJS): override CFLAGS := -std=gnu11 -g $(OPT) -Wall -Wextra -Wshadow \
	-Wmissing-prototypes -fno-omit-frame-pointer -fvisibility=hidden -fPIC -MMD -MP

# Assertions of the engine follow the server's.
ifneq (,$(findstring --enable-cassert,$(shell $(PG_CONFIG) --configure)))
ENGINE_CPPFLAGS += -DLTG_ASSERTS
endif

-include $(OBJS:.o=.d)

# For scripts: make -s print-REGRESS
print-%:
	@echo $($*)

endif
