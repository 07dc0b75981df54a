# The product is built without cgo; PKCS#11 is the exception and has a build tag of its own.
export CGO_ENABLED = 0
GO ?= go
FUZZTIME ?= 1h
BENCHCOUNT ?= 10

# TOKEN are the packages whose tests use a PKCS#11 token.
TOKEN = ./keys/... ./cmd/bulkhead-root/...

.PHONY: build test check bench benchcmp torture tools

build: ## the programs, into bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

test: tools ## every test; seeded and time-boxed, installs what it needs on Debian
	$(GO) test -timeout 15m ./...
	CGO_ENABLED=1 $(GO) test -timeout 10m -tags pkcs11 $(TOKEN)

tools:
	./scripts/test-tools.sh

check: ## formatting, vet, lint, import walls
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	cd tools && $(GO) build -o ../bin/ honnef.co/go/tools/cmd/staticcheck
	./bin/staticcheck ./...
	$(GO) test -count=1 -run 'TestWalls|TestPackages' .

bench: ## benchmarks beside their references, in a form that benchstat compares: bench/NAME.txt
	@mkdir -p bench
	$(GO) test -run '^$$' -bench . -benchmem -count=$(BENCHCOUNT) ./... | tee bench/$${NAME:-now}.txt

benchcmp: ## make benchcmp OLD=before NEW=now
	cd tools && $(GO) build -o ../bin/ golang.org/x/perf/cmd/benchstat
	./bin/benchstat bench/$(OLD).txt bench/$(NEW).txt

torture: tools ## full counts: a thousand kills a store, every fuzz target for FUZZTIME, the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 60m ./...
	BULKHEAD_TORTURE=1 $(GO) test -count=1 -timeout 12h -v ./test/... ./incident ./importer/...
	./scripts/fuzz-all.sh $(FUZZTIME)
