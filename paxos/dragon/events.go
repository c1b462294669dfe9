package dragon

import (
	"sync"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/rowlockdb/rowlock/paxos"
)

// eventKey is what hints are coalesced by.
type eventKey struct {
	group paxos.GroupID
	kind  paxos.EventKind
}

// events passes hints from Dragonboat's goroutines, which must not block, to
// the channel, whose reader may be slow: of each kind and group only the
// newest waits.
type events struct {
	out  chan paxos.Event
	wake chan struct{}
	stop chan struct{}
	done chan struct{}
	mu   struct {
		sync.Mutex
		order  []eventKey
		newest map[eventKey]paxos.Event
	}
}

func newEvents() *events {
	e := &events{
		out:  make(chan paxos.Event),
		wake: make(chan struct{}, 1),
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	e.mu.newest = make(map[eventKey]paxos.Event)
	go e.run()
	return e
}

// post queues a hint.
func (e *events) post(ev paxos.Event) {
	k := eventKey{ev.Group, ev.Kind}
	e.mu.Lock()
	if _, ok := e.mu.newest[k]; !ok {
		e.mu.order = append(e.mu.order, k)
	}
	e.mu.newest[k] = ev
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) take() (paxos.Event, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.mu.order) == 0 {
		return paxos.Event{}, false
	}
	k := e.mu.order[0]
	e.mu.order = e.mu.order[1:]
	ev := e.mu.newest[k]
	delete(e.mu.newest, k)
	return ev, true
}

func (e *events) run() {
	defer close(e.done)
	defer close(e.out)
	for {
		ev, ok := e.take()
		if !ok {
			select {
			case <-e.wake:
				continue
			case <-e.stop:
				return
			}
		}
		select {
		case e.out <- ev:
		case <-e.stop:
			return
		}
	}
}

func (e *events) close() {
	close(e.stop)
	<-e.done
}

// listener hears from Dragonboat. Its methods run on one goroutine for all
// groups and must not block.
type listener struct{ host *host }

var (
	_ raftio.IRaftEventListener   = listener{}
	_ raftio.ISystemEventListener = listener{}
)

func (l listener) LeaderUpdated(i raftio.LeaderInfo) {
	g := paxos.GroupID(i.ShardID)
	if i.LeaderID != raftio.NoLeader {
		l.host.leaderKnown(g, paxos.ReplicaID(i.ReplicaID))
	}
	l.host.events.post(paxos.Event{
		Kind: paxos.LeaderChanged, Group: g,
		Leader: paxos.ReplicaID(i.LeaderID), Term: i.Term,
	})
}

func (l listener) MembershipChanged(i raftio.NodeInfo) {
	l.host.events.post(paxos.Event{Kind: paxos.MembershipChanged, Group: paxos.GroupID(i.ShardID)})
}

func (listener) NodeHostShuttingDown()                       {}
func (listener) NodeUnloaded(raftio.NodeInfo)                {}
func (listener) NodeDeleted(raftio.NodeInfo)                 {}
func (listener) NodeReady(raftio.NodeInfo)                   {}
func (listener) ConnectionEstablished(raftio.ConnectionInfo) {}
func (listener) ConnectionFailed(raftio.ConnectionInfo)      {}
func (listener) SendSnapshotStarted(raftio.SnapshotInfo)     {}
func (listener) SendSnapshotCompleted(raftio.SnapshotInfo)   {}
func (listener) SendSnapshotAborted(raftio.SnapshotInfo)     {}
func (listener) SnapshotReceived(raftio.SnapshotInfo)        {}
func (listener) SnapshotRecovered(raftio.SnapshotInfo)       {}
func (listener) SnapshotCreated(raftio.SnapshotInfo)         {}
func (listener) SnapshotCompacted(raftio.SnapshotInfo)       {}
func (listener) LogCompacted(raftio.EntryInfo)               {}
func (listener) LogDBCompacted(raftio.EntryInfo)             {}
