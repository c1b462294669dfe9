package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// fault is something that goes wrong with a cluster, and is put right again.
type fault struct {
	name string
	// least is the number of nodes that it takes; cuts says that it takes a
	// network that can be cut.
	least int
	cuts  bool
	tool  string // program that it needs
	hold  time.Duration
	// survives says that the cluster has to serve while it lasts.
	survives bool
	// prepare runs before the load, inject under it; heal puts it right.
	prepare func(ctx context.Context, w *world) error
	inject  func(ctx context.Context, w *world) (heal func(context.Context) error, err error)
}

// world is what a fault acts on.
type world struct {
	*process.Cluster
	random *rand.Rand
	victim *process.Node // chosen before prepare
	undo   []func() error
	logf   func(format string, args ...any)
}

// faults are all classes, in the order in which they are carried out.
var faults = []fault{
	{name: "kill -9 of the node that owns most", least: 2, hold: 4 * time.Second, survives: true, inject: killOne},
	{name: "kill -9 of a node, away for long", least: 2, hold: 15 * time.Second, survives: true, inject: killOne},
	{name: "majority lost", least: 3, hold: 6 * time.Second, inject: killMajority},
	{name: "all killed at once", least: 1, hold: time.Second, inject: killAll},
	{name: "paused 1 s", least: 1, hold: time.Second, inject: pause},
	{name: "paused 5 s", least: 2, hold: 5 * time.Second, survives: true, inject: pause},
	{name: "paused 20 s", least: 2, hold: 20 * time.Second, survives: true, inject: pause},
	{name: "cut off, both ways", least: 3, cuts: true, hold: 8 * time.Second, survives: true, inject: cutOff(true, true)},
	{name: "cut off, cannot send", least: 3, cuts: true, hold: 8 * time.Second, survives: true, inject: cutOff(true, false)},
	{name: "cut off, cannot hear", least: 3, cuts: true, hold: 8 * time.Second, survives: true, inject: cutOff(false, true)},
	{name: "two do not see each other", least: 3, cuts: true, hold: 8 * time.Second, survives: true, inject: cutPair},
	{name: "nobody sees anybody", least: 3, cuts: true, hold: 6 * time.Second, inject: cutAll},
	{name: "fsync error", least: 1, tool: "strace", hold: 3 * time.Second, survives: true, inject: fsyncError},
	{name: "disk full", least: 1, tool: "mount", hold: 3 * time.Second, survives: true, prepare: smallDisk, inject: fillDisk},
	{name: "disk lost", least: 3, hold: 3 * time.Second, survives: true, inject: loseDisk},
}

// choose picks the victim: the node that owns the most shards, or any.
func (w *world) choose(ctx context.Context, f fault) {
	w.victim = w.Nodes[w.random.IntN(len(w.Nodes))]
	db, err := w.Any(ctx)
	if err != nil {
		return
	}
	defer db.Close()
	if owner, err := busiest(ctx, db); err == nil && f.name == faults[0].name && owner >= 1 && owner <= len(w.Nodes) {
		w.victim = w.Nodes[owner-1]
	}
}

// busiest is the node that owns the most shards.
func busiest(ctx context.Context, db *sql.DB) (node int, err error) {
	err = db.QueryRowContext(ctx, "SELECT owner FROM rowlock.shards WHERE owner > 0 GROUP BY owner ORDER BY COUNT(*) DESC, owner LIMIT 1").Scan(&node)
	return node, err
}

func killOne(_ context.Context, w *world) (func(context.Context) error, error) {
	return w.victim.Start, w.victim.Kill()
}

func killMajority(_ context.Context, w *world) (func(context.Context) error, error) {
	var gone []*process.Node
	for i := range len(w.Nodes)/2 + 1 {
		gone = append(gone, w.Nodes[(w.victim.ID-1+i)%len(w.Nodes)])
	}
	return killThese(gone)
}

func killAll(_ context.Context, w *world) (func(context.Context) error, error) {
	return killThese(slices.Clone(w.Nodes))
}

// killThese kills nodes at the same moment.
func killThese(nodes []*process.Node) (func(context.Context) error, error) {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errs <- n.Kill() }()
	}
	var first error
	for range nodes {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return func(ctx context.Context) error { return process.Restart(ctx, nodes) }, first
}

func pause(_ context.Context, w *world) (func(context.Context) error, error) {
	return func(context.Context) error { return w.victim.Resume() }, w.victim.Pause()
}

// cutOff keeps the victim from sending to the others, from hearing them, or both.
func cutOff(sends, hears bool) func(context.Context, *world) (func(context.Context) error, error) {
	return func(_ context.Context, w *world) (func(context.Context) error, error) {
		for _, n := range w.Nodes {
			if n == w.victim {
				continue
			}
			if sends {
				if err := w.Network.Cut(w.victim.ID, n.ID); err != nil {
					return nil, err
				}
			}
			if hears {
				if err := w.Network.Cut(n.ID, w.victim.ID); err != nil {
					return nil, err
				}
			}
		}
		return w.heal, nil
	}
}

func (w *world) heal(context.Context) error { return w.Network.Heal() }

func cutPair(_ context.Context, w *world) (func(context.Context) error, error) {
	other := w.victim.ID%len(w.Nodes) + 1
	if err := w.Network.Cut(w.victim.ID, other); err != nil {
		return nil, err
	}
	return w.heal, w.Network.Cut(other, w.victim.ID)
}

func cutAll(_ context.Context, w *world) (func(context.Context) error, error) {
	for _, a := range w.Nodes {
		for _, b := range w.Nodes {
			if a == b {
				continue
			}
			if err := w.Network.Cut(a.ID, b.ID); err != nil {
				return nil, err
			}
		}
	}
	return w.heal, nil
}

// The exit codes of docs/operations.md.
const (
	exitDisk = 3
	exitFull = 4
)

// fsyncError makes every fsync of the victim fail from now on.
func fsyncError(ctx context.Context, w *world) (func(context.Context) error, error) {
	s := w.victim.Server()
	trace := exec.CommandContext(ctx, "strace", "-f", "-q", "-o", "/dev/null", "-p", fmt.Sprint(s.PID()),
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
	if err := trace.Start(); err != nil {
		return nil, fmt.Errorf("strace: %w", err)
	}
	go trace.Wait() // it ends with the server
	return w.died(s, exitDisk), nil
}

// died waits for the victim to end by itself, with the exit code, and starts it
// again.
func (w *world) died(s *process.Server, code int) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-s.Ended():
		case <-time.After(20 * time.Second):
			return fmt.Errorf("node %d goes on", w.victim.ID)
		}
		if got := s.Wait(); got != code {
			return fmt.Errorf("node %d ended with exit code %d and not %d: %s", w.victim.ID, got, code, s.Said())
		}
		w.logf("node %d said: %s", w.victim.ID, s.Said())
		if err := w.victim.Kill(); err != nil {
			return err
		}
		for _, undo := range w.undo {
			if err := undo(); err != nil {
				return err
			}
		}
		w.undo = nil
		return w.victim.Start(ctx)
	}
}

// diskSize is that of the small disk; the stores preallocate some of it.
const diskSize = 512 << 20

// smallDisk moves the victim's data to a small file system in memory.
func smallDisk(ctx context.Context, w *world) error {
	v := w.victim
	if err := v.Stop(); err != nil {
		return err
	}
	aside := v.Dir + ".aside"
	for _, line := range [][]string{
		{"mv", v.Dir, aside}, {"mkdir", v.Dir},
		{"mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", diskSize), "none", v.Dir},
		{"cp", "-a", aside + "/.", v.Dir},
	} {
		if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", line, err, out)
		}
	}
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	return v.Start(ctx)
}

// fillDisk takes all the space that is left on the small disk.
func fillDisk(_ context.Context, w *world) (func(context.Context) error, error) {
	path := filepath.Join(w.victim.Dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	chunk := make([]byte, 1<<20)
	for size := len(chunk); size > 0; {
		if _, err := f.Write(chunk[:size]); err != nil {
			size /= 4
		}
	}
	s := w.victim.Server()
	return func(ctx context.Context) error {
		select {
		case <-s.Ended():
			w.undo = append(w.undo, func() error { return os.Remove(path) })
			return w.died(s, exitFull)(ctx)
		default: // it needs no space: it refuses writes, or others make them
			return os.Remove(path)
		}
	}, f.Close()
}

// returnDisk brings the data back from the small disk.
func (w *world) returnDisk(ctx context.Context) error {
	v := w.victim
	if err := v.Stop(); err != nil {
		return err
	}
	aside := v.Dir + ".aside"
	for _, line := range [][]string{{"cp", "-a", v.Dir, aside}, {"umount", v.Dir}, {"rmdir", v.Dir}, {"mv", aside, v.Dir}} {
		if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", line, err, out)
		}
	}
	return v.Start(ctx)
}

// unmount lets go of a small disk that was not returned because something failed.
func (w *world) unmount() { _ = exec.Command("umount", "-l", w.victim.Dir).Run() }

// loseDisk kills the victim and erases its disk; a new node takes its place.
func loseDisk(ctx context.Context, w *world) (func(context.Context) error, error) {
	if err := w.victim.Kill(); err != nil {
		return nil, err
	}
	if err := w.victim.Erase(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return w.victim.Replace(ctx) }, nil
}
