//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/shard"
)

const (
	// ballastFile takes up the reserve. On a disk that is full it can be removed.
	ballastFile = "BALLAST"
	// lookAtDisk is how often the free space is looked at: a call of the kernel.
	lookAtDisk = 2 * time.Second
)

// room is how much space a node has left.
type room int32

const (
	enough room = iota
	// scarce: the node hands over what it owns, and owns nothing.
	scarce
	// none: the node refuses writes to what it owns all the same.
	none
)

// next is the room there is with so much space free. It grows again later than it
// shrank, so that it does not change all the time.
func (r room) next(free, reserve uint64) room {
	switch {
	case free < reserve/2, r == none && free < reserve:
		return none
	case free < reserve, r != enough && free < 2*reserve:
		return scarce
	}
	return enough
}

// reserve watches the space on the disk. What others own is written here, too, and
// cannot be refused: when nothing is left the node stops as it would without all
// this (failure), and the ballast is what it can be started with.
type reserve struct {
	node    *Node
	size    uint64
	looking sync.Mutex
	room    atomic.Int32
	free    atomic.Uint64
	drained bool // by this watch, not by an operator
}

// openReserve begins to watch the disk, if that is asked for and the file system
// says how much is free.
func (n *Node) openReserve(context.Context) error {
	n.reserve.node = n
	_, total, err := n.engine.Disk()
	if n.options.Reserve == 0 || err != nil || total == 0 {
		return nil
	}
	w := &n.reserve
	if w.size = uint64(n.options.Reserve); n.options.Reserve < 0 {
		w.size = min(total/100, 1<<30)
	}
	w.look()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	n.onClose("reserve", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return nil
}

func (w *reserve) run(ctx context.Context) {
	tick := time.NewTicker(lookAtDisk)
	defer tick.Stop()
	for {
		w.hand(ctx)
		select {
		case <-ctx.Done():
			return
		case <-w.node.failure.done:
			return
		case <-tick.C:
		}
		w.look()
	}
}

// look sees how much is free, and what follows.
func (w *reserve) look() {
	w.looking.Lock()
	defer w.looking.Unlock()
	free, _, err := w.node.engine.Disk()
	if err != nil {
		return // it will be known at the next look, or by a failure
	}
	w.free.Store(free)
	was := room(w.room.Load())
	now := was.next(free, w.size)
	w.room.Store(int32(now))
	w.node.shards.SetFull(now == none)
	log := w.node.log.With("free", free, "reserve", w.size)
	switch {
	case now == was:
	case now == none:
		log.Error("the disk is nearly full: writes are refused")
	case now == scarce && was == none:
		log.Warn("the disk has some space again: writes are taken")
	case now == scarce:
		log.Warn("space on the disk is scarce: other nodes are to own what this one does")
	default:
		log.Info("the disk has space again")
	}
	if now == enough && free >= 3*w.size {
		if err := w.ballast(); err != nil {
			log.Warn("the reserve on the disk could not be made", "error", err)
		}
	}
}

// hand gives what the node owns to others, or lets it own again. It is tried again
// at the next look if it fails. A node that an operator drains is left alone.
func (w *reserve) hand(ctx context.Context) {
	n := w.node
	if !n.clustered() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookAtDisk)
	defer cancel()
	scant := room(w.room.Load()) != enough
	self, _ := n.shards.State().Member(n.ID())
	var err error
	switch {
	case scant && self.State == shard.MemberActive:
		w.drained = true // also if the answer is lost
		err = n.Drain(ctx, n.ID())
	case !scant && w.drained && self.State == shard.MemberDraining:
		if err = n.Undrain(ctx, n.ID()); err == nil {
			w.drained = false
		}
	case !scant:
		w.drained = false // what the node is now, an operator has made it
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("what the node owns could not be handed over, or taken back", "error", err)
	}
}

// ballast makes the file of the reserve, unless it is there.
func (w *reserve) ballast() error {
	path := filepath.Join(w.node.options.Dir, ballastFile)
	size := int64(min(w.size, math.MaxInt64))
	if s, err := os.Stat(path); err == nil && s.Size() == size {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(occupy(f, size), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// writeZeros takes up space on every file system.
func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if size -= int64(n); err != nil {
			return err
		}
	}
	return nil
}
