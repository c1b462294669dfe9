package sqlfront

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/information_schema"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/vitess/go/mysql"
)

// nodeSession is a session in the process list.
type nodeSession struct {
	node     uint64 // not part of the format between nodes
	id       uint64
	user     string
	host     string
	database string
	command  string
	seconds  uint64
	state    string
	info     string
}

// processes lists the sessions of this server: those of the statement's process
// list, if it is a statement that asks.
func (s *Server) processes(ctx context.Context) []nodeSession {
	var list []nodeSession
	processes := s.engine.ProcessList
	if c, ok := ctx.(*sql.Context); ok {
		processes = c.ProcessList
	}
	for _, p := range processes.Processes() {
		var state []string
		for name, progress := range p.Progress {
			state = append(state, fmt.Sprintf("%s(%s)", name, progress))
		}
		slices.Sort(state)
		if len(state) == 0 && p.Command == sql.ProcessCommandQuery {
			state = []string{"running"}
		}
		list = append(list, nodeSession{id: uint64(p.Connection), user: p.User, host: p.Host, database: p.Database,
			command: string(p.Command), seconds: p.Seconds(), state: strings.Join(state, ", "), info: p.Query})
	}
	slices.SortFunc(list, func(a, b nodeSession) int { return cmp.Compare(a.id, b.id) })
	return list
}

// processList lists the sessions of all nodes that the session may see: with the
// PROCESS privilege all, else those of its user (manual, 15.7.7.31).
func (s *Server) processList(ctx context.Context) ([]nodeSession, error) {
	answers, err := s.gather(ctx, &peerRequest{kind: askProcesses})
	if err != nil {
		return nil, err
	}
	own := func(nodeSession) bool { return true }
	if c, ok := ctx.(*sql.Context); ok && !s.privileged(c, sql.PrivilegeType_Process, "") {
		user := c.Client().User
		own = func(p nodeSession) bool { return p.user == user }
	}
	var list []nodeSession
	for _, a := range answers {
		for _, p := range a.sessions {
			if p.node = a.node; own(p) {
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// privileged tells whether the session's account has a global privilege, or a
// dynamic one where that is named, or SUPER.
func (s *Server) privileged(ctx *sql.Context, static sql.PrivilegeType, dynamic string) bool {
	users := s.engine.Analyzer.Catalog.MySQLDb
	has := func(o sql.PrivilegedOperation) bool { return users.UserHasPrivileges(ctx, o) }
	return !users.Enabled() || has(sql.NewPrivilegedOperation(sql.PrivilegeCheckSubject{}, static)) ||
		dynamic != "" && has(sql.NewDynamicPrivilegedOperation(dynamic))
}

// row is a session in the columns of SHOW PROCESSLIST.
func (p *nodeSession) row() sql.Row {
	return sql.Row{int64(p.id), p.user, p.host, orNull(p.database), p.command, int64(p.seconds), p.state, orNull(p.info)}
}

// showProcesses is SHOW PROCESSLIST.
func (s *Session) showProcesses(ctx *sql.Context) (sql.RowIter, error) {
	list, err := s.server.processList(ctx)
	if err != nil {
		return nil, err
	}
	var rows []sql.Row
	for i := range list {
		rows = append(rows, list[i].row())
	}
	return sql.RowsToRowIter(rows...), nil
}

// fillProcesslist gives information_schema.processlist the sessions of all nodes.
func (s *Server) fillProcesslist() {
	t, ok, err := s.engine.Analyzer.Catalog.InfoSchema.GetTableInsensitive(sql.NewEmptyContext(), information_schema.ProcessListTableName)
	table, is := t.(*information_schema.InformationSchemaTable)
	if err != nil || !ok || !is {
		return
	}
	table.Reader = func(ctx *sql.Context, _ sql.Catalog) (sql.RowIter, error) {
		list, err := s.processList(ctx)
		if err != nil {
			return nil, err
		}
		var rows []sql.Row
		for _, p := range list {
			rows = append(rows, sql.Row{p.id, p.user, p.host, orNull(p.database), p.command, int32(p.seconds), p.state, p.info})
		}
		return sql.RowsToRowIter(rows...), nil
	}
}

// addProcessViews adds performance_schema.processlist and threads, and
// rowlock.sessions, which names the node of each session.
func addProcessViews(performance *systemDatabase, s *Server) {
	add(performance, "processlist", s.processList, []systemColumn{
		{"ID", types.Uint64}, {"USER", types.LongText}, {"HOST", types.LongText}, {"DB", types.LongText}, {"COMMAND", types.LongText},
		{"TIME", types.Int64}, {"STATE", types.LongText}, {"INFO", types.LongText}, {"EXECUTION_ENGINE", types.LongText},
	}, func(p nodeSession) sql.Row {
		return sql.Row{p.id, p.user, p.host, orNull(p.database), p.command, int64(p.seconds), p.state, orNull(p.info), "PRIMARY"}
	})
	add(performance, "threads", s.processList, []systemColumn{
		{"THREAD_ID", types.Uint64}, {"NAME", types.LongText}, {"TYPE", types.LongText}, {"PROCESSLIST_ID", types.Uint64},
		{"PROCESSLIST_USER", types.LongText}, {"PROCESSLIST_HOST", types.LongText}, {"PROCESSLIST_DB", types.LongText},
		{"PROCESSLIST_COMMAND", types.LongText}, {"PROCESSLIST_TIME", types.Int64}, {"PROCESSLIST_STATE", types.LongText},
		{"PROCESSLIST_INFO", types.LongText},
	}, func(p nodeSession) sql.Row {
		return sql.Row{p.id, "thread/sql/one_connection", "FOREGROUND", p.id, p.user, p.host, orNull(p.database), p.command,
			int64(p.seconds), p.state, orNull(p.info)}
	})
}

func addSessions(d *systemDatabase, s *Server) {
	add(d, "sessions", s.processList, []systemColumn{
		{"node", types.Uint64}, {"id", types.Uint64}, {"user", types.LongText}, {"host", types.LongText}, {"db", types.LongText},
		{"command", types.LongText}, {"time", types.Uint64}, {"state", types.LongText}, {"info", types.LongText},
	}, func(p nodeSession) sql.Row {
		return sql.Row{p.node, p.id, p.user, p.host, orNull(p.database), p.command, p.seconds, p.state, orNull(p.info)}
	})
}

// killRequest is KILL of a connection, or of its statement.
type killRequest struct {
	connection uint64
	queryOnly  bool
	// Who asks: anybody's connections may be killed, or those of user.
	anybody bool
	user    string
}

// killResult is what became of a killRequest. The numbers are part of the format.
type killResult byte

const (
	killDone    killResult = 1
	killUnknown killResult = 2 // there is no such connection
	killDenied  killResult = 3
)

// kill is the statement KILL. The connection's number tells its node.
func (s *Session) kill(ctx *sql.Context, n *plan.Kill) (sql.RowIter, error) {
	q := killRequest{connection: uint64(n.ConnID), queryOnly: n.Kt == plan.KillType_Query, user: ctx.Client().User,
		anybody: s.server.privileged(ctx, sql.PrivilegeType_Super, "connection_admin")}
	result, err := s.server.kill(ctx, &q)
	if err != nil {
		return nil, err
	}
	switch result {
	case killDone:
		return sql.RowsToRowIter(sql.NewRow(types.NewOkResult(0))), nil
	case killDenied:
		return nil, mysql.NewSQLError(1095, "HY000", "You are not owner of thread %d", n.ConnID)
	}
	return nil, mysql.NewSQLError(1094, "HY000", "Unknown thread id: %d", n.ConnID)
}

func (s *Server) kill(ctx context.Context, q *killRequest) (killResult, error) {
	node := connectionNode(uint32(q.connection))
	if s.config.Peers == nil || node == s.config.Node {
		return s.killHere(q), nil
	}
	if !slices.ContainsFunc(s.others(), func(p Peer) bool { return p.ID == node }) {
		return killUnknown, nil
	}
	a, err := s.ask(ctx, node, &peerRequest{kind: askKill, kill: *q})
	if err != nil {
		s.config.Logger.Warn("KILL on another node", "node", node, "connection", q.connection, "error", err)
		return 0, mysql.NewSQLError(warnMissing, "HY000",
			"Node %d does not answer; whether connection %d was killed is not known", node, q.connection)
	}
	return a.killed, nil
}

// killHere is KILL on the connection's own node.
func (s *Server) killHere(q *killRequest) killResult {
	list := s.engine.ProcessList.Processes()
	at := slices.IndexFunc(list, func(p sql.Process) bool { return uint64(p.Connection) == q.connection })
	switch {
	case at < 0:
		return killUnknown
	case !q.anybody && list[at].User != q.user:
		return killDenied
	}
	s.engine.ProcessList.Kill(list[at].Connection)
	if !q.queryOnly {
		s.protocol.SessionManager().KillConnection(list[at].Connection)
	}
	return killDone
}
