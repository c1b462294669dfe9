package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/process"
)

// maxConnections is what every server that is started here takes.
const maxConnections = 2000

// server is a database under measurement: one process, or several as one.
type server struct {
	name      string
	addresses []string // sessions are dealt out to them
	user      string
	password  string
	pids      []int    // none: nobody knows what it costs
	only      []string // names of the workloads it takes part in; none: in all
	close     func() error

	pools map[string][]*sql.DB // by database, as the addresses
}

// pool returns the pools of a database, one an address, that keep all their
// connections.
func (s *server) pool(database string) ([]*sql.DB, error) {
	if pools := s.pools[database]; pools != nil {
		return pools, nil
	}
	var pools []*sql.DB
	for _, address := range s.addresses {
		config := mysql.NewConfig()
		config.Net, config.Addr, config.User, config.Passwd, config.DBName = "tcp", address, s.user, s.password, database
		config.Timeout = 10 * time.Second
		config.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(config)
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(connector)
		db.SetMaxIdleConns(maxConnections)
		pools = append(pools, db)
	}
	if s.pools == nil {
		s.pools = map[string][]*sql.DB{}
	}
	s.pools[database] = pools
	return pools, nil
}

// dropPools closes all connections.
func (s *server) dropPools() {
	for _, pools := range s.pools {
		for _, db := range pools {
			db.Close()
		}
	}
	s.pools = nil
}

func (s *server) exec(ctx context.Context, database string, statements ...string) error {
	pools, err := s.pool(database)
	if err != nil {
		return err
	}
	for _, text := range statements {
		if _, err := pools[0].ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%.60s: %w", text, err)
		}
	}
	return nil
}

func (s *server) version(ctx context.Context) string {
	version := "?"
	if pools, err := s.pool(""); err == nil {
		pools[0].QueryRowContext(ctx, "SELECT VERSION()").Scan(&version)
	}
	return version
}

// takesPart tells whether a workload is measured on it.
func (s *server) takesPart(name string) bool {
	return len(s.only) == 0 || slices.Contains(s.only, name)
}

// cpu is the processor time of all its processes; false if that is unknown.
func (s *server) cpu() (used time.Duration, known bool) {
	for _, pid := range s.pids {
		one, err := process.CPU(pid)
		if err != nil {
			return 0, false
		}
		used += one
	}
	return used, len(s.pids) > 0
}

// memory is what all its processes hold resident, in bytes; 0 if that is unknown.
func (s *server) memory() (resident int64) {
	for _, pid := range s.pids {
		m, err := process.MemoryOf(pid)
		if err != nil {
			return 0
		}
		resident += m.Resident
	}
	return resident
}

// start starts what there is to measure. The first is the base of all ratios.
func (s settings) start(ctx context.Context) (servers []*server, skipped []string, err error) {
	add := func(one *server, err error) error {
		if one != nil {
			servers = append(servers, one)
		}
		return err
	}
	for i, binary := range s.binaries {
		if err := add(s.startRowlock(ctx, binary, i)); err != nil {
			return servers, skipped, fmt.Errorf("%s: %w", binary, err)
		}
	}
	if s.mariadb {
		one, err := s.startMariaDB(ctx)
		var missing *missing
		switch {
		case errors.As(err, &missing):
			skipped = append(skipped, missing.Error())
		case err != nil:
			return servers, skipped, err
		default:
			servers = append(servers, one)
		}
	}
	for _, text := range s.peers {
		if err := add(readPeer(text)); err != nil {
			return servers, skipped, err
		}
	}
	if s.memory && s.cluster == 0 && s.wants("scan_count", "scan_sum") {
		if err := add(startMemory(ctx, s.loadRows)); err != nil {
			return servers, skipped, err
		}
	}
	return servers, skipped, nil
}

// wants tells whether any of these workloads is to run.
func (s settings) wants(names ...string) bool {
	return len(s.only) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(s.only, name) })
}

// missing says that a peer is not on this machine.
type missing struct{ what string }

func (m *missing) Error() string { return m.what + " is not installed" }

func (s settings) startRowlock(ctx context.Context, binary string, number int) (*server, error) {
	one := &server{name: "rowlock", user: "root"}
	if number > 0 {
		one.name = fmt.Sprintf("rowlock-%d", number+1)
	}
	args := []string{"--max-connections", strconv.Itoa(maxConnections)}
	if s.cluster == 0 {
		p, err := process.StartTemporary(ctx, binary, "peers", append(args, "--shards", strconv.Itoa(s.shards))...)
		if err != nil {
			return nil, err
		}
		one.addresses, one.pids, one.close = []string{p.Address}, []int{p.PID()}, p.Kill
		return one, nil
	}
	c, err := process.NewCluster(ctx, process.ClusterOptions{
		Binary: binary, Nodes: s.cluster, Shards: s.shards, Network: "loopback", Args: args})
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		one.addresses, one.pids = append(one.addresses, n.SQL()), append(one.pids, n.Server().PID())
	}
	one.close = c.Close
	return one, nil
}

// readPeer reads name=dsn or name=dsn#pid.
func readPeer(text string) (*server, error) {
	name, rest, found := strings.Cut(text, "=")
	if !found || name == "" {
		return nil, fmt.Errorf("peer %q: name=dsn is wanted", text)
	}
	one := &server{name: name, close: func() error { return nil }}
	if dsn, number, found := strings.Cut(rest, "#"); found {
		pid, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("peer %q: process %q", name, number)
		}
		rest, one.pids = dsn, []int{pid}
	}
	config, err := mysql.ParseDSN(rest)
	if err != nil {
		return nil, fmt.Errorf("peer %q: %w", name, err)
	}
	if config.Net != "tcp" {
		return nil, fmt.Errorf("peer %q: only TCP is known", name)
	}
	one.addresses, one.user, one.password = []string{config.Addr}, config.User, config.Passwd
	return one, nil
}
