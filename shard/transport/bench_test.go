package transport_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkCall is an echo between two nodes over loopback, with so many calls in
// flight.
func BenchmarkCall(b *testing.B) {
	for _, inFlight := range []int{1, 64} {
		for _, size := range []int{100, 4096} {
			b.Run(fmt.Sprintf("inflight=%d/bytes=%d", inFlight, size), func(b *testing.B) {
				c := newCluster(b)
				a := c.listen(1, nil)
				c.listen(2, echo)
				call := func(request []byte) error {
					_, err := a.Call(context.Background(), addr(2), request)
					return err
				}
				if err := call(nil); err != nil { // the first one connects
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.SetBytes(int64(2 * size))
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var callers sync.WaitGroup
				for range inFlight {
					callers.Go(func() {
						request := make([]byte, size)
						for left.Add(-1) >= 0 {
							if err := call(request); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				callers.Wait()
			})
		}
	}
}
