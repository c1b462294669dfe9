package wire

import (
	"encoding/json"
	"strings"

	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// PartitionOption is the table option that holds the columns of PARTITION BY KEY, as a JSON array of names. It reaches
// plan.CreateTable.TableOpts; the database's CreateTable gets the comment only, see SplitComment.
const PartitionOption = "rowlock_partition_key"

// commentMark divides a table's comment from the columns of PARTITION BY KEY.
const commentMark = "\x00rowlock:partition-by-key:"

// SplitComment takes apart the comment that sql.TableCreator gets: what the user wrote, and the columns of PARTITION BY KEY in
// order (nil when the statement had none).
func SplitComment(comment string) (text string, key []string) {
	text, list, ok := strings.Cut(comment, commentMark)
	if !ok {
		return comment, nil
	}
	if err := json.Unmarshal([]byte(list), &key); err != nil {
		return comment, nil
	}
	return text, key
}

// partitionTable carries PARTITION BY KEY to where it can be seen, and refuses the partitioning that placement cannot honour.
// The number of partitions is accepted and has no meaning: how many shards there are is not a table's affair.
func partitionTable(n *sqlparser.DDL) error {
	if n.PartitionSpec != nil {
		return errPartitioning("ALTER TABLE ... PARTITION")
	}
	if n.TableSpec == nil || n.TableSpec.PartitionOpt == nil {
		return nil
	}
	o := n.TableSpec.PartitionOpt
	switch {
	case !strings.EqualFold(o.PartitionType, "key"):
		return errPartitioning("PARTITION BY " + strings.ToUpper(o.PartitionType))
	case o.IsLinear:
		return errPartitioning("PARTITION BY LINEAR KEY")
	case o.SubPartition != nil:
		return errPartitioning("SUBPARTITION BY")
	case len(o.Definitions) > 0:
		return errPartitioning("a list of partition definitions")
	}
	names := make([]string, len(o.ColList))
	for i, column := range o.ColList {
		names[i] = column.String()
	}
	list, err := json.Marshal(names)
	if err != nil {
		return err
	}
	n.TableSpec.TableOpts = append(n.TableSpec.TableOpts, &sqlparser.TableOption{Name: PartitionOption, Value: string(list)})
	for _, option := range n.TableSpec.TableOpts {
		if strings.EqualFold(option.Name, "comment") {
			option.Value += commentMark + string(list)
			return nil
		}
	}
	n.TableSpec.TableOpts = append(n.TableSpec.TableOpts, &sqlparser.TableOption{Name: "comment", Value: commentMark + string(list)})
	return nil
}

func rewriteAlter(n *sqlparser.AlterTable) error {
	if len(n.PartitionSpecs) > 0 {
		return errPartitioning("ALTER TABLE ... PARTITION")
	}
	for _, statement := range n.Statements {
		if err := rewriteDDL(statement); err != nil {
			return err
		}
	}
	return nil
}

// errPartitioning is ER_NOT_SUPPORTED_YET.
func errPartitioning(what string) error {
	return mysql.NewSQLError(1235, "42000", "This version of Rowlock doesn't yet support '%s'; rows are placed by PARTITION BY KEY (columns) or by the primary key", what)
}

// errNotPartitioned is ER_PARTITION_CLAUSE_ON_NONPARTITIONED.
func errNotPartitioned() error {
	return mysql.NewSQLError(1747, "HY000", "PARTITION () clause on non partitioned table")
}
