package sqlfront

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// ownProcedure tells whether a statement calls a procedure of the rowlock database:
// the engine asks for these by their name alone, which users may have too.
var ownProcedure = regexp.MustCompile("(?i)\\browlock`?\\s*\\.")

// ExternalStoredProcedure implements sql.ExternalStoredProcedureProvider.
func (p *Provider) ExternalStoredProcedure(ctx *sql.Context, name string, _ int) (*sql.ExternalStoredProcedureDetails, error) {
	if ctx == nil || !ownProcedure.MatchString(ctx.Query()) {
		return nil, nil
	}
	for _, d := range p.procedures() {
		if strings.EqualFold(d.Name, name) {
			return &d, nil
		}
	}
	return nil, nil
}

// ExternalStoredProcedures implements sql.ExternalStoredProcedureProvider.
func (p *Provider) ExternalStoredProcedures(ctx *sql.Context, name string) ([]sql.ExternalStoredProcedureDetails, error) {
	d, err := p.ExternalStoredProcedure(ctx, name, 0)
	if d == nil || err != nil {
		return nil, err
	}
	return []sql.ExternalStoredProcedureDetails{*d}, nil
}

func (p *Provider) procedures() []sql.ExternalStoredProcedureDetails {
	c := p.server.catalog
	job := func(name string, do func(*sql.Context, catalog.ID) error) sql.ExternalStoredProcedureDetails {
		return sql.ExternalStoredProcedureDetails{Name: name, Function: func(ctx *sql.Context, id uint64) (sql.RowIter, error) {
			if err := mayControl(ctx); err != nil {
				return nil, err
			}
			if err := do(ctx, catalog.ID(id)); err != nil {
				return nil, err
			}
			p.server.jobs.wake()
			return sql.RowsToRowIter(), nil
		}}
	}
	return []sql.ExternalStoredProcedureDetails{
		job("pause_job", func(ctx *sql.Context, id catalog.ID) error { return c.moveJob(ctx, id, jobRunning, jobPaused) }),
		job("resume_job", func(ctx *sql.Context, id catalog.ID) error { return c.moveJob(ctx, id, jobPaused, jobRunning) }),
		job("cancel_job", func(ctx *sql.Context, id catalog.ID) error { return c.cancelJob(ctx, id) }),
		{Name: "check_table", Function: p.server.checkTable, ReadOnly: true, Schema: sql.Schema{
			{Name: "index_name", Type: types.LongText}, {Name: "problem", Type: types.LongText},
			{Name: "row_key", Type: types.LongText}, {Name: "count", Type: types.Uint64},
		}},
	}
}

// mayControl admits whoever may set global variables.
func mayControl(ctx *sql.Context) error {
	if sessionOf(ctx).administrates(ctx) {
		return nil
	}
	return errNotAdministrator()
}

// moveJob moves a job from one state to another.
func (c *Catalog) moveJob(ctx *sql.Context, id catalog.ID, from, to jobState) error {
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
