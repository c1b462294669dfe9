package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// nodeConfig is what the flags of the node commands say.
type nodeConfig struct {
	host, user, password string
	ca                   string
	port                 int
	wait                 time.Duration
}

func nodeCommand() *cobra.Command {
	var o nodeConfig
	c := &cobra.Command{
		Use:   "node",
		Short: "List, drain and remove the nodes of a cluster",
		Long: `List, drain and remove the nodes of a cluster, by way of any of its nodes.

A node is added by starting it with --join; its part of the data moves to it by
itself. Before a node is restarted, drain it: others take over what it owns, and
its next start ends that. Before a machine is taken away, remove the node: its
replicas move to others first.`,
	}
	flags := c.PersistentFlags()
	flags.StringVarP(&o.host, "host", "H", "127.0.0.1", "a node of the cluster")
	flags.IntVarP(&o.port, "port", "P", 3306, "port for clients")
	flags.StringVarP(&o.user, "user", "u", "root", "user, with the privilege SUPER")
	flags.StringVar(&o.password, "password", os.Getenv("ROWLOCK_PASSWORD"), "password (default $ROWLOCK_PASSWORD)")
	flags.Lookup("password").DefValue = ""
	flags.StringVar(&o.ca, "ssl-ca", "", caHelp)
	flags.DurationVar(&o.wait, "wait", 10*time.Minute, "how long to wait until it is done")
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List the nodes", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return o.list(c.OutOrStdout()) }},
		nodeChange(&o, "drain", "Let others own what a node owns", "drain_node", ownsNothing),
		nodeChange(&o, "undrain", "Take a drain or a removal that has not ended back", "undrain_node", nil),
		removeCommand(&o),
		&cobra.Command{Use: "add", Short: "Wait until every node has its part of the data", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return o.settled(c.OutOrStdout()) }},
		&cobra.Command{Use: "replicas N", Short: "Keep N replicas of all data; 0: three as soon as there are three nodes", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if _, err := strconv.ParseUint(args[0], 10, 8); err != nil {
					return usagef("%q is no number of replicas", args[0])
				}
				if err := o.call("set_replication_factor", args[0]); err != nil {
					return err
				}
				return o.settled(c.OutOrStdout())
			}})
	return c
}

// nodeState is a row of rowlock.nodes, as far as the commands look at it.
type nodeState struct {
	id, owned, replicas                 uint64
	oldest, newest                      uint64 // versions
	name, address, cluster, zone, state string
}

func ownsNothing(n nodeState) bool  { return n.owned == 0 }
func holdsNothing(n nodeState) bool { return n.replicas == 0 }

// nodeChange is a command that calls a procedure and waits for what it leads to.
func nodeChange(o *nodeConfig, use, short, procedure string, done func(nodeState) bool) *cobra.Command {
	return &cobra.Command{Use: use + " NODE", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := o.find(args[0])
			if err != nil {
				return err
			}
			if err := o.call(procedure, id); err != nil || done == nil {
				return err
			}
			if err := o.until(c.OutOrStdout(), use+" node "+id, id, done); err != nil {
				return err
			}
			return o.disowned(id)
		}}
}

// disowned waits until no shard says that the node owns it. The list of nodes counts a
// shard that is being handed over as nobody's, before it is somebody else's.
func (o *nodeConfig) disowned(id string) error {
	db, err := o.open()
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(o.wait); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
		var owned int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM rowlock.shards WHERE owner = "+id).Scan(&owned)
		cancel()
		if err != nil || owned == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("node %s still owns %d shards after %s", id, owned, o.wait)
		}
	}
}

func removeCommand(o *nodeConfig) *cobra.Command {
	c := nodeChange(o, "remove", "Move a node's replicas to others and forget it", "leave_node", holdsNothing)
	leave := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := o.find(args[0])
		if err != nil {
			return err
		}
		if err := leave(c, args); err != nil {
			return err
		}
		// The last replica is reported by heartbeat, a moment later.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			if err = o.call("remove_node", id); err == nil || time.Now().After(deadline) {
				return err
			}
		}
	}
	return c
}

func (o *nodeConfig) open() (*sql.DB, error) {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", fmt.Sprintf("%s:%d", o.host, o.port)
	config.User, config.Passwd, config.Timeout = o.user, o.password, connectLimit
	if err := encrypt(config, o.ca); err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, usagef("connect: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// find turns a name or a number into a number.
func (o *nodeConfig) find(node string) (string, error) {
	nodes, err := o.nodes()
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if fmt.Sprint(n.id) == node || n.name != "" && strings.EqualFold(n.name, node) {
			return fmt.Sprint(n.id), nil
		}
	}
	return "", fmt.Errorf("the cluster has no node %s", node)
}

func (o *nodeConfig) call(procedure, argument string) error {
	db, err := o.open()
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit+startLimit)
	defer cancel()
	_, err = db.ExecContext(ctx, fmt.Sprintf("CALL rowlock.%s(%s)", procedure, argument))
	return err
}

func (o *nodeConfig) nodes() ([]nodeState, error) {
	db, err := o.open()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	rows, err := db.QueryContext(ctx, "SELECT node, name, address, cluster, zone, state, owned, replicas, oldest_version, newest_version FROM rowlock.nodes ORDER BY node")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []nodeState
	for rows.Next() {
		var n nodeState
		if err := rows.Scan(&n.id, &n.name, &n.address, &n.cluster, &n.zone, &n.state, &n.owned, &n.replicas, &n.oldest, &n.newest); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, rows.Err()
}

func (o *nodeConfig) list(out io.Writer) error {
	nodes, err := o.nodes()
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"node", "name", "zone", "clients", "nodes", "state", "owns", "replicas", "versions"})
	for _, n := range nodes {
		t.AppendRow(table.Row{n.id, n.name, n.zone, n.address, n.cluster, n.state, n.owned, n.replicas, fmt.Sprintf("%d-%d", n.oldest, n.newest)})
	}
	t.Render()
	return nil
}

// until shows how a node empties.
func (o *nodeConfig) until(out io.Writer, what, id string, done func(nodeState) bool) error {
	return o.watch(out, what, func(nodes []nodeState) (left uint64, ready bool) {
		for _, n := range nodes {
			if fmt.Sprint(n.id) == id {
				return n.owned + n.replicas, done(n)
			}
		}
		return 0, true
	})
}

// settled shows how replicas move until nothing does any more.
func (o *nodeConfig) settled(out io.Writer) error {
	calm := 0
	return o.watch(out, "replicas in their places", func([]nodeState) (left uint64, ready bool) {
		moves, err := o.moves()
		if err != nil || moves > 0 {
			calm = 0
			return uint64(max(moves, 1)), false
		}
		calm++
		return 0, calm > 5
	})
}

func (o *nodeConfig) moves() (n int, err error) {
	db, err := o.open()
	if err != nil {
		return 0, err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM rowlock.moves").Scan(&n)
	return n, err
}

// watch draws a bar from what was left at first to nothing. Where no person looks it
// says only what it came to.
func (o *nodeConfig) watch(out io.Writer, what string, look func([]nodeState) (left uint64, ready bool)) error {
	tracker := &progress.Tracker{Message: what}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar := progress.NewWriter()
		bar.SetOutputWriter(out)
		bar.SetUpdateFrequency(200 * time.Millisecond)
		bar.AppendTracker(tracker)
		go bar.Render()
		defer func() {
			time.Sleep(300 * time.Millisecond) // the bar's last picture
			bar.Stop()
		}()
	} else {
		defer func() {
			if tracker.IsDone() && !tracker.IsErrored() {
				fmt.Fprintln(out, what+": done")
			}
		}()
	}
	return o.follow(tracker, look)
}

// follow looks until it is done.
func (o *nodeConfig) follow(tracker *progress.Tracker, look func([]nodeState) (left uint64, ready bool)) error {
	var first uint64
	for deadline := time.Now().Add(o.wait); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		nodes, err := o.nodes()
		if err != nil {
			tracker.MarkAsErrored()
			return err
		}
		left, ready := look(nodes)
		first = max(first, left)
		tracker.UpdateTotal(int64(max(first, 1)))
		tracker.SetValue(int64(first - left))
		if ready {
			tracker.MarkAsDone()
			return nil
		}
	}
	tracker.MarkAsErrored()
	return fmt.Errorf("%s: not done after %s; it goes on, see rowlock.moves", tracker.Message, o.wait)
}
