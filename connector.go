//go:build cgo || gms_pure_go

package rowlock

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"net"

	"github.com/go-sql-driver/mysql"
)

// inProcess is the network name of connections that do not leave the process.
const inProcess = "rowlock"

// Connector gives database/sql connections to this node inside the process, in
// the named database ("" = none). Close the node after the sql.DB.
func (n *Node) Connector(database string) driver.Connector {
	config := mysql.NewConfig()
	config.DBName = database
	connector, err := n.connector(config)
	if err != nil {
		// The configuration above is valid whatever the database is called.
		panic(fmt.Sprintf("rowlock: in-process connector: %v", err))
	}
	return connector
}

// connector completes a client configuration: the node's own dial function, and
// its user where the configuration names none.
func (n *Node) connector(config *mysql.Config) (driver.Connector, error) {
	config.Net, config.Addr = inProcess, inProcess
	if config.User == "" {
		config.User, config.Passwd = n.options.User, n.options.Password
	}
	config.Logger = clientLog{n.log}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx) }
	return mysql.NewConnector(config)
}

// clientLog passes on what the client library has to say about connections that
// broke. The caller gets the error as well.
type clientLog struct{ log *slog.Logger }

// Print implements mysql.Logger.
func (l clientLog) Print(v ...any) { l.log.Debug("in-process client", "message", fmt.Sprint(v...)) }

func (n *Node) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-n.closed:
		return nil, ErrClosed
	default:
		return n.server.Dial(ctx)
	}
}
