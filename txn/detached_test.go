package txn

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A detached context survives its client and ends with its patience, its cancel
// function or the coordinator, whether or not anybody waits on it.
func TestDetachedContext(t *testing.T) {
	for _, waited := range []bool{false, true} {
		for name, test := range map[string]struct {
			patience time.Duration
			end      func(end, client, coordinator context.CancelFunc)
			want     error
		}{
			"the client goes":       {time.Hour, func(_, client, _ context.CancelFunc) { client() }, nil},
			"it is cancelled":       {time.Hour, func(end, _, _ context.CancelFunc) { end() }, context.Canceled},
			"the coordinator ends":  {time.Hour, func(_, _, coordinator context.CancelFunc) { coordinator() }, context.Canceled},
			"its patience is over":  {0, func(_, _, _ context.CancelFunc) {}, context.DeadlineExceeded},
			"nothing happens to it": {time.Hour, func(_, _, _ context.CancelFunc) {}, nil},
		} {
			type key struct{}
			life, coordinator := context.WithCancel(t.Context())
			ctx, client := context.WithCancel(context.WithValue(t.Context(), key{}, 7))
			d, end := (&Coordinator{life: life}).detached(ctx, test.patience)
			require.Equal(t, 7, d.Value(key{}))
			child, stop := context.WithCancel(context.Background())
			if waited {
				child, stop = context.WithCancel(d)
			}
			test.end(end, client, coordinator)
			if test.want != nil {
				<-d.Done()
				if waited {
					<-child.Done()
				}
			}
			require.Equal(t, test.want, d.Err(), "%s, waited %v", name, waited)
			stop()
			end()
			require.Error(t, d.Err())
			client()
			coordinator()
		}
	}
}
