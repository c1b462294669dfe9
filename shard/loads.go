package shard

import (
	"context"
	"sync"
	"time"
)

const (
	// surveyEvery is the default pause between two looks at what the owners do. Rates
	// are known from the second one of a tenure on, so that a shard which has just
	// moved stays for a while.
	surveyEvery = 10 * time.Second
	// aimPatience is how long an exchange may take; what it came to is then left alone.
	aimPatience = time.Minute
)

// ShardLoad is how many requests the owner of a shard was sent in its tenure, which the
// epoch names.
type ShardLoad struct {
	Shard ID
	Epoch uint64
	Work  uint64
}

// LoadsRequest asks a node for the load of the shards that it owns.
type LoadsRequest struct{}

// LoadsResponse is its answer.
type LoadsResponse struct{ Loads []ShardLoad }

// AppendBinary appends the encoding.
func (m *LoadsRequest) AppendBinary(b []byte) []byte { return append(b, formatVersion) }

// Decode reads what AppendBinary wrote.
func (m *LoadsRequest) Decode(b []byte) error {
	d := newDecoder(b)
	return d.done()
}

// AppendBinary appends the encoding.
func (m *LoadsResponse) AppendBinary(b []byte) []byte {
	b = appendUint(append(b, formatVersion), uint64(len(m.Loads)))
	for _, l := range m.Loads {
		b = appendUint(appendUint(appendUint(b, uint64(l.Shard)), l.Epoch), l.Work)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *LoadsResponse) Decode(b []byte) error {
	d := newDecoder(b)
	m.Loads = list(&d, func(d *decoder) ShardLoad { return ShardLoad{ID(d.uint()), d.uint(), d.uint()} })
	return d.done()
}

// loads is what this node owns and how much was asked of it.
func (n *Node) loads() *LoadsResponse {
	response := &LoadsResponse{}
	for _, r := range n.local.all() {
		if t := r.serving.Load(); t != nil {
			response.Loads = append(response.Loads, ShardLoad{r.c.Shard, t.epoch, t.work.Load()})
		}
	}
	return response
}

// loadSurvey is what the owner of the system shard knows of the work of all owners.
// It begins anew with every owner.
type loadSurvey struct {
	sync.Mutex
	seen map[ID]seenLoad
	aims map[ID]aim
}

type seenLoad struct {
	ShardLoad
	at    time.Time
	rate  float64 // requests a second
	known bool
}

// aim is the node that is to own a shard, for the sake of its load.
type aim struct {
	node  uint64
	until time.Time
}

// take takes a node's answer in.
func (l *loadSurvey) take(loads []ShardLoad, now time.Time) {
	l.Lock()
	defer l.Unlock()
	if l.seen == nil {
		l.seen = map[ID]seenLoad{}
	}
	for _, load := range loads {
		before, ok := l.seen[load.Shard]
		switch {
		case ok && load.Epoch < before.Epoch: // a deposed owner
			continue
		case ok && load.Epoch == before.Epoch && load.Work >= before.Work && now.After(before.at):
			l.seen[load.Shard] = seenLoad{load, now, float64(load.Work-before.Work) / now.Sub(before.at).Seconds(), true}
		default:
			l.seen[load.Shard] = seenLoad{ShardLoad: load, at: now}
		}
	}
}

// rates are those that are known and were measured not long ago.
func (l *loadSurvey) rates(now time.Time, every time.Duration) map[ID]float64 {
	l.Lock()
	defer l.Unlock()
	rates := map[ID]float64{}
	for s, seen := range l.seen {
		if seen.known && now.Sub(seen.at) < every {
			rates[s] = seen.rate
		}
	}
	return rates
}

func (l *loadSurvey) want(x exchange, now time.Time) {
	l.Lock()
	defer l.Unlock()
	l.aims = map[ID]aim{}
	for s, node := range x {
		l.aims[s] = aim{node, now.Add(aimPatience)}
	}
}

// aimed are the owners that are wanted for their load and not there yet. One that may not
// own any more is not wanted any more.
func (l *loadSurvey) aimed(s *ClusterState, now time.Time) map[ID]uint64 {
	l.Lock()
	defer l.Unlock()
	var aims map[ID]uint64
	for _, p := range s.Shards {
		a, ok := l.aims[p.Shard]
		switch {
		case !ok:
		case p.Owner == a.node || now.After(a.until) || !s.mayOwn(a.node):
			delete(l.aims, p.Shard)
		default:
			if aims == nil {
				aims = map[ID]uint64{}
			}
			aims[p.Shard] = a.node
		}
	}
	return aims
}

// surveyLoads asks all nodes what their shards were sent, if this node owns the system
// shard, and exchanges owners where that evens the work out.
func (n *Node) surveyLoads(ctx context.Context) {
	r := n.replica(System)
	if r == nil || r.serving.Load() == nil || !n.Active(VersionLoads) {
		n.survey.forget()
		return
	}
	var asked sync.WaitGroup
	for _, m := range n.state.Load().Members {
		if !m.Up {
			continue
		}
		asked.Go(func() { n.surveyNode(ctx, m.ID) })
	}
	asked.Wait()
	now := n.c.Clock()
	state, err := n.picture(ctx, r)
	if err != nil || len(n.survey.aimed(state, now)) > 0 {
		return
	}
	if x := planExchange(state, n.survey.rates(now, n.c.SurveyEvery)); x != nil {
		n.c.Logger.Info("owners change places: their nodes do not work alike", "to", x)
		n.survey.want(x, now)
	}
}

func (n *Node) surveyNode(ctx context.Context, node uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	response := &LoadsResponse{}
	if err := n.router.callNode(ctx, nodeAddr(node), System, methodLoads, &LoadsRequest{}, response); err != nil {
		n.c.Logger.Debug("ask for loads", "of", node, "error", err)
		return
	}
	n.survey.take(response.Loads, n.c.Clock())
}

// picture is the state of the cluster as the registrar here knows it.
func (n *Node) picture(ctx context.Context, r *Replica) (*ClusterState, error) {
	g, now, err := n.registrarOf(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.Unlock()
	return n.clusterState(r, g, now)
}

// mayOwn reports whether shards may be handed to a node.
func (s *ClusterState) mayOwn(node uint64) bool {
	m, ok := s.Member(node)
	return ok && m.Up && m.State == MemberActive
}

func (l *loadSurvey) forget() {
	l.Lock()
	defer l.Unlock()
	l.seen, l.aims = nil, nil
}
