package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// connectLimit bounds the first connection to a server.
const connectLimit = 10 * time.Second

// clientConfig is what the flags of the sql command say.
type clientConfig struct {
	host, user, password, database string
	ca                             string // file of the authority that the server's certificate is of
	port                           int
	ask                            bool // for the password
	execute                        []string
	force                          bool
	table                          bool // even when the output is not a terminal
}

func sqlCommand() *cobra.Command {
	var o clientConfig
	c := &cobra.Command{
		Use:   "sql",
		Short: "Run SQL on a server: statements of -e, a pipe, or a prompt",
		Long: `Run SQL on a server.

With -e, the statements given; otherwise what comes in through a pipe; otherwise
a prompt with history. Results are tables on a terminal and tab-separated in a
pipe. The flags are those of the mysql client; -p alone asks for the password,
and ROWLOCK_PASSWORD is used when there is no -p.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.database = args[0]
			}
			return runClient(o)
		},
	}
	flags := c.Flags()
	flags.Bool("help", false, "help for sql") // leaves -h to the host
	flags.StringVarP(&o.host, "host", "h", "127.0.0.1", "server")
	flags.IntVarP(&o.port, "port", "P", 3306, "port")
	flags.StringVarP(&o.user, "user", "u", "root", "user")
	flags.StringVar(&o.password, "password", os.Getenv("ROWLOCK_PASSWORD"), "password (-pSECRET, or -p to be asked)")
	flags.Lookup("password").DefValue = ""
	flags.BoolVar(&o.ask, "ask-password", false, "ask for the password (-p)")
	flags.StringVar(&o.ca, "ssl-ca", "", caHelp)
	flags.StringVarP(&o.database, "database", "D", "", "database to use")
	flags.StringArrayVarP(&o.execute, "execute", "e", nil, "run these statements and exit")
	flags.BoolVarP(&o.force, "force", "f", false, "go on after an error")
	flags.BoolVarP(&o.table, "table", "t", false, "write tables into pipes too")
	return c
}

// clientArguments rewrites -pSECRET and -p of the sql command, which the flag
// library cannot tell apart, into long flags.
func clientArguments(args []string) []string {
	if len(args) == 0 || args[0] != "sql" {
		return args
	}
	out := []string{"sql"}
	for i, arg := range args[1:] {
		switch {
		case arg == "--":
			return append(out, args[i+1:]...)
		case arg == "-p":
			out = append(out, "--ask-password")
		case strings.HasPrefix(arg, "-p"):
			out = append(out, "--password="+arg[2:])
		default:
			out = append(out, arg)
		}
	}
	return out
}

func runClient(o clientConfig) error {
	if o.ask {
		fmt.Fprint(os.Stderr, "Password: ")
		secret, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return usagef("read the password: %w", err)
		}
		o.password = string(secret)
	}
	client, err := connect(o)
	if err != nil {
		return err
	}
	defer client.close()
	switch {
	case len(o.execute) > 0:
		return client.script(strings.NewReader(strings.Join(o.execute, ";\n")))
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return client.script(os.Stdin)
	}
	return client.prompt()
}

// client runs statements one after another on one connection.
type client struct {
	config   clientConfig
	db       *sql.DB
	conn     *sql.Conn
	database string
	server   string // version
	out      io.Writer
	errors   io.Writer
	format   resultWriter
	demo     *demo // nil outside of it
	pretty   bool  // a person reads: tables, row counts, times
}

func connect(o clientConfig) (*client, error) {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", fmt.Sprintf("%s:%d", o.host, o.port)
	config.User, config.Passwd, config.DBName = o.user, o.password, o.database
	config.InterpolateParams = true
	config.Logger = &mysql.NopLogger{}
	if err := encrypt(config, o.ca); err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, usagef("connection: %w", err)
	}
	pretty := o.table || term.IsTerminal(int(os.Stdout.Fd()))
	c := &client{config: o, db: sql.OpenDB(connector), database: o.database, out: os.Stdout, errors: os.Stderr, pretty: pretty}
	c.format = tabbed{}
	if pretty {
		c.format = boxed{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	if err := c.reconnect(ctx); err != nil {
		c.db.Close()
		return nil, fmt.Errorf("connect to %s: %w", config.Addr, err)
	}
	return c, nil
}

const caHelp = "file with the authority of the server's certificate; without it TLS is used where the server has it, and nobody is believed or doubted"

// encrypt makes the client use TLS: with an authority always, and only with a server
// that it vouches for; else where the server has it, as MySQL's client does.
func encrypt(config *mysql.Config, ca string) error {
	if ca == "" {
		config.TLSConfig = "preferred"
		return nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return usagef("ssl-ca: %w", err)
	}
	host, _, err := net.SplitHostPort(config.Addr)
	if err != nil {
		return usagef("address: %w", err)
	}
	config.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: host, MinVersion: tls.VersionTLS12}
	if !config.TLS.RootCAs.AppendCertsFromPEM(text) {
		return usagef("ssl-ca: %s has no certificate", ca)
	}
	return nil
}

// reconnect gives the client a new session in its database.
func (c *client) reconnect(ctx context.Context) error {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&c.server); err != nil {
		conn.Close()
		return err
	}
	if c.database != "" {
		if _, err := conn.ExecContext(ctx, "USE "+quoteName(c.database)); err != nil {
			conn.Close()
			return err
		}
	}
	c.conn = conn
	return nil
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.db.Close()
}

// script runs what r holds. It stops at the first error unless told to go on.
func (c *client) script(r io.Reader) error {
	s := newSplitter(r)
	failed := false
	for {
		statement, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read statements: %w", err)
		}
		if c.run(context.Background(), statement) {
			continue
		}
		failed = true
		if !c.config.force {
			break
		}
	}
	if failed {
		return errFailed
	}
	return nil
}

// run executes one statement, prints its result or error, and reports success.
func (c *client) run(ctx context.Context, s statement) bool {
	err := c.execute(ctx, s)
	if err != nil {
		fmt.Fprintln(c.errors, clientError(err))
		return false
	}
	if name, ok := usedDatabase(s.text); ok {
		c.database = name
	}
	return true
}

// clientError writes an error as the mysql client does.
func clientError(err error) string {
	return "ERROR " + strings.TrimPrefix(err.Error(), "Error ")
}

func (c *client) execute(ctx context.Context, s statement) error {
	begun := time.Now()
	if !givesRows(s.text) {
		done, err := c.conn.ExecContext(ctx, s.text)
		if err != nil {
			return err
		}
		if _, used := usedDatabase(s.text); used && c.pretty {
			fmt.Fprint(c.out, "Database changed\n\n")
			return nil
		}
		if c.pretty {
			n, _ := done.RowsAffected()
			fmt.Fprintf(c.out, "Query OK, %d %s affected (%.2f sec)\n\n", n, plural(n, "row"), time.Since(begun).Seconds())
		}
		return nil
	}
	rows, err := c.conn.QueryContext(ctx, s.text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for {
		if err := c.printRows(rows, s, begun); err != nil {
			return err
		}
		if !rows.NextResultSet() {
			return rows.Err()
		}
	}
}

func (c *client) printRows(rows *sql.Rows, s statement, begun time.Time) error {
	columns, err := rows.Columns()
	if err != nil || len(columns) == 0 {
		return err
	}
	format := c.format
	if s.vertical {
		format = vertical{}
	}
	n, err := format.write(c.out, columns, rows)
	if err != nil {
		return err
	}
	if c.pretty {
		if n == 0 {
			fmt.Fprintf(c.out, "Empty set (%.2f sec)\n\n", time.Since(begun).Seconds())
		} else {
			fmt.Fprintf(c.out, "%d %s in set (%.2f sec)\n\n", n, plural(n, "row"), time.Since(begun).Seconds())
		}
	}
	return nil
}

func plural(n int64, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
