package sqlfront

import (
	"container/list"

	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// statementCache keeps the most recently used parsed statements of a session.
// It belongs to the session's goroutine.
type statementCache struct {
	limit int
	order list.List // of *cachedStatement, newest first
	byKey map[string]*list.Element
}

type cachedStatement struct {
	text string
	stmt sqlparser.Statement
}

func (c *statementCache) get(text string) (sqlparser.Statement, bool) {
	e, ok := c.byKey[text]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedStatement).stmt, true
}

func (c *statementCache) put(text string, stmt sqlparser.Statement) {
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	if e, ok := c.byKey[text]; ok {
		e.Value.(*cachedStatement).stmt = stmt
		c.order.MoveToFront(e)
		return
	}
	c.byKey[text] = c.order.PushFront(&cachedStatement{text, stmt})
	if c.order.Len() > c.limit {
		c.remove(c.order.Back().Value.(*cachedStatement).text)
	}
}

func (c *statementCache) remove(text string) {
	if e, ok := c.byKey[text]; ok {
		c.order.Remove(e)
		delete(c.byKey, text)
	}
}
