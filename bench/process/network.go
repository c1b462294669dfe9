package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
)

// Ports of every node of a cluster; each node has an address of its own.
const (
	sqlPort     = 4000
	clusterPort = 4100
)

// Network is where the nodes of a cluster live. Nodes count from 1.
type Network interface {
	// Host is the address of a node.
	Host(node int) string
	// Front is the command in front of a node's process.
	Front(node int) []string
	// Cut drops what one node sends to another, until Heal. Connections stay open
	// and hang, as they do when a cable is pulled.
	Cut(from, to int) error
	Heal() error
	// Cuts tells whether Cut can do anything.
	Cuts() bool
	Close() error
}

// loopback gives each node an address of 127.0.0.0/8.
type loopback struct{ prefix string }

// NewLoopback is a network that cannot be cut and needs no privileges.
func NewLoopback() Network {
	_, high, low := nextNetwork()
	return &loopback{prefix: fmt.Sprintf("127.%d.%d.", 1+high%254, low)}
}

func (l *loopback) Host(node int) string { return l.prefix + fmt.Sprint(node) }
func (*loopback) Front(int) []string     { return nil }
func (*loopback) Cut(int, int) error {
	return errors.New("this network cannot be cut; namespaces need root")
}
func (*loopback) Heal() error  { return nil }
func (*loopback) Cuts() bool   { return false }
func (*loopback) Close() error { return nil }

// networks counts those that this process has made.
var networks atomic.Int64

// nextNetwork returns a name and two numbers for the addresses of a network that
// hardly any other on this machine has: they follow from the number of the process,
// and further networks of a process have another high number.
func nextNetwork() (name string, high, low int) {
	pid, k := os.Getpid(), int(networks.Add(1))-1
	name = fmt.Sprintf("rl%d", pid)
	if k > 0 {
		name += string(rune('a' + k%26)) // names of devices have at most 15 letters
	}
	return name, pid>>8 + 41*k, pid % 256
}

// namespaces gives each node a network namespace of its own; a bridge joins them
// and this program.
type namespaces struct {
	name  string // of the bridge, and the prefix of everything else
	under string // of addresses, up to the last number
	nodes int
	cuts  []cut
}

type cut struct{ from, to int }

// hub is the last number of the bridge's own address.
const hub = 254

// NewNamespaces makes a network of so many nodes that can be cut. It needs root.
func NewNamespaces(nodes int) (Network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	name, high, low := nextNetwork()
	n := &namespaces{name: name, under: fmt.Sprintf("10.%d.%d.", 64+high%128, low)}
	err := run("ip", "link", "add", n.name, "type", "bridge")
	if err == nil {
		err = run("ip", "addr", "add", n.Host(hub)+"/24", "dev", n.name)
	}
	if err == nil {
		err = run("ip", "link", "set", n.name, "up")
	}
	for i := 1; i <= nodes && err == nil; i++ {
		err = n.add(i)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make network namespaces: %w", err), n.Close())
	}
	return n, nil
}

func (n *namespaces) space(node int) string { return fmt.Sprintf("%s-%d", n.name, node) }

func (n *namespaces) add(node int) error {
	n.nodes = node
	space, port := n.space(node), fmt.Sprintf("%sv%d", n.name, node)
	for _, line := range []string{
		"ip netns add " + space,
		"ip link add " + port + " type veth peer name eth0 netns " + space,
		"ip link set " + port + " master " + n.name,
		"ip link set " + port + " up",
		"ip -n " + space + " addr add " + n.Host(node) + "/24 dev eth0",
		"ip -n " + space + " link set eth0 up",
		"ip -n " + space + " link set lo up",
	} {
		if err := run(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func (n *namespaces) Host(node int) string { return n.under + fmt.Sprint(node) }

func (n *namespaces) Front(node int) []string {
	return []string{"ip", "netns", "exec", n.space(node)}
}

func (n *namespaces) Cut(from, to int) error {
	c := cut{from, to}
	if slices.Contains(n.cuts, c) {
		return nil
	}
	if err := n.rule("add", c); err != nil {
		return err
	}
	n.cuts = append(n.cuts, c)
	return nil
}

func (n *namespaces) rule(do string, c cut) error {
	return run("ip", "-n", n.space(c.from), "rule", do, "to", n.Host(c.to), "blackhole")
}

func (n *namespaces) Heal() error {
	var errs []error
	for _, c := range n.cuts {
		errs = append(errs, n.rule("del", c))
	}
	n.cuts = nil
	return errors.Join(errs...)
}

func (*namespaces) Cuts() bool { return true }

func (n *namespaces) Close() error {
	var errs []error
	for i := 1; i <= n.nodes; i++ {
		errs = append(errs, run("ip", "netns", "del", n.space(i)))
	}
	errs = append(errs, run("ip", "link", "del", n.name))
	return errors.Join(errs...)
}

func run(words ...string) error {
	out, err := exec.CommandContext(context.Background(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
