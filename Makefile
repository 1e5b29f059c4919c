# Everything runs in .venv, which `make setup` builds; each target sees to that itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types contracts proto proto-check bench overload bench-stopping bench-heads bench-strategies bench-commits bench-annotations bench-learning strategy-pages serve crash fuzz soak languages clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 18

setup: $(STAMP)  ## Build .venv with everything for work on assay

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup  ## Mine and label real text against a live server (writes demo-out/)
	$(BIN)/python demo/run.py

test: setup  ## Run the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup  ## Run the tests that take minutes (a published table, the demo, further disks, lives and processors)
	$(BIN)/python -m pytest -m slow -s

lint: setup  ## Check style with ruff, and the protos with buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/generate_protos.py lint

types: setup  ## Check types with mypy --strict
	$(BIN)/mypy

contracts: setup  ## Check that imports go down only
	$(BIN)/lint-imports --no-logo

proto: setup  ## Generate the code of proto/assay/v1
	$(BIN)/python tools/generate_protos.py generate

proto-check: setup  ## Check that the generated code is up to date
	$(BIN)/python tools/generate_protos.py check

bench: setup  ## Run the benchmarks (minutes)
	$(BIN)/python benchmarks/run.py

overload: setup  ## Let three hundred heavy callers at a server, and measure what others feel (minutes)
	$(BIN)/python benchmarks/overload.py

bench-stopping: setup  ## Measure how long work goes on after its caller left (minutes)
	$(BIN)/python benchmarks/stopping.py

bench-commits: setup  ## Count commits a second, of one worker and of 64 (half a minute)
	$(BIN)/python benchmarks/commits.py

bench-annotations: setup  ## Time what labels cost; AGAINST=a checkout to compare with, POSTGRES=URL
	$(BIN)/python benchmarks/annotations.py $(if $(AGAINST),--against $(AGAINST)) $(if $(POSTGRES),--postgres $(POSTGRES))

bench-heads: setup  ## Time the training of heads; AGAINST=a checkout to compare with
	$(BIN)/python benchmarks/heads.py --gaps $(if $(AGAINST),--against $(AGAINST))

bench-learning: setup  ## Simulate labeling with every strategy on real data (half an hour)
	$(BIN)/python -m benchmarks.learning

strategy-pages: setup  ## Write docs/strategies from the code
	$(BIN)/python tools/strategy_pages.py generate

bench-strategies: setup  ## Time the strategies beside other libraries (about half an hour)
	$(BIN)/python -m benchmarks.strategies

serve: setup  ## Start a server on loopback
	$(BIN)/assay serve

crash: setup  ## Kill a live server at random moments and look for losses (minutes)
	$(BIN)/python -m pytest -m crash tests/crash -s

fuzz: setup  ## Send hostile requests to a live server and look for crashes, hangs and leaks (minutes)
	$(BIN)/python -m pytest -m fuzz tests/fuzz -s

soak: setup  ## Work on a live server for twenty minutes and see that nothing piles up
	$(BIN)/python -m pytest -m soak tests/soak -s

languages: setup  ## Build a TypeScript client from the protos and let it work (needs node and npm)
	$(BIN)/python -m pytest -m languages tests/languages -s

clean:  ## Remove the environment, caches and outputs
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist demo-out fuzz-failures
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
