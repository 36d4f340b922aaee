# `make` lists the targets. Everything is installed into .venv and nowhere else: the extras dev, s3 and serve;
# others by .venv/bin/pip install -c constraints.txt -e '.[postgres,ray]'

PYTHON ?= python3
# A home other than the default one, for demo and ui: make demo HOME_DIR=/data/home
HOME_DIR ?=
# Passed on to pytest or to the command: make test ARGS='-k landing'
ARGS ?=
# The folder with the Handbook's daily files, for replay-check.
HANDBOOK ?=
BENCHMARKS ?= $(patsubst %.py,%,$(notdir $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))
# Run by unittest, so that a GPU machine needs no more than what they import: torch and numpy.
GPU_TESTS ?= assets_tests.learning.nets.test_cuda

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -qq --no-compile
PLATFORM := $(VENV)/bin/my-platform $(if $(HOME_DIR),--home "$(HOME_DIR)")
INSTALLED := $(VENV)/.installed
PREPARED := $(VENV)/.prepared
PYTHON_VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DBT_FILES := $(shell find dbt -mindepth 1 \( -name target -o -name logs -o -name dbt_packages \) -prune \
	-o ! -name '.user.yml' -print 2>/dev/null)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Idle OpenMP threads that spin make two fits side by side four times slower.
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo ui dbt-docs test test-slow faults gpu-check bench serve-bench replay-check load-test month-check scale-check lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(PREPARED) ## install everything into .venv (about 2 minutes and 3 GB the first time)
	@echo "Ready: make demo shows it, make ui opens Dagster, .venv/bin/my-platform --help lists the commands."

demo: $(PREPARED) ## run the example from raw tables to a promoted model
	@$(PLATFORM) demo $(ARGS)

ui: $(PREPARED) ## start the Dagster UI with its daemon
	@$(PLATFORM) ui $(ARGS)

dbt-docs: $(PREPARED) ## write dbt's documentation of the marts and say where it is
	@$(PLATFORM) dbt-docs $(ARGS)

test: $(PREPARED) ## run the tests
	@$(PY) -m pytest -n 2 --dist loadscope $(ARGS)

test-slow: $(PREPARED) ## run the tests that take longer, with a real S3 server, browser, Redis and PostgreSQL where root can install them
	@$(call optional_package,radosgw,ceph-mon ceph-mgr ceph-osd radosgw ceph-common,the S3 server of the storage tests)
	@$(call optional_package,chromium,chromium,the browser of the tests of the UI)
	@$(call optional_package,redis-server,redis-server,the server of the tests of online state in Redis)
	@$(call optional_package,pg_ctlcluster,postgresql,the server of the tests with PostgreSQL)
	@$(call optional_package,promtool,prometheus,the tool that checks alert rules and dashboards)
	@$(PY) -c 'import dagster_postgres' 2>/dev/null || $(PIP) -c constraints.txt --no-build-isolation -e '.[postgres]'
	@$(PY) -m pytest -n 2 --dist loadscope -m 'slow and not gpu' $(ARGS) || { \
		code=$$?; [ $$code -eq 5 ] || exit $$code; echo "There are no slow tests."; }

faults: $(PREPARED) ## bring faults about in a healthy home, one at a time, and print the scorecard
	@$(PY) -m assets_tests.faults.scorecard $(ARGS)

gpu-check: ## run the GPU tests, with .venv or else the machine's own Python
	@py=$(PY); [ -x "$$py" ] || py=$(PYTHON); \
	"$$py" -c 'import torch' 2>/dev/null || { \
		echo "gpu-check: $$py has no torch, so nothing was checked. Run make setup."; exit 1; }; \
	"$$py" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { \
		echo "gpu-check: torch sees no CUDA device on this machine, so nothing was checked."; exit 1; }; \
	"$$py" -m unittest -v $(ARGS) $(GPU_TESTS)

bench: $(PREPARED) ## run the benchmarks; one of them: make bench BENCHMARKS=name
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(PY) -m benchmarks.$$name $(ARGS); done

serve-bench: $(PREPARED) ## measure the scoring service with wrk: one line, and exit code 1 where a figure falls short
	@$(call optional_package,wrk,wrk,the client of serve-bench)
	@$(PY) -m benchmarks.serving --check $(ARGS)

replay-check: $(PREPARED) ## replay a week of HANDBOOK=FOLDER through the service: one line, and exit code 1 where it falls short
	@$(PY) -m benchmarks.replay $(if $(HANDBOOK),--handbook "$(HANDBOOK)") $(ARGS)

load-test: $(PREPARED) ## keep the service under load for half an hour, disturbed, and tell its memory
	@$(PY) -m pytest -m load -s assets_tests/serving/test_load.py $(ARGS)

month-check: $(PREPARED) ## let a month happen under the real daemon, and again with the daemon killed twenty times (half an hour)
	@$(PY) -m pytest -m month -s assets_tests/operations/test_month.py $(ARGS)

scale-check: $(PREPARED) ## build HANDBOOK=FOLDER, or simulated days, on PostgreSQL, S3 and a Ray cluster, with workers killed, and compare
	@$(call optional_package,radosgw,ceph-mon ceph-mgr ceph-osd radosgw ceph-common,the S3 server of scale-check)
	@$(call optional_package,pg_ctlcluster,postgresql,the server of the profiles)
	@$(PY) -c 'import dagster_postgres, dagster_ray, aiohttp_cors' 2>/dev/null || \
		$(PIP) -c constraints.txt --no-build-isolation -e '.[postgres,ray]'
	@$(if $(HANDBOOK),MY_PLATFORM_HANDBOOK="$(abspath $(HANDBOOK))") $(PY) -m pytest -m scale assets_tests/scale $(ARGS)

lint: $(INSTALLED) ## check style, formatting and types
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy

format: $(INSTALLED) ## mend what the linter can mend
	@$(VENV)/bin/ruff check --fix --quiet .
	@$(VENV)/bin/ruff format .

lock: $(INSTALLED) ## write requirements.lock anew, from pyproject.toml and constraints.txt
	@$(PIP) uv
	@sed -n '/^#/p; /^[^#]/q' requirements.lock >$(VENV)/lock.new
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url -c constraints.txt \
		--extra dev --extra s3 --extra serve pyproject.toml >>$(VENV)/lock.new
	@mv $(VENV)/lock.new requirements.lock

clean: ## remove .venv and all caches, but no home
	@rm -rf $(VENV) dbt/target dbt/logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find my_platform assets_tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# An environment that was copied along with its checkout still runs the code of the old place: made anew.
ifneq ($(shell test ! -e $(INSTALLED) || cat $(INSTALLED)),$(if $(wildcard $(INSTALLED)),$(CURDIR)))
.PHONY: $(PY)
endif

# A system package, known to be there by a line of Python: installed by root, asked for from others.
define debian_package
$(PYTHON) -c '$(1)' 2>/dev/null || [ "$$(uname)" != Linux ] || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the system package $(2), $(3) ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) >/dev/null; \
	else \
		echo "The system package $(2) is missing, $(3)."; \
		echo "Install it (sudo apt-get install $(2)) and run make again."; exit 1; \
	fi
endef

# One that some tests use: installed where that can be done; without it they say that it is missing. Tests start servers
# of their own, so that the one which Debian starts with the package is stopped again.
define optional_package
command -v $(1) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	echo "Installing $(3) ..." && timeout 120 apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive timeout 480 apt-get install -y -qq --no-install-recommends $(2) >/dev/null 2>&1 && \
	{ service $(lastword $(2)) stop >/dev/null 2>&1 || true; }; } || \
	echo "$(1) is missing, $(3); tests that need it are skipped."
endef

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(call debian_package,import ensurepip,python$(PYTHON_VERSION)-venv,without which Python makes no environment)
	@$(call debian_package,import ctypes; ctypes.CDLL("libgomp.so.1"),libgomp1,which LightGBM loads)
	@$(PYTHON) -m venv --clear $(VENV)

# What an interrupted pip left half-written has no INSTALLER file, or a name that begins with ~: removed, it is
# installed again. The lock is complete but for torch, so pip's slow resolver is asked only where something is
# missing all the same. Compiling to bytecode is faster on all cores than by pip on one.
$(INSTALLED): pyproject.toml constraints.txt requirements.lock $(PY)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@for info in $(VENV)/lib/python3*/site-packages/*.dist-info; do \
		[ -e "$$info/INSTALLER" ] || rm -rf "$$info"; done; \
		rm -rf $(VENV)/lib/python3*/site-packages/~*
	@echo "Installing into $(VENV): about 2 minutes and 3 GB the first time ..."
	@$(PIP) --no-deps --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) -c constraints.txt torch
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(PY) -m pip check >/dev/null 2>&1 || $(PIP) --no-build-isolation -c constraints.txt -e '.[dev,s3,serve]'
	@$(PY) -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true
	@printf '%s\n' "$(CURDIR)" >$@

$(PREPARED): $(INSTALLED) $(DBT_FILES)
	@$(VENV)/bin/my-platform prepare
	@touch $@
