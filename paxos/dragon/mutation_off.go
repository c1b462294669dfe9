//go:build !mutation

package dragon

// mutated is false in every product build. See mutation_on.go.
func mutated(string) bool { return false }
