# Every target runs from a fresh clone, without a terminal, and twice in a row.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUTPUT := .test-output
CLOSING := ^=+ .* in [0-9.]+s.* =+$$

# The modules that decide: every branch of them is tested.
DECIDING := $(wildcard \
  src/omnibase/core/audit/chain.py \
  src/omnibase/core/audit/checker.py \
  src/omnibase/core/audit/checkpoints.py \
  src/omnibase/core/audit/unended.py \
  src/omnibase/core/audit/ocsf.py \
  src/omnibase/core/artifacts/kinds.py \
  src/omnibase/core/events/lag.py \
  src/omnibase/core/events/nats_settings.py \
  src/omnibase/core/events/tracing.py \
  src/omnibase/core/packages/index.py \
  src/omnibase/core/packages/lock.py \
  src/omnibase/core/packages/requirements.py \
  src/omnibase/core/packages/trouble.py \
  src/omnibase/core/secrets/*.py \
  src/omnibase/core/security/*.py \
  src/omnibase/core/sandbox/collect/grants.py \
  src/omnibase/core/sandbox/collect/reports.py \
  src/omnibase/core/sandbox/collect/wire.py \
  src/omnibase/core/sandbox/compile.py \
  src/omnibase/core/sandbox/pool_fit.py \
  src/omnibase/core/sandbox/databases/grants.py \
  src/omnibase/core/sandbox/databases/passwords.py \
  src/omnibase/core/sandbox/registry_grants.py \
  src/omnibase/core/sandbox/remote/codec.py \
  src/omnibase/core/sandbox/remote/told.py \
  src/omnibase/core/sandbox/session/report.py \
  src/omnibase/core/sandbox/script_error.py \
  src/omnibase/core/registry/proposal.py \
  src/omnibase/core/telemetry/attributes.py \
  src/omnibase/core/telemetry/environment.py \
  src/omnibase/core/telemetry/levels.py \
  src/omnibase/core/sandbox/seccomp.py \
  src/omnibase/core/sandbox/commands/granting.py \
  src/omnibase/core/sandbox/commands/layout.py \
  src/omnibase/core/sandbox/commands/loader.py \
  src/omnibase/core/sandbox/egress/allowlist.py \
  src/omnibase/core/sandbox/egress/layout.py \
  src/omnibase/core/sandbox/egress/wire.py \
  src/omnibase/core/sandbox/monitor/databases.py \
  src/omnibase/core/sandbox/monitor/executions.py \
  src/omnibase/core/sandbox/monitor/ledger.py \
  src/omnibase/core/sandbox/monitor/network.py \
  src/omnibase/core/sandbox/monitor/paths.py \
  src/omnibase/core/sandbox/monitor/reads.py \
  src/omnibase/core/sandbox/monitor/registry.py \
  src/omnibase/core/sandbox/monitor/tally.py \
  src/omnibase/core/sandbox/monitor/violations.py \
  src/omnibase/core/sandbox/monitor/wire.py)

comma := ,
empty :=
space := $(empty) $(empty)

.PHONY: help setup postgres redis nats commands demo test test-fast test-security test-warm test-docs faults check format bench fuzz docs dist sbom licences advisories lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# Compiled as an installed package is: without, where Python is told to write no
# bytecode, each process would compile all that it imports.
setup: $(STAMP) ## virtual environment from requirements.lock, and a runsc
	@scripts/setup-runsc.sh >/dev/null
	@$(BIN)/python -m compileall -q src

# Redone when what it installs has changed; an interrupted set-up leaves no stamp.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is not Python 3.11 or newer; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "make: $(PYTHON) cannot make a virtual environment; is its venv module installed?" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
	@touch $@

# The registry's stores are tested against a real server.
postgres:
	@scripts/setup-postgres.sh >/dev/null

# A network grant is tested with a real client against a real server.
redis:
	@scripts/setup-redis.sh >/dev/null

# Events are published to a real server.
nats:
	@scripts/setup-nats.sh >/dev/null

# Commands that tests grant are those of this machine.
commands:
	@scripts/setup-commands.sh

demo: setup ## the same script with and without permissions, on a real sandbox
	@$(BIN)/python examples/demo.py

# pytest's own closing line is printed again at the end: it is the last line of
# the output, whatever coverage reports after it.
test: test-warm ## every test, coverage, and full branch coverage of the modules that decide
	@$(BIN)/coverage erase
	@$(BIN)/python -m pytest --color=no --numprocesses=2 --dist=loadfile --cov --cov-report=term 2>&1 | tee $(OUTPUT)
ifneq ($(DECIDING),)
	@$(BIN)/coverage report --show-missing --include=$(subst $(space),$(comma),$(strip $(DECIDING))) --fail-under=100
endif
	@grep -E '$(CLOSING)' $(OUTPUT) | tail -n 1

test-fast: setup postgres nats ## unit, property and contract tests alone
	@$(BIN)/python -m pytest tests/unit tests/property tests/contract

# The core of the confinement once more, where each run is in a sandbox that waited for it;
# FILES='tests/security' has all of it so, which takes half an hour.
FILES := $(patsubst %,tests/security/test_%.py,acceptance exec existence isolation network)
test-warm: setup postgres redis nats commands ## hostile code on warm sandboxes; FILES=tests/security for all of it
	@OMNIBASE_TEST_POOL=1 $(BIN)/python -m pytest --color=no --numprocesses=2 --dist=loadfile $(FILES)

# GROUP is one of those that `scripts/check_threats.py` lists, or an expression over them.
test-security: setup postgres redis nats commands ## hostile code on a real sandbox; GROUP=egress for one group
	@$(BIN)/python -m pytest tests/security $(if $(GROUP),-m "$(GROUP)")

test-docs: setup commands ## what the documentation shows, and the examples, on a real sandbox
	@$(BIN)/python -m pytest tests/integration/test_documentation.py tests/integration/test_examples.py

faults: setup redis ## every fault as often as a release deserves: an hour, and nothing left behind
	@OMNIBASE_SOAK=full $(BIN)/python -m pytest tests/security/faults

check: setup ## lint, format, types, import rules and the rules of the house
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_rules.py
	$(BIN)/python scripts/check_threats.py

format: setup ## apply the formatter and the lint's safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A tool environment of its own: what others run Python with, and what draws.
BENCH ?=
bench: setup nats ## the benchmarks of docs/benchmarks.md; BENCH=--quick, or BENCH='--only start,audit'
	@[ -x .venv-bench/bin/python ] || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -c 'import gvisor, matplotlib, temenos, omnibase' 2>/dev/null || \
	  .venv-bench/bin/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m compileall -q benchmarks
	@$(BIN)/python -m benchmarks --output docs/benchmarks.md $(BENCH)

# A tool environment of its own: atheris is not for every interpreter that OmniBase is for.
FUZZ_SECONDS ?= 60
fuzz: ## coverage-guided fuzzing of what a hostile guest speaks to, FUZZ_SECONDS=60 each
	@[ -x .venv-fuzz/bin/python ] || $(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python -c 'import atheris, omnibase' 2>/dev/null || \
	  .venv-fuzz/bin/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@for target in frames conversation queries; do \
	  .venv-fuzz/bin/python scripts/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -max_len=800 \
	    -print_final_stats=1 -verbosity=0 -artifact_prefix=.fuzz-; done

docs: setup ## the documentation as a site, in site/: links, blocks and offline use are checked
	@$(BIN)/python scripts/check_links.py
	@$(BIN)/python scripts/check_blocks.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

dist: setup ## sdist, wheel, SBOM and SHA256SUMS in dist/: built twice, the same bytes
	@$(BIN)/python scripts/release.py dist

sbom: setup ## CycloneDX of what ships, to standard output
	@$(BIN)/python scripts/release.py sbom

licences: setup ## what ships with which licence; fails if one is unsuitable
	@$(BIN)/python scripts/release.py licences

advisories: setup ## known vulnerabilities of what is locked; says so loudly if nobody can be asked
	@$(BIN)/python scripts/release.py advisories

# A tool environment of its own: the lock does not lock its own maker.
LOCKED := artifacts audit dev docs keyring logs nats otel parquet sql
lock: ## requirements.lock, made anew from pyproject.toml
	@[ -x .venv-lock/bin/pip-compile ] || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet pip-tools; }
	CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile --quiet --upgrade --allow-unsafe \
	  --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  $(LOCKED:%=--extra %) --output-file requirements.lock pyproject.toml
	@! grep -nE '://|^-|file:/' requirements.lock || { echo "make: requirements.lock names a place" >&2; exit 1; }

clean: ## remove what the targets made, the virtual environment included
	rm -rf $(VENV) .venv-lock .venv-bench .venv-fuzz .fuzz-* build dist site htmlcov .coverage .coverage.* coverage.xml $(OUTPUT)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find src tests scripts benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
