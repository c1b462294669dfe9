package txn

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// Nobody interrupted a statement whose shard, or the oracle, ran out of time.
func TestConvertTellsTheCallersContext(t *testing.T) {
	alive := t.Context()
	over, cancel := context.WithCancel(alive)
	cancel()
	below := fmt.Errorf("extend the oracle's window: %w", context.DeadlineExceeded)
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want Code
	}{
		{"time ran out further down", alive, below, Unavailable},
		{"somebody else's request was cancelled", alive, context.Canceled, Unavailable},
		{"the caller's context ended", over, context.Canceled, Interrupted},
		{"both", over, below, Interrupted},
		{"a refusal stays what it is", over, &shard.Error{Code: shard.Deadlock}, Deadlock},
		{"an unknown error", over, errors.New("disk"), Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, convert(c.ctx, c.err, storage.TxnID{}, shard.System).Code)
		})
	}
}
