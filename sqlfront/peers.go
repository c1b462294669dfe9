package sqlfront

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dolthub/go-mysql-server/sql"
)

// Peers reach the servers of the other nodes. All methods may be called from any
// goroutine.
type Peers interface {
	// Members lists the nodes of the cluster; this one may be among them.
	Members() []Peer
	// Ask sends a request to a node's server and returns its answer. An error
	// says nothing about whether the request was carried out.
	Ask(ctx context.Context, node uint64, service byte, body []byte) ([]byte, error)
	// Handle names the function that answers the requests for a service.
	Handle(service byte, answer func(ctx context.Context, from uint64, body []byte) ([]byte, error))
}

// Peer is a node of the cluster.
type Peer struct {
	ID   uint64
	Name string
	Up   bool // it was heard of lately
}

// PeerService is the service that servers ask each other by.
const PeerService byte = 'S'

// peerPatience bounds what a statement waits for the answers of other nodes.
const peerPatience = time.Second

// others lists the other nodes, in the order of their ids.
func (s *Server) others() []Peer {
	if s.config.Peers == nil {
		return nil
	}
	members := slices.DeleteFunc(slices.Clone(s.config.Peers.Members()), func(p Peer) bool { return p.ID == s.config.Node })
	slices.SortFunc(members, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// ask sends one request to one node.
func (s *Server) ask(ctx context.Context, node uint64, q *peerRequest) (*peerAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	b, err := s.config.Peers.Ask(ctx, node, PeerService, q.encode())
	if err != nil {
		return nil, err
	}
	return decodePeerAnswer(b)
}

// gather answers a request here and asks all other nodes at once. Answers are in
// the order of node ids. Nodes without one are named in warnings of the statement:
// what they would have said is missing.
func (s *Server) gather(ctx context.Context, q *peerRequest) ([]*peerAnswer, error) {
	own, err := s.answer(ctx, s.config.Node, q)
	if err != nil {
		return nil, err
	}
	own.node = s.config.Node
	others := s.others()
	answers := make([]*peerAnswer, len(others), len(others)+1)
	errs := make([]error, len(others))
	var asked sync.WaitGroup
	for i, p := range others {
		if !p.Up {
			errs[i] = errNodeDown
			continue
		}
		asked.Go(func() { answers[i], errs[i] = s.ask(ctx, p.ID, q) })
	}
	asked.Wait()
	for i, p := range others {
		if errs[i] != nil {
			warn(ctx, fmt.Sprintf("node %d is missing from the answer: %v", p.ID, errs[i]))
			continue
		}
		answers[i].node = p.ID
	}
	answers = append(answers, own)
	answers = slices.DeleteFunc(answers, func(a *peerAnswer) bool { return a == nil })
	for _, a := range answers {
		if a.problem != "" {
			warn(ctx, fmt.Sprintf("node %d: %s", a.node, a.problem))
		}
	}
	slices.SortFunc(answers, func(a, b *peerAnswer) int { return cmp.Compare(a.node, b.node) })
	return answers, nil
}

var errNodeDown = fmt.Errorf("it is down")

// warnMissing is the number of the warnings of gather (ER_UNKNOWN_ERROR).
const warnMissing = 1105

func warn(ctx context.Context, text string) {
	if c, ok := ctx.(*sql.Context); ok {
		c.Warn(warnMissing, "%s", text)
	}
}

// tellPeers has the other nodes look for what this one has changed. Nobody waits for
// it: they look by themselves before long.
func (s *Server) tellPeers() {
	for _, p := range s.others() {
		if p.Up {
			go s.ask(context.Background(), p.ID, &peerRequest{kind: askPoke})
		}
	}
}

// answerPeer answers a request of another node.
func (s *Server) answerPeer(ctx context.Context, from uint64, body []byte) ([]byte, error) {
	q, err := decodePeerRequest(body)
	if err != nil {
		return nil, err
	}
	a, err := s.answer(ctx, from, q)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// answer carries a request out.
func (s *Server) answer(ctx context.Context, from uint64, q *peerRequest) (*peerAnswer, error) {
	var err error
	a := &peerAnswer{kind: q.kind}
	src := &s.config.Sources
	switch q.kind {
	case askProcesses:
		a.sessions = s.processes(ctx)
	case askKill:
		a.killed = s.killHere(&q.kill)
	case askClaim:
		a.claimed = s.holdClaim(ctx, from, &q.claim)
	case askUnclaim:
		s.dropClaim(claimKey{from, q.claim.id})
	case askClaims:
		a.claims = s.ownClaims()
	case askTransactions:
		a.transactions = s.config.Coordinator.Active()
	case askShards:
		a.shards, err = fromSource(ctx, src.Shards)
	case askDeadlocks:
		a.deadlocks, err = fromSource(ctx, src.Deadlocks)
	case askMetrics:
		a.metrics, err = fromSource(ctx, src.Metrics)
	case askReplicas:
		a.replicas, err = fromSource(ctx, src.Replicas)
	case askChecksums:
		a.checksums, err = fromSource(ctx, src.Checksums)
	case askPoke:
		s.Poke()
	default:
		return nil, errPeerFormat
	}
	if err != nil {
		a.problem = err.Error()
	}
	return a, nil
}

func fromSource[R any](ctx context.Context, source func(context.Context) ([]R, error)) ([]R, error) {
	if source == nil {
		return nil, nil
	}
	return source(ctx)
}

// fromAll makes a source of rows of the answers of all nodes.
func fromAll[R any](s *Server, kind peerKind, rows func(*peerAnswer) []R) func(context.Context) ([]R, error) {
	return func(ctx context.Context) ([]R, error) {
		answers, err := s.gather(ctx, &peerRequest{kind: kind})
		if err != nil {
			return nil, err
		}
		var all []R
		for _, a := range answers {
			all = append(all, rows(a)...)
		}
		return all, nil
	}
}

// shardsOfAll has one row for each shard: what its owner says, else what the node
// with the newest epoch says.
func (s *Server) shardsOfAll(ctx context.Context) ([]ShardInfo, error) {
	answers, err := s.gather(ctx, &peerRequest{kind: askShards})
	if err != nil {
		return nil, err
	}
	best := map[uint64]ShardInfo{}
	said := map[uint64]uint64{}
	for _, a := range answers {
		for _, row := range a.shards {
			old, known := best[row.Shard]
			better := row.Epoch > old.Epoch || row.Epoch == old.Epoch && row.Owner == a.node && said[row.Shard] != old.Owner
			if !known || better {
				best[row.Shard], said[row.Shard] = row, a.node
			}
		}
	}
	var rows []ShardInfo
	for _, id := range sortedIDs(best) {
		rows = append(rows, best[id])
	}
	return rows, nil
}

func sortedIDs[V any](m map[uint64]V) []uint64 {
	ids := make([]uint64, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
