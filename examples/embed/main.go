// Command embed is a Go program with a database inside: it opens a node in a
// temporary directory and uses it through database/sql and through a MySQL
// client on a port, at the same time.
//
//	CGO_ENABLED=0 go run -tags gms_pure_go ./examples/embed
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "rowlock-embed-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	begun := time.Now()
	node, err := rowlock.Open(ctx, rowlock.Options{Dir: dir, Shards: 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close(ctx)) }()
	fmt.Printf("opened a node with 4 shards in %v\n", time.Since(begun).Round(time.Millisecond))

	inside := sql.OpenDB(node.Connector(""))
	defer inside.Close()
	if err := prepare(ctx, inside); err != nil {
		return err
	}
	fmt.Println("in the process: made database bank with two accounts of 100")

	address, err := node.ListenMySQL("127.0.0.1:0")
	if err != nil {
		return err
	}
	outside, err := sql.Open("mysql", "root@tcp("+address.String()+")/bank")
	if err != nil {
		return err
	}
	defer outside.Close()
	fmt.Printf("over the wire: connected to %s\n", address)

	if err := both(ctx, inside, outside); err != nil {
		return err
	}
	return show(ctx, outside)
}

func prepare(ctx context.Context, db *sql.DB) error {
	for _, statement := range []string{
		"CREATE DATABASE bank",
		"CREATE TABLE bank.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
		"INSERT INTO bank.accounts VALUES (1, 100), (2, 100)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// transfers is how many each side makes.
const transfers = 20

// both moves money from both sides at once. RunTx repeats what loses a deadlock.
func both(ctx context.Context, inside, outside *sql.DB) error {
	var sides sync.WaitGroup
	errs := make([]error, 2)
	for i, db := range []*sql.DB{inside, outside} {
		sides.Go(func() {
			for range transfers {
				from, to := 1+i, 2-i
				if err := rowlock.RunTx(ctx, db, nil, func(tx *sql.Tx) error { return transfer(ctx, tx, from, to) }); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	sides.Wait()
	fmt.Printf("both sides made %d transfers\n", transfers)
	return errors.Join(errs...)
}

func transfer(ctx context.Context, tx *sql.Tx, from, to int) error {
	if _, err := tx.ExecContext(ctx, "UPDATE bank.accounts SET balance = balance - 1 WHERE id = ?", from); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE bank.accounts SET balance = balance + 1 WHERE id = ?", to)
	return err
}

func show(ctx context.Context, db *sql.DB) error {
	var sum int
	if err := db.QueryRowContext(ctx, "SELECT SUM(balance) FROM bank.accounts").Scan(&sum); err != nil {
		return err
	}
	fmt.Printf("the accounts hold %d together\n", sum)
	if sum != 200 {
		return fmt.Errorf("money was lost or made: %d instead of 200", sum)
	}
	return nil
}
