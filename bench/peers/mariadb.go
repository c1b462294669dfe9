package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rowlockdb/rowlock/bench/process"
)

// Ports of a node of MariaDB; every one has an address of its own.
const (
	mariadbPort = 4200
	groupPort   = 4300
	stPort      = 4400 // for increments; whole states come one above
)

// patience is how long a peer may take to start or to stop.
const patience = 2 * time.Minute

// find looks for a program on the path and where distributions keep servers.
func find(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	return ""
}

// galera looks for the library that joins servers to one.
func galera() string {
	for _, pattern := range []string{"/usr/lib/galera/libgalera_smm.so", "/usr/lib*/galera*/libgalera*.so", "/usr/lib/*/galera*/libgalera*.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// mariadb is a number of its servers in a temporary directory.
type mariadb struct {
	dir, program, installer, library, user string
	settings                               settings
	network                                process.Network
	nodes                                  []*exec.Cmd
	ended                                  []chan struct{}
}

// startMariaDB starts one server, or as many as the settings say with Galera.
func (s settings) startMariaDB(ctx context.Context) (*server, error) {
	m := &mariadb{settings: s, program: find("mariadbd", "mysqld"), installer: find("mariadb-install-db"), library: galera(), network: process.NewLoopback()}
	switch {
	case m.program == "" || m.installer == "":
		return nil, &missing{"MariaDB (mariadbd and mariadb-install-db)"}
	case s.cluster > 0 && (m.library == "" || find("rsync") == ""):
		return nil, &missing{"MariaDB's Galera library, or rsync,"}
	}
	if err := m.home(); err != nil {
		return nil, err
	}
	one := &server{name: "mariadb", user: "root", close: m.close}
	if s.cluster > 0 {
		one.name = "galera"
	}
	for i := range max(1, s.cluster) {
		if err := m.start(ctx, i+1); err != nil {
			return nil, errors.Join(fmt.Errorf("MariaDB: %w", err), m.close())
		}
		one.addresses, one.pids = append(one.addresses, m.address(i+1)), append(one.pids, m.nodes[i].Process.Pid)
	}
	return one, nil
}

func (m *mariadb) host(node int) string    { return m.network.Host(node) }
func (m *mariadb) address(node int) string { return fmt.Sprintf("%s:%d", m.host(node), mariadbPort) }
func (m *mariadb) data(node int) string    { return filepath.Join(m.dir, fmt.Sprint(node)) }
func (m *mariadb) log(node int) string     { return filepath.Join(m.dir, fmt.Sprintf("%d.log", node)) }

// home makes the directory for everything. The servers do not run as root, if there
// is the user that distributions have for them: what copies Galera's data between
// nodes gives root's rights away.
func (m *mariadb) home() error {
	who, err := user.Current()
	if err != nil {
		return err
	}
	if other, err := user.Lookup("mysql"); err == nil && who.Uid == "0" {
		who = other
	}
	m.user = who.Username
	if m.dir, err = os.MkdirTemp("", "peers-mariadb-"); err != nil {
		return err
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		return err
	}
	return os.Chown(m.dir, uid, -1)
}

// start installs a node's data and starts it, and waits until it answers.
func (m *mariadb) start(ctx context.Context, node int) error {
	install := exec.CommandContext(ctx, m.installer, "--no-defaults", "--datadir="+m.data(node), "--user="+m.user,
		"--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("install: %w: %s", err, bytes.TrimSpace(out[max(0, len(out)-500):]))
	}
	log, err := os.Create(m.log(node))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.CommandContext(ctx, m.program, m.args(node)...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	m.nodes, m.ended = append(m.nodes, command), append(m.ended, ended)
	go func() {
		command.Wait()
		close(ended)
	}()
	return m.await(ctx, node)
}

// args are the durable settings, and otherwise those of a server that is not
// starved: no name resolution, a buffer pool and a log that hold all the data.
func (m *mariadb) args(node int) []string {
	args := []string{"--no-defaults", "--user=" + m.user, "--datadir=" + m.data(node),
		"--socket=" + filepath.Join(m.dir, fmt.Sprintf("%d.sock", node)), "--pid-file=" + filepath.Join(m.dir, fmt.Sprintf("%d.pid", node)),
		"--bind-address=" + m.host(node), fmt.Sprintf("--port=%d", mariadbPort), "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=1", fmt.Sprintf("--innodb-buffer-pool-size=%dM", m.settings.bufferMB),
		"--innodb-log-file-size=512M", fmt.Sprintf("--max-connections=%d", maxConnections), "--local-infile=1",
		"--character-set-server=utf8mb4"}
	if m.settings.cluster == 0 {
		return args
	}
	var group []string
	for i := range m.settings.cluster {
		group = append(group, fmt.Sprintf("%s:%d", m.host(i+1), groupPort))
	}
	host := m.host(node)
	args = append(args, "--wsrep-on=ON", "--wsrep-provider="+m.library, "--wsrep-cluster-name=peers",
		"--wsrep-cluster-address=gcomm://"+strings.Join(group, ","), "--wsrep-node-address="+fmt.Sprintf("%s:%d", host, groupPort),
		"--wsrep-node-name="+fmt.Sprintf("n%d", node), "--wsrep-sst-method=rsync", fmt.Sprintf("--wsrep-sst-receive-address=%s:%d", host, stPort+1),
		fmt.Sprintf("--wsrep-provider-options=gmcast.listen_addr=tcp://%s:%d;ist.recv_addr=%s:%d;gcache.size=128M", host, groupPort, host, stPort),
		"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2")
	if node == 1 {
		args = append(args, "--wsrep-new-cluster")
	}
	return args
}

// await returns when root is let in; anybody who reaches this node is root here,
// so that its addresses must be the loopback's.
func (m *mariadb) await(ctx context.Context, node int) error {
	one := server{addresses: []string{m.address(node)}, user: "root"}
	defer one.dropPools()
	last := errors.New("it was not asked")
	for begun := time.Now(); time.Since(begun) < patience && ctx.Err() == nil; {
		select {
		case <-m.ended[node-1]:
			return fmt.Errorf("node %d ended: %s", node, m.said(node))
		case <-time.After(100 * time.Millisecond):
		}
		var c net.Conn
		if c, last = net.Dial("tcp", m.address(node)); last != nil {
			continue
		}
		c.Close()
		if last = m.ask(ctx, &one); last == nil {
			return nil
		}
	}
	return fmt.Errorf("node %d does not serve: %w: %s", node, errors.Join(last, ctx.Err()), m.said(node))
}

// ask is content with a server that serves, of Galera only when it takes part.
func (m *mariadb) ask(ctx context.Context, one *server) error {
	pools, err := one.pool("")
	if err != nil {
		return err
	}
	if m.settings.cluster == 0 {
		return pools[0].PingContext(ctx)
	}
	var name, state string
	if err := pools[0].QueryRowContext(ctx, "SHOW STATUS LIKE 'wsrep_local_state_comment'").Scan(&name, &state); err != nil {
		return err
	}
	if state != "Synced" {
		return fmt.Errorf("its state is %q", state)
	}
	return nil
}

// said is the end of a node's log.
func (m *mariadb) said(node int) string {
	text, _ := os.ReadFile(m.log(node))
	return string(text[max(0, len(text)-3000):])
}

// close ends the servers, by force if they do not hear, and removes the data.
func (m *mariadb) close() error {
	var wait sync.WaitGroup
	for i, node := range m.nodes {
		node.Process.Signal(syscall.SIGTERM)
		wait.Go(func() {
			select {
			case <-m.ended[i]:
			case <-time.After(patience):
				node.Process.Kill()
				<-m.ended[i]
			}
		})
	}
	wait.Wait()
	return os.RemoveAll(m.dir)
}
