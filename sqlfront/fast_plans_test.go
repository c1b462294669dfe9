package sqlfront

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/mysql_db"
	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// However many statements and kinds of session come by once, what is asked for again
// stays, and what has gone takes its scope with it.
func TestFastPlansAreBounded(t *testing.T) {
	p := &fastPlans{}
	hot := p.scope(scopeKey{database: "hot"})
	known, foreign := &fastPlan{}, (*fastPlan)(nil)
	hot, _ = p.put(hot, "known", byShape, known)
	hot, _ = p.put(hot, "foreign", byText, foreign)
	for i := range 3 * maxFastPlans {
		scope := p.scope(scopeKey{database: fmt.Sprint(i)})
		scope, plan := p.put(scope, "once", i%2, &fastPlan{})
		require.NotNil(t, plan)
		require.Same(t, scope, p.scope(scope.key))
		if i%100 > 0 {
			continue
		}
		plan, ok := hot.text([]byte("known"))
		require.True(t, ok)
		require.Same(t, known, plan)
		plan, ok = hot.prepared("foreign")
		require.True(t, ok)
		require.Nil(t, plan)
	}
	require.Len(t, p.ring, maxFastPlans)
	require.Len(t, p.scopes, maxFastPlans-1)
	_, again := p.put(hot, "known", byShape, &fastPlan{})
	require.Same(t, known, again, "another session was faster")
}

// A session that still has a scope that is given up finds its statements where new
// sessions find them.
func TestFastScopeThatWasGivenUp(t *testing.T) {
	p := &fastPlans{}
	key := scopeKey{database: "d"}
	old, _ := p.put(p.scope(key), "s", byShape, &fastPlan{})
	for i := range maxFastPlans {
		p.put(p.scope(scopeKey{database: fmt.Sprint(i)}), "once", byShape, nil)
	}
	_, ok := old.text([]byte("s"))
	require.False(t, ok)
	next, _ := p.put(p.scope(key), "s", byShape, &fastPlan{})
	require.NotSame(t, old, next)
	same, _ := p.put(old, "more", byShape, &fastPlan{})
	require.Same(t, next, same)
}

// What is remembered of statements keeps no session, no statement, no schema that is
// past and no value of theirs alive.
func TestFastPlansKeepNothing(t *testing.T) {
	s, _ := app(t)
	c := rawConnect(t, s.server, "root", "app", 0)
	long := strings.Repeat("long", 5000)
	for i := range 6 {
		table := fmt.Sprintf("t%d", i)
		c.query("CREATE TABLE " + table + " (id INT PRIMARY KEY AUTO_INCREMENT, k INT, c LONGTEXT)")
		for _, text := range []string{"INSERT INTO %s VALUES (1, 1, 'a')", "INSERT INTO %s (k) VALUES (1)", "SELECT k FROM %s WHERE id = 1", "SELECT k AS x FROM %s WHERE id BETWEEN 1 AND 2",
			"SELECT DISTINCT k AS x FROM %s WHERE id BETWEEN 1 AND 2 ORDER BY k", "SELECT k FROM %s WHERE id IN (1, 2)", "SELECT SUM(k) FROM %s WHERE id BETWEEN 1 AND 2",
			"UPDATE %s SET k = k + 1 WHERE id = 1", "UPDATE %s SET k = 7 WHERE id = 1", "DELETE FROM %s WHERE id = 77"} {
			for range 3 {
				c.query(fmt.Sprintf(text, table))
			}
		}
		for _, text := range []string{"INSERT INTO %s (c) VALUES (?)", "UPDATE %s SET c = ? WHERE id = 1", "UPDATE %s SET c = c + ? WHERE id = 2"} {
			id, _ := c.prepare(fmt.Sprintf(text, table))
			for range 3 {
				c.execute(id, []any{long})
			}
		}
	}
	require.Greater(t, s.server.fast.taken.Load(), uint64(100))
	for i := range 3 {
		c.query(fmt.Sprintf("DROP TABLE t%d", i))
	}
	var trees, inserts int
	kept := &keeping{seen: map[uintptr]bool{}}
	for _, e := range s.server.catalog.fast.ring {
		if e.plan == nil || e.plan.bound.Load() == nil {
			continue
		}
		b := e.plan.bound.Load()
		if b.tree != nil {
			require.Len(t, b.tree.lookup.Ranges, 1, "the list of the first statement is kept: %s", e.shape)
			trees++
		}
		if b.insert != nil {
			inserts++
		}
		if b.info != nil {
			require.Same(t, s.table(b.schema, b.table), b.info.desc)
		}
		kept.look(reflect.ValueOf(b), e.shape)
	}
	require.Empty(t, kept.found)
	require.GreaterOrEqual(t, trees, 3*6)
	require.GreaterOrEqual(t, inserts, 3*2)
}

// A session keeps room for the next statement's values, but not these.
func TestFastSessionsKeepNoValues(t *testing.T) {
	for _, n := range []int{0, 3, maxRoom, maxRoom + 1} {
		q := &fastQuery{session: &Session{}}
		for range n {
			q.values = append(q.values, fastpath.Value{Kind: fastpath.Text, Text: "long"})
		}
		q.keepRoom()
		kept := q.session.fast.values
		require.Empty(t, kept)
		require.LessOrEqual(t, cap(kept), maxRoom)
		for _, v := range kept[:cap(kept)] {
			require.Zero(t, v)
		}
	}
}

// keeping looks for what a plan must not lead to.
type keeping struct {
	seen  map[uintptr]bool
	found []string
}

func (k *keeping) look(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			k.look(v.Elem(), path)
		}
	case reflect.Pointer:
		if v.IsNil() || k.seen[v.Pointer()] {
			return
		}
		k.seen[v.Pointer()] = true
		switch v.Type() {
		case reflect.TypeFor[*Session](), reflect.TypeFor[*catalog.Snapshot]():
			k.found = append(k.found, path+" "+v.Type().String())
			return
		case reflect.TypeFor[*sql.Context]():
			if v.Pointer() != reflect.ValueOf(nobody).Pointer() {
				k.found = append(k.found, path+" "+v.Type().String())
			}
			return
		case reflect.TypeFor[*Provider](), reflect.TypeFor[*Server](), reflect.TypeFor[*Catalog](), reflect.TypeFor[*mysql_db.MySQLDb]():
			return // they live as long as the plans, and change meanwhile
		}
		if strings.HasSuffix(v.Type().String(), "plan.ProcessTable") {
			k.found = append(k.found, path+" "+v.Type().String())
		}
		k.look(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			k.look(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			k.look(v.Index(i), path)
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			k.look(i.Value(), path)
		}
	case reflect.String:
		if v.Len() > fastpath.MaxText {
			k.found = append(k.found, path+" has a long text")
		}
	}
}

// Texts of prepared statements that are too long stay nowhere.
func TestFastPathForgetsLongTexts(t *testing.T) {
	s, _ := app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)")
	c := rawConnect(t, s.server, "root", "app", 0)
	id, _ := c.prepare("SELECT k FROM t WHERE id IN (" + strings.Repeat("1,", fastpath.MaxText) + "?)")
	c.execute(id, []any{int64(1)})
	for _, e := range s.server.catalog.fast.ring {
		require.LessOrEqual(t, len(e.shape), fastpath.MaxText)
	}
}

// A statement whose first executions are of no use is learned from a later one.
func TestFastPathLearnsLater(t *testing.T) {
	s, _ := app(t, "CREATE TABLE t (id INT PRIMARY KEY, k INT)", "INSERT INTO t VALUES (1, 1)")
	c := rawConnect(t, s.server, "root", "app", 0)
	id, _ := c.prepare("UPDATE t SET k = k + ? WHERE id = 1")
	taken := func(times int, v any) uint64 {
		before := s.server.fast.taken.Load()
		for range times {
			c.execute(id, []any{v})
		}
		return s.server.fast.taken.Load() - before
	}
	require.Zero(t, taken(maxMisses-1, "1"), "text is not added")
	require.Equal(t, uint64(2), taken(3, int64(1)))
}
