# make help lists the targets. What they take: CONTRIBUTING.md.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# SQLite itself is C made into Go, without goroutines, and compress/flate unpacks the
# tokenizer's vocabulary in each process that a test sends a message to. Under the race
# detector they would make the tests slower by far. Only a package that makes no
# instances of generic code can be left out: the linker keeps one instance for all
# packages.
RACE    ?= -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=compress/flate=-race=false
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Leave out of grpc and of Google's client what only others need (docs/adr/0070).
TAGS    := grpcnotrace,disable_grpc_modules
LINT    := go tool -modfile=.ci/tools/go.mod golangci-lint
# Runs a command with a private Postgres (see platform/testing/testenv).
TESTENV := go run ./platform/testing/testenv/cmd/testenv

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build Parley and serve on 127.0.0.1:8080
	bin/parley serve

.PHONY: build
build: ## Build bin/parley, or OUT, with MORE_TAGS
	CGO_ENABLED=0 go build -trimpath -tags $(TAGS),$(MORE_TAGS) -ldflags '-s -w -X parley/platform/boot.Version=$(VERSION)' -o $(or $(OUT),bin/parley) .

# Tests that take 15 times as long with the race detector, which finds nothing in their
# one goroutine, are in files that are built without it.
NO_RACE := $(shell grep -rl '^//go:build !race' --include='*_test.go' .)
NO_RACE := -run "^($(shell sed -n 's/^func \(\(Test\|Fuzz\)[A-Za-z_]*\).*/\1/p' $(NO_RACE) | paste -sd'|'))" $(sort $(dir $(NO_RACE)))

# Without debug information programs are linked in two thirds of the time; traces of
# panics and races need none. make check vets.
TEST    := go test -ldflags=-w -vet=off -p 4
# What takes longest begins first, so that no core is idle at the end.
LONGEST := ./adapters/sqlstore ./platform/boot ./adapters/httpapi ./app/audit

.PHONY: test-short
test-short: ## Run the fast tests of all packages, on SQLite, without servers or other programs
	GOGC=off GOMEMLIMIT=1500MiB $(TEST) -short -tags $(TAGS),noclouds -timeout 5m ./...

.PHONY: test
test: ## Run all tests with the race detector (RACE= without it); starts Postgres, Redis and whatever else they need
	$(TESTENV) sh -ec '$(TEST) $(RACE) -parallel 4 -timeout 20m $(LONGEST) ./...$(if $(RACE),; $(TEST) $(NO_RACE))'

LOAD ?= 3
.PHONY: test-loaded
test-loaded: ## Run make test once more, with LOAD busy processes beside it: no test may depend on the machine's speed
	@go clean -testcache; pids=; for i in $$(seq $(LOAD)); do (while :; do :; done) & pids="$$pids $$!"; done; \
	trap 'kill $$pids' EXIT; $(MAKE) test

.PHONY: check
check: fmt-check vet lint boundary migrate-check helm-check verify crash-short ## Run everything that CI runs beside make test and make dashboards-check

.PHONY: fmt
fmt: ## Format the code
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check:
	@files=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$files" ]; then echo "not formatted (make fmt):"; echo "$$files"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: ## Run the linter
	$(LINT) run

.PHONY: boundary
boundary: ## Check which package imports which
	go test -count=1 -run '^TestBoundary' ./ports

.PHONY: verify
verify:
	go mod verify
	go mod tidy -diff

.PHONY: generate
generate: ## Write all generated files anew
	go generate ./...
	go run ./adapters/sqlstore/migrations/hash
	go test -count=1 -run '^TestSchema_Expected$$' ./adapters/sqlstore -update

.PHONY: migrate
migrate: build ## Run parley migrate, e.g. make migrate ARGS=status
	bin/parley migrate $(ARGS)

.PHONY: migrate-check
migrate-check: ## Check the migrations on both databases: checksums, order, replay, drift
	@test "$$(go test -list '^TestMigrations' ./adapters/sqlstore/... | grep -c '^TestMigrations')" -gt 0 \
		|| { echo "there are no tests of the migrations"; exit 1; }
	$(TESTENV) go test -count=1 -ldflags=-w -vet=off -run '^TestMigrations' ./adapters/sqlstore/...

.PHONY: migrate-load
migrate-load: ## Apply each migration to N messages (1000000) while users read and write, and check that none of them waits for 100 ms
	MIGRATE_LOAD_MESSAGES=$(or $(N),1000000) $(TESTENV) go test -count=1 -v -timeout 60m -run '^TestMigrations_BlockNobody$$' ./adapters/sqlstore

.PHONY: helm-check
helm-check: ## Render the chart with each of its values files and check the objects strictly; needs no cluster
	go -C deploy/helm/check test ./...

.PHONY: release
release: ## Make the archives, bills of materials, chart, checksums and provenance of a release in bin/release
	go run ./deploy/release -version '$(VERSION)' -out bin/release

.PHONY: release-check
release-check: ## Make the release twice, from two directories and with a build cache of its own, and compare
	go test -count=1 -timeout 60m -run '^TestRelease_IsReproducible$$' ./deploy/release -full

.PHONY: up
up: ## Start two instances, a proxy, Postgres, Redis and the monitoring in containers
	@test -f deploy/.env || (umask 077; for v in AUTH_SECRET AUDIT_KEY POSTGRES_PASSWORD APP_PASSWORD READER_PASSWORD GRAFANA_PASSWORD; do \
		echo "$$v=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; done > deploy/.env)
	docker compose -f deploy/compose.yaml up --build --detach --wait

.PHONY: crash
crash: ## Inject N faults (200) into two instances under load, from SEED, and check every invariant; ARGS="-env DB_GROUP=false"
	go run ./platform/testing/chaostest -n $(or $(N),200) $(if $(SEED),-seed $(SEED)) $(ARGS)

.PHONY: crash-short
crash-short: ## Inject 30 faults, about a minute
	go run ./platform/testing/chaostest -n 30

.PHONY: dashboards-check
dashboards-check: build ## Run every panel's queries and every alert against a running Parley and Prometheus
	go vet -tags e2e ./dashboards/check
	go test -tags e2e -count=1 -timeout 40m -run '^TestE2E$$' ./dashboards/check

.PHONY: rolling
rolling: build ## Replace releases one by one under load: forward, back, forward, three at once; builds older ones from the history
	go vet -tags e2e ./platform/testing/rolling
	go test -tags e2e -count=1 -v -timeout 60m -run '^Test(Rolling|RollbackRunbook)$$' ./platform/testing/rolling

.PHONY: incidents
incidents: build ## Inject incidents (all, or RUN=regexp) and check alerts, pages and the first steps of runbooks; needs root
	go vet -tags e2e ./platform/testing/incidents
	RUN='$(RUN)' go test -tags e2e -count=1 -v -timeout 90m -run '^TestIncidents$$' ./platform/testing/incidents

.PHONY: healthy-hour
healthy-hour: ## Let an hour of ordinary load pass in a minute, with a deploy of both instances, and check that no alert comes; needs root
	$(MAKE) incidents RUN='^healthy-hour-with-deploy$$$$'

.PHONY: incidents-mutate
incidents-mutate: build ## Break rules, routes and runbooks, one at a time, and check that the incidents fail; needs root
	go test -tags e2e -count=1 -v -timeout 60m -run '^TestMutations$$' ./platform/testing/incidents

.PHONY: dashboards-render
dashboards-render: dashboards-check ## Draw docs/img from the data that dashboards-check recorded
	cd dashboards/render && npm ci --silent --no-audit --no-fund
	go run ./dashboards/render -run bin/dashboards/run.json -out docs/img

.PHONY: e2e
e2e: build ## Run the page, and useChat of ai 5, 6, 7 and assistant-ui (from npm), in Chromium against a running Parley
	go vet -tags e2e ./platform/testing/e2e
	go test -tags e2e -count=1 -timeout 30m -parallel 4 $(if $(RUN),-run '$(RUN)' -v) ./platform/testing/e2e

.PHONY: client
client: ## Write the types of the TypeScript client (adapters/httpapi/client-ts) from the description of the API
	go test -run TestTypeScript_IsGenerated ./adapters/httpapi -update

.PHONY: client-check
client-check: ## Check the TypeScript client: its types are current, it compiles, its example runs; needs Node
	go test -run TestTypeScript_IsGenerated ./adapters/httpapi
	go vet -tags e2e ./platform/boot
	go test -tags e2e -count=1 -run 'TestTypeScriptClient|TestWebhooks_NodeExample' ./platform/boot

.PHONY: bench
bench: ## Measure against baselines and write bench/RESULTS.md; ARGS are flags of platform/testing/bench
	go run ./platform/testing/bench $(ARGS)

.PHONY: bench-quick
bench-quick: ## Measure the most important figures in two minutes and print them
	go run ./platform/testing/bench -quick $(ARGS)

.PHONY: bench-go
bench-go: ## Run the Go benchmarks
	$(TESTENV) go test -run '^$$' -bench . -benchmem ./...

.PHONY: fuzz
fuzz: ## Send N generated requests (10000) and check every answer; SEED repeats a run
	go test -count=1 -timeout 0 -v -run '^TestFuzz$$' ./adapters/httpapi -requests $(or $(N),10000) -seed $(or $(SEED),0)

.PHONY: clean
clean: ## Remove build output; data is kept
	rm -rf bin
