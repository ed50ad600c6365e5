# Needs make and one Python from 3.11 up. `make` alone lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Present when the environment holds what the lock names; an older stamp than lock or project file means install again.
STAMP := $(VENV)/.installed
PYTHON ?=
PORT ?= 3000
WORKERS ?= 2
EVENTS ?= 10000000
KILLS ?= 20

.PHONY: help demo dev test crash check bench bench-statistics bench-operating bench-peers calibrate lock clean lint format-check lint-check types rooms sql

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/\1:\2/' \
	  | while IFS=: read -r name words; do printf '  make %-16s %s\n' "$$name" "$$words"; done

# The sample's learners are made up, so its key is no secret. Real keys come from the environment.
EXP_HMAC_KEY ?= sample-data-only-not-a-secret-key
demo dev: export EXP_HMAC_KEY := $(EXP_HMAC_KEY)
demo dev: export DAGSTER_HOME := $(CURDIR)/.dagster_home

demo: $(STAMP) ## Run the bundled sample, from landed events to decision memos
	@$(BIN)/exp demo

dev: $(STAMP) ## Open the Dagster UI on this machine (PORT=3000), with history kept in .dagster_home
	@$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

# Rewriting the assertions of all test modules takes each process seconds, unless Python may keep the result.
test crash: export PYTHONDONTWRITEBYTECODE :=

# What tests write lies in memory where there is room for it: else they wait for a disk thousands of times.
ROOMY = $(shell free=$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}'); \
  test -w /dev/shm && test "$${free:-0}" -gt 6000000 && echo /dev/shm)
test: export PYTEST_DEBUG_TEMPROOT ?= $(ROOMY)

test: $(STAMP) ## Run all tests (WORKERS=2 processes)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  -o tmp_path_retention_policy=failed -o tmp_path_retention_count=1

crash: $(STAMP) ## Kill a whole installation and fill a disk, on SQLite and PostgreSQL (some minutes)
	@$(BIN)/python -m pytest -m crash exp_pipeline_tests/operating

check: lint test ## Format, lint, types, import rules, SQL lint, then the tests

lint: format-check lint-check types rooms sql

format-check: $(STAMP)
	$(BIN)/ruff format --check --output-format concise .

lint-check: $(STAMP)
	$(BIN)/ruff check --output-format concise .

types: $(STAMP)
	$(BIN)/mypy

rooms: $(STAMP)
	$(BIN)/lint-imports --no-logo

sql: $(STAMP)
	$(BIN)/sqlfluff lint --disable-progress-bar exp_pipeline/transform/sql

bench: $(STAMP) ## Measure the chain against one scan, and the statistics (EVENTS=10000000, or 50000000, 100000000)
	@$(BIN)/python bench/run.py --events $(EVENTS)
	@$(BIN)/python bench/statistics_speed/run.py

bench-statistics: $(STAMP) ## Measure the statistics beside other packages, results compared first
	@$(BIN)/python bench/statistics_speed/run.py

bench-operating: $(STAMP) ## Measure idling, paging and backfill, and kill an installation at random (KILLS=20)
	@$(BIN)/python bench/operating/run.py --kills $(KILLS)

bench-peers: $(STAMP) ## Install those other packages, each in a temporary folder (once)
	@PYTHON311='$(PYTHON311)' PYTHON312='$(PYTHON312)' $(BIN)/python bench/statistics_speed/environments.py

calibrate: $(STAMP) ## Simulate the error rates and the coverage of every method
	@$(BIN)/python bench/calibrate.py

lock: ## Resolve the dependencies anew into requirements.lock (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

clean: ## Remove the environment, caches, Dagster's history and all that the pipeline wrote
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf data/lake data/marts data/readouts data/flags data/state
	find .dagster_home -mindepth 1 ! -name dagster.yaml -delete
	find exp_pipeline exp_pipeline_tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# A pyenv shim can be on the path and still not run, so each candidate is tried.
$(STAMP): requirements.lock pyproject.toml
	@set -eu; \
	runs() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' > /dev/null 2>&1; }; \
	chosen='$(PYTHON)'; \
	if [ -n "$$chosen" ]; then \
	  runs "$$chosen" || { echo "PYTHON=$$chosen does not run, or is not Python 3.11 to 3.14." >&2; exit 1; }; \
	  rm -rf $(VENV); \
	else \
	  for candidate in python3.13 python3.12 python3.11 python3 python3.14 python; do \
	    if runs "$$candidate"; then chosen=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo "No Python 3.11 to 3.14 found on the path. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	  fi; \
	fi; \
	runs $(BIN)/python || rm -rf $(VENV); \
	if uv --version > /dev/null 2>&1; then \
	  echo "Installing into $(VENV) with uv, $$("$$chosen" --version) (once; later runs skip this)"; \
	  test -x $(BIN)/python || uv venv --quiet --python "$$("$$chosen" -c 'import sys; print(sys.executable)')" $(VENV); \
	  uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock; \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	  echo "Installing into $(VENV) with venv and pip, $$("$$chosen" --version) (once, some minutes; later runs skip this)"; \
	  test -x $(BIN)/pip || "$$chosen" -m venv --clear $(VENV) || { \
	    rm -rf $(VENV); echo "$$chosen has no working venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi; \
	$(BIN)/python -m compileall -q exp_pipeline; \
	touch $@
