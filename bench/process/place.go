package process

import (
	"context"
	"database/sql"
	"fmt"
)

// Apart is so far from each other that rows of these ids have nothing to do with one
// another: neighbours share a shard, 128 at a time. It is odd, so that id % n is as
// good as the number of the row.
const Apart = 1001

// Place finds out on which shard each of the rows of a table with these ids
// lies: it locks one after the other and looks where the lock is. Nobody else
// may hold locks meanwhile.
func Place(ctx context.Context, db *sql.DB, table string, ids []int) (map[int]int, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	places := make(map[int]int, len(ids))
	for _, id := range ids {
		if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
			return nil, err
		}
		var found, shard int
		err := c.QueryRowContext(ctx, fmt.Sprintf("SELECT id FROM %s WHERE id = %d FOR UPDATE", table, id)).Scan(&found)
		if err == nil {
			err = c.QueryRowContext(ctx, "SELECT shard FROM rowlock.locks WHERE granted AND shard > 0 LIMIT 1").Scan(&shard)
		}
		if err != nil {
			return nil, fmt.Errorf("find the shard of row %d: %w", id, err)
		}
		if _, err := c.ExecContext(ctx, "ROLLBACK"); err != nil {
			return nil, err
		}
		places[id] = shard
	}
	return places, nil
}
