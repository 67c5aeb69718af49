# The two commands: `make demo` shows the main job, `make test` proves it. Both do all set-up themselves.
.DEFAULT_GOAL := help
# one after the other, whatever -j says: tests measure, and share the machine
.NOTPARALLEL:
.PHONY: help setup demo check test test-core test-packages test-faults test-appliance simulate soak bench-hub bench-watchdog bench-ways bench-sidecar bench-drain deb wheelhouse lock clean
BIN := .venv/bin

help: ## what can be made here
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: ## install what is missing (Debian packages, .venv); says what it does
	@tools/setup

demo: setup ## three real backups, seen live on the hub, every claim checked
	@$(BIN)/python -m demo

check: setup ## format, lint and types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@echo "check: format, lint and types are fine"

test: check test-core test-faults test-packages test-appliance ## check, then every test: on a real MariaDB, real processes and (as root) booted Debians

test-core: setup ## the tests that need neither a booted system nor many deaths; a file at a time on each core
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m "not packages" --ignore=tests/faults --ignore=tests/appliance

test-packages: setup ## the Debian packages are built, twice, and looked into; under a minute
	@$(BIN)/python -m pytest -m packages tests/test_packages.py

test-faults: setup ## kills, full and damaged disks, standstills, bad input: the commit tier of docs/reliability.md
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal tests/faults

SEED ?=
simulate: setup ## both daemons in a simulated world: all worlds of the commit tier, or SEED=storm:17 to the byte
	@$(BIN)/python -m simulation $(SEED)

SOAK_MINUTES ?= 180
soak: setup ## the night tier: ten thousand kills beside a simulated year and ten million inputs, for SOAK_MINUTES (180); build/soak/*.json
	@$(BIN)/python -m soak all --minutes=$(SOAK_MINUTES)

test-appliance: setup ## the operator's story on a booted Debian 12 and 13 (as root); says which line of it is told
	@tools/setup-appliance
	@$(BIN)/python -m tests.appliance story

bench-hub: setup ## what the hub takes and costs, each figure beside its reference; some minutes on a quiet machine
	@$(BIN)/python -m benchmarks.bench_hub

bench-watchdog: setup ## what a sweep for silent jobs costs among a million rows, beside a bare SELECT of them
	@$(BIN)/python -m benchmarks.bench_watchdog

bench-ways: setup ## other ways to store updates and to build the hub, side by side
	@$(BIN)/python -m benchmarks.bench_ways

bench-sidecar: setup ## what the sidecar takes and costs, each figure beside its reference; some minutes on a quiet machine
	@$(BIN)/python -m benchmarks.bench_sidecar

bench-drain: setup ## how soon 1,000 and 10,000 jobs are up to date after the hub's return
	@$(BIN)/python -m benchmarks.bench_drain

deb: ## build the Debian packages of this commit into build/deb, from build/wheelhouse (which it fills when it must)
	@packaging/build

wheelhouse: ## download what the packages bundle, by hash, into build/wheelhouse: then `make deb` needs no network
	@packaging/wheelhouse build/wheelhouse

lock: ## write the hash-locked requirements anew from pyproject.toml (for maintainers; needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml -o packaging/requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --extra dev pyproject.toml -o packaging/requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header packaging/requirements-build.in -o packaging/requirements-build.lock

clean: ## remove what was made here
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
