package catalog

import (
	"fmt"
	"testing"
	"time"
)

// One statement's lock beside those of others that use the table.
func BenchmarkLockBesideOthers(b *testing.B) {
	for _, others := range []int{0, 31, 255} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			l := NewLocks()
			for range others {
				if err := l.Acquire(b.Context(), &Holder{}, "d/t", SharedWrite, time.Second); err != nil {
					b.Fatal(err)
				}
			}
			var h Holder
			for b.Loop() {
				if err := l.Acquire(b.Context(), &h, "d/t", SharedWrite, time.Second); err != nil {
					b.Fatal(err)
				}
				l.ReleaseAll(&h)
			}
		})
	}
}
