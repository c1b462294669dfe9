//go:build (cgo || gms_pure_go) && !failpoint

package rowlock

import (
	"github.com/rowlockdb/rowlock/storage"
	"github.com/rowlockdb/rowlock/txn"
)

// failpoint stops the process at a step of a commit, in programs that test
// recovery and are built for it. All others have none.
func failpoint() func(txn.Step, storage.TxnID) { return nil }
