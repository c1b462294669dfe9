package wire

import "strings"

// explainTree gives an EXPLAIN without a format the engine's tree. The engine's table has the text NULL in columns of numbers,
// which drivers cannot read, and says nothing of the plan. EXPLAIN of a table stays a DESCRIBE. Only the first of several
// statements is looked at: the others come again.
func explainTree(query string) string {
	s := &scanner{text: query}
	switch s.word() {
	case "EXPLAIN", "DESCRIBE", "DESC":
	default:
		return query
	}
	switch s.word() {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH":
		return strings.Join([]string{query[:s.start], query[s.start:]}, "FORMAT=TREE ")
	}
	return query
}
