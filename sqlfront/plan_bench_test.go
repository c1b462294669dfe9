package sqlfront

import (
	"context"
	"fmt"
	"testing"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/planbuilder"
	"github.com/stretchr/testify/require"
)

// BenchmarkPlan measures what a statement costs before it runs, and in all, where it is
// parsed already: what a cache of plans could save.
func BenchmarkPlan(b *testing.B) {
	s, db := app(b, "CREATE TABLE a (id INT PRIMARY KEY, k INT, v INT, KEY (k))", "CREATE TABLE b (id INT PRIMARY KEY, k INT, v INT, KEY (k))")
	run(b, db, series("a", 200, "id,k,v", func(i int) string { return fmt.Sprintf("(%d,%d,%d)", i, i%20, i) }),
		series("b", 200, "id,k,v", func(i int) string { return fmt.Sprintf("(%d,%d,%d)", i, i%20, i) }))
	engine := s.server.engine
	session := newSession(sql.NewBaseSessionWithClientServer("bench", sql.Client{User: "root", Address: "localhost"}, 1), s.server)
	ctx := sql.NewContext(context.Background(), sql.WithSession(session))
	ctx.SetCurrentDatabase("app")
	for name, query := range map[string]string{
		"index": "SELECT v FROM a WHERE k = 7 AND v > 100",
		"join":  "SELECT a.v, b.v FROM a JOIN b ON b.id = a.v WHERE a.id IN (3, 17, 40)",
		"three": "SELECT COUNT(*) FROM a JOIN b ON b.id = a.v JOIN a c ON c.id = b.v WHERE a.id < 20 GROUP BY a.k ORDER BY 1",
	} {
		plan := func(b *testing.B, analyze bool) {
			require.NoError(b, session.CommandBegin())
			binder := planbuilder.New(ctx, engine.Analyzer.Catalog, nil)
			parsed, _, _, flags, err := binder.Parse(query, nil, false)
			require.NoError(b, err)
			_ = parsed
			if analyze {
				_, err = engine.Analyzer.Analyze(ctx, parsed, nil, flags)
				require.NoError(b, err)
			}
			session.CommandEnd()
		}
		b.Run(name+"/bind", func(b *testing.B) {
			for b.Loop() {
				plan(b, false)
			}
		})
		b.Run(name+"/bind+analyze", func(b *testing.B) {
			for b.Loop() {
				plan(b, true)
			}
		})
		b.Run(name+"/all", func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, session.CommandBegin())
				_, iter, _, err := engine.Query(ctx, query)
				require.NoError(b, err)
				_, err = sql.RowIterToRows(ctx, iter)
				require.NoError(b, err)
				session.CommandEnd()
			}
		})
	}
}
