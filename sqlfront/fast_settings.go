package sqlfront

import (
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/vitess/go/vt/sqlparser"

	"github.com/rowlockdb/rowlock/sqlfront/fastpath"
)

// fastSession is room that a session keeps for the fast path.
type fastSession struct {
	shape  []byte
	values []fastpath.Value
	// capture gets the plan of the present statement, if somebody wants it.
	capture *captured
}

// fastSettings are what variables of the session say to the fast path.
type fastSettings struct {
	on      bool
	parsing sqlparser.ParserOptions
	unicode bool // literals are text of the character set utf8mb4
	plans   *fastScope
}

// scopeKey is everything of a session on which the meaning of a text depends, or how
// its result is described.
type scopeKey struct {
	database, mode      string
	connection, results any
}

// fastSettings reads the variables. Those with which a SELECT is more than its text
// says switch the fast path off.
func (s *Session) fastSettings(known *sessionVariables) fastSettings {
	none := fastSettings{}
	if !s.flag(s.plain, "rowlock_fast_path") || known.characteristics.staleness > 0 {
		return none
	}
	if usual, _ := sql.HasDefaultValue(s.plain, s, "sql_select_limit"); !usual && !mutated("0070.select-limit") {
		return none
	}
	var values [4]any
	for i, name := range [...]string{"max_execution_time", "sql_mode", "collation_connection", "character_set_results"} {
		var err error
		if values[i], err = s.GetSessionVariable(s.plain, name); err != nil {
			return none
		}
	}
	mode, ok := values[1].(string)
	if !ok || values[0] != int64(0) {
		return none
	}
	key := scopeKey{database: s.GetCurrentDatabase(), mode: mode, connection: values[2], results: values[3]}
	connection, _ := values[2].(string)
	plans := s.catalog.fast.scope(key)
	return fastSettings{on: true, unicode: strings.HasPrefix(connection, "utf8mb4"), parsing: sql.LoadSqlMode(s.plain).ParserOptions(), plans: plans}
}
