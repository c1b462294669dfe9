//go:build !mutation

package shard

// mutated is false in every product build, so the compiler drops what stands
// under it. See mutation_on.go.
func mutated(string) bool { return false }

// provedBefore: a proof of ownership is never used twice.
func (t *tenure) provedBefore() bool { return false }
