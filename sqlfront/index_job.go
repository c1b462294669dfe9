package sqlfront

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// indexJob adds or drops an index beside the statements of others (Google F1's
// states). The descriptor says how far it is:
//
//	absent -> delete only -> write only -> public
//
// and backwards. A unique index is tolerant before it is write only: statements of
// others do not fail for what it will forbid, but note it, and the job fails. Before every step the present state is settled: every gateway has
// loaded it and no transaction uses the one before, and the shards refuse older
// versions. So at most two neighbouring states are in use at a time, and a
// transaction of a gateway that did not answer cannot commit. Between write only
// and public the entries of older rows are added (indexFill).
//
// Every method can be repeated: the job goes on from the descriptor and its record
// wherever it was left.
type indexJob struct {
	server  *Server
	catalog *Catalog
	id      catalog.ID
	record  jobRecord
	pace    pace
}

// errDuplicateRow ends a job whose unique index cannot be.
type errDuplicateRow struct{ key string }

func (e errDuplicateRow) Error() string { return e.key }

// jobPause is how long a job rests when it is in somebody's way.
const jobPause = 5 * time.Millisecond

// run carries the job on until it is over, paused or somebody else's.
func (j *indexJob) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j.server.background.Go(func() { j.beat(ctx) })
	for {
		again, err := j.step(ctx)
		var e *txn.Error
		var duplicate errDuplicateRow
		switch {
		case errors.Is(err, errJobTaken) || ctx.Err() != nil:
			return nil
		case errors.As(err, &duplicate):
			err = j.change(ctx, func(r *jobRecord) { r.Undo, r.Error, r.Duplicate = true, duplicate.Error(), true })
			again = true
		case errors.As(err, &e) && (retriable(err) || e.Code == txn.SchemaChanged || e.Code == txn.WouldBlock || e.Code == txn.LockTimeout):
			err, again = nil, true
			if pause(ctx) != nil {
				return nil
			}
		}
		if err != nil || !again {
			return err
		}
	}
}

// beat shows that the job is worked on.
func (j *indexJob) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatEvery):
		}
		_ = j.change(ctx, func(*jobRecord) {}) // whoever works finds out what is wrong
	}
}

// change changes the job's record, if the job is this gateway's.
func (j *indexJob) change(ctx context.Context, f func(*jobRecord)) error {
	return j.catalog.changeJob(ctx, j.id, func(r *jobRecord) error {
		if r.Gateway != j.catalog.follower.id || r.over() {
			return errJobTaken
		}
		f(r)
		r.Beat++
		return nil
	})
}

// step does what comes next; false when nothing does.
func (j *indexJob) step(ctx context.Context) (bool, error) {
	var err error
	if j.record, err = j.catalog.job(ctx, j.id); err != nil {
		return false, err
	}
	if j.record.Gateway != j.catalog.follower.id || j.record.State != jobRunning {
		return false, nil
	}
	if err := j.catalog.follower.refresh(ctx); err != nil {
		return false, err
	}
	schema, desc := j.table()
	if desc == nil {
		return false, j.end(ctx, "the table is gone")
	}
	i := desc.Index(j.record.Index)
	if i < 0 {
		return false, j.end(ctx, "the index is gone")
	}
	if desc.Frozen != 0 {
		return true, pause(ctx)
	}
	state := desc.Indexes[i].State
	if !j.record.Undo && state == catalog.IndexPublic {
		return false, j.end(ctx, "")
	}
	if err := j.settle(ctx, schema, desc); err != nil {
		return false, err
	}
	switch {
	case j.record.Undo && state == catalog.IndexPublic:
		return true, j.setState(ctx, schema, desc, catalog.IndexWriteOnly)
	case j.record.Undo && state != catalog.IndexDeleteOnly:
		return true, j.setState(ctx, schema, desc, catalog.IndexDeleteOnly)
	case j.record.Undo:
		return false, j.remove(ctx, schema, desc)
	case state == catalog.IndexDeleteOnly && desc.Indexes[i].Unique:
		return true, j.setState(ctx, schema, desc, catalog.IndexTolerant)
	case state == catalog.IndexDeleteOnly:
		return true, j.setState(ctx, schema, desc, catalog.IndexWriteOnly)
	}
	if done, err := j.fill(ctx, schema, desc); err != nil || !done {
		return true, err
	}
	// Where duplicates are refused by now, all that were let pass are committed.
	if err := j.doubles(ctx, desc.Indexes[i].ID); err != nil {
		return true, err
	}
	if state == catalog.IndexTolerant {
		return true, j.setState(ctx, schema, desc, catalog.IndexWriteOnly)
	}
	return true, j.setState(ctx, schema, desc, catalog.IndexPublic)
}

// table finds the table by its id: it may have another name by now.
func (j *indexJob) table() (*catalog.Schema, *catalog.Table) {
	for _, schema := range j.catalog.snapshot.Load().Schemas() {
		for _, desc := range schema.Tables {
			if desc.ID == j.record.TableID {
				return schema, desc
			}
		}
	}
	return nil, nil
}

func pause(ctx context.Context) error { return pauseFor(ctx, jobPause) }

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle makes the descriptor the oldest that anybody uses, or can commit with.
func (j *indexJob) settle(ctx context.Context, schema *catalog.Schema, desc *catalog.Table) error {
	name := tableLock(schema.Name, desc.Name)
	j.catalog.follower.busy(1)
	defer j.catalog.follower.busy(-1)
	if err := j.catalog.locks.Outlive(ctx, name); err != nil {
		return err
	}
	if err := j.catalog.follower.settled(ctx, j.catalog.loaded(), name); err != nil {
		return err
	}
	return j.catalog.coordinator.RaiseSchema(ctx, uint64(desc.ID), desc.Version)
}

// setState stores the next version of the table, with the index in another state.
func (j *indexJob) setState(ctx context.Context, schema *catalog.Schema, desc *catalog.Table, state catalog.IndexState) error {
	next := desc.Clone()
	x := &next.Indexes[next.Index(j.record.Index)]
	x.State = state
	if state == catalog.IndexPublic {
		var err error
		if x.Public, err = j.catalog.coordinator.Now(ctx); err != nil {
			return err
		}
	}
	return j.store(ctx, schema, desc, next, nil)
}

// remove takes an index away that nobody writes to any more, and ends the job.
func (j *indexJob) remove(ctx context.Context, schema *catalog.Schema, desc *catalog.Table) error {
	next := desc.Clone()
	i := next.Index(j.record.Index)
	dead := deadData{ID: next.Indexes[i].ID, Table: desc.Clone()}
	if err := j.catalog.forgetDoubles(ctx, dead.ID); err != nil {
		return err
	}
	next.Indexes = slices.Delete(next.Indexes, i, i+1)
	if err := j.store(ctx, schema, desc, next, &dead); err != nil {
		return err
	}
	j.server.garbage.wake()
	if err := j.settle(ctx, schema, next); err != nil {
		return err
	}
	return j.end(ctx, "")
}

// store puts the next version of the table in place of the one that was read.
func (j *indexJob) store(ctx context.Context, schema *catalog.Schema, desc, next *catalog.Table, dead *deadData) error {
	next.Version = desc.Version + 1
	change := catalog.Change{Kind: catalog.KindTable, Database: strings.ToLower(schema.Name), Name: strings.ToLower(desc.Name), Value: next}
	var version uint64
	err := j.catalog.update(ctx, "job", func(tx *txn.Txn) error {
		var r jobRecord
		if found, err := record(ctx, tx, jobKey(j.id), &r); err != nil || !found || r.Gateway != j.catalog.follower.id || r.Undo != j.record.Undo {
			return errors.Join(err, errChanged)
		}
		var now catalog.Table
		found, err := record(ctx, tx, objectKey(change), &now)
		if err != nil || !found || now.ID != desc.ID || now.Version != desc.Version || now.Frozen != 0 {
			return errors.Join(err, errChanged)
		}
		if err := putRecord(ctx, tx, objectKey(change), next); err != nil {
			return err
		}
		if dead != nil {
			if err := putRecord(ctx, tx, idKey(keyGarbage, dead.ID), *dead); err != nil {
				return err
			}
		}
		version, err = countChange(ctx, tx)
		return err
	})
	if errors.Is(err, errChanged) {
		return nil // the next step looks again
	}
	if err != nil {
		return err
	}
	j.catalog.publish([]catalog.Change{change}, version)
	return nil
}

var errChanged = errors.New("the table or the job has changed meanwhile")

// end writes down what became of the job. A reason says why it could not be done.
func (j *indexJob) end(ctx context.Context, reason string) error {
	if reason == "" {
		if _, desc := j.table(); desc != nil { // everybody has it when the statement returns
			if err := j.catalog.follower.settled(ctx, j.catalog.loaded()); err != nil {
				return err
			}
		}
	}
	return j.change(ctx, func(r *jobRecord) {
		switch {
		case r.Kind == jobDropIndex:
			r.State = jobDone
		case r.Undo && r.Error == "cancelled":
			r.State = jobCancelled
		case r.Undo:
			r.State = jobFailed
		case reason != "":
			r.State, r.Error = jobFailed, reason
		default:
			r.State, r.Total = jobDone, r.Done
		}
	})
}
