# Every target makes .venv from a bare clone; it needs Python 3.11 or newer, make and a C++ compiler.
#
#   make demo       the main job on real input        make test       the tests of every change
#   make lint       ruff and pyright                  make test-all   slow tests and long property runs too
#   make bench      measure                           make gpu        the tests that need a CUDA device
#   make clean      remove what was built; .venv stays
#
# ARGS="-k parse" goes to pytest, ARGS="--only digits" to the demo; PYTHON=python3.12 makes .venv with that one.

VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

.PHONY: demo test test-all bench gpu lint clean
.DEFAULT_GOAL := test

demo: $(READY)
	$(RUN) -m examples.demo $(ARGS)

test: $(READY)
	$(RUN) -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

test-all: $(READY)
	PLAIT_CXX_LEVEL=-O3 $(RUN) -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder -m "" --hypothesis-profile=all $(ARGS)

bench: $(READY)
	$(RUN) -m benchmarks.run $(ARGS)

gpu: $(READY)
	@$(RUN) -c "import sys, torch; sys.exit(None if torch.cuda.is_available() else 'make gpu: torch sees no CUDA device')"
	$(RUN) -m pytest -q -m gpu $(ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

clean:
	rm -rf build dist out *.egg-info .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml $(wildcard $(CONSTRAINTS))
	@test -n "$(PYTHON)" || { echo "plait needs Python 3.11 or newer on PATH"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -c $(CONSTRAINTS) -e ".[test,viz,demo]"
	touch $@
