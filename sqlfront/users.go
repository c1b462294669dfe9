package sqlfront

import (
	"context"
	"fmt"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/mysql_db"

	"github.com/rowlockdb/rowlock/txn"
)

// grantStore keeps the grant tables in the system shard, as one record.
type grantStore struct{ catalog *Catalog }

var _ mysql_db.MySQLDbPersistence = grantStore{}

// Persist implements mysql_db.MySQLDbPersistence.
func (g grantStore) Persist(ctx *sql.Context, data []byte) error {
	return g.catalog.update(ctx, "grants", func(tx *txn.Txn) error {
		return putRecord(ctx, tx, systemKey(keyUsers), data)
	})
}

// load fills db from the store. In a new store it creates root, without
// password, reachable from this machine only.
func (g grantStore) load(ctx context.Context, db *mysql_db.MySQLDb) error {
	var data []byte
	found := false
	err := g.catalog.update(ctx, "grants", func(tx *txn.Txn) error {
		var err error
		found, err = record(ctx, tx, systemKey(keyUsers), &data)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlfront: load users: %w", err)
	}
	sqlCtx := sql.NewContext(ctx)
	db.SetPersister(g)
	if found {
		return db.LoadData(sqlCtx, data)
	}
	editor := db.Editor()
	defer editor.Close()
	db.AddSuperUser(editor, "root", "localhost", "")
	return db.Persist(sqlCtx, editor)
}
