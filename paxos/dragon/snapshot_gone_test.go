package dragon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/lni/dragonboat/v4/statemachine"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
)

// goneSnapshot cannot be written.
type goneSnapshot struct{ err error }

func (s goneSnapshot) Write(io.Writer, <-chan struct{}) error { return s.err }
func (goneSnapshot) Close() error                             { return nil }

// TestSnapshotGone: a snapshot that says that it is gone is not sent, and the host goes
// on. Any other error ends it.
func TestSnapshotGone(t *testing.T) {
	m := &machine{log: slog.New(slog.DiscardHandler), failure: newFailure(nil)} // its end is a panic
	err := m.SaveSnapshot(goneSnapshot{fmt.Errorf("shard 3: %w", paxos.ErrSnapshotGone)}, io.Discard, nil)
	require.ErrorIs(t, err, statemachine.ErrSnapshotAborted)
	require.Panics(t, func() { _ = m.SaveSnapshot(goneSnapshot{errors.New("unreadable")}, io.Discard, nil) })
}
