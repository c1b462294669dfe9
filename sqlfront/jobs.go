package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// jobRecord is a schema change that goes on beside the statements of others. It
// lives in the system shard and belongs to one gateway at a time, which shows by
// the beat that it works; when it does not, another one takes the job over and
// goes on where the record says.
type jobRecord struct {
	ID        catalog.ID `json:"id"`
	Kind      string     `json:"kind"` // jobAddIndex or jobDropIndex
	Statement string     `json:"statement"`
	Database  string     `json:"database"`
	Table     string     `json:"table"`
	TableID   catalog.ID `json:"table_id"`
	Index     string     `json:"index"`
	State     jobState   `json:"state"`
	// Undo says that the index goes: it is to be dropped, or could not be made.
	Undo  bool   `json:"undo,omitempty"`
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"` // estimate
	// Rows, Part and Position tell how far the rows have been gone through: under
	// which id, in which part of the key space, and the last key there. Rows that
	// have moved are gone through again.
	Rows     catalog.ID `json:"rows,omitempty"`
	Part     int        `json:"part,omitempty"`
	Position []byte     `json:"position,omitempty"`
	Started  time.Time  `json:"started"`
	Gateway  uint64     `json:"gateway"`
	Beat     uint64     `json:"beat"`
	Error    string     `json:"error,omitempty"`
	// Duplicate says that Error is about a value that a unique index forbids.
	Duplicate bool `json:"duplicate,omitempty"`
}

type jobState string

const (
	jobAddIndex  = "add index"
	jobDropIndex = "drop index"

	jobRunning   jobState = "running"
	jobPaused    jobState = "paused"
	jobDone      jobState = "done"
	jobFailed    jobState = "failed"
	jobCancelled jobState = "cancelled"
)

// keepJobs is how many finished jobs are remembered.
const keepJobs = 50

func (j *jobRecord) over() bool {
	return j.State == jobDone || j.State == jobFailed || j.State == jobCancelled
}

func jobKey(id catalog.ID) txn.Key { return idKey(keyJobs, id) }

// errJobTaken is returned to a gateway that no longer has the job it works on.
var errJobTaken = errors.New("another gateway has taken the job over")

// jobs lists all jobs, oldest first.
func (c *Catalog) jobs(ctx context.Context) ([]jobRecord, error) {
	tx := c.reader("jobs")
	defer tx.Rollback(ctx)
	var out []jobRecord
	err := eachRecord(ctx, tx, keyJobs, func(_ string, data []byte) error {
		var j jobRecord
		err := catalog.DecodeRecord(data, &j)
		out = append(out, j)
		return err
	})
	return out, err
}

// job reads one job.
func (c *Catalog) job(ctx context.Context, id catalog.ID) (jobRecord, error) {
	tx := c.reader("job")
	defer tx.Rollback(ctx)
	var j jobRecord
	found, err := peekRecord(ctx, tx, jobKey(id), &j)
	if err == nil && !found {
		err = fmt.Errorf("there is no job %d", id)
	}
	return j, err
}

// changeJob changes a job's record.
func (c *Catalog) changeJob(ctx context.Context, id catalog.ID, f func(*jobRecord) error) error {
	return c.update(ctx, "job", func(tx *txn.Txn) error {
		var j jobRecord
		found, err := record(ctx, tx, jobKey(id), &j)
		if err == nil && !found {
			err = fmt.Errorf("there is no job %d", id)
		}
		if err == nil {
			err = f(&j)
		}
		if err != nil {
			return err
		}
		return putRecord(ctx, tx, jobKey(id), j)
	})
}

// jobRunner carries out the jobs of this gateway, and those of gateways that died.
type jobRunner struct {
	server *Server
	signal chan struct{}
	runs   map[catalog.ID]chan struct{} // closed when the run is over
	seen   map[catalog.ID]*silence
}

func newJobRunner(s *Server) *jobRunner {
	return &jobRunner{server: s, signal: make(chan struct{}, 1), runs: map[catalog.ID]chan struct{}{}, seen: map[catalog.ID]*silence{}}
}

func (r *jobRunner) wake() {
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// run looks for jobs until ctx ends.
func (r *jobRunner) run(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.server.config.Logger.Warn("schema changes in the background", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.signal:
		}
	}
}

func (r *jobRunner) look(ctx context.Context) error {
	for id, over := range r.runs {
		select {
		case <-over:
			delete(r.runs, id)
		default:
		}
	}
	jobs, err := r.server.catalog.jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.State != jobRunning || r.runs[j.ID] != nil {
			delete(r.seen, j.ID)
			continue
		}
		if err := r.consider(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// consider begins a job of this gateway, and takes one over whose gateway is silent.
func (r *jobRunner) consider(ctx context.Context, j jobRecord) error {
	f := &r.server.catalog.follower
	if j.Gateway != f.id && !f.predecessor(j.Gateway) {
		if r.seen[j.ID] == nil {
			r.seen[j.ID] = &silence{}
		}
		if !r.seen[j.ID].heard(gatewayRecord{Beat: j.Beat}, time.Now()) {
			return nil
		}
	}
	err := r.server.catalog.changeJob(ctx, j.ID, func(now *jobRecord) error {
		if now.Gateway != j.Gateway || now.Beat != j.Beat || now.State != jobRunning {
			return errJobTaken
		}
		now.Gateway = f.id
		now.Beat++
		return nil
	})
	if errors.Is(err, errJobTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	over := make(chan struct{})
	r.runs[j.ID] = over
	r.server.background.Go(func() {
		defer r.wake()
		defer close(over)
		run := &indexJob{server: r.server, catalog: r.server.catalog, id: j.ID}
		if err := run.run(ctx); err != nil && ctx.Err() == nil {
			r.server.config.Logger.Warn("schema change in the background stops here", "job", uint64(j.ID), "error", err)
		}
	})
	return nil
}

// startJob stores a new job with the first step of its table, and forgets old ones.
func (c *Catalog) startJob(ctx context.Context, j jobRecord, desc *catalog.Table) (bool, error) {
	change := catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(j.Database), Name: strings.ToLower(desc.Name), Value: desc}
	var version uint64
	err := c.update(ctx, "job", func(tx *txn.Txn) error {
		version = 0
		var now catalog.Table
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.ID != desc.ID || now.Version+1 != desc.Version || now.Frozen != 0 {
			return err
		}
		if err := putRecord(ctx, tx, objectKey(change), desc); err != nil {
			return err
		}
		if err := putRecord(ctx, tx, jobKey(j.ID), j); err != nil {
			return err
		}
		version, err = countChange(ctx, tx)
		return err
	})
	if err != nil || version == 0 {
		return false, err
	}
	c.publish([]catalog.Change{change}, version)
	return true, c.forgetJobs(ctx)
}

func (c *Catalog) forgetJobs(ctx context.Context) error {
	jobs, err := c.jobs(ctx)
	if err != nil || len(jobs) <= keepJobs {
		return err
	}
	return c.update(ctx, "job", func(tx *txn.Txn) error {
		for _, j := range jobs[:len(jobs)-keepJobs] {
			if !j.over() {
				continue
			}
			if err := deleteRecord(ctx, tx, jobKey(j.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitJob waits for the end of a job, whoever carries it out. A client that goes
// cancels it.
func (s *Server) awaitJob(ctx context.Context, id catalog.ID) (jobRecord, error) {
	const shortest, longest = time.Millisecond, 100 * time.Millisecond
	pause := shortest
	for {
		j, err := s.catalog.job(ctx, id)
		if err == nil && j.over() {
			return j, nil
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-ctx.Done():
		case <-s.catalog.follower.life.Done():
			return j, ErrClosed
		}
		if ctx.Err() != nil {
			s.background.Go(func() {
				if err := s.catalog.cancelJob(s.catalog.follower.life, id); err != nil {
					s.config.Logger.Warn("schema change could not be cancelled", "job", uint64(id), "error", err)
				}
				s.jobs.wake()
			})
			return j, ctx.Err()
		}
	}
}

// cancelJob has a job undone, unless it is over.
func (c *Catalog) cancelJob(ctx context.Context, id catalog.ID) error {
	return c.changeJob(ctx, id, func(j *jobRecord) error {
		if j.over() {
			return fmt.Errorf("job %d is over", id)
		}
		if j.Kind == jobDropIndex {
			return fmt.Errorf("job %d drops an index and goes on to its end", id)
		}
		j.State = jobRunning
		if !j.Undo {
			j.Undo, j.Error = true, "cancelled"
		}
		return nil
	})
}
