# lightning: a storage engine for stock PostgreSQL.
#
#	make PG_CONFIG=...		builds lightning.so
#	make install			installs library, control file, SQL script
#	make installcheck		regression tests against a running server that
#							has the library in shared_preload_libraries
#
# The engine's own library and tests are in engine/Makefile.

MODULE_big = lightning
EXTENSION = lightning
DATA = sql/lightning--1.0.sql
PGFILEDESC = "lightning - LSM storage engine"

# src/ is the PostgreSQL side; the engine's objects are built in place, without
# PostgreSQL's headers in reach.  engine/port, engine/lt and engine/test belong
# to the embedded library only.
ENGINE_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard engine/*.c engine/base/*.c \
	engine/storage/*.c engine/tree/*.c)))
SRC_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
OBJS = $(SRC_OBJS) $(ENGINE_OBJS)

REGRESS = $(patsubst sql/%.sql,%,$(filter-out sql/lightning--%.sql,$(sort $(wildcard sql/*.sql))))
REGRESS_OPTS = --inputdir=. --load-extension=lightning

# An installation's own optimisation level may be a debugging one.
OPT ?= -O2
PG_CFLAGS = $(OPT) -MMD -MP -Wno-declaration-after-statement
SHLIB_LINK = -lzstd -llz4

EXTRA_CLEAN = $(OBJS:.o=.d) $(OBJS:.o=.bc)

# No bitcode: inlining these functions into queries gains nothing.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The engine's headers come last for src/: "storage/block.h" must mean
# PostgreSQL's there.
$(SRC_OBJS): override CPPFLAGS += -idirafter engine

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
