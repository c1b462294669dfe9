package txn

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// Locks on rows are what a map says, however many there are.
func TestRowLocks(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var locks rowLocks
		model := map[string]rowLock{}
		keys := 1 + r.IntN(3*fewRows)
		for i := range 100 {
			k := fmt.Sprint(r.IntN(keys))
			if r.IntN(4) == 0 {
				locks.remove([]byte(k))
				delete(model, k)
			} else {
				l := rowLock{mode: LockExclusive, statement: i}
				locks.set([]byte(k), l)
				model[k] = l
			}
			found := map[string]rowLock{}
			locks.each(func(k storage.Key, l rowLock) { found[string(k)] = l })
			require.Equal(t, model, found)
			require.Equal(t, len(model), locks.len())
			l, ok := locks.get([]byte(k))
			want, known := model[k]
			require.Equal(t, known, ok)
			require.Equal(t, want, l)
		}
	}
}
