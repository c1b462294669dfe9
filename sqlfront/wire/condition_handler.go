package wire

import (
	"strings"

	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// rewriteHandler accepts the condition handlers that the engine runs rightly: an empty block, or one SET of one variable of the
// procedure, alone or in a block of its own, from which it is taken out. Of a block the engine runs only the opening of its
// scope, so that the ROLLBACK inside would be skipped without a word, and after a statement with a result it begins the
// procedure anew, for ever.
func rewriteHandler(h *sqlparser.DeclareHandler) error {
	if h == nil {
		return nil
	}
	block, ok := h.Statement.(*sqlparser.BeginEndBlock)
	for ok && len(block.Statements) == 1 {
		h.Statement = block.Statements[0]
		block, ok = h.Statement.(*sqlparser.BeginEndBlock)
	}
	if ok && len(block.Statements) == 0 {
		return nil
	}
	if set, ok := h.Statement.(*sqlparser.Set); !ok || !setsOneLocal(set) {
		return mysql.NewSQLError(1235, "42000", "This version of Rowlock doesn't yet support 'condition handlers that do more than SET one variable of the procedure'")
	}
	return rewrite(h.Statement)
}

func setsOneLocal(s *sqlparser.Set) bool {
	return len(s.Exprs) == 1 && s.Exprs[0].Scope == sqlparser.SetScope_None &&
		!strings.HasPrefix(s.Exprs[0].Name.String(), "@")
}
