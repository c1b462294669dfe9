package process

import (
	"database/sql"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Open returns a pool of connections to a server, as root without a password.
func Open(address, database string) (*sql.DB, error) {
	return open(configOf(address, database))
}

// OpenMany is Open for many sessions at a time: it keeps up to so many
// connections, and parameters travel in the text of a statement.
func OpenMany(address string, sessions int) (*sql.DB, error) {
	config := configOf(address, "")
	config.InterpolateParams = true
	db, err := open(config)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(sessions)
	return db, nil
}

func configOf(address, database string) *mysql.Config {
	config := mysql.NewConfig()
	config.Net, config.Addr, config.User, config.DBName = "tcp", address, "root", database
	config.Timeout = 5 * time.Second
	config.Logger = &mysql.NopLogger{}
	return config
}

func open(config *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
