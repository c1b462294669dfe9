package history

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parse reads a history, one transaction a line: session, begin-end, outcome
// (ok, fail, info), operations: aK=V appends, rK=V,V reads a list, wK=V writes a
// register, gK=V reads one.
func parse(t *testing.T, text string) []Txn {
	t.Helper()
	var txns []Txn
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var txn Txn
		_, err := fmt.Sscanf(fields[0]+" "+fields[1], "%d %d-%d", &txn.Process, &txn.Begin, &txn.End)
		require.NoError(t, err, line)
		txn.Outcome = map[string]Outcome{"ok": Committed, "fail": Aborted, "info": Unknown}[fields[2]]
		for _, field := range fields[3:] {
			txn.Ops = append(txn.Ops, parseOp(t, field))
		}
		txns = append(txns, txn)
	}
	return txns
}

func parseOp(t *testing.T, field string) Op {
	t.Helper()
	key, rest, _ := strings.Cut(field[1:], "=")
	op := Op{Kind: map[byte]Kind{'a': Append, 'r': ReadList, 'w': Write, 'g': Read}[field[0]], Key: number(t, key)}
	if op.Kind != ReadList {
		op.Value = number(t, rest)
		return op
	}
	for value := range strings.SplitSeq(rest, ",") {
		if value != "" {
			op.List = append(op.List, number(t, value))
		}
	}
	return op
}

func number(t *testing.T, text string) int32 {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return int32(n)
}

// planted are histories with exactly the anomalies named, by hand.
var planted = []struct {
	about, want, history string
	options              Options
}{
	{about: "serial", history: `
		1 0-9 ok a1=1 a2=1
		2 10-19 ok r1=1 a1=2 r1=1,2
		1 20-29 ok r1=1,2 r2=1`},
	{about: "a read of the initial state", history: `
		1 0-9 ok r1=
		2 5-9 ok a1=1
		3 8-12 ok r1=1`},
	{about: "an attempt that was rolled back and left nothing", history: `
		1 0-9 fail a1=1
		1 10-19 ok a1=2
		2 20-29 ok r1=2`},
	{about: "repeated and own reads", history: `
		1 0-9 ok r1= a1=1 r1=1 a1=2 r1=1,2 r1=1,2`},
	{about: "writes of two in opposite orders", want: "G0", history: `
		1 0-9 ok a1=1 a2=1
		2 0-9 ok a1=2 a2=2
		3 0-9 ok r1=1,2 r2=2,1`},
	{about: "a value that was rolled back", want: "G1a", history: `
		1 0-9 fail a1=1
		2 0-9 ok r1=1`},
	{about: "half of a transaction", want: "G-single G1b", history: `
		1 0-9 ok a1=1 a1=2
		2 0-9 ok r1=1
		3 0-9 ok r1=1,2`},
	{about: "two that read each other", want: "G1c", history: `
		1 0-9 ok a1=1 r2=2
		2 0-9 ok a2=2 r1=1`},
	{about: "a snapshot that is torn", want: "G-single", history: `
		1 0-9 ok r1= r2=1
		2 0-9 ok a1=1 a2=1
		3 0-9 ok r1=1`},
	{about: "long fork", want: "G-nonadjacent", history: `
		1 0-9 ok a1=1
		2 0-9 ok a2=2
		3 0-9 ok r1=1 r2=
		4 0-9 ok r1= r2=2`},
	{about: "write skew", want: "G2-item", history: `
		1 0-9 ok r1= a2=1
		2 0-9 ok r2= a1=1
		3 0-9 ok r1=1 r2=1`},
	{about: "write skew of three", want: "G2-item", history: `
		1 0-9 ok r1= a2=1
		2 0-9 ok r2= a3=1
		3 0-9 ok r3= a1=1
		4 0-9 ok r1=1 r2=1 r3=1`},
	{about: "write skew and, apart from it, a torn snapshot", want: "G-single G2-item", history: `
		1 0-9 ok r1= a2=1
		2 0-9 ok r2= a1=1
		3 0-9 ok r1=1 r2=1
		4 0-9 ok r4= r5=1
		5 0-9 ok a4=1 a5=1
		6 0-9 ok r4=1`},
	{about: "two that read a version and append", want: "G-single lost-update", history: `
		1 0-9 ok r1= a1=1
		2 0-9 ok r1= a1=2
		3 0-9 ok r1=1,2`},
	{about: "an append that is gone", want: "G-single-realtime", history: `
		1 0-9 ok a1=1
		2 0-9 ok a1=2
		3 20-29 ok r1=2`},
	{about: "two that read a version, one append is gone", want: "G-single G2-item lost-update", history: `
		1 0-9 ok r1= a1=1
		2 0-9 ok r1= a1=2
		3 20-29 ok r1=2`},
	{about: "a read that does not repeat", want: "G-single internal", history: `
		1 0-9 ok r1= r1=1
		2 0-9 ok a1=1`},
	{about: "an own append that is not seen", want: "own-write-missed", history: `
		1 0-9 ok a1=1 r1=
		2 0-9 ok r1=1`},
	{about: "an own append that is seen too early", want: "future-read internal", history: `
		1 0-9 ok r1=1 a1=1 r1=1`},
	{about: "built upon what was rolled back", want: "G1a dirty-update", history: `
		1 0-9 fail a1=1
		2 0-9 ok a1=2
		3 0-9 ok r1=1,2`},
	{about: "two orders", want: "incompatible-order", history: `
		1 0-9 ok a1=1
		2 0-9 ok a1=2
		3 0-9 ok r1=1,2
		4 0-9 ok r1=2`},
	{about: "twice in a list", want: "duplicate-elements", history: `
		1 0-9 ok a1=1
		2 0-9 ok r1=1,1`},
	{about: "from nowhere", want: "unwritten-read", history: `
		1 0-9 ok a1=1
		2 0-9 ok r1=7,1`},
	{about: "a load that is wrong", want: "duplicate-write", history: `
		1 0-9 ok a1=1
		2 0-9 ok a1=1`},
	{about: "of unknown outcome and seen", want: "G-single", history: `
		1 0-0 info a1=1 a2=1
		2 5-9 ok r1=1 r2=
		3 10-19 ok r2=1`},
	{about: "of unknown outcome and seen later", history: `
		1 0-0 info a1=1 a2=1
		2 5-9 ok r1= r2=
		3 10-19 ok r2=1 r1=1`},
	{about: "of unknown outcome and not seen", history: `
		1 0-0 info r1= a1=1
		2 0-9 ok r1= a1=2
		1 10-19 ok r1=2`},

	{about: "a session's writes out of order", want: "G0-process", history: `
		1 0-9 ok a1=1
		1 10-19 ok a1=2
		2 0-19 ok r1=2,1`},
	{about: "a session reads what it writes next", want: "G1c-process", history: `
		1 0-9 ok r1=1
		1 10-19 ok a1=1`},
	{about: "a session misses what it wrote", want: "G-single-process", history: `
		1 0-9 ok a1=1
		1 10-19 ok r1=
		2 0-29 ok r1=1`},
	{about: "two sessions miss each other's past", want: "G-nonadjacent-process", history: `
		1 0-99 ok r1= r2=1
		2 0-9 ok a1=1
		2 10-99 ok r2=
		4 0-99 ok a2=1
		5 0-99 ok r1=1`},
	{about: "write skew with a session's order", want: "G2-item-process", history: `
		1 10-99 ok r1=
		2 0-99 ok a1=1 r2=
		1 0-9 ok a2=1
		4 0-99 ok r1=1 r2=1`},

	{about: "writes against time", want: "G0-realtime", history: `
		1 0-9 ok a1=1
		2 10-19 ok a1=2
		3 0-19 ok r1=2,1`},
	{about: "a read of the future", want: "G1c-realtime", history: `
		1 0-9 ok r1=1
		2 10-19 ok a1=1`},
	{about: "a stale read", want: "G-single-realtime", history: `
		1 0-9 ok a1=1
		2 10-19 ok r1=
		3 0-29 ok r1=1`},
	{about: "two readers and time between", want: "G-nonadjacent-realtime", history: `
		1 0-99 ok r1= r2=1
		2 0-9 ok a1=1
		3 10-99 ok r2=
		4 0-99 ok a2=1
		5 0-99 ok r1=1`},
	{about: "write skew against time", want: "G2-item-realtime", history: `
		1 10-99 ok r1=
		2 0-99 ok a1=1 r2=
		3 0-9 ok a2=1
		4 0-99 ok r1=1 r2=1`},

	{about: "registers, serial", history: `
		1 0-9 ok g1=0 w1=1
		2 10-19 ok g1=1 w1=2 g1=2
		3 20-29 ok g1=2`},
	{about: "register: rolled back", want: "G1a", history: `
		1 0-9 fail w1=1
		2 0-9 ok g1=1`},
	{about: "register: intermediate", want: "G1b", history: `
		1 0-9 ok w1=1 w1=2
		2 0-9 ok g1=1`},
	{about: "register: two that read each other", want: "G1c", history: `
		1 0-9 ok w1=1 g2=2
		2 0-9 ok w2=2 g1=1`},
	{about: "register: torn snapshot of the first versions", want: "G-single", history: `
		1 0-9 ok g1=0 g2=1
		2 0-9 ok w1=1 w2=1`},
	{about: "register: torn snapshot of later ones", want: "G-single", history: `
		1 0-9 ok w1=1
		2 10-99 ok g1=1 w1=2 w2=2
		3 10-99 ok g1=1 g2=2`},
	{about: "register: write skew", want: "G2-item", history: `
		1 0-9 ok g1=0 w2=1
		2 0-9 ok g2=0 w1=1`},
	{about: "register: lost update", want: "G2-item lost-update", history: `
		1 0-9 ok g1=0 w1=1
		2 0-9 ok g1=0 w1=2`},
	{about: "register: long fork", want: "G-nonadjacent", history: `
		1 0-9 ok w1=1
		2 0-9 ok w2=2
		3 0-9 ok g1=1 g2=0
		4 0-9 ok g1=0 g2=2`},
	{about: "register: internal", want: "internal", history: `
		1 0-9 ok g1=1 g1=2
		2 0-9 ok w1=1
		3 0-9 ok w1=2`},
	{about: "register: own write", want: "own-write-missed", history: `
		1 0-9 ok w1=1 g1=2
		2 0-9 ok w1=2`},
	{about: "register: future", want: "future-read", history: `
		1 0-9 ok g1=1 w1=1`},
	{about: "register: nowhere", want: "unwritten-read", history: `
		2 0-9 ok g1=5`},
	{about: "register: versions in a circle", want: "G1c cyclic-versions", history: `
		1 0-9 ok g1=2 w1=1
		2 0-9 ok g1=1 w1=2`},
	{about: "register: of unknown outcome and seen", want: "G-single", history: `
		1 0-0 info w1=1 w2=1
		2 0-9 ok g1=1 g2=0`},
	{about: "register: stale for a session, which nothing shows", history: `
		1 0-9 ok w1=1
		1 10-19 ok w1=2
		1 20-29 ok g1=1`},
	{about: "register: stale for a session", want: "cyclic-versions", options: Options{SequentialKeys: true}, history: `
		1 0-9 ok w1=1
		1 10-19 ok w1=2
		1 20-29 ok g1=1`},
	{about: "register: stale in time", want: "G-single", options: Options{LinearizableKeys: true}, history: `
		1 0-9 ok w1=1
		2 10-19 ok w1=2
		3 15-29 ok g1=1 g2=2
		4 20-24 ok w2=2 g1=2`},
}

func TestPlantedByHand(t *testing.T) {
	for _, c := range planted {
		t.Run(strings.ReplaceAll(c.about, " ", "-"), func(t *testing.T) {
			report := Check(parse(t, c.history), c.options)
			var explained strings.Builder
			for _, a := range report.Examples {
				explained.WriteString(report.Explain(a))
			}
			require.Equal(t, c.want, strings.Join(report.Names(), " "), explained.String())
		})
	}
}

// Every name that the models forbid is planted above, so that none is only a word.
func TestEveryNamePlanted(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range planted {
		for _, name := range strings.Fields(c.want) {
			seen[name] = true
		}
	}
	for _, name := range StrictSerializable.Forbidden() {
		require.True(t, seen[name], name)
	}
}

// What an example says can be followed by hand.
func TestExplain(t *testing.T) {
	report := Check(parse(t, `
		1 0-9 ok r1= r2=1
		2 0-9 ok a1=1 a2=1
		3 0-9 ok r1=1`), Options{})
	require.Len(t, report.Examples, 1)
	require.Equal(t, `G-single
  T0: session 1, committed: read 1 = []; read 2 = [1]
  T1: session 2, committed: append 1 to 1; append 1 to 2
  - T0 before T1: T0 read key 1 at the initial state, without T1's 1, which came next (rw)
  - T1 before T0: T0 read key 2 with T1's 1 (wr)
`, report.Explain(report.Examples[0]))
}

func TestModels(t *testing.T) {
	require.True(t, ReadCommitted.Forbids(G1c))
	require.False(t, ReadCommitted.Forbids(LostUpdate))
	require.True(t, StrongSnapshotIsolation.Forbids(GSingle+realtime))
	require.False(t, StrongSnapshotIsolation.Forbids(G2Item))
	require.True(t, StrictSerializable.Forbids(G2Item+process))
	require.False(t, Serializable.Forbids(GSingle+realtime))
}
