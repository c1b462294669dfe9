package sqlfront

import (
	"context"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/mysql_db"

	"github.com/rowlockdb/rowlock/txn"
)

// grantStore keeps the grant tables in the system shard, as one record. Every
// gateway has them in memory and reads them again when the number of changes has
// grown (follower.pollSettings).
type grantStore struct{ catalog *Catalog }

var _ mysql_db.MySQLDbPersistence = grantStore{}

// Persist implements mysql_db.MySQLDbPersistence. What it gets is all users, so it
// must be made from all that others have stored; if it is not, the statement fails
// like a deadlock's victim, and the tables in memory are read again.
func (g grantStore) Persist(ctx *sql.Context, data []byte) error {
	var version uint64
	known := g.catalog.follower.settingsKnown()
	err := g.catalog.update(ctx, "grants", func(tx *txn.Txn) error {
		var err error
		if version, err = countSettings(ctx, tx); err != nil {
			return err
		}
		if version != known+1 {
			return errOutdated
		}
		return putRecord(ctx, tx, systemKey(keyUsers), data)
	})
	if err != nil {
		// Memory shows a change that is not stored, or may not be.
		g.catalog.follower.setSettingsBehind()
		return numbered(err)
	}
	g.catalog.follower.settingsMade(version)
	return nil
}

// errOutdated is returned for a change of users made from an old list of them.
var errOutdated = fmt.Errorf("users were changed on another node: %w",
	&txn.Error{Code: txn.Conflict, Detail: "users were changed on another node"})

// countSettings raises the stored number of changes of users and variables.
func countSettings(ctx context.Context, tx *txn.Txn) (uint64, error) {
	var version uint64
	if _, err := record(ctx, tx, systemKey(keySettings), &version); err != nil {
		return 0, err
	}
	return version + 1, putRecord(ctx, tx, systemKey(keySettings), version+1)
}

// load fills db from the store. In a new store it creates root, without
// password, reachable from this machine only.
func (g grantStore) load(ctx context.Context, db *mysql_db.MySQLDb) error {
	data, version, err := g.stored(ctx)
	if err != nil {
		return fmt.Errorf("sqlfront: load users: %w", err)
	}
	g.catalog.follower.setSettings(version, nil)
	sqlCtx := sql.NewContext(ctx)
	db.SetPersister(g)
	if data != nil {
		return db.LoadData(sqlCtx, data)
	}
	editor := db.Editor()
	defer editor.Close()
	db.AddSuperUser(editor, "root", "localhost", "")
	return db.Persist(sqlCtx, editor)
}

// stored reads the users, nil if there are none yet, and the number of changes.
func (g grantStore) stored(ctx context.Context) (data []byte, version uint64, err error) {
	tx := g.catalog.reader("users")
	defer tx.Rollback(ctx)
	if _, err := peekRecord(ctx, tx, systemKey(keySettings), &version); err != nil {
		return nil, 0, err
	}
	_, err = peekRecord(ctx, tx, systemKey(keyUsers), &data)
	return data, version, err
}

// reload puts the stored users in place of those in memory.
func (g grantStore) reload(ctx context.Context, db *mysql_db.MySQLDb) error {
	data, _, err := g.stored(ctx)
	if err != nil || data == nil {
		return err
	}
	editor := db.Editor()
	defer editor.Close()
	return db.OverwriteUsersAndGrantData(sql.NewContext(ctx), editor, data)
}

// applySettings takes users and persisted variables in that another gateway has
// changed.
func (s *Server) applySettings(ctx context.Context) error {
	if err := s.applyPersisted(ctx); err != nil {
		return err
	}
	if s.config.NoAuthentication {
		return nil
	}
	return grantStore{s.catalog}.reload(ctx, s.engine.Analyzer.Catalog.MySQLDb)
}
