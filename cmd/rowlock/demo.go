package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rowlockdb/rowlock"
)

// demo is a cluster in this process, to be looked at and broken.
type demo struct {
	dir   string
	out   io.Writer
	nodes []*demoNode
}

// demoNode is a node that runs, has stopped by itself or, without node, was killed.
type demoNode struct {
	options rowlock.Options
	listen  string
	node    *rowlock.Node
	watched chan struct{} // closed when nobody watches the node any more
}

const demoHelp = `  \nodes        the nodes
  \kill N       end node N without a word to the others
  \restart N    start it again on its data
  \add          start one more node
  \cut A B      end all traffic between nodes A and B; \mend A B
`

func demoCommand() *cobra.Command {
	var nodes int
	var keep string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start a cluster in this process, with a prompt to use and break it",
		Long: `Start a cluster in this process, with a prompt to use and break it.

At the prompt, SQL goes to a node that runs; any MySQL client can connect to the
addresses shown. Besides the commands of 'rowlock sql':

` + demoHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runDemo(nodes, keep, c.OutOrStdout()) },
	}
	c.Flags().IntVarP(&nodes, "nodes", "n", 3, "number of nodes")
	c.Flags().StringVar(&keep, "keep", "", "folder for the data, which stays; without it the data goes at the end")
	return c
}

func runDemo(nodes int, keep string, out io.Writer) error {
	if nodes < 1 || nodes > 20 {
		return usagef("%d nodes; 1 to 20 are possible", nodes)
	}
	d := &demo{dir: keep, out: out}
	if keep == "" {
		dir, err := os.MkdirTemp("", "rowlock-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		d.dir = dir
	}
	defer d.close()
	kept, err := filepath.Glob(filepath.Join(d.dir, "node*.addresses"))
	if err != nil {
		return err
	}
	for range max(nodes, len(kept)) {
		if err := d.add(len(kept) > 0); err != nil {
			return err
		}
	}
	if len(kept) > 0 { // nodes that know each other need each other to start
		if err := d.startTogether(); err != nil {
			return err
		}
	}
	fmt.Fprintln(d.out, "waiting until every node has its replicas")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.nodes[0].node.AwaitReplicas(ctx); err != nil {
		return err
	}
	d.list()
	return d.talk()
}

// add makes a node; it is started unless later is set.
func (d *demo) add(later bool) error {
	id := len(d.nodes) + 1
	dir := filepath.Join(d.dir, fmt.Sprintf("node%d", id))
	ports, err := d.ports(dir)
	if err != nil {
		return err
	}
	n := &demoNode{listen: ports[0], options: rowlock.Options{Dir: dir, Name: fmt.Sprintf("node%d", id), CacheBytes: 32 << 20,
		SQLAddress: ports[0], Cluster: ports[1], Logger: slog.New(slog.DiscardHandler)}}
	if id > 1 {
		n.options.Join = []string{d.nodes[0].options.Cluster}
	}
	d.nodes = append(d.nodes, n)
	if later {
		return nil
	}
	return d.start(n)
}

// listenAnywhere listens on a port below those that systems give to whoever asks for any:
// while the node does not run nobody else is given it.
func listenAnywhere() (net.Listener, error) {
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// ports returns the addresses of a node, for clients and for nodes. They are kept
// beside its data, because the other nodes know them.
func (d *demo) ports(dir string) ([2]string, error) {
	path := filepath.Join(d.dir, filepath.Base(dir)+".addresses")
	if b, err := os.ReadFile(path); err == nil {
		a, b, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
		if ok {
			return [2]string{a, b}, nil
		}
	}
	var ports [2]string
	for i := range ports {
		l, err := listenAnywhere()
		if err != nil {
			return ports, err
		}
		ports[i] = l.Addr().String()
		defer l.Close()
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return ports, err
	}
	return ports, os.WriteFile(path, []byte(ports[0]+" "+ports[1]+"\n"), 0o644)
}

// start starts a node and tells the user should it stop by itself: because its disk
// is full, say, or because it was removed from the cluster.
func (d *demo) start(n *demoNode) error {
	if err := n.start(); err != nil {
		return err
	}
	n.watched = make(chan struct{})
	go func(node *rowlock.Node, watched chan struct{}) {
		select {
		case <-node.Failed():
			fmt.Fprintf(d.out, "%s stopped by itself: %s\n", n.options.Name, explain(node.Err()))
		case <-watched:
		}
	}(n.node, n.watched)
	return nil
}

// runs tells whether the node serves.
func (n *demoNode) runs() bool { return n.node != nil && n.node.Err() == nil }

func (n *demoNode) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	node, err := rowlock.Open(ctx, n.options)
	if err != nil {
		return err
	}
	if _, err := node.ListenMySQL(n.listen); err != nil {
		return errors.Join(err, node.Close(ctx))
	}
	n.node = node
	return nil
}

func (d *demo) startTogether() error {
	errs := make(chan error, len(d.nodes))
	for _, n := range d.nodes {
		go func() { errs <- d.start(n) }()
	}
	var all error
	for range d.nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

// kill ends a node without waiting for what it does.
func (n *demoNode) kill() {
	if n.node == nil {
		return
	}
	close(n.watched)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.node.Close(ctx) // what was under way has failed: that is the point
	n.node = nil
}

func (d *demo) close() {
	for _, n := range d.nodes {
		n.kill()
	}
}

func (d *demo) list() {
	for i, n := range d.nodes {
		state := "running"
		switch {
		case n.node == nil:
			state = "killed"
		case !n.runs():
			state = "stopped"
		}
		fmt.Fprintf(d.out, "node %d  %-8s mysql -h 127.0.0.1 -P %s -u root\n", i+1, state, n.listen[strings.LastIndex(n.listen, ":")+1:])
	}
}

// talk reads statements and commands until the user leaves.
func (d *demo) talk() error {
	c, err := d.connect()
	if err != nil {
		return err
	}
	defer c.close()
	c.demo = d
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return c.prompt()
	}
	lines, text := bufio.NewScanner(os.Stdin), ""
	for lines.Scan() {
		text += lines.Text() + "\n"
		if !isCommand(text) && !complete(text) {
			continue
		}
		if c.typed(text) {
			return nil
		}
		text = ""
	}
	return lines.Err()
}

// connect makes a client of a node that runs.
func (d *demo) connect() (*client, error) {
	for _, n := range d.nodes {
		if !n.runs() {
			continue
		}
		_, port, err := net.SplitHostPort(n.listen)
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		return connect(clientConfig{host: "127.0.0.1", port: number, user: "root", table: true})
	}
	return nil, errors.New("no node runs; \\restart one")
}

// isDemoCommand reports whether a line is for the demo.
func isDemoCommand(words []string) bool {
	arguments := map[string]int{`\nodes`: 0, `\kill`: 1, `\restart`: 1, `\add`: 0, `\cut`: 2, `\mend`: 2}
	n, ok := arguments[strings.ToLower(words[0])]
	return ok && len(words) == n+1
}

// do carries a command out and reports whether the nodes that run are others now.
func (d *demo) do(words []string) (changed bool, err error) {
	var nodes []*demoNode
	for _, word := range words[1:] {
		id, err := strconv.Atoi(word)
		if err != nil || id < 1 || id > len(d.nodes) {
			return false, fmt.Errorf("there is no node %s", word)
		}
		nodes = append(nodes, d.nodes[id-1])
	}
	begun := time.Now()
	switch strings.ToLower(words[0]) {
	case `\nodes`:
		d.list()
		return false, nil
	case `\kill`:
		nodes[0].kill()
	case `\restart`:
		nodes[0].kill()
		err = d.start(nodes[0])
	case `\add`:
		err = d.add(false)
	case `\cut`, `\mend`:
		err = d.cut(nodes[0], nodes[1], strings.ToLower(words[0]) == `\cut`)
	}
	if err == nil {
		fmt.Fprintf(d.out, "done after %.1f s\n", time.Since(begun).Seconds())
	}
	return true, err
}

func (d *demo) cut(a, b *demoNode, cut bool) error {
	if !a.runs() || !b.runs() {
		return errors.New("both nodes must run")
	}
	if cut {
		a.node.CutFrom(b.node.ID())
		b.node.CutFrom(a.node.ID())
		return nil
	}
	a.node.Mend(b.node.ID())
	b.node.Mend(a.node.ID())
	return nil
}
