//go:build (cgo || gms_pure_go) && failpoint

package rowlock

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// failpointExit is the exit code of a process that died at its failpoint.
const failpointExit = 86

// failpoint ends the process when the first transaction that commits after the
// file ROWLOCK_FAILPOINT_ARMED has appeared reaches the step ROWLOCK_FAILPOINT,
// "step:n", for the n-th time. With "answered" the process does not end: no
// outcome leaves it after the client has been answered.
func failpoint() func(txn.Step, storage.TxnID) {
	spec, armed := os.Getenv("ROWLOCK_FAILPOINT"), os.Getenv("ROWLOCK_FAILPOINT_ARMED")
	if spec == "" {
		return nil
	}
	step, count, _ := strings.Cut(spec, ":")
	n, err := strconv.Atoi(count)
	if err != nil && count != "" {
		panic(fmt.Sprintf("rowlock: ROWLOCK_FAILPOINT %q: %v", spec, err))
	}
	f := &breakdown{step: txn.Step(step), n: max(n, 1), armed: armed, counts: make(map[txn.Step]int)}
	return f.reached
}

type breakdown struct {
	step  txn.Step
	n     int
	armed string // the path of a file

	mu     sync.Mutex
	victim storage.TxnID
	counts map[txn.Step]int
}

func (f *breakdown) reached(step txn.Step, id storage.TxnID) {
	if f.holds(step, id) {
		select {} // until the process ends
	}
}

// holds counts a step. It ends the process at the failpoint, and says whether
// the caller is to wait for that end.
func (f *breakdown) holds(step txn.Step, id storage.TxnID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.victim.IsZero() {
		if _, err := os.Stat(f.armed); err != nil || step != txn.StepBeforeFloor {
			return false
		}
		f.victim = id
	}
	if id != f.victim {
		return false
	}
	f.counts[step]++
	switch {
	case step == f.step && f.counts[step] == f.n:
		os.Exit(failpointExit)
	case f.step == "answered" && step == txn.StepResolve:
		return true
	case f.step == txn.StepVote && step == txn.StepPrepare:
		return f.counts[step] > f.n // exactly n shards are asked
	}
	return false
}
