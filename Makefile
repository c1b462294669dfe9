# The build needs Go and nothing else. ICU=1 builds with cgo and the ICU library
# (libicu-dev) for regular expressions, instead of the static default.
ICU ?=
ifeq ($(ICU),)
export CGO_ENABLED := 0
TAGS := gms_pure_go
else
export CGO_ENABLED := 1
TAGS :=
endif

GO ?= go
BIN := bin/rowlock
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD := $(GO) build -buildvcs=false -tags '$(TAGS)'
TEST := $(GO) test -buildvcs=false -tags '$(TAGS)'

# Where `make run` keeps its data, and other flags for it: make run ARGS=--listen=...
ARGS ?=
# Scripts for `make slt`.
SCRIPTS ?= sqllogictest/testdata/scripts
# Time for each fuzz target of `make fuzz`.
FUZZTIME ?= 10s

.PHONY: run build test check race fuzz bench slt crash mutations deadlocks queue clean
.PHONY: bench-peers recovery commit commitcost isolation bank large cluster-test rpc ddl pushdown fastpath

run: build
	./$(BIN) start $(ARGS)

build:
	$(BUILD) -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/rowlock

# Every package, with the test runner's own lines last. Seeds are the same in every run;
# other orders: make test ROWLOCK_SEED=7 RAPID_SEED=7.
test: export RAPID_SEED ?= 1
test:
	$(TEST) -timeout 14m ./...

check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	$(GO) vet -tags '$(TAGS)' ./...
	$(GO) vet -tags '$(TAGS) failpoint mutation' ./... # what only the programs that test recovery and the rules have
	$(TEST) -run 'TestImports|TestPins' .

race:
	CGO_ENABLED=1 $(GO) test -buildvcs=false -race -tags gms_pure_go -timeout 30m ./...

# Each fuzz target in turn.
fuzz:
	@for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
	    echo "== $$target in $$(dirname $$file)"; \
	    $(TEST) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
	  done; \
	done

# The Go benchmarks of each layer, of this tree and of BASE in turn, compared by
# benchstat. BASE=HEAD~5 ARGS='-packages ./storage,./locks -count 10'
bench:
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/layers $(if $(BASE),-base $(BASE)) -tags '$(TAGS)' $(ARGS)

# Rowlock beside MariaDB, if it is installed, and others: docs/performance.md.
# ARGS='-only bank -rounds 5', ARGS='-cluster 3', BASE=path/of/another/rowlock
bench-peers: build
	$(GO) build -buildvcs=false -tags '$(TAGS)' -o bin/peers ./bench/peers
	./bin/peers -binary ./$(BIN)$(if $(BASE),$(comma)$(BASE)) -csv bin/peers.csv -svg bin/peers.svg $(ARGS)

slt: build
	./$(BIN) sqllogictest --timeout 10s $(SCRIPTS)

# Power cuts in memory, then load on a server that is killed again and again.
crash: build
	$(TEST) -count=1 -timeout 1h -run TestPowerCuts -v . -power-cuts 200
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/crash -binary ./$(BIN)

# Each rule of the transaction protocol is broken once; a test must fail. ARGS=-only=H9
mutations:
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/mutations $(ARGS)

# Statements that the fast path answers, on two servers, one without it: every byte of 100,000 such answers
# and more is compared. Other ones: make fastpath ROWLOCK_SEED=7 STEPS=5000
STEPS ?= 205000
fastpath:
	ROWLOCK_FASTPATH=$(STEPS) $(TEST) -count=1 -timeout 1h -run "TestFast.*Differential" -v ./sqlfront

# Deadlocks provoked over the wire: one victim each, within 500 ms; none where rows are locked in one order.
deadlocks: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/deadlocks -binary ./$(BIN)

# Jobs taken from tables with SKIP LOCKED: each exactly once.
queue: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/queue -binary ./$(BIN)

# A coordinator that dies at each step of a commit: its transaction is finished, within three seconds.
recovery:
	$(GO) build -buildvcs=false -tags '$(TAGS) failpoint' -o $(BIN)-failpoint ./cmd/rowlock
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/recovery -binary ./$(BIN)-failpoint

# What a COMMIT costs on several shards beside one, with the limits it must keep.
commit: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/commit -binary ./$(BIN)

# What a durable transaction costs below SQL: rate, CPU, log entries, fsyncs, garbage.
commitcost:
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/commitcost $(ARGS)

# What concurrent sessions saw, judged by a checker for dependency cycles: 100,000
# transactions at each level, then the loads with invariants and the same with a
# server that is killed. LEAST is the rate of commits per second to reach.
LEAST ?= 500
isolation: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/isolation -binary ./$(BIN) -modes append -transactions 100000 -least $(LEAST)
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/isolation -binary ./$(BIN) -modes register,bank,fork,monotonic,unique,autoincrement,ddl -transactions 10000
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/isolation -binary ./$(BIN) -transactions 2000 -kill 3s
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/isolation -binary ./$(BIN) -nodes 3 -modes append,bank,register -transactions 3000 -kill 6s -least 50

# Transfers from 8 and 32 sessions; the money is counted. BASE=path/of/another/rowlock measures that one in turn.
BASE ?=
bank: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/bank -binary ./$(BIN)$(if $(BASE),$(comma)$(BASE)) $(ARGS)
comma := ,

# The transport between nodes beside storj.io/drpc: at least 1.3 times the calls at 64 in flight.
rpc:
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/rpc

# Transactions of a million rows: they commit, survive kill -9, and leave nothing when rolled back.
large: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/large -binary ./$(BIN)

# Processes that form one database, each fault once under load. NODES=1 ARGS='-mode failover'
NODES ?= 3
cluster-test: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/cluster -binary ./$(BIN) -nodes $(NODES) $(ARGS)

# Schema changes of a table of a million rows under load, one with a kill -9 of the node that runs it.
ddl: build
	$(GO) run -buildvcs=false -tags '$(TAGS)' ./bench/ddl -binary ./$(BIN) -nodes $(NODES) $(ARGS)

# Aggregates by owners against the engine's own: 60,000 statements.
pushdown:
	for seed in 1 2 3; do ROWLOCK_SEED=$$seed ROWLOCK_PUSHDOWN_STATEMENTS=20000 $(GO) test -buildvcs=false -tags '$(TAGS)' -timeout 30m -count 1 -run TestPushdown ./sqlfront || exit 1; done

clean:
	rm -rf bin
