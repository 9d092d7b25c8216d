# The whole developer interface. `make help` lists it.
# Needs Python 3.11 to 3.13 and make; everything else comes from PyPI, by the lock file.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The interpreter is the one above, never one that uv would download.
UV := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv
ARGS ?=
# Whole files to each of some processes: tests of a file share what is slow to make. In their order: else those of few
# tests come last, which are the long ones.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
# Those that run real processes mostly wait, each for a minute or two.
WAITING := -n 5 --dist load --maxschedchunk 1

.DEFAULT_GOAL := help

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"crrmon needs Python 3.11 to 3.13; {sys.executable} is {v[0]}.{v[1]}: call make with PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/uv || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) sync --locked --inexact --extra sandbox --python $(BIN)/python
	@touch $@

# What everybody runs: all behaviour in simulated time, the ledgers that need no server, and the command line.
TESTS ?= tests/unit tests/services tests/contract
# What needs more than Python packages has targets of its own.
PLAIN := not acceptance and not prometheus and not image and not ruler and not kubernetes

.PHONY: help install run test test-all test-plain test-acceptance test-prometheus test-patterns test-image test-cluster lint format docs bench bench-marks bench-pacing soak lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(READY) ## Make .venv with everything, from the lock file

run: $(READY) ## Watch the real daemon follow objects through a replication on this machine (ARGS="--objects 300")
	$(BIN)/crrmon sandbox $(ARGS)

test: $(READY) ## Run the tests that need no server and no emulator (ARGS="-k name")
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not server" $(TESTS) $(ARGS)

test-all: ## Run all tests, one kind after the other; each kind has a target of its own
	$(MAKE) test-plain
	$(MAKE) test-acceptance
	$(MAKE) test-patterns
	$(MAKE) --jobs 2 --output-sync=target test-prometheus test-image

test-plain: $(READY) ## Run all tests that need nothing but Python packages, and no processes of crrmon
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "$(PLAIN)" $(ARGS)

test-acceptance: $(READY) ## Run the daemon and the sandbox as real processes (minutes)
	$(BIN)/pytest $(WAITING) -m acceptance tests/acceptance tests/deploy $(ARGS)

test-prometheus: $(READY) ## Run the tests of alerts and dashboards on a real Prometheus (Debian: prometheus)
	$(BIN)/pytest $(SIDE_BY_SIDE) -m prometheus tests/deploy $(ARGS)

test-patterns: $(READY) ## Ask Amazon's own engine which events the documented patterns let through (Debian: default-jdk-headless maven)
	$(BIN)/pytest -m ruler tests/deploy/test_event_patterns.py $(ARGS)

test-image: $(READY) ## Build the image, and run it (root; Debian: buildah podman debootstrap)
	$(BIN)/pytest -m image tests/deploy $(ARGS)

test-cluster: $(READY) ## Run the chart on a real Kubernetes API server (built by Go, the first time)
	tests/cluster/build >/dev/null
	$(BIN)/pytest -m kubernetes tests/cluster $(ARGS)
	$(if $(ARGS),,tests/cluster/state > tests/cluster/green)

lint: $(READY) ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(READY) ## Write what is generated: reference pages, the tables of docs/scaling.md, config.example.yaml, dashboards, the chart's page and schema, the alerts without placeholders
	$(BIN)/python -c 'from crrmon.domain.metrics_page import reference; print(reference(), end="")' > docs/metrics.md
	$(BIN)/python -c 'from crrmon.domain.reasons import reference; print(reference(), end="")' > docs/failure-reasons.md
	$(BIN)/crrmon config example > config.example.yaml
	PYTHONPATH=deploy $(BIN)/python -m artifacts
	$(BIN)/python bench/scaling_page.py

bench: $(READY) ## Measure speed, calls and memory beside what one would run instead (ARGS="--quick --json FILE")
	$(BIN)/python bench/daemon.py $(ARGS)

bench-marks: $(READY) ## Settle on top of 50 million marks (ARGS="--backend sqlite --file FILE" or "--backend redis")
	$(BIN)/python bench/marks.py $(ARGS)

bench-pacing: $(READY) ## Simulate when to look, and draw the trade-off (ARGS="--json FILE")
	$(BIN)/python bench/pacing.py $(ARGS)

soak: $(READY) ## Run the daemon for an hour while everything around it breaks, and judge (ARGS="--minutes 5 --ledger redis --json")
	$(BIN)/python bench/soak.py $(ARGS)

lock: ## Resolve the lock file again
	$(UV) lock

clean: ## Remove what the other targets made
	rm -rf .venv* .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache dist
