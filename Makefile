# What a contributor types. Nothing here is needed to use the library.

export GOWORK := off
export GOTOOLCHAIN := local
# Without -buildvcs=false a clone that belongs to another user does not build.
export GOFLAGS := -mod=readonly -buildvcs=false

TOOL := go tool -modfile=$(CURDIR)/internal/tools/go.mod
LINT := $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yml

# The library, its examples, what measures it, and strangers that speak its protocol.
MODULES := . $(patsubst %/go.mod,%,$(wildcard examples/go.mod internal/compare/go.mod internal/interop/go.mod))

# pgxmock compiles only with an older pgx: docs/design/0006-pgxmock.md.
PGXMOCK := -modfile=$(CURDIR)/internal/testenv/pgxmock.mod -tags=pgxmock
PGXMOCK_PKGS := $(patsubst %,./%/...,$(wildcard queue/pgqueue))

DB ?= sqlite
BENCH ?= .
COUNT ?= 6
FUZZTIME ?= 30s

.DEFAULT_GOAL := help
.PHONY: help deps test check demo bench compare faults interop fuzz pgxmock-mod fmt \
	lint lint-format lint-vet lint-fix lint-golangci lint-house lint-pgxmock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what the tests and the demo need and this machine lacks
	@./internal/tools/deps.sh

test: deps ## run all tests with the race detector
	@for m in $(MODULES) internal/tools; do \
		echo "== test $$m"; \
		(cd $$m && go test -race -timeout 30m ./...) || exit 1; \
	done
ifneq ($(PGXMOCK_PKGS),)
	@echo "== test with pgxmock"
	@go test -race -timeout 30m $(PGXMOCK) $(PGXMOCK_PKGS)
endif

check: lint test ## lint and test: what has to pass before a change lands

demo: deps ## run the demo on its own servers: DB=sqlite or DB=postgres
	@echo "== demo on $(DB)"
ifeq ($(DB),sqlite)
	@cd examples && go run ./internal/demo
else ifeq ($(DB),postgres)
	@go run ./internal/testenv/pgtemp -- sh -c 'cd examples && go run ./internal/demo'
else
	$(error DB is "$(DB)": it must be sqlite or postgres)
endif

bench: deps ## measure: BENCH=regexp COUNT=6; the figures go to benchstat
	@mkdir -p tmp
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... > tmp/bench.txt || { cat tmp/bench.txt; exit 1; }
	@$(TOOL) benchstat tmp/bench.txt

compare: deps ## measure against River: ARGS="-quick"; the figures go to standard output
	@cd internal/compare && go build -o $(CURDIR)/tmp/compare . && \
		exec $(CURDIR)/tmp/compare -commit "$$(git describe --always --dirty)" $(ARGS)

faults: deps ## let everything go wrong around builds in the real programs: ARGS="-run regexp -schedules 200 -seed N"
	@go build -o tmp/faults ./internal/faults && exec tmp/faults $(ARGS)

interop: ## hand builds to workers on coder/websocket and on npm's ws: needs node
	@cd internal/interop && go test -race ./...
	@cd internal/interop/node && npm ci --silent
	@cd internal/interop && go run . node node/worker.mjs

fuzz: ## fuzz every target for FUZZTIME=30s each
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
		for target in $$(grep -hos '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -d ' ' -f 2); do \
			echo "== fuzz $$dir $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
		done || exit 1; \
	done

fmt: ## format all Go files in place
	@$(TOOL) gofumpt -w .

pgxmock-mod: ## rewrite internal/testenv/pgxmock.mod after a change of go.mod
	@./internal/tools/pgxmock-mod.sh

lint: lint-format lint-vet lint-fix lint-golangci lint-house lint-pgxmock ## check form, import rules and sizes

lint-format:
	@echo "== lint: format"
	@unformatted=$$($(TOOL) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "$$unformatted"; echo "run: make fmt"; exit 1; fi

lint-vet:
	@echo "== lint: vet"
	@for m in $(MODULES); do (cd $$m && go vet ./...) || exit 1; done
ifneq ($(PGXMOCK_PKGS),)
	@go vet $(PGXMOCK) $(PGXMOCK_PKGS)
endif

# go fix -diff fails when it would change something.
lint-fix:
	@echo "== lint: fix"
	@for m in $(MODULES); do (cd $$m && go fix -diff ./...) || exit 1; done

lint-golangci:
	@echo "== lint: golangci-lint"
	@for m in $(MODULES); do (cd $$m && $(LINT) ./...) || exit 1; done
ifneq ($(PGXMOCK_PKGS),)
	@GOFLAGS='$(GOFLAGS) $(PGXMOCK)' $(LINT) $(PGXMOCK_PKGS)
endif

lint-house:
	@echo "== lint: house rules"
	@go -C internal/tools run ./house $(MODULES:%=$(CURDIR)/%)

lint-pgxmock:
	@echo "== lint: pgxmock.mod follows go.mod"
	@./internal/tools/pgxmock-mod.sh -check
