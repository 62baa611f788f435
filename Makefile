# The only door: CI and developers run the same targets. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
DATA ?=
SUITE ?=
BENCH ?= all
PYTEST := $(BIN)/pytest -q

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.run: deploy/locks/run.txt pyproject.toml $(wildcard protos/dpu_api/v1/*.proto) protos/generate.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo 'No venv: on Debian, apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/run.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.run deploy/locks/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r deploy/locks/dev.txt
	@touch $@

setup: .venv/.dev ## Make .venv with everything that development needs, at locked versions

demo: .venv/.run ## Reduce a simulated night on an embedded DPU (DATA=folder: your raw frames)
	$(BIN)/awe demo --folder build/demo $(if $(DATA),--data "$(DATA)")

test: .venv/.dev ## Run the tests that need no cluster
	$(PYTEST)

cluster: .venv/.dev ## Run the tests with real processes: kills, cuts, full disks, the prompt, the demo
	$(PYTEST) tests/cluster

again: .venv/.dev ## Run what failed last (SUITE=tests/cluster: of that suite)
	$(PYTEST) $(SUITE) --last-failed --last-failed-no-failures none

chaos: .venv/.dev ## Run 2,000 tasks while everything is killed, cut and stopped
	$(PYTEST) tests/chaos -s

science: .venv/.dev ## Hold the recipes to their bars at full size
	$(PYTEST) tests/science

slow: .venv/.dev ## Run what takes minutes: many code versions, a user's type checkers
	$(PYTEST) tests/slow tests/typing

check: lint types layers protos test ## Everything that must hold before a commit

lint: .venv/.dev ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev ## Types, strictly
	$(BIN)/mypy

layers: .venv/.dev ## Who may import whom
	$(BIN)/lint-imports --no-logo

protos: .venv/.dev ## Generate the contracts' code, lint them, compare them with the last release
	$(BIN)/python protos/generate.py
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against released.binpb

released: .venv/.dev ## Record a release, to which later ones are held: its contracts, and what it writes and says
	cd protos && ../$(BIN)/buf build -o released.binpb
	PYTHONPATH=tests $(BIN)/python -m recorded

dashboards: .venv/.dev ## Write Grafana's dashboards and the operator's rules anew
	$(BIN)/python deploy/grafana/dashboards.py
	$(BIN)/python deploy/prometheus/rules.py

monitoring: .venv/.dev ## Scrape a DPU at work by a real Prometheus, ask every dashboard, let every alert fire
	$(PYTEST) tests/k8s/test_monitoring_files.py tests/k8s/test_monitoring_scrape.py

images: ## Build the images control and worker by podman or docker (ENGINE=...)
	deploy/images.sh

containers: .venv/.dev ## Build the images, run jobs through containers and compose, kill each (needs root, installs podman)
	$(PYTEST) -s tests/k8s/test_containers_images.py tests/k8s/test_containers_isolation.py tests/k8s/test_containers_job.py tests/k8s/test_containers_compose.py

k8s: .venv/.dev ## Render and check every overlay, the file of compose and the operators' pages; call by other people's clients
	$(PYTEST) tests/k8s/test_overlays.py tests/k8s/test_compose.py tests/k8s/test_operators_pages.py tests/k8s/test_foreign_clients.py

browser: .venv/.dev ## Look at the queue page in a real browser (as root installs chromium)
	$(PYTEST) tests/browser

wheel: .venv/.dev ## Build the wheel and run a job with it, in an empty environment outside the checkout
	$(BIN)/python -m build --wheel --outdir build/wheel --no-isolation .
	$(PYTEST) tests/wheel --wheel build/wheel

bench: .venv/.dev ## Measure: make bench BENCH=name prints JSON lines
	@$(BIN)/python -m tests.benchmarks $(BENCH)

bars: .venv/.dev ## Measure everything, as the table of docs/discussion/performance.md
	@$(BIN)/python -m tests.benchmarks --table

docs: .venv/.dev ## Run the examples of the documentation and check its links
	$(PYTEST) tests/docs

lock: .venv/.dev ## Lock the versions anew (asks for uv in .venv)
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile $(LOCK) --all-extras --group build -o deploy/locks/dev.txt
	$(BIN)/uv pip compile $(LOCK) --extra services --extra recipes --group build -c deploy/locks/dev.txt -o deploy/locks/run.txt
	$(BIN)/uv pip compile $(LOCK) $(NO_PROMPT) --extra services --extra postgres --extra s3 --extra tracing -c deploy/locks/dev.txt -o deploy/locks/control.txt
	$(BIN)/uv pip compile $(LOCK) --extra services --extra postgres --extra s3 --extra tracing --extra packages --extra recipes -c deploy/locks/dev.txt -o deploy/locks/worker.txt
	$(BIN)/uv pip compile $(subst pyproject.toml,,$(LOCK)) --group build -c deploy/locks/dev.txt -o deploy/locks/build.txt
LOCK := -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url pyproject.toml

# What IPython and rich bring, for the prompt alone: no service imports it.
NO_PROMPT := $(addprefix --no-emit-package ,asttokens executing ipython ipython-pygments-lexers jedi markdown-it-py \
	matplotlib-inline mdurl parso pexpect prompt-toolkit ptyprocess pure-eval pygments rich stack-data traitlets wcwidth)

clean: ## Remove what was built
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo test cluster again dashboards monitoring images containers k8s browser chaos science slow check lint types layers protos released wheel bench bars docs lock clean
