package sqlfront

import (
	"context"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// schemaProcedures are the procedures about jobs, and check_table.
func (s *Server) schemaProcedures() []procedure {
	c := s.catalog
	job := func(name string, do func(context.Context, catalog.ID) error) procedure {
		return procedure{name: name, schema: doneSchema, call: func(ctx *sql.Context, id uint64) (sql.RowIter, error) {
			defer s.jobs.wake()
			return s.administered(ctx, func() error { return do(ctx, catalog.ID(id)) })
		}}
	}
	return []procedure{
		job("pause_job", func(ctx context.Context, id catalog.ID) error { return c.moveJob(ctx, id, jobRunning, jobPaused) }),
		job("resume_job", func(ctx context.Context, id catalog.ID) error { return c.moveJob(ctx, id, jobPaused, jobRunning) }),
		job("cancel_job", c.cancelJob),
		{name: "check_table", call: s.checkTable, schema: sql.Schema{
			{Name: "index_name", Type: types.LongText, Source: systemDatabaseName, Nullable: true},
			{Name: "problem", Type: types.LongText, Source: systemDatabaseName, Nullable: true},
			{Name: "row_key", Type: types.LongText, Source: systemDatabaseName, Nullable: true},
			{Name: "entries", Type: types.Uint64, Source: systemDatabaseName, Nullable: true},
		}},
	}
}

// moveJob moves a job from one state to another.
func (c *Catalog) moveJob(ctx context.Context, id catalog.ID, from, to jobState) error {
	return c.changeJob(ctx, id, func(j *jobRecord) error {
		if j.State == to {
			return nil
		}
		if j.State != from {
			return fmt.Errorf("job %d is %s", id, j.State)
		}
		j.State = to
		return nil
	})
}
