package storage_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/storage"
)

// TestScripts runs the histories under testdata/scripts. Commands:
//
//	batch [space=1]           changes, one a line, committed together:
//	    put k commit start value | delete k commit start
//	    intent k txn prepare value | intent-delete k txn prepare | resolve k
//	    vote txn state prepare commit [key...] | unvote txn
//	    meta name value | unmeta name | applied replica index
//	    gc lo hi below limit      ("-" is an open end)
//	get k at | scan [lo=] [hi=] at=… [reverse] [tombstones] [no-intents]
//	read                      votes, meta records, applied record
//	snapshot name | close name    get, scan and read take snapshot=name
//	flush                     moves everything to tables (by restoring a stream)
//	reopen                    closes and opens the engine
//	copy from=1 to=2 | destroy | spaces | checksum
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		h := &script{t: t, fs: vfs.NewMem(), named: map[string]*storage.Snapshot{}}
		h.open()
		defer func() { require.NoError(t, h.e.Close()) }()
		datadriven.RunTest(t, path, h.run)
	})
}

// script is the state of one file's run.
type script struct {
	t     *testing.T
	fs    vfs.FS
	e     *storage.Engine
	named map[string]*storage.Snapshot
	out   strings.Builder
}

func (h *script) open() {
	e, err := storage.Open(options(h.fs))
	require.NoError(h.t, err)
	h.e = e
}

func (h *script) run(t *testing.T, d *datadriven.TestData) string {
	h.t = t
	h.out.Reset()
	space := uint64(1)
	d.MaybeScanArgs(t, "space", &space)
	s := h.e.Space(space)
	switch d.Cmd {
	case "batch":
		h.batch(s, d.Input)
	case "get", "scan", "read":
		h.query(s, d)
	case "snapshot":
		h.named[d.CmdArgs[0].Key] = s.Snapshot()
	case "close":
		h.named[d.CmdArgs[0].Key].Close()
	case "flush":
		transfer(t, s, s)
	case "reopen":
		require.NoError(t, h.e.Close())
		h.open()
	case "copy":
		var from, to uint64
		d.ScanArgs(t, "from", &from)
		d.ScanArgs(t, "to", &to)
		transfer(t, h.e.Space(from), h.e.Space(to))
	case "destroy":
		require.NoError(t, s.Destroy())
	case "spaces":
		ids, err := h.e.Spaces()
		require.NoError(t, err)
		fmt.Fprintln(&h.out, ids)
	case "checksum":
		sum, err := s.Checksum()
		require.NoError(t, err)
		fmt.Fprintf(&h.out, "%016x\n", sum)
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return h.out.String()
}

func (h *script) batch(s *storage.Space, input string) {
	b := s.NewBatch()
	defer b.Close()
	for line := range strings.Lines(input) {
		h.change(b, strings.Fields(line))
	}
	require.NoError(h.t, b.Commit())
}

// change adds one line of a batch.
func (h *script) change(b *storage.Batch, f []string) {
	switch f[0] {
	case "put":
		b.PutVersion(key(f[1]), h.ts(f[2]), h.ts(f[3]), []byte(f[4]))
	case "delete":
		b.PutTombstone(key(f[1]), h.ts(f[2]), h.ts(f[3]))
	case "intent":
		b.PutIntent(key(f[1]), storage.Intent{Txn: h.txn(f[2]), Prepare: h.ts(f[3]), Value: []byte(f[4])})
	case "intent-delete":
		b.PutIntent(key(f[1]), storage.Intent{Txn: h.txn(f[2]), Prepare: h.ts(f[3]), Tombstone: true})
	case "resolve":
		b.DeleteIntent(key(f[1]))
	case "vote":
		b.PutVote(h.txn(f[1]), h.vote(f[2:]))
	case "unvote":
		b.DeleteVote(h.txn(f[1]))
	case "meta":
		b.PutMeta(f[1], []byte(f[2]))
	case "unmeta":
		b.DeleteMeta(f[1])
	case "applied":
		b.SetApplied(storage.Applied{Replica: uint64(h.ts(f[1])), Index: uint64(h.ts(f[2]))})
	case "gc":
		next, removed, err := b.CollectGarbage(key(f[1]), key(f[2]), h.ts(f[3]), int(h.ts(f[4])))
		require.NoError(h.t, err)
		if next == nil {
			fmt.Fprintf(&h.out, "removed %d, done\n", removed)
		} else {
			fmt.Fprintf(&h.out, "removed %d, next %q\n", removed, []byte(next))
		}
	default:
		h.t.Fatalf("unknown change %q", f[0])
	}
}

func (h *script) vote(f []string) storage.Vote {
	states := map[string]storage.VoteState{
		"prepared": storage.VotePrepared, "committed": storage.VoteCommitted, "aborted": storage.VoteAborted,
	}
	v := storage.Vote{State: states[f[0]], Prepare: h.ts(f[1]), Commit: h.ts(f[2])}
	for _, k := range f[3:] {
		v.Keys = append(v.Keys, key(k))
	}
	return v
}

// query runs a read command in the named snapshot or one of its own.
func (h *script) query(s *storage.Space, d *datadriven.TestData) {
	var snap *storage.Snapshot
	if name := ""; d.HasArg("snapshot") {
		d.ScanArgs(h.t, "snapshot", &name)
		snap = h.named[name]
	} else {
		snap = s.Snapshot()
		defer snap.Close()
	}
	switch d.Cmd {
	case "get":
		k := d.CmdArgs[0].Key
		r, err := snap.Get(key(k), h.ts(d.CmdArgs[1].Key))
		require.NoError(h.t, err)
		h.show([]byte(k), r)
	case "scan":
		h.scan(snap, d)
	case "read":
		h.read(snap)
	}
}

func (h *script) scan(snap *storage.Snapshot, d *datadriven.TestData) {
	lo, hi, at := "-", "-", ""
	d.MaybeScanArgs(h.t, "lo", &lo)
	d.MaybeScanArgs(h.t, "hi", &hi)
	d.ScanArgs(h.t, "at", &at)
	it := snap.Scan(storage.ScanOptions{
		Lower: key(lo), Upper: key(hi), At: h.ts(at),
		Reverse: d.HasArg("reverse"), Tombstones: d.HasArg("tombstones"), NoIntents: d.HasArg("no-intents"),
	})
	for it.Next() {
		h.show(it.Key(), it.Read())
	}
	require.NoError(h.t, it.Close())
}

// show prints what a read found.
func (h *script) show(k []byte, r storage.Read) {
	fmt.Fprintf(&h.out, "%s:", k)
	switch {
	case r.Commit == 0:
		fmt.Fprint(&h.out, " nothing")
	case r.Tombstone:
		fmt.Fprintf(&h.out, " deleted at %d by %d", r.Commit, r.Start)
	default:
		fmt.Fprintf(&h.out, " %s at %d by %d", r.Value, r.Commit, r.Start)
	}
	if r.Newest != r.Commit {
		fmt.Fprintf(&h.out, ", newest %d", r.Newest)
	}
	if in := r.Intent; in != nil {
		value := string(in.Value)
		if in.Tombstone {
			value = "(delete)"
		}
		fmt.Fprintf(&h.out, ", intent %s of %s at %d", value, in.Txn, in.Prepare)
	}
	fmt.Fprintln(&h.out)
}

// read prints everything that is not data.
func (h *script) read(snap *storage.Snapshot) {
	a, ok, err := snap.Applied()
	require.NoError(h.t, err)
	if ok {
		fmt.Fprintf(&h.out, "applied replica=%d index=%d\n", a.Replica, a.Index)
	}
	require.NoError(h.t, snap.Metas("", func(name string, v []byte) error {
		_, err := fmt.Fprintf(&h.out, "meta %s=%s\n", name, v)
		return err
	}))
	require.NoError(h.t, snap.Votes(func(id storage.TxnID, v storage.Vote) error {
		_, err := fmt.Fprintf(&h.out, "vote %s %s prepare=%d commit=%d keys=%s\n", id, v.State, v.Prepare, v.Commit, v.Keys)
		return err
	}))
}

// key reads a key; "-" is nil.
func key(s string) storage.Key {
	if s == "-" {
		return nil
	}
	return storage.Key(s)
}

func (h *script) ts(s string) storage.Timestamp {
	if s == "max" {
		return storage.MaxTimestamp
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(h.t, err)
	return storage.Timestamp(n)
}

// txn makes the id that starts at a number, of gateway 1.
func (h *script) txn(s string) storage.TxnID { return storage.TxnID{Start: h.ts(s), Gateway: 1} }
