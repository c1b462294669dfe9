package sqlfront

import (
	"context"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/storage"
)

// A statement is planned with the schema as its node knows it, and reads at a
// timestamp that it draws afterwards. Whoever changes a table in between waits for
// this node, unless he has taken it for dead: it may be cut off, or stand still,
// between the plan and the draw. What such a statement finds under the keys that it
// planned with may be gone by then. Writers are refused when they vote (H11); a
// reader asks, once it has its timestamp, whether the plan still holds.

// planTime is what a gateway knew when a statement began.
type planTime struct {
	known  storage.Timestamp // the schema up to here
	lapses uint64            // how often others may have taken the gateway for dead
}

func (f *follower) planTime() planTime {
	return planTime{known: storage.Timestamp(f.known.Load()), lapses: f.lapses.Load()}
}

// stillPlanned fails if what was planned may not fit what there is at a timestamp
// that has been drawn, or under a lock that has been granted (MaxTimestamp).
func (s *Session) stillPlanned(ctx *sql.Context, at storage.Timestamp, info *tableInfo) error {
	if at <= s.planned.known || info.temporary || s.ddl != nil || s.planned == (planTime{}) || mutated("H11.plan-outlived") {
		return nil
	}
	if mutated("H12.schema-unknown") { // knowsSchema is not the only one to look
		return nil
	}
	if lapsed, err := s.lapsed(ctx); err != nil || !lapsed {
		return err
	}
	schema := s.snapshot().Schema(info.database)
	if schema == nil {
		return errDataTooNew
	}
	now := schema.Table(info.desc.Name)
	if now == nil || now.ID != info.desc.ID || now.Version != info.desc.Version {
		return errDataTooNew
	}
	return nil
}

// lapsed tells whether others may have taken this gateway for dead since the
// statement began; if so, what they changed meanwhile is known when it returns.
func (s *Session) lapsed(ctx *sql.Context) (bool, error) {
	f := &s.catalog.follower
	if !f.fresh() {
		bounded, cancel := context.WithTimeout(ctx, planFor)
		defer cancel()
		if err := f.refresh(bounded); err != nil {
			return false, unheard(bounded, err)
		}
	}
	return f.lapses.Load() != s.planned.lapses, nil
}
