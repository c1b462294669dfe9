package sqlfront

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

const (
	// pollEvery is the pace at which a gateway asks for changes that others made and
	// of which it was not told.
	pollEvery = 250 * time.Millisecond
	// planFor is how long after it last asked a gateway plans with what it heard.
	planFor = 3 * time.Second
	// deadAfter is how long somebody who waits for a gateway that says nothing
	// waits before it counts as dead. It is planFor and then some: a gateway that
	// has not seen a change by then has stopped planning without it.
	deadAfter = 5 * time.Second
	// beatEvery is the pace at which a gateway shows that it lives, while somebody
	// may wait for it.
	beatEvery = time.Second
)

// follower keeps the catalog of this gateway up to what other gateways make of
// it. One read of the system shard, four times a second, tells whether there is
// anything new. A table or database that another gateway has frozen is locked
// here, exclusively, on behalf of that gateway; what changes without a freeze is
// reported once nobody uses its former definition any more.
type follower struct {
	// Users in memory are not those that are stored after a change that failed: how many
	// such there were, and up to which the users were read again.
	failures, reread atomic.Uint64

	catalog  *Catalog
	id       uint64
	poke     chan struct{}
	polling  chan struct{} // one token
	base     time.Time
	life     context.Context // ends with end
	end      context.CancelFunc
	renewed  atomic.Int64  // when the last poll that succeeded began, from base; 0: never
	known    atomic.Uint64 // a timestamp up to which the catalog is known
	lapses   atomic.Uint64 // polls that came so late that others may have taken this gateway for dead
	told     func()        // tells other gateways that there is something new; may be nil
	buried   func()        // a gateway was found dead; nil before the start is over
	settings struct {
		sync.Mutex
		version uint64
		apply   func(context.Context) error // reads users and variables; nil before the start is over
	}
	following sync.Mutex // comes before mu
	mu        struct {
		sync.Mutex
		proxies map[string]*proxy
		leaving map[string]int // names whose former users are waited for
		active  int            // schema changes under way here
		beat    uint64
		said    gatewayRecord
		saidAt  time.Time
	}
}

// proxy is the metadata lock that stands for a schema change of another gateway.
type proxy struct {
	holder  catalog.Holder
	gateway uint64
	granted bool
	cancel  context.CancelFunc
	done    chan struct{}
}

func (f *follower) init(c *Catalog) {
	f.catalog, f.id = c, c.coordinator.Gateway()
	f.poke, f.polling, f.base = make(chan struct{}, 1), make(chan struct{}, 1), time.Now()
	f.life, f.end = context.WithCancel(context.Background())
	f.mu.proxies, f.mu.leaving = map[string]*proxy{}, map[string]int{}
}

// join makes this gateway known, before it reads the schema: every change that
// it does not read waits for it. What earlier lives of this node have left is
// ended: nobody else would know soon that they are over.
func (f *follower) join(ctx context.Context) error {
	if err := f.say(ctx, true); err != nil {
		return err
	}
	others, err := f.catalog.gateways(ctx)
	if err != nil {
		return err
	}
	for _, g := range others {
		if f.predecessor(g.ID) {
			if err := f.catalog.removeGateway(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// predecessor tells whether a gateway was an earlier life of this node.
func (f *follower) predecessor(id uint64) bool { return id>>48 == f.id>>48 && id < f.id }

// leave takes the record away when the server closes in order.
func (f *follower) leave(ctx context.Context) error {
	return f.catalog.update(ctx, "gateway leaves", func(tx *txn.Txn) error {
		return deleteRecord(ctx, tx, gatewayKey(f.id))
	})
}

// announce tells whoever follows that there is something new.
func (f *follower) announce() {
	f.wake()
	if f.told != nil {
		f.told()
	}
}

func (f *follower) wake() {
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context, warn func(string, error)) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	sweep := time.NewTicker(deadAfter / 5)
	defer sweep.Stop()
	watch := map[uint64]*silence{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.poke:
		case <-sweep.C:
			if err := f.watch(ctx, watch); err != nil && ctx.Err() == nil {
				warn("gateways that hold schema changes up", err)
			}
		}
		err := f.poll(ctx)
		if err == nil {
			err = f.say(ctx, false)
		}
		if err != nil && ctx.Err() == nil {
			warn("schema changes of other gateways", err)
		}
	}
}

// fresh tells whether the catalog may be planned with.
func (f *follower) fresh() bool {
	at := f.renewed.Load()
	return at != 0 && !f.behind() && time.Since(f.base)-time.Duration(at) < planFor
}

// refresh makes sure that everything that was committed before the call is loaded.
func (f *follower) refresh(ctx context.Context) error { return f.poll(ctx) }

// poll asks for what is new and takes it in.
func (f *follower) poll(ctx context.Context) error {
	select {
	case f.polling <- struct{}{}:
		defer func() { <-f.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		done, err := f.pollOnce(ctx)
		if done || err != nil {
			return err
		}
	}
}

func (f *follower) pollOnce(ctx context.Context) (done bool, err error) {
	began := time.Since(f.base)
	tx := f.catalog.reader("catalog")
	defer tx.Rollback(ctx)
	rows, err := tx.GetMany(ctx, []txn.Key{systemKey(keyVersion), systemKey(keySettings), gatewayKey(f.id)}, txn.ReadOptions{})
	if err != nil {
		return false, err
	}
	var version, settings uint64
	for i, v := range []*uint64{&version, &settings} {
		if rows[i].Found {
			if err := catalog.DecodeRecord(rows[i].Value, v); err != nil {
				return false, fmt.Errorf("record %s: %w", rows[i].Key, err)
			}
		}
	}
	if !rows[2].Found { // somebody took this gateway for dead: it plans with nothing before it is known again
		f.renewed.Store(0)
		return false, f.say(ctx, true)
	}
	if version > f.catalog.loaded() || !f.started() {
		next, err := loadSnapshot(ctx, tx)
		if err != nil {
			return false, err
		}
		if old := f.catalog.replace(next, version); old != nil {
			f.follow(old, next)
		} else if f.catalog.loaded() < version {
			return false, nil // a change made here has overtaken the read
		}
	}
	if err := f.pollSettings(ctx, settings); err != nil {
		return false, err
	}
	f.known.Store(uint64(tx.ReadAt()))
	if before := f.renewed.Load(); before == 0 || began-time.Duration(before) >= planFor {
		f.lapses.Add(1)
	}
	f.renewed.Store(max(int64(began), 1))
	return true, nil
}

func (f *follower) started() bool { return f.renewed.Load() != 0 }

// pollSettings takes users and variables in that others changed.
func (f *follower) pollSettings(ctx context.Context, version uint64) error {
	f.settings.Lock()
	apply, known := f.settings.apply, f.settings.version
	f.settings.Unlock()
	failures := f.failures.Load()
	if apply == nil || version <= known && !f.behind() {
		return nil
	}
	if err := apply(ctx); err != nil {
		return fmt.Errorf("users and variables: %w", err)
	}
	f.reread.Store(failures) // not before: no statement may look at the users in memory until then
	f.settings.Lock()
	f.settings.version = max(f.settings.version, version)
	f.settings.Unlock()
	return nil
}

// setSettings says who takes users and variables in, and up to which change he has.
func (f *follower) setSettings(version uint64, apply func(context.Context) error) {
	f.settings.Lock()
	defer f.settings.Unlock()
	f.settings.version, f.settings.apply = version, apply
}

// settingsKnown is the number of changes of users and variables that are in force here.
func (f *follower) settingsKnown() uint64 {
	f.settings.Lock()
	defer f.settings.Unlock()
	return f.settings.version
}

// settingsMade says that this gateway made a change of users and variables. If it
// is not the one after the last that is in force here, those between come first.
func (f *follower) settingsMade(version uint64) {
	f.settings.Lock()
	if version == f.settings.version+1 {
		f.settings.version = version
	}
	f.settings.Unlock()
	f.announce()
}

// setSettingsBehind has users and variables read again.
func (f *follower) setSettingsBehind() {
	f.failures.Add(1)
	f.wake()
}

func (f *follower) behind() bool { return f.reread.Load() != f.failures.Load() }

// follow does what the step from one snapshot to the next asks of this gateway.
func (f *follower) follow(old, next *catalog.Snapshot) {
	f.following.Lock()
	defer f.following.Unlock()
	frozen := f.frozen(f.catalog.snapshot.Load()) // next, or one that came after it
	f.mu.Lock()
	var over []*proxy
	for name, p := range f.mu.proxies {
		if _, still := frozen[name]; !still {
			over = append(over, p)
			delete(f.mu.proxies, name)
		}
	}
	for name, gateway := range frozen {
		if p := f.mu.proxies[name]; p != nil {
			p.gateway = gateway
			continue
		}
		f.mu.proxies[name] = f.newProxy(name, gateway)
	}
	f.mu.Unlock()
	for _, p := range over {
		p.cancel()
		<-p.done
		f.catalog.locks.ReleaseAll(&p.holder)
	}
	for _, name := range changedWithoutFreeze(old, next) {
		f.outlive(name)
	}
}

// frozen are the metadata locks that other gateways want to have here.
func (f *follower) frozen(s *catalog.Snapshot) map[string]uint64 {
	names := map[string]uint64{}
	for _, schema := range s.Schemas() {
		if schema.Frozen != 0 && schema.Frozen != f.id {
			names[schemaLock(schema.Name)] = schema.Frozen
		}
		for _, desc := range schema.Tables {
			if desc.Frozen != 0 && desc.Frozen != f.id {
				names[tableLock(schema.Name, desc.Name)] = desc.Frozen
			}
		}
	}
	return names
}

// changedWithoutFreeze are the tables whose definition another one has replaced
// beside those who use it.
func changedWithoutFreeze(old, next *catalog.Snapshot) []string {
	var names []string
	for _, schema := range old.Schemas() {
		after := next.Schema(schema.Name)
		if after == nil {
			continue
		}
		for name, was := range schema.Tables {
			is := after.Tables[name]
			if is != nil && is.Version != was.Version && was.Frozen == 0 && is.Frozen == 0 {
				names = append(names, tableLock(schema.Name, is.Name))
			}
		}
	}
	return names
}

// newProxy locks a name for another gateway, however long it takes.
func (f *follower) newProxy(name string, gateway uint64) *proxy {
	ctx, cancel := context.WithCancel(f.life)
	p := &proxy{gateway: gateway, cancel: cancel, done: make(chan struct{})}
	p.holder.From(gateway >> 48) // its node
	go func() {
		defer close(p.done)
		const forever = 1<<63 - 1
		if f.catalog.locks.Acquire(ctx, &p.holder, name, catalog.Exclusive, forever) != nil {
			return
		}
		f.mu.Lock()
		p.granted = true
		f.mu.Unlock()
		f.wake()
	}()
	return p
}

// outlive reports the name as pending until those who have it now are gone.
func (f *follower) outlive(name string) {
	f.mu.Lock()
	f.mu.leaving[name]++
	f.mu.Unlock()
	go func() {
		f.catalog.locks.Outlive(f.life, name)
		f.mu.Lock()
		if f.mu.leaving[name]--; f.mu.leaving[name] == 0 {
			delete(f.mu.leaving, name)
		}
		f.mu.Unlock()
		f.wake()
	}()
}

// busy counts schema changes of this gateway, while which it shows that it lives.
func (f *follower) busy(by int) {
	f.mu.Lock()
	f.mu.active += by
	f.mu.Unlock()
	if by > 0 {
		f.wake()
	}
}

// say writes this gateway's record, if it says anything new or is due.
func (f *follower) say(ctx context.Context, always bool) error {
	loaded := f.catalog.loaded()
	f.mu.Lock()
	next := gatewayRecord{ID: f.id, Loaded: loaded, Pending: f.pendingLocked()}
	same := next.Loaded == f.mu.said.Loaded && slices.Equal(next.Pending, f.mu.said.Pending)
	due := (len(next.Pending) > 0 || f.mu.active > 0) && time.Since(f.mu.saidAt) >= beatEvery
	if same && !due && !always {
		f.mu.Unlock()
		return nil
	}
	f.mu.beat++
	next.Beat = f.mu.beat
	f.mu.Unlock()
	err := f.catalog.update(ctx, "gateway", func(tx *txn.Txn) error {
		return putRecord(ctx, tx, gatewayKey(f.id), next)
	})
	if err != nil {
		return fmt.Errorf("record of this gateway: %w", err)
	}
	f.mu.Lock()
	f.mu.said, f.mu.saidAt = next, time.Now()
	f.mu.Unlock()
	return nil
}

// pendingLocked are the names that are still used as they were before.
func (f *follower) pendingLocked() []string {
	var names []string
	for name, p := range f.mu.proxies {
		if !p.granted {
			names = append(names, name)
		}
	}
	for name := range f.mu.leaving {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
