package dragon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/rowlockdb/rowlock/paxos"
	"github.com/rowlockdb/rowlock/paxos/logstore"
)

// A data directory is made with these and cannot be opened with others. One
// step worker and one log for all groups let groups share fsyncs and messages.
const (
	stepWorkers = 1
	logShards   = 1
)

// The other workers may change from start to start. The rest stand by.
const (
	commitWorkers   = 1
	snapshotWorkers = 4
	closeWorkers    = 4
)

// applyWorkers wait for nothing but the state machine, so more than processors are
// of no use; each looks five times a second whether there is anything to do.
func applyWorkers() uint64 { return uint64(min(4, runtime.GOMAXPROCS(0))) }

// maxUnapplied bounds the bytes of the log of one group that are held in
// memory; above it proposals are refused. It must exceed paxos.MaxCommand.
const maxUnapplied = 256 << 20

// host implements paxos.Host.
type host struct {
	options  Options
	id       string
	nh       *dragonboat.NodeHost
	store    *logstore.Store
	registry *registry
	events   *events
	failure  *failure
	log      *slog.Logger
	cuts     sync.WaitGroup // log cuts under way

	mu struct {
		sync.Mutex
		groups map[paxos.GroupID]*group
		closed bool
	}
}

var _ paxos.Host = (*host)(nil)

// Open opens a directory and starts a host without groups. Errors to decide by
// are paxos.ErrLocked, ErrForeign and ErrFormat.
func Open(o Options) (paxos.Host, error) {
	if err := checkSettings(foundSettings); err != nil {
		return nil, err
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	name, err := hostname()
	if err != nil {
		return nil, err
	}
	useLogger(o.Logger)
	h := &host{options: o, log: o.Logger, registry: newRegistry(o.Resolve), failure: newFailure(o.Failed)}
	h.mu.groups = make(map[paxos.GroupID]*group)
	if err := h.openDirectory(); err != nil {
		return nil, err
	}
	h.events = newEvents()
	if err := h.openNodeHost(newHostFS(stopFS{o.FS, h.failure}, o.Dir, name)); err != nil {
		h.events.close()
		return nil, errors.Join(err, h.store.Close())
	}
	h.failure.arm()
	return h, nil
}

// openDirectory checks the directory, locks it by opening the log and marks it.
func (h *host) openDirectory() error {
	d := directory{fs: h.options.FS, dir: h.options.Dir}
	if _, err := h.checkID(d); err != nil {
		return err
	}
	if err := d.create(); err != nil {
		return err
	}
	store, err := logstore.Open(logstore.Options{
		Dir:    d.join(logDir),
		FS:     h.options.LogFS,
		Logger: h.log,
		Fatal:  h.failure.stop,
	})
	if err != nil {
		return fmt.Errorf("dragon: %w", describe(err))
	}
	h.store = store
	// Only now is the directory ours; another process may have marked it.
	id, err := h.checkID(d)
	if err == nil && id == "" {
		if id = h.options.NodeHostID; id == "" {
			id = newUUID()
		}
		err = d.mark(id)
	}
	if err == nil {
		err = d.forgetHostname()
	}
	if err != nil {
		return errors.Join(err, store.Close())
	}
	h.id = id
	return nil
}

// checkID returns the id of the directory's host, empty if it is new.
func (h *host) checkID(d directory) (string, error) {
	id, err := d.check()
	if err != nil {
		return "", err
	}
	if want := h.options.NodeHostID; id != "" && want != "" && id != want {
		return "", fmt.Errorf("dragon: %s belongs to host %s, not to %s: %w", d.dir, id, want, paxos.ErrForeign)
	}
	return id, nil
}

func (h *host) openNodeHost(fs config.IFS) (err error) {
	nh, err := newNodeHost(h.config(fs))
	if err != nil {
		return fmt.Errorf("dragon: open %s: %w", h.options.Dir, describe(err))
	}
	h.nh = nh
	return nil
}

// newNodeHost turns the panics by which Dragonboat reports damaged files into
// errors.
func newNodeHost(c config.NodeHostConfig) (nh *dragonboat.NodeHost, err error) {
	defer catching()()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	nh, err = dragonboat.NewNodeHost(c)
	if err == nil && nh == nil {
		err = errors.New("damaged: Dragonboat cannot read its files")
	}
	return nh, err
}

func (h *host) config(fs config.IFS) config.NodeHostConfig {
	o := h.options
	c := config.NodeHostConfig{
		NodeHostID:          h.id,
		NodeHostDir:         o.Dir,
		RTTMillisecond:      uint64(o.RTT.Milliseconds()),
		RaftAddress:         o.Address,
		ListenAddress:       o.Listen,
		RaftEventListener:   listener{h},
		SystemEventListener: listener{h},
		MaxSendQueueSize:    maxUnapplied,
		Expert: config.ExpertConfig{
			LogDBFactory:        storeFactory{h.store},
			NodeRegistryFactory: registryFactory{h.registry},
			FS:                  fs,
			Engine: config.EngineConfig{
				ExecShards:     stepWorkers,
				CommitShards:   commitWorkers,
				ApplyShards:    applyWorkers(),
				SnapshotShards: snapshotWorkers,
				CloseShards:    closeWorkers,
			},
			LogDB: config.GetTinyMemLogDBConfig(),
		},
	}
	c.Expert.LogDB.Shards = logShards
	if t := o.TLS; t != nil {
		c.MutualTLS, c.CAFile, c.CertFile, c.KeyFile = true, t.CA, t.Cert, t.Key
	}
	switch {
	case o.Wire != nil:
		c.RaftAddress = h.id
		c.Expert.TransportFactory = wireFactory{o.Wire, &pace{rate: o.SnapshotRate}}
	case o.Address == "":
		c.RaftAddress = h.id
		c.Expert.TransportFactory = networkFactory{o.Network}
	}
	return c
}

// storeFactory hands the log, which is open, to Dragonboat, which closes it.
type storeFactory struct{ store *logstore.Store }

func (f storeFactory) Create(config.NodeHostConfig, config.LogDBCallback, []string, []string) (raftio.ILogDB, error) {
	return f.store, nil
}

func (f storeFactory) Name() string { return logstore.Name }

// ID implements paxos.Host.
func (h *host) ID() string { return h.id }

// Events implements paxos.Host.
func (h *host) Events() <-chan paxos.Event { return h.events.out }

// Start implements paxos.Host.
func (h *host) Start(spec paxos.GroupSpec, sm paxos.StateMachine) (paxos.Group, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	g := newGroup(h, spec)
	if err := h.reserve(g); err != nil {
		return nil, err
	}
	if err := g.start(spec, sm); err != nil {
		h.release(g)
		return nil, fmt.Errorf("dragon: start group %d: %w", spec.Group, describe(err))
	}
	return g, nil
}

// Stored implements paxos.Host.
func (h *host) Stored() ([]paxos.Stored, error) {
	infos, err := h.store.ListNodeInfo()
	if err != nil {
		return nil, fmt.Errorf("dragon: list replicas: %w", err)
	}
	var all []paxos.Stored
	for _, i := range infos {
		all = append(all, paxos.Stored{Group: paxos.GroupID(i.ShardID), Replica: paxos.ReplicaID(i.ReplicaID)})
	}
	slices.SortFunc(all, func(a, b paxos.Stored) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Replica, b.Replica))
	})
	return all, nil
}

// reserve claims the group before anything is started, so that two starts
// cannot meet and no event comes too early.
func (h *host) reserve(g *group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.closed {
		return fmt.Errorf("dragon: start group %d: %w", g.id, paxos.ErrClosed)
	}
	if h.mu.groups[g.id] != nil {
		return fmt.Errorf("dragon: start group %d: %w", g.id, paxos.ErrRunning)
	}
	h.mu.groups[g.id] = g
	return nil
}

func (h *host) release(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.groups[g.id] == g {
		delete(h.mu.groups, g.id)
	}
}

// leaderKnown opens the group for proposals.
func (h *host) leaderKnown(id paxos.GroupID, r paxos.ReplicaID) {
	h.mu.Lock()
	g := h.mu.groups[id]
	h.mu.Unlock()
	if g != nil && g.replica == r {
		g.markReady()
	}
}

// Stop implements paxos.Host.
func (h *host) Stop(id paxos.GroupID) error {
	if err := h.failure.failed(); err != nil {
		return fmt.Errorf("dragon: stop group %d: the host has failed: %w", id, err)
	}
	h.mu.Lock()
	g := h.mu.groups[id]
	h.mu.Unlock()
	if g == nil || !isClosed(g.started) {
		return fmt.Errorf("dragon: stop group %d: %w", id, paxos.ErrNotRunning)
	}
	err := g.stop()
	h.release(g)
	return err
}

// Purge implements paxos.Host.
func (h *host) Purge(id paxos.GroupID, r paxos.ReplicaID) error {
	h.mu.Lock()
	_, running := h.mu.groups[id]
	closed := h.mu.closed
	h.mu.Unlock()
	switch {
	case closed:
		return fmt.Errorf("dragon: purge group %d: %w", id, paxos.ErrClosed)
	case running:
		return fmt.Errorf("dragon: purge group %d: %w", id, paxos.ErrRunning)
	}
	ctx, cancel := context.WithTimeout(context.Background(), paxos.DefaultTimeout)
	defer cancel()
	if err := h.nh.SyncRemoveData(ctx, uint64(id), uint64(r)); err != nil {
		return fmt.Errorf("dragon: purge group %d: %w", id, describe(err))
	}
	return nil
}

// Close implements paxos.Host. Dragonboat itself waits only some seconds for
// state machines, hence the groups first. A host that has failed is left as it
// is: its workers stand still for good.
func (h *host) Close() error {
	h.mu.Lock()
	if h.mu.closed {
		h.mu.Unlock()
		return nil
	}
	h.mu.closed = true
	if err := h.failure.failed(); err != nil {
		h.mu.Unlock()
		return fmt.Errorf("dragon: the host has failed: %w", err)
	}
	h.failure.disarm()
	groups := slices.Collect(maps.Values(h.mu.groups))
	h.mu.Unlock()
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() {
			<-g.started
			errs[i] = g.stop()
		})
	}
	wg.Wait()
	h.cuts.Wait()
	h.nh.Close()
	h.events.close()
	return errors.Join(errs...)
}

// factory returns what Dragonboat makes a state machine with.
func factory(m *machine) statemachine.CreateOnDiskStateMachineFunc {
	return func(uint64, uint64) statemachine.IOnDiskStateMachine { return m }
}
