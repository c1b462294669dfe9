package wire

import (
	"errors"
	"regexp"

	"github.com/dolthub/vitess/go/mysql"

	"github.com/rowlockdb/rowlock/txn"
)

// transactionErrors gives the codes of package txn their MySQL numbers.
var transactionErrors = map[txn.Code]struct {
	num     int
	message string // MySQL's wording; empty keeps the error's own
}{
	txn.Deadlock:       {1213, "Deadlock found when trying to get lock; try restarting transaction"},
	txn.LockLost:       {1213, "Deadlock found when trying to get lock; try restarting transaction"},
	txn.Conflict:       {1213, "Deadlock found when trying to get lock; try restarting transaction"},
	txn.LockTimeout:    {1205, "Lock wait timeout exceeded; try restarting transaction"},
	txn.WouldBlock:     {3572, "Statement aborted because lock(s) could not be acquired immediately and NOWAIT is set."},
	txn.ReadOnly:       {1792, "Cannot execute statement in a READ ONLY transaction."},
	txn.Interrupted:    {erQueryInterrupted, interrupted},
	txn.SchemaChanged:  {1412, "Table definition has changed, please retry transaction"},
	txn.SnapshotTooOld: {1412, ""}, // ER_TABLE_DEF_CHANGED is what InnoDB says of a read view it can no longer serve
	txn.TooLarge:       {1197, ""}, // ER_TRANS_CACHE_FULL
	txn.DiskFull:       {1021, "The disk of a node is nearly full; it takes no writes until there is space"},
	txn.Unknown:        {erErrorDuringCommit, ""},
	txn.Unavailable:    {1030, ""}, // ER_GET_ERRNO: the storage engine failed
	txn.Bug:            {1815, ""}, // ER_INTERNAL_ERROR
}

// transactionText is how an error of package txn looks once the engine has made a text of it: the word, the transaction if it
// has an id, the code, and what led to it. That may be anything, a context's end further down included. In front may stand what
// is known to be put there and nothing else: errors hold texts of clients.
var transactionText = regexp.MustCompile(`(?s)^(?:users and variables: )?(transaction(?: [0-9a-f]+-[0-9a-f]+-[0-9a-f]+)?: ([a-z ]+)(?:: .*)?)$`)

// transactionCodes finds codes by their text.
var transactionCodes = func() map[string]txn.Code {
	byText := map[string]txn.Code{}
	for code := range transactionErrors {
		byText[code.String()] = code
	}
	return byText
}()

// mapTransactionText is mapTransaction for a text, nil if it is none of such an error.
func mapTransactionText(text string) *mysql.SQLError {
	m := transactionText.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	known, ok := transactionErrors[transactionCodes[m[2]]]
	switch {
	case !ok:
		return nil
	case known.message == "":
		return newError(known.num, m[1])
	}
	return newError(known.num, known.message)
}

func mapTransaction(err error) *mysql.SQLError {
	var failed *txn.Error
	if !errors.As(err, &failed) {
		return nil
	}
	known, ok := transactionErrors[failed.Code]
	if !ok {
		return newError(erUnknown, failed.Error())
	}
	if known.message == "" {
		return newError(known.num, failed.Error())
	}
	return newError(known.num, known.message)
}

func unknownOutcome(err error) bool {
	var failed *txn.Error
	return errors.As(err, &failed) && failed.Code == txn.Unknown
}
