package wire

import (
	"github.com/dolthub/vitess/go/mysql"
)

// MapError gives err the error number and SQLSTATE that MySQL uses; nil stays nil.
func MapError(err error) *mysql.SQLError { return nil }

// ClosesConnection says that the connection must not be used after err: the outcome of its transaction is unknown.
func ClosesConnection(err error) bool { return false }
