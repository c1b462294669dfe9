package fastpath

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dolthub/vitess/go/vt/sqlparser"
	"github.com/stretchr/testify/require"
)

func TestShape(t *testing.T) {
	for _, c := range []struct {
		text, shape string // empty: it has none
		values      []Value
	}{
		{"SELECT c FROM t WHERE id=7", "SELECT c FROM t WHERE id=#", []Value{{Kind: Integer, Magnitude: 7, Text: "7"}}},
		{"SELECT c1 FROM `t 1` WHERE id = 'x' AND k=18446744073709551615", "SELECT c1 FROM `t 1` WHERE id = $ AND k=#",
			[]Value{{Kind: Text, Text: "x"}, {Kind: Integer, Magnitude: 1<<64 - 1, Text: "18446744073709551615"}}},
		{"id=007", "id=#", []Value{{Kind: Integer, Magnitude: 7, Text: "007"}}},
		{"id  IN\t(1,2)", "id  IN\t(#,#)", []Value{{Kind: Integer, Magnitude: 1, Text: "1"}, {Kind: Integer, Magnitude: 2, Text: "2"}}},
		{text: "id = 18446744073709551616"},
		{text: "id = 1.5"},
		{text: "id = .5"},
		{text: "id = 1e5"},
		{text: "id = 0x1F"},
		{text: "id = t.1"},
		{text: "id = 1a"},
		{text: "c = N'a'"},
		{text: "c = _latin1'a'"},
		{text: "c = x'00'"},
		{text: "c = 'it''s'"},
		{text: "c = 'a\\'b'"},
		{text: "c = 'a'  'b'", shape: "c = $  $", values: []Value{{Kind: Text, Text: "a"}, {Kind: Text, Text: "b"}}},
		{text: "c = 'a''b'"},
		{text: "c = \"a\""},
		{text: "c = 'a"},
		{text: "`c = 1"},
		{text: "`a``b` = 1"},
		{text: "c = @x"},
		{text: "c = :v1"},
		{text: "c = ?"},
		{text: "id = 1; SELECT 2"},
		{text: "id = 1 -- end"},
		{text: "id = 1 # end"},
		{text: "SELECT /* x */ 1"},
		{text: "SELECT 1\x01"},
		{text: strings.Repeat("x", MaxText+1)},
	} {
		key, values, ok := Shape(nil, nil, c.text)
		require.Equal(t, c.shape != "", ok, "%q", c.text)
		if !ok {
			continue
		}
		shape := strings.NewReplacer("\x01", "#", "\x02", "$").Replace(string(key))
		require.Equal(t, c.shape, shape)
		require.Equal(t, c.values, values)
	}
}

func TestRecognise(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // empty: not one of ours
	}{
		{"SELECT c FROM t WHERE id = 7", "1 .t [c] id=0..0 of 1"},
		{"SELECT * FROM d.t WHERE a = 1 AND (b = 2)", "1 d.t [] a=0..0 b=1..1 of 2"},
		{"SELECT c FROM t WHERE id = ?", "1 .t [c] id=0..0 of 1"},
		{"SELECT c FROM t WHERE a = ? AND b = 3", "1 .t [c] a=0..0 b=-1..-1 of 1"},
		{"SELECT c FROM t WHERE id BETWEEN 1 AND 3", "1 .t [c] id=0..1 of 2 planned"},
		{"SELECT SUM(k) FROM t WHERE id BETWEEN ? AND ?", "1 .t [] id=0..1 of 2 planned"},
		{"SELECT DISTINCT c FROM t WHERE id = 1 ORDER BY c DESC", "1 .t [c] id=0..0 of 1 planned"},
		{"SELECT c FROM t WHERE id IN (3, 1)", "1 .t [c] id in 0 1 of 2 planned"},
		{"UPDATE t SET k = k + 1, c = 'x' WHERE id = 5", "2 .t [] id=2..2 of 3 planned k+0 c:1"},
		{"DELETE FROM t WHERE id = ?", "3 .t [] id=0..0 of 1 planned"},
		{"BEGIN", "6 . [] of 0"},
		{"START TRANSACTION", "6 . [] of 0"},
		{"COMMIT", "7 . [] of 0"},
		{"ROLLBACK", "8 . [] of 0"},
		{text: "START TRANSACTION READ ONLY"},
		{text: "SELECT c FROM t"},
		{text: "SELECT c, 1 FROM t WHERE id = 7"},
		{text: "SELECT c FROM t WHERE id = 7 AND id = 8"},
		{text: "SELECT c FROM t WHERE id = 7 OR id = 8"},
		{text: "SELECT c FROM t WHERE 7 = id"},
		{text: "SELECT c FROM t WHERE id > 7"},
		{text: "SELECT c FROM t WHERE id = -7"},
		{text: "SELECT c FROM t WHERE id <=> 7"},
		{text: "SELECT c FROM t WHERE id = 7 LIMIT 1"},
		{"SELECT c FROM t WHERE id = 7 FOR UPDATE", "1 .t [c] id=0..0 of 1 planned lock 2"},
		{"SELECT c FROM t WHERE id = 7 LOCK IN SHARE MODE", "1 .t [c] id=0..0 of 1 planned lock 1"},
		{text: "SELECT c FROM t WHERE id = 7 FOR UPDATE OF t"},
		{text: "SELECT c FROM t WHERE id = 7 FOR UPDATE NOWAIT"},
		{text: "SELECT c FROM t WHERE id = 7 FOR UPDATE SKIP LOCKED"},
		{text: "SELECT c FROM t WHERE id = 7 GROUP BY c"},
		{text: "SELECT c FROM t WHERE id = 7 HAVING c = 1"},
		{text: "SELECT c FROM t WHERE id IN (1, 1 + 1)"},
		{text: "SELECT c FROM t WHERE id NOT IN (1, 2)"},
		{text: "SELECT c FROM t WHERE id IN (SELECT 1)"},
		{text: "SELECT c FROM t WHERE id NOT BETWEEN 1 AND 2"},
		{text: "SELECT c FROM t AS x WHERE id = 7"},
		{text: "SELECT c FROM t USE INDEX (i) WHERE id = 7"},
		{text: "SELECT c FROM t AS OF '2020-01-01' WHERE id = 7"},
		{text: "SELECT c FROM t, u WHERE id = 7"},
		{text: "SELECT u.c FROM t WHERE id = 7"},
		{text: "SELECT SQL_CALC_FOUND_ROWS c FROM t WHERE id = 7"},
		{text: "SELECT COUNT(DISTINCT c) FROM t WHERE id = 7"},
		{text: "SELECT SUM(k + 1) FROM t WHERE id = 7"},
		{text: "SELECT c INTO @x FROM t WHERE id = 7"},
		{text: "WITH w AS (SELECT 1) SELECT c FROM t WHERE id = 7"},
		{text: "SELECT c FROM t WHERE id = 7 UNION SELECT 1"},
		{text: "UPDATE t SET k = 1"},
		{text: "UPDATE IGNORE t SET k = 1 WHERE id = 1"},
		{text: "UPDATE t SET k = 1 WHERE id = 1 LIMIT 1"},
		{text: "UPDATE t SET k = k * 2 WHERE id = 1"},
		{"UPDATE t SET k = NULL WHERE id = 1", "2 .t [] id=0..0 of 1 planned k:null"},
		{text: "UPDATE t SET k = k + NULL WHERE id = 1"},
		{text: "UPDATE t SET k = DEFAULT WHERE id = 1"},
		{text: "DELETE FROM t WHERE id = NULL"},
		{text: "UPDATE t, u SET k = 1 WHERE id = 1"},
		{text: "DELETE t FROM t, u WHERE id = 1"},
		{text: "DELETE FROM t WHERE id = 1 LIMIT 1"},
		{"INSERT INTO d.t (a, b) VALUES (1, 'x')", "4 d.t [] of 2 a:0 b:1"},
		{"INSERT INTO t VALUES (?, 2)", "4 .t [] of 1 :0 :-1"},
		{"INSERT INTO t (a, b) VALUES (1, NULL), (3, 4)", "4 .t [] of 3 a:0 b:null a:1 b:2 rows 2"},
		{text: "INSERT INTO t VALUES (1), (2, 3)"},
		{"INSERT INTO t VALUES (NULL)", "4 .t [] of 0 :null"},
		{"REPLACE INTO t VALUES (1, 'x')", "5 .t [] of 2 :0 :1"},
		{text: "REPLACE INTO t SET a = DEFAULT"},
		{text: "INSERT INTO t VALUES (1 + 1)"},
		{text: "INSERT INTO t VALUES (DEFAULT)"},
		{text: "INSERT INTO t VALUES ()"},
		{text: "INSERT INTO t (a) VALUES (1, 2)"},
		{text: "INSERT IGNORE INTO t VALUES (1)"},
		{text: "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 2"},
		{text: "INSERT INTO t VALUES (1) AS new"},
		{text: "INSERT INTO t SELECT 1"},
	} {
		stmt, err := sqlparser.Parse(c.text)
		require.NoError(t, err, c.text)
		_, values, ok := Shape(nil, nil, strings.ReplaceAll(c.text, "?", "*"))
		if strings.Contains(c.text, "?") {
			values = nil
		} else if !ok {
			values = nil
		}
		got := Recognise(stmt, values)
		if c.want == "" {
			require.Nil(t, got, c.text)
			continue
		}
		require.NotNil(t, got, c.text)
		require.Equal(t, c.want, described(got), c.text)
	}
}

func described(s *Statement) string {
	text := fmt.Sprintf("%d %s.%s %v", s.Verb, s.Database, s.Table, s.Columns)
	for _, c := range s.Where {
		if c.In != nil {
			text += " " + c.Column + " in"
			for _, o := range c.In {
				text += fmt.Sprintf(" %d", o.Place)
			}
			continue
		}
		text += fmt.Sprintf(" %s=%d..%d", c.Column, c.Value.Place, c.To.Place)
	}
	text += fmt.Sprintf(" of %d", s.Values)
	if s.Planned {
		text += " planned"
	}
	if s.Lock != NoLock {
		text += fmt.Sprintf(" lock %d", s.Lock)
	}
	for _, a := range s.Assign {
		between := "+"
		if a.Direct {
			between = ":"
		}
		if a.Value.Place < 0 && a.Value.Fixed.Kind == Null {
			text += fmt.Sprintf(" %s%snull", a.Column, between)
			continue
		}
		text += fmt.Sprintf(" %s%s%d", a.Column, between, a.Value.Place)
	}
	if s.Rows > 1 {
		text += fmt.Sprintf(" rows %d", s.Rows)
	}
	return text
}

func TestValuesInOrder(t *testing.T) {
	ascending := []Value{Int(-1 << 63), Int(-2), Int(0), Int(1), Int(1<<63 - 1), Uint(1<<64 - 1)}
	for i, a := range ascending {
		for j, b := range ascending {
			require.Equal(t, i <= j, a.AtMost(b), "%v and %v", a, b)
		}
	}
}

// FuzzShape: two texts of one shape parse to the same tree, up to their literals.
func FuzzShape(f *testing.F) {
	for _, text := range []string{"SELECT c FROM t WHERE id=7", "UPDATE t SET c='a' WHERE id = 12 AND k='b'", "SELECT SUM( k) FROM `t` WHERE id BETWEEN 1 AND 22",
		"SELECT a 'b', 1 FROM t LIMIT 5", "DELETE FROM t WHERE a.b=1", "SELECT 5 DIV 2 - 1", "INSERT INTO t VALUES (1,'x',NULL)"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, values, ok := Shape(nil, nil, text)
		if !ok {
			return
		}
		var other strings.Builder // of the same shape
		for _, c := range key {
			switch c {
			case integerMark:
				other.WriteString("424242")
			case textMark:
				other.WriteString("'another'")
			default:
				other.WriteByte(c)
			}
		}
		again, _, ok := Shape(nil, nil, other.String())
		if !ok || string(again) != string(key) {
			t.Fatalf("%q has another shape than %q", other.String(), text)
		}
		one, errOne := sqlparser.ParseWithOptions(context.Background(), text, sqlparser.ParserOptions{})
		two, errTwo := sqlparser.ParseWithOptions(context.Background(), other.String(), sqlparser.ParserOptions{})
		if errOne != nil || errTwo != nil {
			return // such a text is never recognised
		}
		first := Recognise(one, values)
		_, others, _ := Shape(nil, nil, other.String())
		second := Recognise(two, others)
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%q is %+v, %q is %+v", text, first, other.String(), second)
		}
	})
}
