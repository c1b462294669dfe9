package shard_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

const trunkGroup = paxos.GroupID(shard.TrunkSpace + 2)

// groups are those that are stored on a node.
func (c *testCluster) groups(id int) []paxos.GroupID {
	stored, err := c.node(id).host.Stored()
	require.NoError(c.t, err)
	var all []paxos.GroupID
	for _, s := range stored {
		all = append(all, s.Group)
	}
	return all
}

// cutHost cuts the power of its node before or after the n-th thing that is done to the
// host's groups: nothing is done after that.
type cutHost struct {
	paxos.Host
	network *memory.Network
	name    string // of the host
	fell    func() // returns when what came after the cut has ended

	mu   sync.Mutex
	left int           // moments before the cut; negative: there is none
	gate chan struct{} // nothing is done before it is closed, if it is there
	step string
	dead bool
	over func() // of the cut, see memory.Network.Cut
	cut  chan struct{}
	rng  *rand.Rand

	fs   *vfs.MemFS // of its node
	disk *vfs.MemFS // what the cut leaves of it
}

var errCut = errors.New("the power is gone")

// newCutHost comes over the host of a node when that is started. The cut is the n-th
// moment.
func (c *testCluster) newCutHost(n *testNode, cut int) *cutHost {
	ctx, gone := context.WithCancel(c.ctx())
	n.opening = ctx
	h := &cutHost{network: c.network, name: fmt.Sprint("host", n.id), left: cut, cut: make(chan struct{}), fs: n.fs, rng: rand.New(rand.NewPCG(7, uint64(cut)))}
	h.fell = sync.OnceFunc(func() {
		h.over()
		gone()
	})
	c.hosts = map[uint64]func(paxos.Host) paxos.Host{n.id: func(host paxos.Host) paxos.Host {
		h.Host = host
		return h
	}}
	return h
}

// never ends the time in which the power can go.
func (h *cutHost) never() (fell bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = -1
	return h.dead
}

// cutDisk is the disk of a cutHost's node: each fsync is a moment, once the host is there.
type cutDisk struct {
	vfs.FS
	host *cutHost
}

func (d cutDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return cutFile{f, d.host}, nil
}

func (d cutDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(d.FS.Create(name, c))
}

func (d cutDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.file(d.FS.OpenReadWrite(name, c, o...))
}

func (d cutDisk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(d.FS.ReuseForWrite(old, name, c))
}

func (d cutDisk) OpenDir(name string) (vfs.File, error) { return d.file(d.FS.OpenDir(name)) }
func (d cutDisk) Unwrap() vfs.FS                        { return d.FS }

type cutFile struct {
	vfs.File
	host *cutHost
}

func (f cutFile) Sync() error {
	f.host.moment("before an fsync")
	return f.File.Sync()
}

func (f cutFile) SyncData() error {
	f.host.moment("before an fsync")
	return f.File.SyncData()
}

func (f cutFile) SyncTo(length int64) (bool, error) {
	f.host.moment("before an fsync")
	return f.File.SyncTo(length)
}

// do does one thing, if there is power, with a moment before and one after at which it may
// go.
func (h *cutHost) do(step string, f func() error) error {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if h.moment("before " + step) {
		return errCut
	}
	err := f()
	if h.moment("after "+step) && err == nil {
		err = errCut
	}
	return err
}

func (h *cutHost) moment(step string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead || h.Host == nil {
		return h.dead
	}
	if h.left--; h.left != 0 {
		return false
	}
	h.step = step
	h.dead = true
	close(h.cut)                            // before the moment: what was acknowledged until now has to be there
	h.over = h.network.Cut(h.name, func() { // the logs and the disk stop at once
		h.disk = h.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: h.rng.IntN(101), RNG: h.rng})
	})
	go h.fell()
	return true
}

func (h *cutHost) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (g paxos.Group, err error) {
	err = h.do(fmt.Sprint("start of group ", spec.Group), func() error {
		g, err = h.Host.Start(spec, sm)
		return err
	})
	if err != nil && g != nil { // nobody will use it
		g = nil
	}
	return g, err
}

func (h *cutHost) Stop(g paxos.GroupID) error {
	return h.do(fmt.Sprint("stop of group ", g), func() error { return h.Host.Stop(g) })
}

func (h *cutHost) Purge(g paxos.GroupID, r paxos.ReplicaID) error {
	return h.do(fmt.Sprint("purge of group ", g), func() error { return h.Host.Purge(g, r) })
}

// fell ends a node whose power was cut and gives it the disk that it had then.
func (c *testCluster) fell(n *testNode, h *cutHost) {
	h.fell() // has ended when this returns
	c.mu.Lock()
	node := n.node
	n.node, n.fs, c.hosts = nil, h.disk, nil
	c.mu.Unlock()
	if node != nil {
		_ = node.Close(c.ctx()) // the host says that there is no power
		require.NoError(c.t, n.engine.Close())
	}
}

// trunk tells how the data shards of a node are stored.
func (c *testCluster) trunk(id int) string {
	snap := c.node(id).engine.Space(shard.TrunkSpace).Snapshot()
	defer snap.Close()
	_, alone, err := snap.Meta("alone")
	require.NoError(c.t, err)
	groups := c.groups(id)
	switch {
	case alone && slices.Equal(groups, []paxos.GroupID{1}):
		return "a trunk without a log"
	case !alone && slices.Equal(groups, []paxos.GroupID{1, trunkGroup}):
		return "a trunk with a log"
	case !alone && slices.Equal(groups, []paxos.GroupID{1, companyGroup}):
		return "a trunk with members"
	case !alone && slices.Equal(groups, []paxos.GroupID{1, 2, 3, 4, 5}):
		return "logs of their own"
	}
	return fmt.Sprint("groups ", groups, ", alone ", alone)
}

// A new key space whose node is alone has a trunk for its data shards, across restarts,
// which has a log where a release may have to read it that knows no other. That log goes
// with the first start at which the cluster's version says that there is no such release.
func TestTrunkIsFounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                         string
		versions                     shard.Versions
		first, second, then, company string
	}{
		{"this release", company, "a trunk without a log", "a trunk without a log", "a trunk without a log", "a trunk with members"},
		{"with a log", shard.Versions{Oldest: 1, Newest: shard.VersionTrunk}, "a trunk with a log", "a trunk with a log", "a trunk without a log", "a trunk with members"},
		{"before trunks", shard.Versions{Oldest: 1, Newest: shard.VersionTrunk - 1}, "logs of their own", "logs of their own", "logs of their own", "logs of their own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newTestClusterOf(t, 1, tc.versions)
			for s := shard.ID(1); s <= 4; s++ {
				c.write(1, s, "k", fmt.Sprint("v", s))
			}
			require.Equal(t, tc.first, c.trunk(1))
			again := func(now string) {
				n := c.crash(1)
				n.versions, c.versions = company, company
				c.start(n)
				for s := shard.ID(1); s <= 4; s++ {
					require.Equal(t, fmt.Sprint("v", s), c.read(1, s, "k"))
				}
				require.Equal(t, now, c.trunk(1))
			}
			again(tc.second)
			c.newest(1)
			again(tc.then)
			again(tc.then)
			c.join()
			require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
			c.settle(1, 2)
			for s := shard.ID(1); s <= 4; s++ {
				require.Equal(t, fmt.Sprint("v", s), c.read(2, s, "k"))
			}
			require.Equal(t, tc.company, c.trunk(1))
			c.sameSums(1, 2)
		})
	}
}

// The data is lost, the log and the notes are there: the start says so. Where the data is
// back, the next one finds it.
func TestRowsAreMissing(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 0)
	c.write(1, 1, "k", "v")
	n := c.crash(1)
	whole := n.fs
	n.fs = vfs.NewCrashableMem()
	err := c.tryStart(n)
	require.ErrorIs(t, err, paxos.ErrBehind)
	require.ErrorContains(t, err, "the rows' data is missing")
	n.fs = whole
	c.start(n)
	require.Equal(t, "v", c.read(1, 1, "k"))
}

// newest waits until a node has noted the newest version.
func (c *testCluster) newest(id int) {
	require.Eventually(c.t, func() bool { return c.node(id).node.Active(max(shard.NewestVersion, c.versions.Newest)) }, time.Minute, 10*time.Millisecond)
}

// The power goes at every step and every fsync of founding: the next opening finishes it.
func TestTrunkIsFoundedDespiteCuts(t *testing.T) {
	t.Parallel()
	for cut := 1; ; cut++ {
		c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1}
		n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}}
		h := c.newCutHost(n, cut)
		n.disk = cutDisk{n.fs, h}
		err := c.tryStart(n)
		if fell := h.never(); !fell {
			require.NoError(t, err)
			c.close()
			require.Greater(t, cut, 4, "a group is started, and there are fsyncs")
			return
		}
		t.Log("cut", cut, h.step, err)
		c.fell(n, h)
		c.start(n)
		require.Equal(t, "a trunk without a log", c.trunk(1))
		for s := shard.ID(1); s <= 4; s++ {
			c.write(1, s, "k", "v")
		}
		c.close()
	}
}

// The power goes at every step and every fsync of the start that does without the trunk's
// log: the next one finishes it, and nothing is lost.
func TestTrunkLosesItsLogDespiteCuts(t *testing.T) {
	t.Parallel()
	for cut := 1; ; cut++ {
		c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1}
		n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, versions: shard.Versions{Oldest: 1, Newest: shard.VersionTrunk}}
		c.start(n)
		for s := shard.ID(1); s <= 4; s++ {
			c.write(1, s, "k", fmt.Sprint("v", s))
		}
		c.crash(1)
		n.versions = shard.Versions{}
		c.start(n)
		c.newest(1)
		for s := shard.ID(1); s <= 4; s++ {
			c.write(1, s, "later", fmt.Sprint("w", s))
		}
		require.Equal(t, "a trunk with a log", c.trunk(1))
		c.network.Crash("host1")
		require.NoError(t, n.node.Close(c.ctx()))
		require.NoError(t, n.engine.Close())
		n.fs = n.fs.CrashClone(vfs.CrashCloneCfg{}) // the log has it all
		h := c.newCutHost(n, cut)
		n.disk = cutDisk{n.fs, h}
		n.node = nil
		err := c.tryStart(n)
		fell := h.never()
		if fell {
			t.Log("cut", cut, h.step, err)
			c.fell(n, h)
			c.start(n)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, "a trunk without a log", c.trunk(1))
		for s := shard.ID(1); s <= 4; s++ {
			require.Equal(t, fmt.Sprint("v", s), c.read(1, s, "k"))
			require.Equal(t, fmt.Sprint("w", s), c.read(1, s, "later"))
			c.write(1, s, "k", "x")
		}
		c.close()
		if !fell {
			require.Greater(t, cut, 8, "two groups are started, one is stopped and purged, and there are fsyncs")
			return
		}
	}
}

// The power goes at every step of leaving, with commits under way, and at every fsync of
// it, without: the next opening finishes it, nothing that was acknowledged is lost, and
// the second replica of each shard has what the first has.
func TestTrunkIsLeftDespiteCuts(t *testing.T) {
	t.Parallel()
	for _, v := range []shard.Version{shard.VersionAlone, shard.VersionCompany} {
		for _, fsyncs := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d, fsyncs %t", v, fsyncs), func(t *testing.T) {
				t.Parallel()
				leave := func(t *testing.T, cut int) bool {
					return leaveWithCut(t, cut, fsyncs, shard.Versions{Oldest: 1, Newest: v})
				}
				const together = 7 // they wait more than they work
				cuts := 0
				for more := true; more; {
					var fell [together]bool
					var wg sync.WaitGroup
					for i := range fell {
						cut := cuts + i + 1
						wg.Go(func() {
							t.Run(fmt.Sprint(cut), func(t *testing.T) { fell[i] = leave(t, cut) })
						})
					}
					wg.Wait()
					for _, f := range fell {
						if more = more && f && !t.Failed(); more {
							cuts++
						}
					}
				}
				require.GreaterOrEqual(t, cuts, 2) // of the trunk with members: before and after its group is started
			})
		}
	}
}

// leaveWithCut reports whether there was something to cut.
func leaveWithCut(t *testing.T, cut int, fsyncs bool, v shard.Versions) bool {
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1, versions: v}
	defer c.close()
	n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}, versions: v}
	h := c.newCutHost(n, -1)
	h.rng = rand.New(rand.NewPCG(7, uint64(cut)))
	if fsyncs {
		n.disk = cutDisk{n.fs, h}
	}
	c.start(n)
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "before", fmt.Sprint("v", s))
	}
	gate := make(chan struct{})
	h.set(gate, -1)
	c.join() // some shards are to move there: the shards begin to leave
	h.set(gate, cut)
	asked := c.node(1).node.SetReplication(c.ctx(), 2)
	close(gate)
	if !h.isDead() { // an fsync may be nobody's
		require.NoError(t, asked)
	}
	done := func() bool { return settled(c.node(1).node.State(), 2) }
	var acked []ackedWrite
	if fsyncs {
		require.Eventually(t, func() bool { return done() || h.isDead() }, 2*time.Minute, 10*time.Millisecond)
	} else {
		acked = c.writeUntil(h.cut, done)
	}
	fell := h.never()
	if fell {
		t.Log("cut ", h.step)
		c.fell(n, h)
		c.start(n)
	}
	if asked != nil {
		require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	}
	c.settle(1, 2)
	after := map[shard.Version]string{shard.VersionAlone: "logs of their own", shard.VersionCompany: "a trunk with members"}
	require.Equal(t, after[v.Newest], c.trunk(1))
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, fmt.Sprint("v", s), c.read(2, s, "before"))
	}
	for _, w := range acked {
		require.Equal(t, "v", c.read(2, w.shard, w.key), "an acknowledged commit of shard %d", w.shard)
	}
	c.sameSums(1, 2)
	return fell
}

// set says what the steps wait for, and when the cut comes.
func (h *cutHost) set(gate chan struct{}, cut int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate, h.left = gate, cut
}

func (h *cutHost) isDead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

// The power goes under commits, again and again: what was acknowledged is there.
func TestTrunkUnderPowerCuts(t *testing.T) {
	t.Parallel()
	c := &testCluster{t: t, network: memory.NewNetwork(1), cluster: [16]byte{7}, nodes: map[string]*testNode{}, surveyEvery: -1}
	defer c.close()
	n := &testNode{id: 1, fs: vfs.NewCrashableMem(), notes: &notes{}}
	var acked []ackedWrite
	for round := range 10 {
		h := c.newCutHost(n, -1)
		h.rng = rand.New(rand.NewPCG(8, uint64(round)))
		n.disk = cutDisk{n.fs, h}
		c.start(n)
		for _, w := range acked {
			require.Equal(t, "v", c.read(1, w.shard, w.key), "an acknowledged commit of shard %d, round %d", w.shard, round)
		}
		h.mu.Lock()
		h.left = 1 + h.rng.IntN(60)
		h.mu.Unlock()
		acked = append(acked, c.writeUntil(h.cut, func() bool { return false })...)
		c.fell(n, h)
	}
	c.start(n)
	require.NotEmpty(t, acked)
}

// happens waits for something that must come.
func happens[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(2 * time.Minute):
		t.Fatal("it does not happen")
	}
	return v
}

type ackedWrite struct {
	shard shard.ID
	key   string
}

// writeUntil commits rows on all shards through node 1, until the power is cut or done
// says so, and returns what was acknowledged before the cut.
func (c *testCluster) writeUntil(cut <-chan struct{}, done func() bool) []ackedWrite {
	var mu sync.Mutex
	var acked []ackedWrite
	var over atomic.Bool
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for s := shard.ID(1); s <= 4; s++ {
		wg.Go(func() {
			for i := 0; !over.Load(); i++ {
				key := fmt.Sprint("k", i)
				ok := c.tryWrite(ctx, 1, s, key, "v")
				select {
				case <-cut:
					return // nobody has seen an answer after that
				default:
				}
				if ok {
					mu.Lock()
					acked = append(acked, ackedWrite{s, key})
					mu.Unlock()
				}
			}
		})
	}
	deadline := time.Now().Add(2 * time.Minute)
	for !over.Load() && time.Now().Before(deadline) {
		select {
		case <-cut:
			over.Store(true)
			stop()
		case <-time.After(10 * time.Millisecond):
			over.Store(done())
		}
	}
	require.True(c.t, over.Load(), "the shards do not leave: %+v", c.node(1).node.State())
	wg.Wait()
	return acked
}

// tryWrite commits a row and reports whether that was acknowledged.
func (c *testCluster) tryWrite(ctx context.Context, at int, s shard.ID, key, value string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	node := c.node(at).node
	r := node.Router()
	ts, err := r.Timestamp(ctx)
	if err != nil {
		return false
	}
	id := storage.TxnID{Start: ts, Gateway: node.Gateway(), Seq: uint64(ts)}
	lock, err := r.Lock(ctx, s, &shard.LockRequest{Txn: id, Mode: shard.LockExclusive, Keys: keys(key), Read: true})
	if err != nil {
		return false
	}
	floor, err := r.Timestamp(ctx)
	if err != nil {
		return false
	}
	vote, err := r.OnePC(ctx, s, &shard.OnePCRequest{Txn: id, Floor: floor, Token: lock.Token, Writes: put(key, value)})
	return err == nil && vote.State == storage.VoteCommitted
}

// sameSums waits until two nodes have the same state of every shard.
func (c *testCluster) sameSums(a, b int) {
	sums := func(id int) []uint64 {
		all, err := c.node(id).node.Checksums()
		require.NoError(c.t, err)
		var sums []uint64
		for _, s := range all {
			sums = append(sums, s.Sum)
		}
		return sums
	}
	require.Eventually(c.t, func() bool { return len(sums(a)) == 5 && slices.Equal(sums(a), sums(b)) }, time.Minute, 10*time.Millisecond)
}

// leave is in the log when the power goes, and was not applied: the next opening leaves.
func TestTrunkIsLeftByItsLog(t *testing.T) {
	t.Parallel()
	c := newTestClusterOf(t, 1, shard.Versions{Oldest: 1, Newest: shard.VersionTrunk})
	for s := shard.ID(1); s <= 4; s++ {
		c.write(1, s, "k", fmt.Sprint("v", s))
	}
	var before paxos.Index
	var once sync.Once
	proposed := make(chan struct{})
	c.network.Observe(func(p memory.Proposal) {
		if p.Group == trunkGroup && len(p.Command) == 2 && !p.Finished { // nothing else is so short
			once.Do(func() {
				before = c.network.Committed(trunkGroup)
				c.network.Hold(trunkGroup, 1)
				close(proposed)
			})
		}
	})
	c.join()
	require.NoError(t, c.node(1).node.SetReplication(c.ctx(), 2))
	happens(t, proposed)
	require.Eventually(t, func() bool { return c.network.Committed(trunkGroup) > before }, time.Minute, time.Millisecond)
	c.network.Observe(nil)
	n := c.crash(1)
	c.network.Release(trunkGroup, 1)
	c.start(n)
	c.settle(1, 2)
	require.NotContains(t, c.groups(1), trunkGroup)
	for s := shard.ID(1); s <= 4; s++ {
		require.Equal(t, fmt.Sprint("v", s), c.read(2, s, "k"))
	}
	c.sameSums(1, 2)
}

// stuckHost cannot start groups of their own for shards.
type stuckHost struct {
	paxos.Host
	stuck atomic.Bool
	tried chan struct{}
}

func (h *stuckHost) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	if h.stuck.Load() {
		select {
		case h.tried <- struct{}{}:
		default:
		}
		return nil, errors.New("not now")
	}
	return h.Host.Start(spec, sm)
}

// A node is closed while its shards leave: the leaving ends, and goes on at the next
// opening.
func TestCloseWhileTheTrunkIsLeft(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 0)
	h := &stuckHost{tried: make(chan struct{}, 1)}
	n := c.node(1)
	require.NoError(t, n.node.Close(c.ctx()))
	require.NoError(t, n.host.Close())
	require.NoError(t, n.engine.Close())
	c.hosts = map[uint64]func(paxos.Host) paxos.Host{1: func(host paxos.Host) paxos.Host { h.Host = host; return h }}
	c.start(n)
	c.write(1, 1, "k", "v")
	h.stuck.Store(true)
	c.join()
	require.NoError(t, n.node.SetReplication(c.ctx(), 2))
	happens(t, h.tried)
	done := make(chan bool)
	go func() { done <- c.tryWrite(context.Background(), 1, 1, "k", "w") }()
	require.NoError(t, n.node.Close(c.ctx()))
	acked := happens(t, done)
	require.NoError(t, n.host.Close())
	require.NoError(t, n.engine.Close())
	h.stuck.Store(false)
	c.start(n)
	c.settle(1, 2)
	if now := c.read(2, 1, "k"); acked {
		require.Equal(t, "w", now)
	}
	c.sameSums(1, 2)
}
