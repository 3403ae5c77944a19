# `make help` lists the targets. Everything is installed into .venv and target; only the speech programs of the
# offline engine, and opus-tools, flite and the browser for the tests, are system packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The build backend is called by name, and so is the cmake that builds libopus.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# More often than by themselves, for there is nobody who would try again.
export PIP_RETRIES ?= 10
export CARGO_NET_RETRY ?= 10
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

SOURCES := pyproject.toml Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml | grep -v /target/)
APT_PACKAGES := apertium apertium-eng-spa apertium-fr-es apertium-es-pt
# Without what these two declare: 400 MB that the tests do not load, and a command line that builds from source.
PIPECAT := 'pipecat-ai==1.14.0' 'num2words==0.5.14'
FUZZ_SECONDS ?= 60
# A mirror may fail to answer once, and another program may hold the list of packages for a while.
APT_OPTIONS := -qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300
apt_install = { as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); $$as_root apt-get $(APT_OPTIONS) update \
	&& $$as_root apt-get $(APT_OPTIONS) install -y --no-install-recommends $(1); }
comma := ,
# What Miri is to believe the CPU has.
MIRI_FEATURES := $(if $(filter x86_64,$(shell uname -m)),-Ctarget-feature=+avx2$(comma)+fma)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs rust-test miri stub-test fuzz py-test wheel bench bench-local bench-codec bench-jitter system test-programs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

demo: $(VENV)/.demo system  ## set up, then translate a spoken English sentence into spoken Spanish, offline
	$(BIN)/speechwire translate examples/train_station.wav -o translated.wav --to es

test: lint rust-test fuzz stub-test py-test  ## set up, then run every check; ends with pytest

lint: $(VENV)/.dev  ## formatting, clippy, ruff, mypy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --quiet --check .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary

format: $(VENV)/.dev  ## format Rust and Python, apply the safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## make the tables of docs/gradium.md and docs/script.md anew, and the schema of scenarios
	$(BIN)/python docs/gradium_tables.py
	$(BIN)/python docs/script_tables.py

rust-test: $(BIN)/cmake  ## the core crate's tests, with and without SIMD
	cargo test --quiet -p speechwire-core
	cargo test --quiet -p speechwire-core --lib --features portable

fuzz: $(BIN)/cmake  ## every fuzz target for FUZZ_SECONDS
	rust/core/fuzz/run $(FUZZ_SECONDS)

miri: $(BIN)/cmake  ## the kernels under Miri, which needs a nightly compiler; not a part of `make test`
	MIRIFLAGS=-Zmiri-disable-isolation RUSTFLAGS="$(MIRI_FEATURES)" CARGO_TARGET_DIR=target/miri \
	  cargo +nightly miri test -p speechwire-core --lib simd

stub-test: $(VENV)/.dev  ## compare the hand-written stub with the built module
	$(BIN)/python -m mypy.stubtest speechwire._core

py-test: $(VENV)/.dev system test-programs  ## the Python tests
	$(BIN)/python -m pytest -q

wheel: $(VENV)/.dev  ## build the wheel into target/wheels
	$(BIN)/maturin build --quiet --release --out target/wheels

bench: $(VENV)/.dev  ## CPU per session beside the official SDK, 200 sessions at once, audioop beside the old one, two threads
	$(BIN)/python benches/session_cpu.py
	$(BIN)/python benches/many_sessions.py
	$(BIN)/python benches/audioop_speed.py
	$(BIN)/python benches/threads.py

bench-local: $(VENV)/.dev system test-programs  ## the local engine: wrong words, lag alone, and 8 sessions at once
	$(BIN)/python benches/recognition.py
	$(BIN)/python benches/interpreting.py

bench-codec: $(VENV)/.bench  ## the codec beside other libraries; writes docs/benchmarks.md and its picture
	$(BIN)/python benches/codec.py --output docs/benchmarks.md

bench-jitter: $(VENV)/.bench test-programs  ## the jitter buffer beside others; writes the tables and the picture of docs/jitter.md
	$(BIN)/python benches/jitter.py --output docs/jitter.md

system:  ## install the offline engine's programs from Debian, if they are missing
	@command -v apertium >/dev/null \
	  && apertium -l | grep -q eng-spa && apertium -l | grep -q es-fr && apertium -l | grep -q es-pt \
	  || $(call apt_install,$(APT_PACKAGES))

test-programs:  ## install what only the tests use from Debian, if missing: opus-tools, voices and a browser (100 MB)
	@command -v opusdec >/dev/null || $(call apt_install,opus-tools)
	@command -v flite >/dev/null && command -v espeak-ng >/dev/null || $(call apt_install,flite espeak-ng)
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null \
	  || command -v google-chrome >/dev/null || $(call apt_install,chromium-headless-shell) \
	  || $(call apt_install,chromium)

clean:  ## remove what was built
	rm -rf $(VENV) target rust/core/fuzz/target python/speechwire/_core*.so

$(BIN)/maturin $(BIN)/cmake &:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip 'maturin>=1.9,<2' 'cmake>=3.16,<5'

$(VENV)/.demo: $(BIN)/maturin $(BIN)/cmake $(SOURCES)
	$(BIN)/python -m pip install --no-build-isolation --editable '.[cli,local]'
	@touch $@

$(VENV)/.dev: $(BIN)/maturin $(BIN)/cmake $(SOURCES)
	$(BIN)/python -m pip install --no-build-isolation --editable '.[dev]'
	$(BIN)/python -m pip install --no-deps $(PIPECAT)
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --no-build-isolation --editable '.[bench]'
	@touch $@
