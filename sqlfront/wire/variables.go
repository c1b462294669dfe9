package wire

import (
	"fmt"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/dolthub/go-mysql-server/sql/variables"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// Version is what the server calls itself in the handshake and in @@version. The leading number is the MySQL release whose
// behaviour is followed.
const Version = "8.0.42-rowlock"

// noFiles is the value of secure_file_priv that MySQL shows as NULL: no statement reads or writes files of the server. The
// engine takes an empty value, its default, for leave to use every directory.
const noFiles = "NULL"

const defaultCollation = "utf8mb4_0900_ai_ci"

var variablesOnce sync.Once

// Variables adds and replaces the engine's system variables. It must run before the first session exists, because sessions copy
// the defaults; calls after the first do nothing.
func Variables() (err error) {
	variablesOnce.Do(func() { err = setVariables() })
	return err
}

func setVariables() error {
	variables.InitSystemVariables()
	sql.SystemVariables.AddSystemVariables([]sql.SystemVariable{
		both("innodb_lock_wait_timeout", types.NewSystemIntType("innodb_lock_wait_timeout", 1, 1073741824, false), int64(50)),
		both("row_lock_durability", types.NewSystemEnumType("row_lock_durability", "memory", "replicated"), "memory"),
		both("rowlock_read_staleness", types.NewSystemIntType("rowlock_read_staleness", 0, 86400, false), int64(0)),
		both("rowlock_batched_joins", types.NewSystemBoolType("rowlock_batched_joins"), int8(1)),
		both("rowlock_pushdown", types.NewSystemBoolType("rowlock_pushdown"), int8(1)),
		both("rowlock_bulk_load", types.NewSystemBoolType("rowlock_bulk_load"), int8(1)),
		both("rowlock_auto_increment_cache", types.NewSystemIntType("rowlock_auto_increment_cache", 1, 1<<20, false), int64(1)),
		both("txn_total_size_limit", types.NewSystemIntType("txn_total_size_limit", 0, 1<<46, false), int64(0)),
		both("snapshot_isolation_error", types.NewSystemEnumType("snapshot_isolation_error", "DEADLOCK", "CHECKREAD"), "DEADLOCK"),
		both("snapshot_isolation", types.NewSystemBoolType("snapshot_isolation"), int8(1)),
		both("rowlock_fast_path", types.NewSystemBoolType("rowlock_fast_path"), int8(1)),
		global("rowlock_replication_factor", types.NewSystemIntType("rowlock_replication_factor", 0, 7, false), int64(0), true),
		global("innodb_deadlock_detect", types.NewSystemBoolType("innodb_deadlock_detect"), int8(1), true),
		global("innodb_rollback_on_timeout", types.NewSystemBoolType("innodb_rollback_on_timeout"), int8(0), true),
	})
	for name, value := range map[string]any{
		"version":               Version,
		"version_comment":       "Rowlock",
		"local_infile":          int8(0),
		"secure_file_priv":      noFiles,
		"transaction_isolation": "REPEATABLE-READ",
		"tx_isolation":          "REPEATABLE-READ",
		"max_allowed_packet":    int64(defaultMaxPacket),
		"collation_server":      defaultCollation,
		"collation_database":    defaultCollation,
		"collation_connection":  defaultCollation,
	} {
		if err := setDefault(name, value); err != nil {
			return err
		}
	}
	return nil
}

func both(name string, typ sql.Type, value any) sql.SystemVariable {
	return &sql.MysqlSystemVariable{Name: name, Scope: sql.GetMysqlScope(sql.SystemVariableScope_Both), Dynamic: true, Type: typ, Default: value}
}

func global(name string, typ sql.Type, value any, dynamic bool) sql.SystemVariable {
	return &sql.MysqlSystemVariable{Name: name, Scope: sql.GetMysqlScope(sql.SystemVariableScope_Global), Dynamic: dynamic, Type: typ, Default: value}
}

// setDefault replaces a variable by a copy with another default; its type, its scope and its checks stay.
func setDefault(name string, value any) error {
	known, _, ok := sql.SystemVariables.GetGlobal(name)
	if !ok {
		return fmt.Errorf("system variable %s: unknown to the engine", name)
	}
	original, ok := known.(*sql.MysqlSystemVariable)
	if !ok {
		return fmt.Errorf("system variable %s: is a %T", name, known)
	}
	changed := *original
	changed.Default = value
	sql.SystemVariables.AddSystemVariables([]sql.SystemVariable{&changed})
	return nil
}

// filesAllowed tells whether statements may read and write files of the server.
func filesAllowed() bool {
	_, value, ok := sql.SystemVariables.GetGlobal("secure_file_priv")
	return ok && value != noFiles
}

// refuseFiles is ER_OPTION_PREVENTS_STATEMENT for INTO OUTFILE, INTO DUMPFILE and LOAD DATA without LOCAL.
func refuseFiles(into *sqlparser.Into, load *sqlparser.Load) error {
	writes := into != nil && (into.Outfile != "" || into.Dumpfile != "")
	reads := load != nil && !bool(load.Local)
	if !writes && !reads || filesAllowed() {
		return nil
	}
	return mysql.NewSQLError(1290, "HY000", "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement")
}

// packetLimit is max_allowed_packet as a statement sees it.
func packetLimit(ctx *sql.Context) int64 {
	if v, err := ctx.GetSessionVariable(ctx, "max_allowed_packet"); err == nil {
		return packetSize(v)
	}
	return defaultMaxPacket
}

// globalMaxPacket is max_allowed_packet as a connection sees it.
func globalMaxPacket() int {
	_, v, _ := sql.SystemVariables.GetGlobal("max_allowed_packet")
	return int(packetSize(v))
}

func packetSize(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case uint64:
		return int64(v)
	}
	return defaultMaxPacket
}
