# make demo   the whole path on this machine, in its own virtual environment
# make test   the tests
# make mutants  deliberate errors in the code, each of which the tests must notice: about half an hour
# make docs   the documentation site, into build/site
# make rig-ios  the tests of the iPhone's companion app, without an iPhone; needs Debian
# make rig    the tests against AOSP's adbd and an emulated arm64 phone; needs root and Debian
# make rig-torchscript  LibTorch on the emulated phone: downloads 440 MB
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT ?= demo-out
DEMO_SPACE := --space fbnet-cifar --input 16 --width 0.35

.PHONY: demo test mutants docs rig rig-ios rig-torchscript lint format clean
.DEFAULT_GOAL := test

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/latbench profile --device host $(DEMO_SPACE)
	$(BIN)/latbench build-lut --out $(OUT)/host.json
	$(BIN)/fbnet-search --lut $(OUT)/host.json --data digits --out $(OUT)/search
	$(BIN)/fbnet-train $(OUT)/search --data digits --out $(OUT)/network
	$(BIN)/latbench measure $(OUT)/network/network.tflite --device host --lut $(OUT)/host.json

# Several tests at a time: on more cores they would wait for each other's processes.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadscope

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL)

mutants: $(INSTALLED)
	$(BIN)/python -m tests.mutants

# The site needs none of what the tests need, but reads the docstrings of the sources.
docs:
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.6,<10' 'mkdocstrings[python]>=0.29'
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict

IOS_RIG := $(wildcard tests/rigs/test_ios_*.py)

rig: $(INSTALLED)
	$(BIN)/python -m tests.rigs.setup
	$(BIN)/python -m pytest -m rig $(PARALLEL) $(IOS_RIG:%=--ignore=%)

rig-torchscript: $(INSTALLED)
	$(BIN)/python -m tests.rigs.setup --torchscript
	$(BIN)/python -m pytest -m rig tests/rigs/test_phone_torchscript.py

rig-ios: $(INSTALLED)
	$(BIN)/python -m tests.rigs.ios_tools
	$(BIN)/python -m pytest -m rig $(PARALLEL) $(IOS_RIG)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT) dist build
