//go:build mutation

package dragon

import "os"

// activeMutation names the one rule that this run breaks.
var activeMutation = os.Getenv("ROWLOCK_MUTATION")

// mutated tells whether the named rule is switched off. See package shard.
func mutated(rule string) bool { return rule == activeMutation }
