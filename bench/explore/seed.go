package explore

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

var seedFlag = flag.Uint64("seed", 0, "seed of random tests; 0: $ROWLOCK_SEED or 1")

// Seed returns the seed of a random test and prints it: -seed, or the
// environment's ROWLOCK_SEED, or the same in every run. What a run finds must
// not depend on when it is started.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, text := *seedFlag, os.Getenv("ROWLOCK_SEED")
	if seed == 0 && text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ROWLOCK_SEED: %v", err)
		}
		seed = given
	}
	if seed == 0 {
		seed = 1
	}
	t.Logf("seed %d", seed)
	return seed
}
