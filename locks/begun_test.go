package locks

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestBegun: who saw nobody wait is told when somebody does, in whatever table, and
// again after all waits have ended.
func TestBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		graph := NewWaitGraph()
		a, b := NewTable("a", graph), NewTable("b", graph)
		told := func() bool {
			synctest.Wait()
			select {
			case <-graph.Begun():
				return true
			default:
				return false
			}
		}
		wait := func(table *Table, n uint64) {
			go func() {
				_, _ = table.Acquire(context.Background(), Request{Owner: txnNamed(n), Mode: Exclusive, Spans: key("k")}, WaitBlock)
			}()
			synctest.Wait()
		}
		lockX(t, a, txnNamed(1), "k")
		lockX(t, b, txnNamed(1), "k")
		require.False(t, told(), "locks without waits")

		wait(a, 2)
		require.True(t, told())
		wait(b, 3)
		require.False(t, told(), "one waits already")

		a.Release(txnNamed(1))
		b.Release(txnNamed(1))
		a.Release(txnNamed(2))
		b.Release(txnNamed(3))
		require.Zero(t, graph.Waiting())
		require.False(t, told())

		lockX(t, b, txnNamed(4), "k")
		wait(b, 5)
		wait(b, 6)
		require.True(t, told(), "the first of those after it")
		require.False(t, told())
		b.Release(txnNamed(4))
		synctest.Wait()
		b.Release(txnNamed(5))
		synctest.Wait()
		b.Release(txnNamed(6))
	})
}
