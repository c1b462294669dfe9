package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/explore"
)

// simulated is a database in memory that many sessions use at a time, one
// operation after the other in a random order. It is right for its level,
// except for the faults that are switched on.
type simulated struct {
	level    string // "serializable", "snapshot", "read committed"
	register bool   // registers instead of lists
	fault    string
	rate     float64
	random   *rand.Rand

	clock  int64
	next   int32
	keys   map[int32][]committedValue
	open   []*session
	locked map[int32]*session
	txns   []Txn
	faults int
}

type committedValue struct {
	at    int64
	value int32
}

type session struct {
	id       int
	txn      *Txn
	left     int // operations to come
	snapshot int64
	writes   []Op
}

const hotKeys = 8

// run makes a history of about n transactions.
func (s *simulated) run(n, sessions int) []Txn {
	s.keys, s.locked = map[int32][]committedValue{}, map[int32]*session{}
	for id := range sessions {
		s.open = append(s.open, &session{id: id})
	}
	for len(s.txns) < n {
		s.step(s.open[s.random.IntN(sessions)])
	}
	for _, x := range s.open {
		for x.txn != nil {
			s.step(x)
		}
	}
	// A last transaction sees what is left of everything.
	last := &session{id: sessions, txn: &Txn{Process: sessions, Begin: s.tick()}, snapshot: s.tick()}
	for _, key := range sortedKeys(s.keys) {
		last.txn.Ops = append(last.txn.Ops, s.read(last, key))
	}
	s.end(last, Committed)
	return s.txns
}

func (s *simulated) tick() int64 { s.clock++; return s.clock }

func (s *simulated) step(x *session) {
	switch {
	case x.txn == nil:
		x.txn = &Txn{Process: x.id, Begin: s.tick()}
		x.left = 1 + s.random.IntN(5)
		x.snapshot = s.tick()
		if s.faulty("stale snapshot") {
			x.snapshot = max(0, x.snapshot-60)
		}
	case x.left == 0:
		s.commit(x)
	case s.level == "serializable":
		// One moment for all of it, somewhere between begin and end.
		for ; x.left > 0; x.left-- {
			x.snapshot = s.tick()
			s.operation(x)
		}
		s.apply(x)
	default:
		if s.level == "read committed" {
			x.snapshot = s.tick()
		}
		s.operation(x)
		x.left--
	}
}

// faulty decides whether a fault happens here; it is asked only where the fault
// would make a difference.
func (s *simulated) faulty(fault string) bool {
	if s.fault != fault || s.random.Float64() >= s.rate {
		return false
	}
	s.faults++
	return true
}

// key prefers young keys: keys are used up, so that lists stay short.
func (s *simulated) key() int32 {
	return s.next/(hotKeys*30)*hotKeys + int32(s.random.IntN(hotKeys))
}

func (s *simulated) operation(x *session) {
	if x.txn == nil {
		return
	}
	key := s.key()
	if s.random.IntN(2) == 0 {
		x.txn.Ops = append(x.txn.Ops, s.read(x, key))
		return
	}
	if holder := s.locked[key]; s.level != "serializable" && holder != nil && holder != x {
		s.end(x, Aborted)
		return
	}
	s.locked[key] = x
	s.next++
	op := Op{Kind: Append, Key: key, Value: s.next}
	if s.register {
		op.Kind = Write
	}
	x.writes = append(x.writes, op)
	x.txn.Ops = append(x.txn.Ops, op)
}

func (s *simulated) read(x *session, key int32) Op {
	list := []int32{}
	for _, v := range s.keys[key] {
		if v.at <= x.snapshot {
			list = append(list, v.value)
		}
	}
	if holder := s.locked[key]; holder != nil && holder != x && s.faulty("dirty read") {
		list = append(list, valuesOf(holder.writes, key)...)
	}
	if own := valuesOf(x.writes, key); len(own) > 0 && !s.faulty("own write missed") {
		list = append(list, own...)
	}
	if s.register {
		return Op{Kind: Read, Key: key, Value: lastOf(list)}
	}
	return Op{Kind: ReadList, Key: key, List: list}
}

func valuesOf(writes []Op, key int32) []int32 {
	var values []int32
	for _, w := range writes {
		if w.Key == key {
			values = append(values, w.Value)
		}
	}
	return values
}

func (s *simulated) commit(x *session) {
	if s.level == "snapshot" && s.overtaken(x) && !s.faulty("no check of versions") {
		s.end(x, Aborted)
		return
	}
	if s.random.IntN(20) == 0 && s.level != "serializable" {
		s.end(x, Aborted)
		return
	}
	s.apply(x)
	if s.random.IntN(50) == 0 {
		s.end(x, Unknown)
		return
	}
	s.end(x, Committed)
}

// overtaken reports whether a key that x writes was written after its snapshot.
func (s *simulated) overtaken(x *session) bool {
	return slices.ContainsFunc(x.writes, func(w Op) bool {
		versions := s.keys[w.Key]
		return len(versions) > 0 && versions[len(versions)-1].at > x.snapshot
	})
}

// apply makes the writes visible.
func (s *simulated) apply(x *session) {
	if len(x.writes) > 0 && s.faulty("write lost") {
		x.writes = x.writes[1:]
	}
	if len(x.writes) > 1 && s.faulty("torn commit") {
		for _, w := range x.writes {
			at := s.tick()
			if w.Key%2 == 1 {
				at += 40
			}
			s.keys[w.Key] = append(s.keys[w.Key], committedValue{at, w.Value})
		}
		x.writes = nil
		return
	}
	at := s.tick()
	for _, w := range x.writes {
		s.keys[w.Key] = append(s.keys[w.Key], committedValue{at, w.Value})
	}
	x.writes = nil
}

func (s *simulated) end(x *session, outcome Outcome) {
	for key, holder := range s.locked {
		if holder == x {
			delete(s.locked, key)
		}
	}
	if outcome != Committed && outcome != Unknown && s.faulty("rollback forgotten") {
		s.apply(x)
	}
	x.txn.End, x.txn.Outcome = s.tick(), outcome
	s.txns = append(s.txns, *x.txn)
	x.txn, x.writes, x.left = nil, nil, 0
}

// Clean databases show nothing that their model forbids, and the weaker ones
// show what they allow.
func TestSimulatedClean(t *testing.T) {
	seed := explore.Seed(t)
	for i, c := range []struct {
		level    string
		register bool
		model    Model
		shows    []string
	}{
		{level: "serializable", model: StrictSerializable},
		{level: "serializable", register: true, model: StrictSerializable},
		{level: "snapshot", model: StrongSnapshotIsolation, shows: []string{G2Item}},
		{level: "snapshot", register: true, model: StrongSnapshotIsolation, shows: []string{G2Item}},
		{level: "read committed", model: ReadCommitted, shows: []string{GSingle, LostUpdate, Internal}},
		{level: "read committed", register: true, model: ReadCommitted, shows: []string{LostUpdate, Internal}},
	} {
		s := &simulated{level: c.level, register: c.register, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		history := s.run(20_000, 16)
		report := Check(history, Options{LinearizableKeys: c.register})
		t.Logf("%s, registers %v: %d count, %d dependencies: %s", c.level, c.register, report.Txns, report.Dependencies, report.Summary())
		if wrong := report.Against(c.model); len(wrong) > 0 {
			t.Errorf("%s: %v", c.level, wrong)
			for _, a := range report.Examples {
				if c.model.Forbids(a.Name) {
					t.Error(report.Explain(a))
				}
			}
		}
		for _, name := range c.shows {
			require.NotZero(t, report.Counts[name], "%s shows no %s", c.level, name)
		}
	}
}

// Each fault, a few among thousands of transactions, is found under the name
// that it has.
func TestSimulatedFaults(t *testing.T) {
	seed := explore.Seed(t)
	for i, c := range []struct {
		level, fault string
		rate         float64
		model        Model
		oneOf        []string // what it may be called
	}{
		{"snapshot", "dirty read", 0.02, StrongSnapshotIsolation, []string{AbortedRead, IntermediateRead, G1c, GSingle, IncompatibleOrder}},
		{"read committed", "dirty read", 0.02, ReadCommitted, []string{AbortedRead, IntermediateRead}},
		{"snapshot", "stale snapshot", 0.02, StrongSnapshotIsolation, []string{GSingle + process, GSingle + realtime}},
		{"snapshot", "no check of versions", 0.1, StrongSnapshotIsolation, []string{LostUpdate, GSingle}},
		{"snapshot", "torn commit", 0.05, StrongSnapshotIsolation, []string{GSingle, GSingle + realtime}},
		{"serializable", "write lost", 0.02, StrictSerializable, []string{GSingle + realtime, GSingle}},
		{"serializable", "own write missed", 0.1, StrictSerializable, []string{OwnWriteMissed}},
		{"read committed", "rollback forgotten", 0.02, ReadCommitted, []string{AbortedRead}},
		{"read committed", "own write missed", 0.1, ReadCommitted, []string{OwnWriteMissed}},
	} {
		for _, register := range []bool{false, true} {
			s := &simulated{level: c.level, fault: c.fault, register: register, rate: c.rate, random: rand.New(rand.NewPCG(seed, uint64(i)))}
			report := Check(s.run(20_000, 16), Options{LinearizableKeys: register && c.level != "read committed"})
			about := fmt.Sprintf("%s, registers %v, %s, %d times", c.level, register, c.fault, s.faults)
			t.Logf("%s: %s", about, report.Summary())
			require.NotZero(t, s.faults, about)
			against := report.Against(c.model)
			require.NotEmpty(t, against, about)
			if !register {
				require.True(t, slices.ContainsFunc(c.oneOf, func(name string) bool { return slices.Contains(against, name) }), "%s: %v", about, against)
			}
		}
	}
}

// The order in which a history lists its transactions does not matter.
func TestOrderOfHistory(t *testing.T) {
	seed := explore.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	history := (&simulated{level: "snapshot", random: random}).run(2_000, 8)
	want := Check(history, Options{}).Names()
	random.Shuffle(len(history), func(i, j int) { history[i], history[j] = history[j], history[i] })
	require.Equal(t, want, Check(history, Options{}).Names())
}

// BenchmarkCheck is the check of 100,000 transactions.
func BenchmarkCheck(b *testing.B) {
	for _, level := range []string{"serializable", "snapshot", "read committed"} {
		b.Run(level, func(b *testing.B) {
			s := &simulated{level: level, random: rand.New(rand.NewPCG(1, 0))}
			history := s.run(100_000, 16)
			b.ReportAllocs()
			for b.Loop() {
				Check(history, Options{})
			}
		})
	}
}
