package sqlfront

import (
	"context"
	"fmt"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// SET PERSIST keeps a global variable's value in the system shard, as text, and
// every
// gateway sets it when it sees the change, as does the next start.

var _ sql.PersistableSession = (*Session)(nil)

func globalKey(name string) txn.Key { return systemKey(keyGlobals, strings.ToLower(name)) }

// PersistGlobal implements sql.PersistableSession.
func (s *Session) PersistGlobal(ctx *sql.Context, name string, value any) error {
	v, _, ok := sql.SystemVariables.GetGlobal(name)
	if !ok {
		return sql.ErrUnknownSystemVariable.New(name)
	}
	converted, _, err := v.GetType().Convert(ctx, value)
	if err != nil {
		return err
	}
	return s.persist(ctx, func(tx *txn.Txn) error {
		return putRecord(ctx, tx, globalKey(name), fmt.Sprint(converted))
	})
}

// persist changes persisted variables, and says so.
func (s *Session) persist(ctx context.Context, f func(*txn.Txn) error) error {
	var version uint64
	err := s.catalog.update(ctx, "persist variable", func(tx *txn.Txn) error {
		if err := f(tx); err != nil {
			return err
		}
		var err error
		version, err = countSettings(ctx, tx)
		return err
	})
	if err == nil {
		s.catalog.follower.settingsMade(version)
	}
	return err
}

// RemovePersistedGlobal implements sql.PersistableSession.
func (s *Session) RemovePersistedGlobal(name string) error {
	if _, _, ok := sql.SystemVariables.GetGlobal(name); !ok {
		return sql.ErrUnknownSystemVariable.New(name)
	}
	ctx := context.Background()
	return s.persist(ctx, func(tx *txn.Txn) error { return deleteRecord(ctx, tx, globalKey(name)) })
}

// RemoveAllPersistedGlobals implements sql.PersistableSession.
func (s *Session) RemoveAllPersistedGlobals() error {
	ctx := context.Background()
	globals, err := s.catalog.persistedGlobals(ctx)
	if err != nil {
		return err
	}
	return s.persist(ctx, func(tx *txn.Txn) error {
		for name := range globals {
			if err := deleteRecord(ctx, tx, globalKey(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// GetPersistedValue implements sql.PersistableSession.
func (s *Session) GetPersistedValue(name string) (any, error) {
	globals, err := s.catalog.persistedGlobals(context.Background())
	if err != nil {
		return nil, err
	}
	v, ok := globals[strings.ToLower(name)]
	if !ok {
		return nil, nil
	}
	return v, nil
}

func (c *Catalog) persistedGlobals(ctx context.Context) (map[string]string, error) {
	tx := c.begin("persisted variables")
	defer tx.Rollback(ctx)
	out := map[string]string{}
	err := eachRecord(ctx, tx, keyGlobals, func(name string, data []byte) error {
		var text string
		err := catalog.DecodeRecord(data, &text)
		out[name] = text
		return err
	})
	return out, err
}

// applyPersisted sets the persisted variables at start. One that this version
// does not know or accept is reported and skipped.
func (s *Server) applyPersisted(ctx context.Context) error {
	globals, err := s.catalog.persistedGlobals(ctx)
	if err != nil {
		return fmt.Errorf("sqlfront: persisted variables: %w", err)
	}
	for name, text := range globals {
		if err := sql.SystemVariables.SetGlobal(sql.NewContext(ctx), name, text); err != nil {
			s.config.Logger.Warn("persisted variable not applied", "variable", name, "value", text, "error", err)
		}
	}
	return nil
}
