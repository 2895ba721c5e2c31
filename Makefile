# Two commands are all it takes: `make up`, `make test`. Needs Python 3.11+ and nothing else.

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

# uv lives in a small environment of its own, and uses the Python that made it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
FREE = $$(df -Pm . | awk 'NR == 2 { print $$4 }')
UV_VERSION := >=0.13,<0.14
UV := .build/uv/bin/uv
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS := true

CANDIDATES ?= 10000
ARGS ?=
# Side by side, each with servers of its own; what ARGS choose runs in one process, seen at once.
WORKERS ?= $(if $(ARGS),0,auto)
PYTEST = .venv/bin/pytest --numprocesses=$(WORKERS) --dist=worksteal

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: .build/installed ## Run everything on this machine with demo data (CANDIDATES=10000, ARGS=--port=8081)
	@.venv/bin/funnel up --demo $(CANDIDATES) $(ARGS)

.PHONY: test
test: .build/installed ## Run the tests on real servers (ARGS="-k name", WORKERS=4)
	@$(PYTEST) $(ARGS)

.PHONY: coverage
coverage: .build/installed ## Run the tests and demand 90 % of lines where it matters most
	@$(PYTEST) --cov --cov-report= $(ARGS)
	@.venv/bin/coverage report --include='domain/*,consumer/*,producer/*' --fail-under=90

.PHONY: lint
lint: .build/installed ## Check style and format
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

.PHONY: format
format: .build/installed ## Format, and repair what can be repaired
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: types
types: .build/installed ## Check the types
	@.venv/bin/mypy

.PHONY: imports
imports: .build/installed ## Check who may import whom, and the declared dependencies
	@.venv/bin/lint-imports
	@.venv/bin/deptry . 2>&1

.PHONY: check
check: lint types imports test ## All of the above

.PHONY: ci
ci: ## What the build server runs
	@bash .ci/run

.PHONY: bench
bench: .build/installed ## Measure (ARGS are those of `funnel bench`)
	@.venv/bin/funnel bench $(ARGS)

.PHONY: faults
faults: .build/installed ## Random faults on own servers (MINUTES=5, SEED=, ROUNDS=)
	@MINUTES=$(MINUTES) SEED=$(SEED) ROUNDS=$(ROUNDS) .venv/bin/python -m tests.faults.campaign

.PHONY: long-lag
long-lag: .build/installed ## A lag of ten million records: does memory stay below its bound? (needs 10 GB)
	@FUNNEL_TEST_LAG_RECORDS=10000000 .venv/bin/pytest tests/faults/test_memory.py -k long_lag $(ARGS)

.PHONY: bulk-faults
bulk-faults: .build/installed ## Operations over 100,000 candidates, their owner killed again and again (SEED=)
	@FUNNEL_TEST_BULK_CANDIDATES=100000 SEED=$(SEED) .venv/bin/pytest -s tests/faults/test_bulk.py $(ARGS)

.PHONY: mutants
mutants: .build/installed ## Break each promise in a copy: do the fault tests notice? (ARGS="digest")
	@.venv/bin/python -m tests.faults.mutants $(ARGS)

.PHONY: bench-large
bench-large: .build/installed ## Measure verify and rebuild over 50,000,000 journal rows (ARGS="--rows 5000000")
	@.venv/bin/python -m bench.large $(ARGS)

.PHONY: bench-long
bench-long: .build/installed ## Measure commands beside 50,000,000 journal rows, and with the sealer on (ARGS="--rows 5000000")
	@.venv/bin/python -m bench.long_journal $(ARGS)

.PHONY: install
install: .build/installed ## Install everything into .venv, without running it
	@:

.PHONY: clean
clean: ## Remove what was installed; data in .funnel stays
	@rm -rf .venv .build

.build/installed: pyproject.toml uv.lock $(UV)
	@echo "installing into .venv"
	@$(UV) sync --locked --all-extras --python .build/uv/bin/python
	@touch $@

$(UV):
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, none was found" >&2; exit 78; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make: PYTHON=$(PYTHON) does not run, or is older than 3.11" >&2; exit 78; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) has no venv (on Debian: apt install python3-venv)" >&2; exit 78; }
	@echo "installing uv into .build/uv"
	@mkdir -p .build && echo '*' > .build/.gitignore
	@$(PYTHON) -m venv .build/uv || { rm -rf .build/uv; echo "make: cannot make .build/uv, $(FREE) MiB free on disk" >&2; exit 69; }
	@.build/uv/bin/python -m pip install --disable-pip-version-check 'uv$(UV_VERSION)' > .build/pip.log 2>&1 || { echo "make: cannot install uv: is the package index reachable? $(FREE) MiB free on disk; more in .build/pip.log" >&2; exit 69; }
