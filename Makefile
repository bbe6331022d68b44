# The commands of the project. `make` or `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# rustup puts cargo here, and a shell that was open before the set-up does not know it yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Set-up keeps the Python environment, the npm packages and cargo-deny here, shared by all checkouts.
export LAMPLIGHTER_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lamplighter

# CI works in a fresh clone each time. The build output is kept outside of it, so that RocksDB, a
# third of the whole build, is compiled once per machine and not once per run.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(LAMPLIGHTER_CACHE)/target
endif
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

# What `make devnet` rolls out: a small image that it makes itself, or FIRMWARE=path. ARGS are more
# options of `lamplighter devnet up`.
FIRMWARE ?=
DEVNET_DIR ?= devnet-data

.PHONY: help setup build devnet package test check fmt bench bench-page advisories chaos sim fuzz mesh

help: ## list these commands
	@echo "Usage: make COMMAND"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-12s %s\n", $$1, $$2}'

setup: ## install what is missing to build (scripts/setup)
	@scripts/setup

build: setup ## build everything that runs
	cargo build --workspace

devnet: setup ## start validators, gateways and things here, stay up (FIRMWARE=path, ARGS=--attacks)
	cargo build --package lamplighter-cli
	@exec "$(TARGET)/debug/lamplighter" devnet up --dir "$(DEVNET_DIR)" \
		$(if $(FIRMWARE),--firmware "$(FIRMWARE)") $(ARGS)

# The release build is optimised and stripped; the package is in target/debian.
package: ## make the Debian package of this machine's architecture (target/debian/lamplighter_*.deb)
	@scripts/setup --package
	cargo build --package lamplighter-cli --release
	@mkdir -p "$(TARGET)/debian"
	scripts/package "$(TARGET)/release/lamplighter" "$(TARGET)/debian"

# Programs and tests are built together: apart, cargo would choose other features for some
# dependencies and compile our crates twice.
test: ## install what tests need, then run every test
	@scripts/setup --test
	cargo build --workspace --bins --tests
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo test --workspace --doc --quiet; \
		cargo nextest run --workspace --no-fail-fast; \
	else \
		cargo test --workspace --no-fail-fast; \
	fi

# The tidy test watches `unwrap`, since it can tell helpers of tests from product code; clippy
# cannot. cargo-deny reads the dependencies of all platforms, a build fetches those of this one.
# `check` and `test` share what build scripts make, RocksDB above all.
check: ## formatting, clippy with warnings as errors, licences and bans of dependencies
	@scripts/setup --check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings -A clippy::unwrap_used
	cargo fetch --locked
	"$(LAMPLIGHTER_CACHE)/tools/bin/cargo-deny" --offline --locked check bans licenses sources

# Not part of `check`: the advisory database is a git repository that changes, so the answer depends
# on the day and on the network, while `check` must give the same answer everywhere.
advisories: ## known vulnerabilities of dependencies (fetches the advisory database)
	@scripts/setup --check
	@"$(LAMPLIGHTER_CACHE)/tools/bin/cargo-deny" --locked fetch db || { \
		echo "The advisory database could not be fetched: nothing was checked." >&2; exit 1; }
	"$(LAMPLIGHTER_CACHE)/tools/bin/cargo-deny" --locked check advisories

fmt: ## format all Rust code
	cargo fmt --all

bench bench-page: export CARGO_PROFILE_DEV_OPT_LEVEL = 3
bench: setup ## measure speed with the ceilings of this machine (ARGS=peers: beside etcd and mosquitto, ARGS=fleet: many devices)
	$(if $(filter peers,$(ARGS)),@scripts/setup --bench)
	cargo build --workspace --bins
	"$(TARGET)/debug/lamplighter-benches" $(ARGS)

bench-page: ## put reports of `make bench` into docs/ (FROM=folder), or make the tables there again
	cargo build --workspace --bins
	"$(TARGET)/debug/lamplighter-benches" page $(if $(FROM),--from "$(FROM)")

# Optimised in the long run only, which has a million transactions to get through.
sim: setup ## simulate whole networks with faults and lies: SEEDS=500 FIRST=1 LIARS=20 (percent), or one again with SEED=17 (LOUD=1)
	cargo build --package lamplighter-sim
	@"$(TARGET)/debug/lamplighter-sim" $(if $(SEED),--seed "$(SEED)") $(if $(LOUD),--loud) \
		$(if $(LIARS),--liars "$(LIARS)") $(if $(LIE),--lie "$(LIE)") \
		--seeds "$(or $(SEEDS),500)" --first "$(or $(FIRST),1)"

chaos: export CARGO_PROFILE_DEV_OPT_LEVEL = $(if $(FULL),3,0)
chaos: ## kill, stop, part, misdate and attack real nodes under load, check what clients saw (FULL=1: an hour)
	@scripts/setup --test
	cargo build --package lamplighter-cli --package lamplighter-chaos
	"$(TARGET)/debug/chaos" $(if $(FULL),--full) $(ARGS)
	$(if $(FULL)$(ARGS),,"$(TARGET)/debug/chaos" --hostile)

# With all programs and tests, as in `test`: one build serves both.
mesh: ## roll out over simulated 802.15.4 and 6LoWPAN in an emulated machine: LOSS_PERCENT=5 DELAY_MS=30 SZX=2 THINGS=1
	@scripts/setup --mesh
	cargo build --workspace --bins --tests
	@scripts/mesh "$(TARGET)/debug"

# New inputs are kept in fuzz/found, which is not in the repository; what it has is fuzz/corpus.
FUZZERS := transaction block proof mqtt peer json iotregistry value coap spool config dtls oscore
fuzz: export PATH := $(LAMPLIGHTER_CACHE)/tools/bin:$(PATH)
fuzz: ## fuzz what comes from outside with a sanitizer, 60 s each (FOR=3600 seconds, ONLY=mqtt)
	@scripts/setup --fuzz
	@for name in $(or $(ONLY),$(FUZZERS)); do \
		mkdir -p "fuzz/found/$$name"; \
		(cd fuzz && cargo +nightly fuzz run "$$name" "found/$$name" "corpus/$$name" -- \
			-max_total_time=$(or $(FOR),60) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1); \
	done
