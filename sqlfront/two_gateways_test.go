package sqlfront

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/txn"
)

// second is another gateway over the node of a stack: a coordinator and a server
// of their own, as another node has them.
type second struct {
	*stack
	coordinator *txn.Coordinator
	server      *Server
}

func (s *stack) second(number uint64) *second {
	t := s.t
	g := &second{stack: s}
	g.coordinator = txn.New(txn.Config{Router: s.node.Router(), Gateway: number<<48 | 1, Logger: s.logger})
	config := s.config
	config.Coordinator, config.Logger = g.coordinator, s.logger
	var err error
	g.server, err = New(config)
	require.NoError(t, err)
	t.Cleanup(g.stop)
	return g
}

func (g *second) stop() {
	if g.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(g.t, g.server.Close(ctx))
	require.NoError(g.t, g.coordinator.Close(ctx))
	g.server = nil
}

// die ends a gateway without a good-bye.
func (g *second) die() {
	g.server.stop()
	g.server.catalog.follower.end()
	g.server.conns.Close()
	g.server.conns.closeConnections()
	<-g.server.accepting
	g.server.protocol.SessionManager().WaitForClosedConnections()
	g.server.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(g.t, g.coordinator.Close(ctx))
	g.server = nil
}

func (g *second) db(database string) *sql.DB { return dialed(g.t, g.server, "root", database, "") }

// twoGateways returns pools of two gateways with a database app.
func twoGateways(t *testing.T, statements ...string) (*stack, *second, *sql.DB, *sql.DB) {
	s, db := app(t, statements...)
	g := s.second(2)
	return s, g, db, g.db("app")
}

// telling is twoGateways whose nodes tell each other of changes.
func telling(t *testing.T, statements ...string) (*stack, *second, *sql.DB, *sql.DB) {
	var servers [2]atomic.Pointer[Server]
	s := newStack(t, Config{Announce: func() {
		for i := range servers {
			if server := servers[i].Load(); server != nil {
				server.Poke()
			}
		}
	}})
	run(t, s.db("", ""), "CREATE DATABASE app")
	g := s.second(2)
	servers[0].Store(s.server)
	servers[1].Store(g.server)
	db := s.db("app", "")
	run(t, db, statements...)
	return s, g, db, g.db("app")
}

// What one gateway has changed, every other one sees at once.
func TestSchemaChangesAreSeenAtOnce(t *testing.T) {
	_, _, a, b := telling(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	for i := range 10 {
		db, other := a, b
		if i%2 == 1 {
			db, other = b, a
		}
		name := fmt.Sprintf("t%d", i)
		run(t, db, "CREATE TABLE "+name+" (id INT PRIMARY KEY)")
		run(t, other, "INSERT INTO "+name+" VALUES (1)", "ALTER TABLE "+name+" ADD COLUMN n INT DEFAULT 5")
		run(t, db, "INSERT INTO "+name+" (id, n) VALUES (2, 6)", "CREATE UNIQUE INDEX n ON "+name+" (n)")
		require.Equal(t, 1062, number(execErr(other, "INSERT INTO "+name+" VALUES (3, 6)")))
		run(t, other, "RENAME TABLE "+name+" TO x"+name)
		require.Equal(t, []string{"1,5", "2,6"}, query(t, db, "SELECT * FROM x"+name+" ORDER BY id"))
		run(t, db, "TRUNCATE TABLE x"+name)
		require.Empty(t, query(t, other, "SELECT * FROM x"+name))
		run(t, other, "INSERT INTO x"+name+" VALUES (1, 1)", "CREATE VIEW v"+name+" AS SELECT id FROM x"+name)
		require.Equal(t, []string{"1"}, query(t, db, "SELECT * FROM v"+name))
		run(t, db, "DROP TABLE x"+name)
		require.Equal(t, 1146, number(execErr(other, "INSERT INTO x"+name+" VALUES (1, 1)")))
		run(t, other, "CREATE DATABASE d"+name, "CREATE TABLE d"+name+".t (id INT PRIMARY KEY)")
		run(t, db, "INSERT INTO d"+name+".t VALUES (1)", "DROP DATABASE d"+name)
		require.Equal(t, 1049, number(execErr(other, "INSERT INTO d"+name+".t VALUES (2)")))
	}
}

// Of two gateways that create the same object one is refused.
func TestTwoGatewaysCreateTheSame(t *testing.T) {
	s, g, a, b := twoGateways(t)
	for i := range 5 {
		for _, statement := range []string{"CREATE TABLE t%d (id INT PRIMARY KEY)", "CREATE DATABASE d%d"} {
			errs := make(chan error, 2)
			for _, db := range []*sql.DB{a, b} {
				go func() { errs <- execErr(db, fmt.Sprintf(statement, i)) }()
			}
			first, then := <-errs, <-errs
			require.True(t, (first == nil) != (then == nil), "%v, %v", first, then)
			for _, err := range []error{first, then} {
				if err != nil {
					require.Contains(t, []int{1050, 1007}, number(err))
				}
			}
		}
		require.Equal(t, s.table("app", fmt.Sprintf("t%d", i)).ID, g.server.catalog.snapshot.Load().Schema("app").Table(fmt.Sprintf("t%d", i)).ID)
	}
}

// A transaction of another gateway keeps the definition it uses until it ends, as
// one of the same gateway does; the schema change waits for it.
func TestASchemaChangeWaitsForTransactionsElsewhere(t *testing.T) {
	for _, change := range []string{"ALTER TABLE t ADD COLUMN n INT NOT NULL DEFAULT 1", "TRUNCATE TABLE t", "DROP TABLE t",
		"ALTER TABLE t MODIFY COLUMN v BIGINT", "DROP DATABASE app"} {
		_, _, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
		reader := connection(t, b)
		run(t, reader, "START TRANSACTION", "UPDATE t SET v = 2 WHERE id = 1")
		done := make(chan error, 1)
		go func() { done <- execErr(a, change) }()
		select {
		case err := <-done:
			t.Fatal(change, "did not wait", err)
		case <-time.After(300 * time.Millisecond):
		}
		require.Equal(t, []string{"1,2"}, query(t, reader, "SELECT * FROM t"), change)
		run(t, reader, "INSERT INTO t VALUES (2, 2)", "COMMIT")
		require.NoError(t, <-done, change)
	}
}

// A change that fails, or whose client goes, leaves the table as it was for all.
func TestAFailedChangeIsNotSeenElsewhere(t *testing.T) {
	_, _, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 1)")
	require.Equal(t, 1062, number(execErr(a, "ALTER TABLE t ADD COLUMN n INT, ADD UNIQUE KEY v (v)")))
	run(t, b, "INSERT INTO t VALUES (3, 3)")
	blocker := connection(t, b)
	run(t, blocker, "START TRANSACTION", "UPDATE t SET v = 2 WHERE id = 1")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := a.ExecContext(ctx, "ALTER TABLE t ADD COLUMN n INT")
	require.Error(t, err)
	run(t, blocker, "COMMIT")
	run(t, b, "INSERT INTO t VALUES (4, 4)", "ALTER TABLE t ADD COLUMN m INT")
	require.Equal(t, []string{"4,4,NULL"}, query(t, a, "SELECT * FROM t WHERE id = 4"))
}

// A gateway that died holds nobody up for long: not before its schema change was
// committed, and not when somebody waits for its answer.
func TestADeadGatewayIsBuried(t *testing.T) {
	s, g, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
	blocker := connection(t, a)
	run(t, blocker, "START TRANSACTION", "UPDATE t SET v = 2 WHERE id = 1")
	go b.ExecContext(context.Background(), "ALTER TABLE t ADD COLUMN n INT")
	for s.table("app", "t").Frozen == 0 {
		time.Sleep(time.Millisecond)
	}
	// The node goes before it can thaw.
	g.server.catalog.follower.end()
	g.die()
	run(t, blocker, "COMMIT")
	run(t, a, "INSERT INTO t VALUES (2, 2)", "ALTER TABLE t ADD COLUMN m INT")
	require.Equal(t, []string{"2,2,NULL"}, query(t, a, "SELECT * FROM t WHERE id = 2"))
	require.Equal(t, 1, s.records(t, keyGateways))
}

// Users, grants and persisted variables are in force on every gateway after a
// moment, and so is their end.
func TestUsersOfEveryGateway(t *testing.T) {
	s, g, a, b := twoGateways(t, "CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	soon := func(what string, f func() bool) {
		t.Helper()
		require.Eventually(t, f, time.Minute, 10*time.Millisecond, what)
	}
	logs := func(user string) *sql.DB { return dialed(t, g.server, user, "app", "") }
	run(t, a, "CREATE USER ann", "GRANT SELECT ON app.* TO ann")
	ann := logs("ann")
	soon("a new user", func() bool { _, err := tryQuery(ann, "SELECT * FROM t"); return err == nil })
	require.Error(t, execErr(ann, "INSERT INTO t VALUES (2)"))
	open := connection(t, ann)
	run(t, a, "GRANT INSERT ON app.* TO ann")
	soon("a grant in a session that is open", func() bool { return execErr(open, "INSERT IGNORE INTO t VALUES (2)") == nil })
	run(t, a, "REVOKE INSERT ON app.* FROM ann")
	soon("its revocation", func() bool { return execErr(open, "INSERT IGNORE INTO t VALUES (2)") != nil })
	run(t, b, "CREATE USER bob", "GRANT ALL ON *.* TO bob")
	soon("the other way", func() bool {
		_, err := tryQuery(dialed(t, s.server, "bob", "app", ""), "SELECT * FROM t")
		return err == nil
	})
	run(t, b, "ALTER USER ann IDENTIFIED BY 'secret'")
	soon("a password", func() bool { _, err := tryQuery(dialed(t, s.server, "ann", "app", ""), "SELECT 1"); return err != nil })
	run(t, a, "DROP USER bob")
	soon("the end of a user", func() bool { _, err := tryQuery(logs("bob"), "SELECT * FROM t"); return err != nil })
}

// Two gateways that change users at the same moment lose nothing: what was made
// from an old list is refused, and can be done again.
func TestUsersChangedOnTwoGateways(t *testing.T) {
	s, _, a, b := twoGateways(t)
	for i := range 20 {
		errs := make(chan error, 2)
		for n, db := range []*sql.DB{a, b} {
			go func() {
				for {
					err := execErr(db, fmt.Sprintf("CREATE USER IF NOT EXISTS u%d_%d", i, n))
					if number(err) != 1213 {
						errs <- err
						return
					}
				}
			}()
		}
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
	}
	require.NoError(t, s.server.catalog.follower.refresh(context.Background()))
	require.Equal(t, []string{"40"}, query(t, a, "SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'u%'"))
}

// After a change of users that failed no statement begins before they were read again: it
// would see what is not stored.
func TestUsersAreBehindUntilTheyAreReadAgain(t *testing.T) {
	s, _ := app(t)
	f := &s.server.catalog.follower
	during := make(chan bool, 100)
	f.setSettings(f.settingsKnown(), func(context.Context) error { during <- f.fresh(); return nil })
	f.setSettingsBehind()
	require.NoError(t, f.refresh(t.Context()))
	require.False(t, <-during)
	require.False(t, f.behind())
}

// AUTO_INCREMENT values ascend over all gateways: what is taken after another one
// was is larger, wherever.
func TestAutoIncrementOfTwoGateways(t *testing.T) {
	s, g, a, b := twoGateways(t, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
	insert := func(db *sql.DB) int64 {
		t.Helper()
		r, err := db.Exec("INSERT INTO t (v) VALUES (0)")
		require.NoError(t, err)
		id, err := r.LastInsertId()
		require.NoError(t, err)
		return id
	}
	for i := range int64(10) {
		require.Equal(t, 2*i+1, insert(a))
		require.Equal(t, 2*i+2, insert(b))
	}
	run(t, b, "INSERT INTO t VALUES (100, 0)")
	require.EqualValues(t, 101, insert(a), "a value that was given on the other gateway")
	run(t, a, "ALTER TABLE t AUTO_INCREMENT = 200")
	require.EqualValues(t, 200, insert(b))
	run(t, b, "TRUNCATE TABLE t")
	require.EqualValues(t, 1, insert(a))
	require.EqualValues(t, 2, insert(b))
	var group sync.WaitGroup
	for _, db := range []*sql.DB{a, b, a, b} {
		group.Go(func() {
			last := int64(0)
			for range 100 {
				r, err := db.Exec("INSERT INTO t (v) VALUES (1), (2)")
				if err != nil {
					t.Error(err)
					return
				}
				if id, _ := r.LastInsertId(); id <= last {
					t.Errorf("%d after %d", id, last)
				} else {
					last = id
				}
			}
		})
	}
	group.Wait()
	require.Equal(t, []string{"802,802"}, query(t, a, "SELECT COUNT(*), MAX(id) FROM t"))

	ahead := connection(t, b)
	run(t, ahead, "SET rowlock_auto_increment_cache = 10", "INSERT INTO t (v) VALUES (1)", "INSERT INTO t (v) VALUES (1)")
	require.EqualValues(t, 813, insert(a), "behind the range")
	require.Equal(t, []string{"803", "804"}, query(t, b, "SELECT id FROM t WHERE id > 802 AND id < 813"))
	g.stop()
	s.stop()
	s.start()
	require.EqualValues(t, 814, insert(s.db("app", "")), "a stop in good order leaves no gap")
}
