package sqlfront

import (
	"errors"

	"github.com/dolthub/go-mysql-server/sql/analyzer/analyzererrors"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/mysql"
)

// Features that are refused, with MySQL's own numbers where it has them.
var (
	errSpatialIndex = mysql.NewSQLError(1235, "42000", "SPATIAL indexes are not supported")
	errVectorIndex  = mysql.NewSQLError(1235, "42000", "VECTOR indexes are not supported")
	errPartialIndex = mysql.NewSQLError(1235, "42000", "indexes with a condition are not supported")
	errPartitionKey = mysql.NewSQLError(1503, "HY000",
		"A PRIMARY KEY must include all columns in the table's partitioning function")
	errNoHistory    = mysql.NewSQLError(1235, "42000", "AS OF takes a point in time")
	errLockedPast   = mysql.NewSQLError(1221, "HY000", "Incorrect usage of AS OF and a locking clause")
	errDataTooNew   = mysql.NewSQLError(1412, "HY000", "Table definition has changed, please retry transaction")
	errNeedsRewrite = errors.New("primary keys change by rewriting the table")
)

func errRowLength(width int64) error {
	return analyzererrors.ErrInvalidRowLength.New(types.MaxRowLength, width)
}
