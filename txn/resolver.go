package txn

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rowlockdb/rowlock/shard"
	"github.com/rowlockdb/rowlock/storage"
)

const (
	resolveAttempts = 5
	resolveBackoff  = 50 * time.Millisecond
)

// resolver hands outcomes to participants after the client has its answer. One
// goroutine per shard or node that has something to do, none otherwise. It may lose
// everything: an outcome that is not handed out is found by the sweep.
//
// What a node is told while a message to it is under way goes with the next one. What
// it does not take, because it owns the shard no more, is broken, or because an answer
// was lost, goes to the shard's queue, where each message finds the owner for itself.
type resolver struct {
	c      *Coordinator
	router Router
	local  handsIn // may be nil
	nodes  tells   // may be nil
	log    *slog.Logger

	mu struct {
		sync.Mutex
		queues  map[resolveTarget]*resolveQueue
		pending int           // tasks queued or under way
		drained chan struct{} // closed when pending falls to 0; nil while nobody waits
		stopped bool
	}
}

// resolveTarget is a shard, or the node that is believed to own several.
type resolveTarget struct {
	shard shard.ID // of tasks that go alone
	node  shard.NodeAddr
}

type resolveQueue struct {
	tasks   []resolveTask
	running bool
}

// resolveTask tells one shard one transaction's outcome.
type resolveTask struct {
	shard  shard.ID
	txn    storage.TxnID
	commit storage.Timestamp // committed, unless 0
	abort  bool              // aborted
	// unlock drops locks that have not voted: on a shard that takes no part, or
	// that never got the Prepare of an aborted transaction.
	unlock bool
	// closing makes sure that a shard whose answer is missing has a register,
	// so that a Prepare that arrives late finds it ABORTED.
	closing bool
}

// handsIn is a Router that tells owners on this node outcomes without a message
// (shard.Router.HandIn).
type handsIn interface {
	HandIn(s shard.ID, id storage.TxnID, commit storage.Timestamp) bool
	DrainOutcomes()
}

// tells is a Router that tells a node outcomes for several shards in one message.
type tells interface {
	NodeOf(s shard.ID) shard.NodeAddr
	Tell(ctx context.Context, to shard.NodeAddr, outcomes []shard.Told)
}

// resolveMessage is how many tasks one message to a node has at most.
const resolveMessage = 256

func newResolver(c *Coordinator) *resolver {
	r := &resolver{c: c, router: c.router, log: c.log}
	if c.cfg.Reached == nil { // else the steps are to be seen
		r.local, _ = c.router.(handsIn)
		r.nodes, _ = c.router.(tells)
	}
	r.mu.queues = make(map[resolveTarget]*resolveQueue)
	return r
}

// outcome tells the participants of a decided transaction, whose ballots say what
// each still needs: owners on this node at once, the others in the background.
func (r *resolver) outcome(id storage.TxnID, shards []shard.ID, ballots []ballot, commit storage.Timestamp) {
	for i, s := range shards {
		switch {
		case commit != 0 && ballots[i].answer == answerCommitted: // it knows
		case commit != 0 && r.local != nil && r.local.HandIn(s, id, commit):
		case commit != 0:
			r.add(resolveTask{shard: s, txn: id, commit: commit})
		default:
			r.add(resolveTask{shard: s, txn: id, unlock: true,
				abort: ballots[i].answer == answerPrepared, closing: ballots[i].answer == answerNone})
		}
	}
}

// release queues the release of locks on a shard that did not vote.
func (r *resolver) release(id storage.TxnID, s shard.ID) {
	r.add(resolveTask{shard: s, txn: id, unlock: true})
}

// target says with whom a task is queued. All but a commit may take a round of
// consensus, and goes alone.
func (r *resolver) target(task resolveTask) resolveTarget {
	if r.nodes != nil && task.commit != 0 {
		if node := r.nodes.NodeOf(task.shard); node != "" {
			return resolveTarget{node: node}
		}
	}
	return resolveTarget{shard: task.shard}
}

func (r *resolver) add(task resolveTask) {
	to := r.target(task)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.stopped {
		return
	}
	r.mu.pending++
	r.addLocked(to, task)
}

func (r *resolver) addLocked(to resolveTarget, task resolveTask) {
	q := r.mu.queues[to]
	if q == nil {
		q = &resolveQueue{}
		r.mu.queues[to] = q
	}
	q.tasks = append(q.tasks, task)
	if !q.running {
		q.running = true
		go r.run(to, q)
	}
}

// run works off one queue and ends when it is empty.
func (r *resolver) run(to resolveTarget, q *resolveQueue) {
	for {
		r.mu.Lock()
		tasks := q.tasks
		q.tasks = nil
		if len(tasks) == 0 {
			q.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if to.node != "" {
			r.tell(to.node, tasks)
			continue
		}
		for _, task := range tasks {
			r.do(task)
		}
		r.done(len(tasks))
	}
}

// done counts tasks that have come to an end.
func (r *resolver) done(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.pending -= n
	if r.mu.pending == 0 && r.mu.drained != nil {
		close(r.mu.drained)
		r.mu.drained = nil
	}
}

// tell sends tasks to a node, and those that it does not take to the queues of their
// shards.
func (r *resolver) tell(node shard.NodeAddr, tasks []resolveTask) {
	for part := range slices.Chunk(tasks, resolveMessage) {
		if r.isStopped() {
			r.done(len(part))
			continue
		}
		outcomes := make([]shard.Told, len(part))
		for i, task := range part {
			outcomes[i] = shard.Told{Shard: task.shard, Txn: task.txn, Commit: task.commit}
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupPatience)
		r.nodes.Tell(ctx, node, outcomes)
		cancel()
		taken := 0
		r.mu.Lock()
		for i, task := range part {
			if outcomes[i].Done || r.mu.stopped || mutated("0086.untaken-outcomes-forgotten") {
				taken++
			} else {
				r.addLocked(resolveTarget{shard: task.shard}, task)
			}
		}
		r.mu.Unlock()
		r.done(taken)
	}
}

// do carries out one task, trying again a few times.
func (r *resolver) do(task resolveTask) {
	for i := range resolveAttempts {
		if i > 0 {
			time.Sleep(resolveBackoff << i)
		}
		if r.isStopped() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupPatience)
		err := r.send(ctx, task.shard, task)
		cancel()
		if err == nil {
			return
		}
		r.log.Debug("hand out an outcome", "txn", task.txn, "shard", task.shard, "error", err)
	}
}

func (r *resolver) send(ctx context.Context, s shard.ID, task resolveTask) error {
	if task.closing {
		if _, err := r.router.CloseVote(ctx, s, &shard.CloseVoteRequest{Txn: task.txn}); err != nil {
			return err
		}
	}
	if task.commit != 0 || task.abort || task.closing {
		r.c.reached(StepResolve, task.txn)
		if err := r.router.Resolve(ctx, s, &shard.ResolveRequest{Txn: task.txn, Commit: task.commit}); err != nil {
			return err
		}
	}
	if !task.unlock {
		return nil
	}
	return r.router.Release(ctx, s, &shard.ReleaseRequest{Txn: task.txn})
}

// flush waits until every task queued before the call is done or given up.
func (r *resolver) flush(ctx context.Context) error {
	r.mu.Lock()
	if r.mu.pending == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.mu.drained == nil {
		r.mu.drained = make(chan struct{})
	}
	drained := r.mu.drained
	r.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close flushes, then takes no more tasks.
func (r *resolver) close(ctx context.Context) error {
	err := r.flush(ctx)
	r.mu.Lock()
	r.mu.stopped = true
	r.mu.Unlock()
	return err
}

func (r *resolver) isStopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.stopped
}
