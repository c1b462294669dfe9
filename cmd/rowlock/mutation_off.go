//go:build !mutation

package main

// mutated is false in every product build, so the compiler drops what stands
// under it. See mutation_on.go.
func mutated(string) bool { return false }
