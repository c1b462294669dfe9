package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/spf13/cobra"

	"github.com/rowlockdb/rowlock"
)

// stopLimit bounds a clean stop: what is committing may finish until then.
const stopLimit = 30 * time.Second

// startLimit bounds the recovery of a data directory.
const startLimit = 5 * time.Minute

func startCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "start",
		Short: "Run a server",
		Long: `Run a server on a data directory until it is interrupted.

Settings are taken from flags, then from ROWLOCK_* variables (--lock-wait is
ROWLOCK_LOCK_WAIT), then from the TOML file of --config.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := loadConfig(c.Flags(), os.Environ)
			if err != nil {
				return err
			}
			return start(c.Context(), config, c.OutOrStdout())
		},
	}
	startFlags(c.Flags())
	return c
}

// start runs a server until SIGINT or SIGTERM. A second signal ends the process
// at once.
func start(ctx context.Context, c startConfig, out io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
	begun := time.Now()
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()

	logger, closeLog, err := openLog(c)
	if err != nil {
		return err
	}
	defer closeLog()
	if c.Listen, err = probe(c.Listen); err != nil {
		return err
	}
	size := c.sizes(os.DirFS("/"))
	if size.limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(size.limit)
	}
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	node, err := rowlock.Open(limited, rowlock.Options{
		Dir: c.Data, Shards: c.Shards, CacheBytes: size.cache, MemTableBytes: size.memTable, LockWait: c.LockWait,
		Retention: c.Retention, MaxConnections: c.MaxConnections, TxnBytes: size.txn, Reserve: c.reserve(), Logger: logger,
		Cluster: c.Cluster, Advertise: c.Advertise, SQLAddress: c.Listen, Join: c.peers(), Name: c.Name, Zone: c.Zone,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, RequireTLS: c.RequireTLS,
		Certificates: c.Certs, Insecure: c.Insecure, MoveRate: c.MoveMB << 20, DeadAfter: c.DeadAfter,
		Lease: c.lease(), LeaseDrift: c.LeaseDrift,
	})
	if ctx.Err() != nil && err != nil {
		return errors.New("interrupted before the server was ready")
	}
	if err != nil {
		// In a directory that is somebody else's, nothing is written.
		if !errors.Is(err, rowlock.ErrLocked) && !errors.Is(err, rowlock.ErrFormat) {
			logger.Error("start failed", "error", err)
		}
		return err
	}
	logger.Info("memory", "cache_bytes", size.cache, "mem_table_bytes", size.memTable, "txn_bytes", size.txn, "limit_bytes", size.limit)
	address, err := listen(limited, node, c)
	if err != nil {
		return errors.Join(err, stop(node, logger))
	}
	logger.Info("ready", "address", address.String(), "after", time.Since(begun))
	banner(out, c, node, address, time.Since(begun))

	select {
	case <-ctx.Done():
	case <-node.Failed():
		// Where the disk has failed nothing is closed: what has failed stands still,
		// and the connections are gone. Whoever starts servers reads the exit code.
		if errors.Is(node.Err(), rowlock.ErrRemoved) {
			return errors.Join(node.Err(), stop(node, logger))
		}
		return node.Err()
	}
	release() // from here on a signal ends the process, as by default
	logger.Info("stopping")
	fmt.Fprintln(out, "stopping: waiting for commits under way; press Ctrl-C again to stop at once")
	if err := stop(node, logger); err != nil {
		return err
	}
	fmt.Fprintln(out, "stopped")
	return nil
}

func stop(node *rowlock.Node, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	err := node.Close(ctx)
	logger.Info("stopped", "error", err)
	return err
}

// probe finds an address in use before a data directory is made for nothing. It
// returns the address with the port that the system chose for port 0: the node
// tells others of it before it listens there.
func probe(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w", address, err)
	}
	if _, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		address = l.Addr().String()
	}
	return address, l.Close()
}

// listen serves MySQL clients, unless that would let anybody on the network in.
func listen(ctx context.Context, node *rowlock.Node, c startConfig) (net.Addr, error) {
	if !c.Insecure && !loopback(c.Listen) {
		open, err := rootIsOpen(ctx, node)
		if err != nil {
			return nil, err
		}
		if open {
			return nil, usagef("%s can be reached from other machines and root has no password: "+
				"set one (ALTER USER 'root'@'localhost' IDENTIFIED BY '...'), or pass --insecure", c.Listen)
		}
	}
	return node.ListenMySQL(c.Listen)
}

// loopback reports whether only this machine reaches the address. A name is
// loopback when everything it stands for is.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	ips, err := net.LookupIP(host)
	if err != nil {
		return false
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return false
		}
	}
	return len(ips) > 0
}

// rootIsOpen tries to log in as root without a password, from inside.
func rootIsOpen(ctx context.Context, node *rowlock.Node) (bool, error) {
	db := sql.OpenDB(node.Connector(""))
	defer db.Close()
	err := db.PingContext(ctx)
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && refused.Number == accessDenied {
		return false, nil
	}
	return err == nil, err
}

// accessDenied is MySQL's ER_ACCESS_DENIED_ERROR.
const accessDenied = 1045

func banner(out io.Writer, c startConfig, node *rowlock.Node, address net.Addr, took time.Duration) {
	host, port, _ := net.SplitHostPort(address.String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	fmt.Fprintf(out, "rowlock %s, process %d: ready for connections on %s after %.2f s\n", version, os.Getpid(), address, took.Seconds())
	fmt.Fprintf(out, "  connect   mysql -h %s -P %s -u root\n", host, port)
	if c.Cluster != "" {
		fmt.Fprintf(out, "  cluster   node %d, %d nodes known, for other nodes at %s\n", node.ID(), len(node.Members()), node.ClusterAddress())
	}
	fmt.Fprintf(out, "  data      %s\n", node.DataDir())
	fmt.Fprintf(out, "  log       %s\n", node.LogDir())
	fmt.Fprintf(out, "  messages  %s\n", c.logPath())
	fmt.Fprintf(out, "  shards    %d\n", node.Shards())
	if c.Insecure && !loopback(c.Listen) {
		fmt.Fprintln(out, "  WARNING   other machines reach this server, and root may have no password")
	}
	fmt.Fprintln(out, "Press Ctrl-C to stop.")
}

const toStderr = "stderr"

func (c *startConfig) logPath() string {
	if c.Log != "" {
		return c.Log
	}
	path, err := filepath.Abs(filepath.Join(c.Data, "server.log"))
	if err != nil {
		return filepath.Join(c.Data, "server.log")
	}
	return path
}

// openLog makes the logger of the configuration.
func openLog(c startConfig) (*slog.Logger, func(), error) {
	level, err := c.level()
	if err != nil {
		return nil, nil, err
	}
	var w io.Writer = os.Stderr
	closeLog := func() {}
	if path := c.logPath(); path != toStderr {
		f := &lateFile{path: path}
		w, closeLog = f, f.close
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), closeLog, nil
	}
	return slog.New(slog.NewTextHandler(w, o)), closeLog, nil
}

// lateFile is a file that is opened by the first write, so that a start that is
// refused leaves no log behind in a directory that is not ours. Messages before
// the directory exists are kept until then.
type lateFile struct {
	path string
	mu   struct {
		sync.Mutex
		f    *os.File
		kept []byte
	}
}

// maxKept bounds the messages kept for a file that cannot be opened.
const maxKept = 64 << 10

func (l *lateFile) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.f == nil {
		f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			if len(l.mu.kept) < maxKept {
				l.mu.kept = append(l.mu.kept, text...)
			}
			return len(text), nil
		}
		l.mu.f = f
		f.Write(l.mu.kept)
		l.mu.kept = nil
	}
	return l.mu.f.Write(text)
}

func (l *lateFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.f != nil {
		l.mu.f.Close()
	}
}
