# The commands of this project. Each installs by itself what it needs from Debian's packages
# (as root) and can be run again and again.

CARGO ?= cargo
export FLOE_COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# A program outside the workspace that has the engine inside.
EMBED := --manifest-path examples/embed/Cargo.toml --target-dir target
export CARGO
TARGET := target/$(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help quickstart test test-vm lint counts bench build deb deps

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# floe-runtime by itself: what floe asks of their common dependencies would make it larger.
build: deps ## Build the two programs: floe and floe-runtime
	$(CARGO) build --release --locked -p floe
	@scripts/runtime.sh release

deb: build ## A Debian package: programs, systemd unit, manual pages, completions, configuration
	@scripts/deb.sh

# The tests' build, of which nothing is compiled again for `make test`.
quickstart: deps ## From a registry to a running pod, step by step, leaving nothing behind
	$(CARGO) build --locked --workspace --bins --example quickstart
	@runtime=$$(scripts/runtime.sh debug) && FLOE_TEST_RUNTIME=$$runtime $(TARGET)/debug/examples/quickstart

test: deps ## The whole test suite
	scripts/install-deps.sh nextest
	$(CARGO) build --locked --workspace --bins
	runtime=$$(scripts/runtime.sh debug) && export FLOE_TEST_RUNTIME=$$runtime && \
		$(CARGO) nextest run --locked --workspace && \
		$(CARGO) nextest run --locked $(EMBED) --config-file .config/nextest.toml
	scripts/skips.sh

test-vm: deps ## The runtime's tests on cgroup v2 and with systemd: Debian's kernel in virtual machines
	scripts/install-deps.sh vm
	scripts/test-vm.sh

lint: deps ## What CI checks without running anything: format, lints, documentation, licences, fuzz targets
	scripts/install-deps.sh deny
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path examples/embed/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/runtime.sh lint
	$(CARGO) clippy --locked $(EMBED) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --quiet --locked --workspace --no-deps
	scripts/deny.sh
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir target

counts: deps ## Instructions of the hot paths, compared with docs/counts.tsv
	scripts/install-deps.sh counts
	$(CARGO) build --release --locked -p floe -p engine --example counts
	scripts/counts.sh

bench: build ## Side by side with Debian's containerd, crun, runc and podman; writes docs/benchmarks.md, or with SECTIONS="verbs pods" only prints those
	scripts/install-deps.sh peers
# Together with floe: alone, cargo chooses other features of what they share, and compiles 60 crates again.
	$(CARGO) build --release --locked -p floe -p testkit -p store --example bench --example fill
	$(CARGO) build --release --locked -p runtime --example instructions
	@$(TARGET)/release/examples/bench $(or $(SECTIONS),docs/benchmarks.md)

deps:
	@scripts/install-deps.sh toolchain
	@scripts/install-deps.sh build
