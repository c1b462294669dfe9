package sqlfront

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
)

// Views, triggers, procedures and events are texts with a name.

// CreateView implements sql.ViewDatabase.
func (d *Database) CreateView(ctx *sql.Context, name, selectText, createText string) error {
	if _, ok := d.schema(ctx).Views[strings.ToLower(name)]; ok {
		return sql.ErrExistingView.New(d.name, name)
	}
	view := &sql.ViewDefinition{
		Name: name, TextDefinition: selectText, CreateViewStatement: createText, SqlMode: sql.LoadSqlMode(ctx).String(),
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindView, d.name, name, view)
}

// DropView implements sql.ViewDatabase.
func (d *Database) DropView(ctx *sql.Context, name string) error {
	if _, ok := d.schema(ctx).Views[strings.ToLower(name)]; !ok {
		return sql.ErrViewDoesNotExist.New(d.name, name)
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindView, d.name, name, nil)
}

// GetViewDefinition implements sql.ViewDatabase. It is asked about every table
// name of every statement.
func (d *Database) GetViewDefinition(ctx *sql.Context, name string) (sql.ViewDefinition, bool, error) {
	views := d.schema(ctx).Views
	if len(views) == 0 {
		return sql.ViewDefinition{}, false, nil
	}
	view, ok := views[strings.ToLower(name)]
	if !ok {
		return sql.ViewDefinition{}, false, nil
	}
	return *view, true, nil
}

// AllViews implements sql.ViewDatabase.
func (d *Database) AllViews(ctx *sql.Context) ([]sql.ViewDefinition, error) {
	var out []sql.ViewDefinition
	views := d.schema(ctx).Views
	for _, name := range slices.Sorted(maps.Keys(views)) {
		out = append(out, *views[name])
	}
	return out, nil
}

// GetTriggers implements sql.TriggerDatabase, in order of creation.
func (d *Database) GetTriggers(ctx *sql.Context) ([]sql.TriggerDefinition, error) {
	triggers := slices.Collect(maps.Values(d.schema(ctx).Triggers))
	slices.SortFunc(triggers, func(a, b *catalog.Trigger) int { return int(int64(a.Seq) - int64(b.Seq)) })
	var out []sql.TriggerDefinition
	for _, t := range triggers {
		out = append(out, t.TriggerDefinition)
	}
	return out, nil
}

// CreateTrigger implements sql.TriggerDatabase.
func (d *Database) CreateTrigger(ctx *sql.Context, def sql.TriggerDefinition) error {
	s := sessionOf(ctx)
	seq, err := s.catalog.newID(ctx)
	if err != nil {
		return err
	}
	return s.changeObject(ctx, catalog.KindTrigger, d.name, def.Name, &catalog.Trigger{TriggerDefinition: def, Seq: seq})
}

// DropTrigger implements sql.TriggerDatabase.
func (d *Database) DropTrigger(ctx *sql.Context, name string) error {
	if _, ok := d.schema(ctx).Triggers[strings.ToLower(name)]; !ok {
		return sql.ErrTriggerDoesNotExist.New(name)
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindTrigger, d.name, name, nil)
}

// GetStoredProcedure implements sql.StoredProcedureDatabase.
func (d *Database) GetStoredProcedure(ctx *sql.Context, name string) (sql.StoredProcedureDetails, bool, error) {
	p, ok := d.schema(ctx).Procedures[strings.ToLower(name)]
	if !ok {
		return sql.StoredProcedureDetails{}, false, nil
	}
	return *p, true, nil
}

// GetStoredProcedures implements sql.StoredProcedureDatabase.
func (d *Database) GetStoredProcedures(ctx *sql.Context) ([]sql.StoredProcedureDetails, error) {
	var out []sql.StoredProcedureDetails
	procedures := d.schema(ctx).Procedures
	for _, name := range slices.Sorted(maps.Keys(procedures)) {
		out = append(out, *procedures[name])
	}
	return out, nil
}

// SaveStoredProcedure implements sql.StoredProcedureDatabase.
func (d *Database) SaveStoredProcedure(ctx *sql.Context, p sql.StoredProcedureDetails) error {
	if _, ok := d.schema(ctx).Procedures[strings.ToLower(p.Name)]; ok {
		return sql.ErrStoredProcedureAlreadyExists.New(p.Name)
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindProcedure, d.name, p.Name, &p)
}

// DropStoredProcedure implements sql.StoredProcedureDatabase.
func (d *Database) DropStoredProcedure(ctx *sql.Context, name string) error {
	if _, ok := d.schema(ctx).Procedures[strings.ToLower(name)]; !ok {
		return sql.ErrStoredProcedureDoesNotExist.New(name)
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindProcedure, d.name, name, nil)
}

// GetEvent implements sql.EventDatabase.
func (d *Database) GetEvent(ctx *sql.Context, name string) (sql.EventDefinition, bool, error) {
	e, ok := d.schema(ctx).Events[strings.ToLower(name)]
	if !ok {
		return sql.EventDefinition{}, false, nil
	}
	return *e, true, nil
}

// GetEvents implements sql.EventDatabase. The token is the catalog's version.
func (d *Database) GetEvents(ctx *sql.Context) ([]sql.EventDefinition, any, error) {
	var out []sql.EventDefinition
	events := d.schema(ctx).Events
	for _, name := range slices.Sorted(maps.Keys(events)) {
		out = append(out, *events[name])
	}
	return out, sessionOf(ctx).snapshot().Version, nil
}

// SaveEvent implements sql.EventDatabase. Events are stored and not run: it
// always answers that the event is not enabled for the scheduler.
func (d *Database) SaveEvent(ctx *sql.Context, e sql.EventDefinition) (bool, error) {
	if _, ok := d.schema(ctx).Events[strings.ToLower(e.Name)]; ok {
		return false, sql.ErrEventAlreadyExists.New(e.Name)
	}
	return false, sessionOf(ctx).changeObject(ctx, catalog.KindEvent, d.name, e.Name, &e)
}

// DropEvent implements sql.EventDatabase.
func (d *Database) DropEvent(ctx *sql.Context, name string) error {
	if _, ok := d.schema(ctx).Events[strings.ToLower(name)]; !ok {
		return sql.ErrEventDoesNotExist.New(name)
	}
	return sessionOf(ctx).changeObject(ctx, catalog.KindEvent, d.name, name, nil)
}

// UpdateEvent implements sql.EventDatabase.
func (d *Database) UpdateEvent(ctx *sql.Context, old string, e sql.EventDefinition) (bool, error) {
	if !strings.EqualFold(old, e.Name) {
		if _, ok := d.schema(ctx).Events[strings.ToLower(e.Name)]; ok {
			return false, sql.ErrEventAlreadyExists.New(e.Name)
		}
		if err := d.DropEvent(ctx, old); err != nil {
			return false, err
		}
	}
	return false, sessionOf(ctx).changeObject(ctx, catalog.KindEvent, d.name, e.Name, &e)
}

// UpdateLastExecuted implements sql.EventDatabase.
func (d *Database) UpdateLastExecuted(ctx *sql.Context, name string, at time.Time) error {
	e, ok, err := d.GetEvent(ctx, name)
	if err != nil || !ok {
		return err
	}
	e.LastExecuted = at
	_, err = d.UpdateEvent(ctx, name, e)
	return err
}

// NeedsToReloadEvents implements sql.EventDatabase.
func (d *Database) NeedsToReloadEvents(ctx *sql.Context, token any) (bool, error) {
	return token != sessionOf(ctx).snapshot().Version, nil
}
