# Each target creates the environment that it needs, in .venv/, with Python 3.11 or newer.
#
#   .venv/locked   exists when all packages of requirements.lock are in, and names the checkout they are for;
#                  the environment is made again when the lock changes
#   .venv/ready    exists when the checkout itself is installed into it; done again when pyproject.toml changes
#   .venv/tested   exists when all tests have passed; if a file is newer, check runs them again
#
# Each is written last, so that an interrupted installation is never taken for a whole one.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types pages site bench clean

IN := .venv/bin/
CODE := orchestrator_cli memory toolsmith
# Many tests wait for something most of the time, so one process more than there are cores.
ALL := --numprocesses $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --maxprocesses 8 --dist worksteal
# Folders too: they change when a file is removed.
READ_BY_TESTS := $(shell find $(CODE) tests docs examples benchmarks \
	-not -path '*/__pycache__*' -not -name '* *' 2>/dev/null) \
	$(wildcard *.md *.toml .ci/run .gitignore LICENSE Makefile requirements.lock)

# A checkout that was moved, or a Python that was removed, leaves an unusable environment.
$(shell [ "$$(cat .venv/locked 2>/dev/null)" = '$(CURDIR)' ] && $(IN)python -c '' 2>/dev/null \
	|| rm -f .venv/locked .venv/ready)

help:
	@echo 'make demo    watch a prompt run on recorded model replies; all else is real'
	@echo 'make test    run all tests; ARGS="-k sandbox" selects some'
	@echo 'make check   check style and types, and run the tests unless they have passed'
	@echo '             on these very files'
	@echo 'make pages   write the generated parts of README.md and docs/'
	@echo 'make site    build the pages as a site, in dist/site/'
	@echo 'make bench   measure, as ratios within one run; ARGS=--large takes minutes more'
	@echo 'make clean   remove .venv and the caches'
	@echo
	@echo 'Each creates .venv first if it is missing. PYTHON=/path/to/python chooses the Python for it.'

demo: .venv/ready
	@$(IN)orch demo $(ARGS)

test: .venv/ready
	@rm -f .venv/tested
	$(IN)python -m pytest $(or $(ARGS),$(ALL))
	@$(if $(ARGS),:,touch .venv/tested)

check: lint types .venv/tested
	@echo 'check: style, types and tests are good'

lint: .venv/ready
	$(IN)ruff check .
	$(IN)ruff format --check .

types: .venv/ready
	$(IN)mypy

.venv/tested: .venv/ready $(READ_BY_TESTS)
	@rm -f $@
	$(IN)python -m pytest $(ALL)
	@touch $@

pages: .venv/ready
	$(IN)python docs/generate.py

site: .venv/ready
	$(IN)python docs/build_site.py $(ARGS)

bench: .venv/ready
	$(IN)python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis orch-demo

# --- the environment

FITS := import sys; sys.exit(sys.version_info < (3, 11))

.venv/locked: requirements.lock
	@rm -f .venv/ready .venv/locked
	@for python in $${PYTHON:-python3.13 python3.12 python3.11 python3}; do \
	    command -v "$$python" >/dev/null && "$$python" -c '$(FITS)' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
	    found=$$("$${PYTHON:-python3}" --version 2>/dev/null || echo 'not there'); \
	    echo "orch needs Python 3.11 or newer; $${PYTHON:-python3} is $$found." >&2; \
	    echo 'Install a newer one, or name it: make PYTHON=/path/to/python …' >&2; \
	    exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$python has no venv, which Debian and Ubuntu keep in a package of its own." >&2; \
	    echo 'Install it (apt-get install python3-venv), or name another one: make PYTHON=/path/to/python …' >&2; \
	    exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version). This is done once and takes a minute or two." >&2; \
	"$$python" -m venv --clear .venv
	@$(IN)python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@echo '$(CURDIR)' > $@

.venv/ready: .venv/locked pyproject.toml
	@rm -f $@
	@$(IN)python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
