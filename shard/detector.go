package shard

import (
	"cmp"
	"slices"
	"time"

	"github.com/rowlockdb/rowlock/storage"
)

// reportLife is how long a report counts after it came in. Reporters with waits
// send a new one many times in that time.
const reportLife = time.Second

// detector finds deadlocks among the waits that nodes report: those that no
// single node sees. It is plain data, without clock, goroutine or lock.
//
// Reports of different nodes were made at different times, so that a cycle in
// them need never have been one: a wait may have ended before another began. Each
// answer carries the number of a step, and the next report says which step its
// node had seen when it looked at its waits. A cycle counts only when each of its
// waits was reported again after the step in which the cycle was first found: then
// all of them existed at that step together, and a true cycle does not go away.
//
// A new owner of the system shard begins with an empty detector and knows
// everything again as soon as each node has reported.
type detector struct {
	epoch     uint64
	step      uint64
	reports   map[uint64]*waitReport
	suspected map[string]suspicion // by the cycle: one wait may be in several
	verdicts  map[waitName][]reportedWait
}

// waitReport is the latest report of a node.
type waitReport struct {
	at       time.Time
	sequence uint64
	seen     uint64 // the last step that the node knew of when it looked
	waits    []ReportedWait
}

// waitName names a wait for ever: the ids of waits begin anew with an epoch.
type waitName struct {
	shard     ID
	epoch, id uint64
}

func (w *ReportedWait) name() waitName { return waitName{w.Shard, w.Epoch, w.ID} }

// reportedWait is a wait with the report that it is in.
type reportedWait struct {
	*ReportedWait
	report *waitReport
}

// suspicion is a cycle that was found and is not confirmed yet.
type suspicion struct {
	members []waitName // sorted
	step    uint64     // when it was first found
}

func newDetector(epoch uint64) *detector {
	return &detector{epoch: epoch, reports: map[uint64]*waitReport{}, suspected: map[string]suspicion{},
		verdicts: map[waitName][]reportedWait{}}
}

// take takes a report in and answers it with the verdicts on its node's waits.
// Reports that come late or twice change nothing.
func (d *detector) take(q *WaitsRequest, now time.Time) *WaitsResponse {
	if old := d.reports[q.Reporter]; old == nil || q.Sequence > old.sequence {
		d.step++
		r := &waitReport{at: now, sequence: q.Sequence, waits: q.Waits}
		if q.Epoch == d.epoch {
			r.seen = q.Seen
		}
		d.reports[q.Reporter] = r
		d.forget(now)
		d.search(r)
	}
	response := &WaitsResponse{Epoch: d.epoch, Step: d.step}
	for i := range q.Waits {
		if cycle := d.verdicts[q.Waits[i].name()]; cycle != nil {
			v := WaitVerdict{Shard: q.Waits[i].Shard, Epoch: q.Waits[i].Epoch, ID: q.Waits[i].ID}
			for _, m := range cycle {
				v.Members = append(v.Members, m.LockInfo)
			}
			response.Verdicts = append(response.Verdicts, v)
		}
	}
	return response
}

// forget drops reports that are too old, and what was decided on waits that
// nobody reports any more.
func (d *detector) forget(now time.Time) {
	present := map[waitName]bool{}
	for id, r := range d.reports {
		if now.Sub(r.at) > reportLife {
			delete(d.reports, id)
			continue
		}
		for i := range r.waits {
			present[r.waits[i].name()] = true
		}
	}
	for name := range d.verdicts {
		if !present[name] {
			delete(d.verdicts, name)
		}
	}
	for key, s := range d.suspected {
		if slices.ContainsFunc(s.members, func(m waitName) bool { return !present[m] }) {
			delete(d.suspected, key)
		}
	}
}

// search looks for cycles through the waits of a report.
func (d *detector) search(r *waitReport) {
	waits := map[storage.TxnID][]reportedWait{}
	for _, report := range d.reports {
		for i := range report.waits {
			w := reportedWait{&report.waits[i], report}
			waits[w.Txn] = append(waits[w.Txn], w)
		}
	}
	for i := range r.waits {
		start := reportedWait{&r.waits[i], r}
		if d.verdicts[start.name()] != nil {
			continue
		}
		if cycle := d.cycle(start, waits); cycle != nil {
			d.suspect(cycle)
		}
	}
}

// cycle returns a shortest cycle through a wait, nil if there is none. Waits that
// have their verdict are passed over: they are about to end.
func (d *detector) cycle(start reportedWait, waits map[storage.TxnID][]reportedWait) []reportedWait {
	type step struct {
		wait reportedWait
		from int
	}
	path := []step{{start, -1}}
	seen := map[storage.TxnID]bool{}
	for at := 0; at < len(path); at++ {
		for _, blocker := range path[at].wait.BlockedBy {
			if blocker == start.Txn {
				var cycle []reportedWait
				for i := at; i >= 0; i = path[i].from {
					cycle = append(cycle, path[i].wait)
				}
				slices.Reverse(cycle)
				return cycle
			}
			if seen[blocker] {
				continue
			}
			seen[blocker] = true
			for _, next := range waits[blocker] {
				if d.verdicts[next.name()] == nil {
					path = append(path, step{next, at})
				}
			}
		}
	}
	return nil
}

// suspect notes a cycle, or passes the verdict if it was noted long enough ago.
// The victim has written least; of equals it is the youngest. The cycle in a
// verdict begins with it.
func (d *detector) suspect(cycle []reportedWait) {
	at := 0
	for i := range cycle {
		if compareVictims(cycle[i], cycle[at]) < 0 {
			at = i
		}
	}
	cycle = append(slices.Clone(cycle[at:]), cycle[:at]...)
	victim := cycle[0].name()
	s := suspicion{step: d.step}
	for _, m := range cycle {
		s.members = append(s.members, m.name())
	}
	slices.SortFunc(s.members, func(a, b waitName) int {
		return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.id, b.id))
	})
	key := s.key()
	old, known := d.suspected[key]
	if !known {
		d.suspected[key] = s
		old = s
	}
	unconfirmed := func(m reportedWait) bool { return m.report.seen < old.step }
	if slices.ContainsFunc(cycle, unconfirmed) && !mutated("2.3.unconfirmed-cycle") {
		return
	}
	d.verdicts[victim] = cycle
	delete(d.suspected, key)
}

// key names a cycle, wherever it is entered.
func (s *suspicion) key() string {
	b := make([]byte, 0, 24*len(s.members))
	for _, m := range s.members {
		b = appendUint(appendUint(appendUint(b, uint64(m.shard)), m.epoch), m.id)
	}
	return string(b)
}

func compareVictims(a, b reportedWait) int {
	return cmp.Or(cmp.Compare(a.Weight, b.Weight), -a.Txn.Compare(b.Txn), cmp.Compare(a.ID, b.ID))
}
