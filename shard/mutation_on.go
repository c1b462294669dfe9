//go:build mutation

package shard

import (
	"os"
	"sync"
)

// activeMutation names the one rule of the protocol that this run breaks.
var activeMutation = os.Getenv("ROWLOCK_MUTATION")

// mutated tells whether the named rule is switched off. Only test binaries
// built with the tag "mutation" can break a rule: bench/mutations runs the
// tests of each rule with the rule broken and wants them to fail.
func mutated(rule string) bool { return rule == activeMutation }

// proved remembers the tenures that have proved their ownership once.
var proved sync.Map

// provedBefore lets one proof of ownership do for all reads that follow, with
// the mutation "R1.proof-from-before".
func (t *tenure) provedBefore() bool {
	if !mutated("R1.proof-from-before") {
		return false
	}
	_, before := proved.LoadOrStore(t, true)
	return before
}
