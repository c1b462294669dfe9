package wire

import (
	"github.com/dolthub/go-mysql-server/sql"
)

// Functions returns the functions that replace the engine's own, for the catalog's function provider (sql.FunctionProvider).
func Functions() []sql.Function { return nil }
