# Two commands for a fresh checkout (Python >= 3.11, git and make suffice):
#   make demo ARGS="..."   runs `fleetmon demo ...`; standard output is the demo's alone
#   make test              runs the test suite
# Everything lives in .venv; a second run installs nothing unless pyproject.toml changed.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MAKEFLAGS += --no-print-directory

.PHONY: demo test test-stack fuzz soak soak-record soak-attach lint types layers bench bench-instructions clean system-packages
.DELETE_ON_ERROR:

# `exec` leaves no shell in between: a Ctrl-C at the terminal reaches the demo once, from the
# terminal itself. make ends with 0 where the demo did; of any failure it makes its own 2 and
# writes the demo's code to standard error ("Error 3").
demo: $(VENV)/.for-demo
	@exec $(BIN)/fleetmon demo $(ARGS)

# A file stays with one worker: its tests share what they start. ARGS="-n 0" runs one after the other.
test: $(VENV)/.for-test
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# deploy/ against the real programs: Debian's, and current ones built with Go, once, into a cache.
# Takes minutes; what the machine lacks is skipped with a reason.
test-stack: $(VENV)/.for-stack
	@$(BIN)/python tests/stack/programs.py
	@$(BIN)/python -m pytest -o faulthandler_timeout=600 tests/stack $(ARGS)

# The storm of tests/behaviour/test_books.py with 300,000 tasks, some minutes of work.
soak: $(VENV)/.for-test
	@FLEETMON_SOAK=300000 $(BIN)/python -m pytest tests/behaviour/test_books.py -o faulthandler_timeout=1200 $(ARGS)

# A host with 100,000 tasks is killed at fifty random moments; the record has to be exact each time.
soak-record: $(VENV)/.for-test
	@FLEETMON_SOAK_RECORD=50 $(BIN)/python -m pytest tests/record/test_crash.py $(ARGS)

# The control plane under tens of thousands of requests, as described and at random, and a fleet
# that is killed a hundred times under a reader; minutes.
fuzz: $(VENV)/.for-test
	@FLEETMON_FUZZ=60 $(BIN)/python -m pytest -o faulthandler_timeout=1800 tests/control/test_schemathesis.py \
		tests/control/test_mutated.py tests/control/test_hosts.py tests/control/test_outside.py $(ARGS)

# The process that the dashboard looks at is killed a hundred times: how soon that is shown, and how
# soon it is attached again after the next start. Some minutes.
soak-attach: $(VENV)/.for-test
	@$(BIN)/python -m benchmarks.dashboard --deaths 100

lint: $(VENV)/.for-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.for-dev
	@$(BIN)/mypy

layers: $(VENV)/.for-dev
	@$(BIN)/lint-imports

bench: $(VENV)/.for-test
	@$(BIN)/python -m benchmarks $(ARGS)

bench-instructions: $(VENV)/.for-test
	@$(BIN)/python -m benchmarks.instructions $(ARGS)

# Debian packages with the programs that some tests drive; they skip where one is missing.
system-packages:
	@.ci/system-packages

clean:
	@rm -rf $(VENV) build dist .coverage .coverage.* htmlcov \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What pip has to say goes to standard error: standard output belongs to the command asked for.
$(VENV)/.for-demo: EXTRAS := otlp,tui,yaml
$(VENV)/.for-test: EXTRAS := test
$(VENV)/.for-stack: EXTRAS := stack
$(VENV)/.for-dev: EXTRAS := dev
$(VENV)/.for-demo $(VENV)/.for-test $(VENV)/.for-stack $(VENV)/.for-dev: $(VENV)/.made pyproject.toml fleetmon/_version.py
	@echo "fleetmon: installing into $(VENV) (once; extras: $(EXTRAS))" >&2
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' >&2
	@touch $@

$(VENV)/.made:
	@$(PYTHON) --version >/dev/null 2>&1 || { \
		echo "fleetmon needs Python 3.11 or newer, and $(PYTHON) does not run: name another one, as in \`make PYTHON=python3.12 $(MAKECMDGOALS)\`." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fleetmon needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | tail -n 1): name another one, as in \`make PYTHON=python3.12 $(MAKECMDGOALS)\`." >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >&2
	@touch $@
