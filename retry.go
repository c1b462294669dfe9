//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"
)

// The pauses between two attempts of RunTx: doubled each time, half of it random.
const (
	firstBackoff = time.Millisecond
	lastBackoff  = 200 * time.Millisecond
)

// deadlock is MySQL's ER_LOCK_DEADLOCK: the transaction was rolled back and may
// be tried again. serialization is its SQLSTATE.
const (
	deadlock      = 1213
	serialization = "40001"
)

// Retryable reports whether err says that a transaction was rolled back and can
// simply be run again: MySQL error 1213 or SQLSTATE 40001. A lock wait timeout
// (1205) is not one, since only the statement failed, and neither is an unknown
// outcome (1180), since the transaction may have committed.
func Retryable(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == deadlock || string(e.SQLState[:]) == serialization)
}

// RunTx runs fn in a transaction and commits it, and does so again, after a
// short pause, whenever the transaction was rolled back as in [Retryable], until
// it succeeds, fails otherwise, or ctx ends. fn may run several times: it must
// do nothing outside the transaction that may not be repeated, and must return
// the errors it gets.
func RunTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*sql.Tx) error) error {
	for pause := firstBackoff; ; pause = min(2*pause, lastBackoff) {
		err := runOnce(ctx, db, o, fn)
		if !Retryable(err) {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w, after %w", ctx.Err(), err)
		}
	}
}

// runOnce is one attempt. A panic of fn rolls back.
func runOnce(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after a Commit
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}
