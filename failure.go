//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/rowlockdb/rowlock/shard"
)

// What Node.Err is, compare with errors.Is; ErrCorrupt is another, and so is ErrFormat: a
// newer release has written what this one must apply and does not know.
var (
	// ErrDisk: a write or an fsync failed. What it was to store may or may not be
	// on the disk, so the node stopped. It may be opened again, by a new process.
	ErrDisk = errors.New("rowlock: the disk failed")
	// ErrDiskFull: there is no space left. The node stopped.
	ErrDiskFull = errors.New("rowlock: the disk is full")
	// ErrRemoved: the cluster has removed the node, whose replicas are elsewhere. It
	// stopped serving; its directory is of no use any more.
	ErrRemoved = errors.New("rowlock: the node was removed from its cluster")
)

// failure is the end of a node that cannot store anything any more.
type failure struct {
	once sync.Once
	done chan struct{} // closed when err is set
	err  error
}

// Failed is closed when the node has stopped because its disk failed, is full
// or is damaged, or because it was removed from the cluster. Clients have lost their connections by then, nothing more is
// acknowledged, and other nodes take over what it owned. There is no way back
// for this Node: Err tells why, Close closes nothing whose disk has failed, and the
// directory stays locked until the process ends then. A server ends then; a program
// that embeds the node decides for itself.
func (n *Node) Failed() <-chan struct{} { return n.failure.done }

// Err is why the node has stopped, nil while it is well.
func (n *Node) Err() error {
	select {
	case <-n.failure.done:
		return n.failure.err
	default:
		return nil
	}
}

// errRemoved is what changed stops the node with.
var errRemoved = errors.New("others have its replicas")

// diskFailed is why nothing can be stored any more, nil while it can.
func (n *Node) diskFailed() error {
	if err := n.Err(); !errors.Is(err, ErrRemoved) {
		return err
	}
	return nil
}

// fail stops the node, once. It does not block: the goroutine that met the error
// may hold anything.
func (n *Node) fail(err error) {
	n.failure.once.Do(func() {
		n.failure.err = fmt.Errorf("%w: %w", kindOfFailure(err), err)
		close(n.failure.done)
		n.log.Error("node stops serving", "error", n.failure.err)
		if !mutated("0051.clients-stay") {
			go n.hangUp()
		}
	})
}

func kindOfFailure(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrDiskFull
	case errors.Is(err, ErrCorrupt):
		return ErrCorrupt
	case errors.Is(err, errRemoved):
		return ErrRemoved
	case errors.Is(err, shard.ErrNewer):
		return ErrFormat
	}
	return ErrDisk
}

// hangUp ends the connections of clients.
func (n *Node) hangUp() {
	<-n.opened
	if n.server != nil {
		n.server.HangUp()
	}
}

// step runs one step of Open, or gives up on it when the disk fails meanwhile: then
// it never returns.
func (n *Node) step(ctx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-n.failure.done:
		if n.diskFailed() == nil {
			<-done
		}
		return n.failure.err
	}
}
