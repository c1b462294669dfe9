//go:build mutation

package main

import "os"

// activeMutation names the one rule that this run breaks.
var activeMutation = os.Getenv("ROWLOCK_MUTATION")

// mutated tells whether the named rule is switched off. Only test binaries
// built with the tag "mutation" can break a rule: bench/mutations runs the
// tests of each rule with the rule broken and wants them to fail.
func mutated(rule string) bool { return rule == activeMutation }
