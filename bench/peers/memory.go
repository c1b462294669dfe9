package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	gms "github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/sirupsen/logrus"
)

// memoryEngine is the argument by which this program turns into a server: the
// engine that Rowlock stands on, with its own tables in memory, which are not
// durable and take no locks. What it scans is a measure for scans. The number of
// rows follows: it fills the table itself, because LOAD DATA would take it minutes.
const memoryEngine = "memory-engine"

func serveMemory(rows string) error {
	n, err := strconv.Atoi(rows)
	if err != nil {
		return err
	}
	logrus.SetLevel(logrus.PanicLevel)
	db := memory.NewDatabase(scanData)
	provider := memory.NewDBProvider(db)
	if err := fillMemory(db, provider, n); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := gms.Config{Listener: listener, Protocol: "tcp", Address: listener.Addr().String()}
	s, err := gms.NewServer(config, sqle.NewDefault(provider), gmssql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return s.Start()
}

// fillMemory makes the table of the scans, without its key, by which the engine
// would sort it.
func fillMemory(db *memory.Database, provider *memory.DbProvider, n int) error {
	session := memory.NewSession(gmssql.NewBaseSession(), provider)
	ctx := gmssql.NewContext(context.Background(), gmssql.WithSession(session))
	table := memory.NewTable(ctx, db, bigTable, gmssql.NewPrimaryKeySchema(gmssql.Schema{
		{Name: "id", Source: bigTable, Type: types.Int32},
		{Name: "part", Source: bigTable, Type: types.Int32},
		{Name: "amount", Source: bigTable, Type: types.Int64},
		{Name: "note", Source: bigTable, Type: types.MustCreateStringWithDefaults(types.Text.Type(), 40)},
	}), nil)
	db.AddTable(bigTable, table)
	inserter := table.Inserter(ctx)
	inserter.StatementBegin(ctx)
	lines := bufio.NewScanner(&bigRows{n: n})
	for lines.Scan() {
		f := bytes.Split(lines.Bytes(), []byte("\t"))
		id, _ := strconv.Atoi(string(f[0]))
		part, _ := strconv.Atoi(string(f[1]))
		amount, _ := strconv.ParseInt(string(f[2]), 10, 64)
		if err := inserter.Insert(ctx, gmssql.Row{int32(id), int32(part), amount, string(f[3])}); err != nil {
			return err
		}
	}
	if err := inserter.StatementComplete(ctx); err != nil {
		return err
	}
	if err := inserter.Close(ctx); err != nil {
		return err
	}
	return session.CommitTransaction(ctx, nil)
}

func startMemory(ctx context.Context, rows int) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, memoryEngine, strconv.Itoa(rows))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	one := &server{name: "memory engine", user: "root", pids: []int{command.Process.Pid}, only: []string{"scan_count", "scan_sum"}}
	one.close = func() error {
		command.Process.Kill()
		command.Wait()
		return nil
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && err != io.EOF || address == "" {
		one.close()
		return nil, fmt.Errorf("the engine in memory did not get ready: %w", err)
	}
	one.addresses = []string{strings.TrimSpace(address)}
	return one, nil
}
