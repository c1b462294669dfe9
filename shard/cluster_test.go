package shard_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/memory"
	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

// testCluster is a cluster of nodes over in-memory groups; requests go from one to
// another through a map.
type testCluster struct {
	t       testing.TB
	network *memory.Network
	cluster [16]byte

	mu    sync.Mutex
	nodes map[string]*testNode // by number in decimal
	hosts map[uint64]func(paxos.Host) paxos.Host
	lose  func(request []byte) bool
	twist func(request []byte) twist // of those that are not lost; nil: none
	ahead atomic.Int64               // how far the clocks are ahead

	surveyEvery time.Duration  // negative: owners do not follow the load
	versions    shard.Versions // of new nodes
	ownLogs     bool           // see shard.Config
	shards      int            // besides the system shard; 0: 4
}

type testNode struct {
	id     uint64
	fs     *vfs.MemFS
	engine *storage.Engine
	host   paxos.Host
	node   *shard.Node
	notes  *notes
	disk   vfs.FS      // over fs, if set, until it is started again
	failed func(error) // of its store, if set
	// opening, if set, ends the next attempt to open it.
	opening context.Context

	versions shard.Versions // what its release speaks; zero is what this one does
}

// testWriter sends messages to the test's log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) { w.t.Logf("%s", b); return len(b), nil }

// notes is a shard.Memory.
type notes struct {
	sync.Mutex
	b []byte
}

func (n *notes) Load() ([]byte, error) { n.Lock(); defer n.Unlock(); return n.b, nil }
func (n *notes) Save(b []byte) error   { n.Lock(); defer n.Unlock(); n.b = b; return nil }

// Call implements shard.Transport.
func (c *testCluster) Call(ctx context.Context, to shard.NodeAddr, request []byte) ([]byte, error) {
	c.mu.Lock()
	var node *shard.Node
	if n := c.nodes[string(to)]; n != nil {
		node = n.node
	}
	lose, twisted := c.lose, c.twist
	c.mu.Unlock()
	if lose != nil && lose(request) {
		return nil, fmt.Errorf("the request to node %s is lost", to)
	}
	if node == nil {
		return nil, fmt.Errorf("node %s is down: %w", to, shard.ErrNotSent)
	}
	if twisted == nil {
		return node.Server().Serve(ctx, request), nil
	}
	how := twisted(request)
	if how == twice {
		node.Server().Serve(ctx, slices.Clone(request))
	}
	answer := node.Server().Serve(ctx, request)
	if how == answerLost {
		return nil, fmt.Errorf("the answer of node %s is lost", to)
	}
	return answer, nil
}

// twist is what happens to a request and its answer on the way.
type twist int

const (
	straight twist = iota
	twice          // the request arrives twice
	answerLost
)

func newTestCluster(t testing.TB, nodes int) *testCluster {
	return newTestClusterOf(t, nodes, shard.Versions{})
}

func newTestClusterOf(t testing.TB, nodes int, v shard.Versions) *testCluster {
	return openTestCluster(t, nodes, 4, v, -1)
}

func openTestCluster(t testing.TB, nodes, shards int, v shard.Versions, surveyEvery time.Duration) *testCluster {
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: surveyEvery, versions: v, shards: shards}
	t.Cleanup(c.close)
	c.start(&testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, versions: v})
	for i := 2; i <= nodes; i++ {
		c.join()
	}
	return c
}

func (c *testCluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *testCluster) start(n *testNode) {
	require.NoError(c.t, c.tryStart(n))
}

func (c *testCluster) tryStart(n *testNode) error {
	var err error
	disk := vfs.FS(n.fs)
	if n.disk != nil {
		disk, n.disk = n.disk, nil
	}
	n.engine, err = storage.Open(storage.Options{Dir: "data", FS: disk, Failed: n.failed})
	require.NoError(c.t, err)
	n.host = c.network.Host(fmt.Sprintf("host%d", n.id))
	host := n.host
	if wrap := c.hosts[n.id]; wrap != nil {
		host = wrap(host)
	}
	ctx := c.ctx()
	if n.opening != nil {
		ctx, n.opening = n.opening, nil
	}
	node, err := shard.Open(ctx, shard.Config{NodeID: n.id, Engine: n.engine, Host: host, Shards: cmp.Or(c.shards, 4), Transport: c,
		Logger:       slog.New(slog.NewTextHandler(testWriter{c.t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.id),
		Clock:        func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) },
		AlwaysEncode: true, GarbageInterval: -1, Cluster: c.cluster, Memory: n.notes, Versions: n.versions, DeadAfter: 4 * time.Second, SurveyEvery: c.surveyEvery, OwnLogs: c.ownLogs, Reducer: counting,
		Self: shard.Member{Name: fmt.Sprintf("n%d", n.id), Cluster: fmt.Sprintf("address%d", n.id)}})
	if err != nil {
		require.NoError(c.t, n.host.Close())
		require.NoError(c.t, n.engine.Close())
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.node = node
	c.nodes[fmt.Sprint(n.id)] = n
	return nil
}

// join adds a node the way a new directory does.
func (c *testCluster) join() *testNode {
	c.mu.Lock()
	next := len(c.nodes) + 1
	c.mu.Unlock()
	response, err := shard.Join(c.ctx(), c, "1", shard.Member{Host: fmt.Sprintf("host%d", next), Cluster: fmt.Sprintf("address%d", next), Versions: c.versions}, time.Now().Add(time.Duration(c.ahead.Load())))
	require.NoError(c.t, err)
	require.EqualValues(c.t, next, response.ID)
	n := &testNode{id: response.ID, fs: vfs.NewCrashableMem(), notes: &notes{b: shard.FirstNotes(&response.State)}, versions: c.versions}
	c.start(n)
	return n
}

func (c *testCluster) node(id int) *testNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[fmt.Sprint(id)]
}

// crash stops a node as a power cut would.
func (c *testCluster) crash(id int) *testNode {
	n := c.node(id)
	c.mu.Lock()
	node := n.node
	n.node = nil
	c.mu.Unlock()
	c.network.Crash(fmt.Sprintf("host%d", id))
	require.NoError(c.t, node.Close(c.ctx()))
	require.NoError(c.t, n.engine.Close())
	return n
}

func (c *testCluster) close() {
	for id := range len(c.nodes) {
		if n := c.node(id + 1); n.node != nil {
			require.NoError(c.t, n.node.Close(c.ctx()))
			require.NoError(c.t, n.host.Close())
			require.NoError(c.t, n.engine.Close())
		}
	}
}

// settled reports whether every shard has want voters, no learner and an owner,
// and every node of owners owns its share. Where every node is to have a replica of
// every shard, there is one owner.
func settled(s *shard.ClusterState, want int, owners ...uint64) bool {
	owned := map[uint64]int{}
	nodes := 0
	for _, m := range s.Members {
		if m.State == shard.MemberActive || m.State == shard.MemberDraining {
			nodes++
		}
	}
	for _, p := range s.Shards {
		if len(p.Voters) != want || len(p.Learners) > 0 || p.Owner == 0 {
			return false
		}
		owned[p.Owner]++
	}
	for _, o := range owners {
		if owned[o] < len(s.Shards)/len(owners) {
			return false
		}
	}
	if want == nodes && want > 1 && len(owned) != 1 {
		return false
	}
	return len(s.Shards) >= 5
}

// dataOwners are the nodes that own data shards, as node 1 has heard.
func (c *testCluster) dataOwners() map[uint64]bool {
	owners := map[uint64]bool{}
	for _, p := range c.node(1).node.State().Shards {
		if p.Shard != shard.System { // which stays where it is while a member is down
			owners[p.Owner] = true
		}
	}
	return owners
}

// spread makes the replicas of a shard fewer than the nodes, so that owners are spread.
func (c *testCluster) spread(nodes ...uint64) {
	c.t.Helper()
	require.NoError(c.t, c.node(1).node.SetReplication(c.ctx(), uint64(len(nodes)-1)))
	c.settle(1, len(nodes)-1, nodes...)
}

func (c *testCluster) settle(at int, want int, owners ...uint64) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return settled(c.node(at).node.State(), want, owners...) }, 2*time.Minute, 20*time.Millisecond,
		"%+v", c.node(at).node.State())
}

// write commits a row through a node, on its only shard.
func (c *testCluster) write(at int, s shard.ID, key, value string) {
	r := c.node(at).node.Router()
	require.Eventually(c.t, func() bool {
		ts, err := r.Timestamp(c.ctx())
		require.NoError(c.t, err)
		id := storage.TxnID{Start: ts, Gateway: c.node(at).node.Gateway(), Seq: uint64(ts)}
		lock, err := r.Lock(c.ctx(), s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys(key), Read: true})
		if err != nil {
			return false
		}
		floor, err := r.Timestamp(c.ctx())
		require.NoError(c.t, err)
		vote, err := r.OnePC(c.ctx(), s, &shard.OnePCRequest{Txn: id, Floor: floor, Token: lock.Token, Writes: put(key, value)})
		return err == nil && vote.State == storage.VoteCommitted
	}, time.Minute, 10*time.Millisecond)
}

func (c *testCluster) read(at int, s shard.ID, key string) string {
	value, err := c.look(c.ctx(), at, s, key)
	require.NoError(c.t, err)
	return value
}

// look is read with an error instead of the end of the test.
func (c *testCluster) look(ctx context.Context, at int, s shard.ID, key string) (string, error) {
	r := c.node(at).node.Router()
	ts, err := r.Timestamp(ctx)
	if err != nil {
		return "", err
	}
	response, err := r.Read(ctx, s, &shard.ReadRequest{At: ts, Keys: keys(key)})
	if err != nil {
		return "", err
	}
	return string(response.Rows[0].Value), nil
}

// Three nodes form a cluster: every shard gets three voters, one node owns all, and what
// one node writes all nodes read.
func TestClusterForms(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.write(1, 1, "before", "1")
	c.settle(1, 3)
	for at := 1; at <= 3; at++ {
		for s := shard.ID(1); s <= 4; s++ {
			c.write(at, s, fmt.Sprint("k", at), fmt.Sprint(at, s))
		}
	}
	for at := 1; at <= 3; at++ {
		require.Equal(t, "1", c.read(at, 1, "before"))
		for s := shard.ID(1); s <= 4; s++ {
			for by := 1; by <= 3; by++ {
				require.Equal(t, fmt.Sprint(by, s), c.read(at, s, fmt.Sprint("k", by)))
			}
		}
	}
}

// A node dies: another one owns its shards, all of them, nothing is lost; it comes back.
// Then all die and come back.
func TestClusterSurvives(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	for dead := 1; dead <= 3; dead++ {
		at := dead%3 + 1
		n := c.crash(dead)
		for s := shard.ID(1); s <= 4; s++ {
			c.write(at, s, "k", fmt.Sprint(dead, s))
		}
		c.start(n)
		c.settle(at, 3)
		for s := shard.ID(1); s <= 4; s++ {
			require.Equal(t, fmt.Sprint(dead, s), c.read(dead, s, "k"))
		}
	}
	var all []*testNode
	for id := 1; id <= 3; id++ {
		all = append(all, c.crash(id))
	}
	var wg sync.WaitGroup
	for _, n := range all {
		wg.Go(func() { c.start(n) })
	}
	wg.Wait()
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, fmt.Sprint(3, s), c.read(2, s, "k"))
	}
}

// A fourth node takes its part, also of what was one node's to own; one that leaves gives
// its part away and is removed; one that is silent for long is replaced.
func TestClusterGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	c.write(2, 3, "k", "v")
	c.join()
	held := func(id uint64) (n int) {
		s := c.node(1).node.State()
		m, _ := s.Member(id)
		for _, p := range s.Shards {
			for _, v := range p.Voters {
				if v.Host == m.Host {
					n++
				}
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return held(4) >= 3 && settled(c.node(1).node.State(), 3, 1, 2, 3, 4) }, 2*time.Minute, 20*time.Millisecond)
	require.Error(t, c.node(1).node.SetState(c.ctx(), 2, shard.MemberRemoved), "it has replicas")
	require.NoError(t, c.node(1).node.SetState(c.ctx(), 2, shard.MemberLeaving))
	require.Eventually(t, func() bool { return held(2) == 0 && settled(c.node(1).node.State(), 3) }, 2*time.Minute, 20*time.Millisecond)
	require.NoError(t, c.node(3).node.SetState(c.ctx(), 2, shard.MemberRemoved))
	require.Equal(t, "v", c.read(4, 3, "k"))
	require.NoError(t, c.node(2).node.Close(c.ctx()))
	n := c.node(2)
	c.mu.Lock()
	n.node = nil
	c.mu.Unlock()
	require.NoError(t, n.host.Close())
	require.NoError(t, n.engine.Close())
	require.ErrorContains(t, c.tryStart(n), "removed")
	c.join()
	c.settle(1, 3, 1, 3, 4, 5)
	c.crash(5)
	require.Eventually(t, func() bool { return held(5) == 0 && settled(c.node(1).node.State(), 3) && len(c.dataOwners()) == 1 }, 2*time.Minute, 20*time.Millisecond)
	require.Equal(t, "v", c.read(4, 3, "k"))
}

// A node that has joined serves every shard from the moment when Open returns.
func TestJoinedNodeKnowsTheShards(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	for s := shard.ID(1); s <= 4; s++ {
		require.Empty(t, c.read(2, s, "k"))
		require.NotEmpty(t, c.node(2).node.State().Shards)
	}
}

// A request to join that is delivered again does not start the count of a node's
// openings anew: no two of them may have the same gateway.
func TestJoinAgain(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	first := c.node(2).node.Gateway()
	response, err := shard.Join(c.ctx(), c, "1", shard.Member{Host: "host2", Name: "n2", Cluster: "address2"}, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 2, response.ID)
	c.start(c.crash(2))
	require.Greater(t, c.node(2).node.Gateway(), first)
}

// A lost answer about advisory locks does not keep a node from opening.
func TestOpenThoughAnAnswerIsLost(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	n := c.crash(2)
	lost := false
	c.mu.Lock()
	c.lose = func(request []byte) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		first := shard.IsAdvisory(request) && !lost
		lost = lost || first
		return first
	}
	c.mu.Unlock()
	c.start(n)
	require.True(t, lost)
}

// A node that is let in late tells the time of then, not that of its first attempt.
func TestClusterTakesNodesInLate(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	n := c.crash(2)
	first := uint64(0)
	c.mu.Lock()
	c.lose = func(request []byte) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		told := shard.Registers(request)
		if first == 0 && told != 0 {
			first = told
			c.ahead.Store(int64(5 * time.Minute))
		}
		return told != 0 && told == first
	}
	c.mu.Unlock()
	c.start(n)
	require.NotZero(t, first)
}

// Close waits for requests of others: nobody reads the engine afterwards.
func TestClosedNodeServesNothing(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 2)
	n := c.node(1).node
	began, ended := make(chan struct{}), make(chan struct{})
	n.Handle(200, func(ctx context.Context, _ uint64, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	answer := make(chan error, 1)
	go func() {
		_, err := c.node(2).node.Ask(c.ctx(), 1, 200, nil)
		answer <- err
	}()
	<-began
	c.crash(1)
	select {
	case <-ended:
	default:
		t.Fatal("the node is closed and still serves")
	}
	require.Error(t, <-answer)
	_, err := shard.Join(c.ctx(), serverOf{n}, "1", shard.Member{Host: "host3", Cluster: "address3"}, time.Now())
	require.ErrorContains(t, err, "closed")
}

// serverOf calls one node, whether it is open or not.
type serverOf struct{ node *shard.Node }

func (s serverOf) Call(ctx context.Context, _ shard.NodeAddr, request []byte) ([]byte, error) {
	return s.node.Server().Serve(ctx, request), nil
}

// A step of one shard's move that hangs does not keep the other shards waiting.
func TestStuckMoveHoldsUpItsOwnShard(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1, ownLogs: true}
	t.Cleanup(c.close)
	c.start(&testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}})
	c.join()
	c.mu.Lock()
	c.lose = func(request []byte) bool {
		if shard.IsStart(request, 2) {
			<-release
		}
		return false
	}
	c.mu.Unlock()
	c.join()
	others := func() bool {
		for _, p := range c.node(1).node.State().Shards {
			if p.Shard != 2 && len(p.Voters) != 3 {
				return false
			}
		}
		return true
	}
	require.Eventually(t, others, 2*time.Minute, 20*time.Millisecond)
	p, _ := c.node(1).node.State().Place(2)
	require.Len(t, p.Voters, 1, "its replica on another node was not started")
}

// Who changes a setting at a node finds it changed there.
func TestSettingIsSeenWhereItWasMade(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	for i, to := range []shard.MemberState{shard.MemberDraining, shard.MemberActive, shard.MemberDraining, shard.MemberActive} {
		at := c.node(1 + i%3).node
		require.NoError(t, at.SetState(c.ctx(), 2, to))
		m, _ := at.State().Member(2)
		require.Equal(t, to, m.State)
	}
}

// A read whose caller's time runs out says so wherever the owner is, not that the shard
// cannot be had.
func TestTimeRunsOutElsewhere(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.settle(1, 3)
	c.write(1, 2, "k", "v")
	place, _ := c.node(1).node.State().Place(2)
	r := c.node(int(place.Owner%3 + 1)).node.Router() // not the owner's
	var reads storage.Timestamp
	require.Eventually(t, func() bool { // a vote that nobody resolves
		start, err := r.Timestamp(c.ctx())
		if err != nil {
			return false
		}
		id := storage.TxnID{Start: start, Gateway: 1 << 40, Seq: uint64(start)}
		lock, err := r.Lock(c.ctx(), 2, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys("k")})
		if err != nil {
			return false
		}
		_, err = r.Prepare(c.ctx(), 2, &shard.PrepareRequest{OnePCRequest: shard.OnePCRequest{Txn: id,
			Floor: start, Token: lock.Token, Writes: put("k", "new")}, Participants: []shard.ID{2, 3}})
		if err == nil {
			reads, err = r.Timestamp(c.ctx())
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	for range 30 {
		ctx, cancel := context.WithTimeout(c.ctx(), 10*time.Millisecond)
		_, err := r.Read(ctx, 2, &shard.ReadRequest{At: reads, Keys: keys("k")})
		cancel()
		if shard.CodeOf(err) != shard.Undecided {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
}
