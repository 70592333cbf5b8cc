# Fresh clone -> .venv -> demo or tests. Needs Python 3.11+ and, for the installation, a network.
PYTHON ?= python3
BIN := .venv/bin
# Torch goes in first and pinned: a later requirement would bring another build of it.
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)

.PHONY: demo test test-slow test-gpu test-all lint format bench bench-demo bench-cifar10 bench-fashion bench-mnist bench-stochmax bench-rates clean

demo: .venv/ready
	$(BIN)/spikeloom compare recipes/demo.toml --out runs/demo

# Tests start many processes: bytecode is kept, wherever the environment says not to.
export PYTHONDONTWRITEBYTECODE :=

# One file of tests after the other on every core: what a file builds once is built once. The order
# is kept: those marked long come first (tests/conftest.py).
test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

test-gpu: .venv/ready
	$(BIN)/python -m pytest -m gpu

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Speed and memory beside the limit and beside other libraries, where PEERS is an interpreter that
# has them: make bench PEERS=/path/to/bin/python. Run it alone; it takes about an hour.
bench: .venv/ready
	$(BIN)/spikeloom bench --out benchmarks/results $(if $(PEERS),--python peers=$(PEERS))

# The tables of README.md and docs: comparisons, then what each table is made of, kept in
# benchmarks/results/<name>, from which `spikeloom report` prints it again. Data as
# docs/howto/data.md says. Commit first: a table names the commit it was made at. Heads against
# updates: python benchmarks/heads.py runs/stochmax-*
bench-demo: .venv/ready
	$(BIN)/spikeloom compare recipes/demo.toml --out runs/demo
	$(BIN)/spikeloom report runs/demo --records benchmarks/results/demo

bench-cifar10 bench-fashion bench-mnist bench-stochmax bench-rates: bench-%: .venv/ready
	for file in recipes/bench/$**.toml; do \
		name=$$(sed -n 's/^name = "\(.*\)"$$/\1/p' $$file | head -n 1); \
		$(BIN)/spikeloom compare $$file --out runs/$$name || exit 1; \
		$(BIN)/spikeloom report runs/$$name --records benchmarks/results/$$name || exit 1; \
	done

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv runs build dist
