package sqlfront

import (
	"slices"
	"strconv"
	"strings"
)

// fastTable is a generated table.
type fastTable struct {
	name    string
	key     []fastColumn
	added   string       // the first column that is none of the key
	columns []fastColumn // key columns included
	pool    []template
	changes []template
}

// fastColumn is a column with the literals that its values are written as.
type fastColumn struct {
	name, definition string
	values           []string
}

// keyColumns are what primary keys are made of.
var keyColumns = []fastColumn{
	{"", "INT", []string{"0", "1", "2", "3", "-1", "2147483647", "-2147483648"}},
	{"", "INT UNSIGNED ZEROFILL", []string{"0", "1", "2", "3", "4294967295"}},
	{"", "TINYINT", []string{"0", "1", "2", "127", "-128"}},
	{"", "TINYINT UNSIGNED", []string{"0", "1", "2", "255"}},
	{"", "SMALLINT", []string{"0", "1", "2", "32767", "-32768"}},
	{"", "MEDIUMINT", []string{"0", "1", "2", "8388607", "-8388608"}},
	{"", "MEDIUMINT UNSIGNED", []string{"0", "1", "2", "16777215"}},
	{"", "BIGINT", []string{"0", "1", "2", "3", "9223372036854775807", "-9223372036854775808"}},
	{"", "BIGINT UNSIGNED", []string{"0", "1", "2", "9223372036854775808", "18446744073709551615"}},
	{"", "BOOLEAN", []string{"0", "1"}},
	{"", "VARCHAR(20)", []string{"''", "'a'", "'A'", "'a '", "'1'", "'ä'", "'ab'"}},
	{"", "VARCHAR(20) COLLATE utf8mb4_bin", []string{"''", "'a'", "'A'", "'a '", "'1'", "'ä'"}},
	{"", "CHAR(4) CHARACTER SET latin1", []string{"'a'", "'B'", "'1'"}},
	{"", "VARBINARY(8)", []string{"'a'", "'b'", "'1'", "''"}},
	{"", "DECIMAL(10,2)", []string{"0", "1", "1.5", "-2.25", "2"}},
	{"", "DATE", []string{"'2020-01-01'", "'1999-12-31'"}},
	{"", "DATETIME(3)", []string{"'2020-01-01 00:00:00'", "'1999-12-31 12:00:00.125'"}},
	{"", "YEAR", []string{"2000", "2020", "1"}},
	{"", "DOUBLE", []string{"0", "1", "1.5", "-1e10"}},
	{"", "ENUM('a','b','1')", []string{"'a'", "'b'", "'1'"}},
	{"", "BIT(6)", []string{"0", "1", "2"}},
}

// otherColumns are the rest.
var otherColumns = []fastColumn{
	{"", "INT", []string{"NULL", "0", "42", "-7"}},
	{"", "INT NOT NULL DEFAULT 5", []string{"0", "42"}},
	{"", "BIGINT UNSIGNED", []string{"NULL", "18446744073709551615"}},
	{"", "INT(6) ZEROFILL", []string{"NULL", "1", "123456"}},
	{"", "VARCHAR(40)", []string{"NULL", "''", "'text'", "'ünïcödé 😀'"}},
	{"", "CHAR(10)", []string{"NULL", "'x'", "'pad  '"}},
	{"", "CHAR(10) CHARACTER SET latin1 COLLATE latin1_bin", []string{"NULL", "'x'", "'é'"}},
	{"", "TEXT", []string{"NULL", "'long'", "REPEAT('x', 300)"}},
	{"", "BLOB", []string{"NULL", "x'00ff'"}},
	{"", "BINARY(5)", []string{"NULL", "'ab'"}},
	{"", "DECIMAL(20,5)", []string{"NULL", "1.5", "-123456789.00001"}},
	{"", "FLOAT", []string{"NULL", "1.5", "-1e20"}},
	{"", "DOUBLE", []string{"NULL", "0.1", "1e300"}},
	{"", "DATE", []string{"NULL", "'2020-02-29'"}},
	{"", "DATETIME(6)", []string{"NULL", "'2020-02-29 12:34:56.789012'"}},
	{"", "TIMESTAMP NULL", []string{"NULL", "'2021-03-28 02:30:00'"}},
	{"", "TIME(2)", []string{"NULL", "'-12:34:56.78'", "'838:59:59'"}},
	{"", "YEAR", []string{"NULL", "2024"}},
	{"", "JSON", []string{"NULL", `'{"a": [1, "x"]}'`}},
	{"", "ENUM('a','b','c')", []string{"NULL", "'b'"}},
	{"", "SET('x','y','z')", []string{"NULL", "'x,z'"}},
	{"", "BIT(12)", []string{"NULL", "b'101'"}},
	{"", "POINT", []string{"NULL", "POINT(1, 2)"}},
}

// changedKeys are keys of rows that are changed without a plan.
var changedKeys = append(slices.Clone(keyColumns[:10]), largeKey,
	fastColumn{"", "BIGINT", []string{"-1", "9223372036854775807", "-9223372036854775807", "-9223372036854775808"}})

// largeKey and largeColumn are as large as numbers become.
var (
	largeKey    = fastColumn{"k0", "BIGINT UNSIGNED", []string{"1", "9223372036854775807", "9223372036854775808", "18446744073709551615"}}
	largeColumn = fastColumn{"", "BIGINT UNSIGNED NOT NULL", []string{"9223372036854775808", "18446744073709551614", "18446744073709551615", "9223372036854775806"}}
)

// changedColumns are those that statements change without a plan, and some others.
var changedColumns = []fastColumn{
	largeColumn,
	{"", "INT", []string{"NULL", "0", "42", "-7", "2147483647", "2147483648"}},
	{"", "INT NOT NULL DEFAULT 5", []string{"0", "42", "-2147483648", "NULL"}},
	{"", "TINYINT", []string{"NULL", "127", "-128", "128", "5"}},
	{"", "TINYINT UNSIGNED NOT NULL", []string{"0", "1", "255", "256", "-1"}},
	{"", "BOOLEAN", []string{"0", "1", "2", "TRUE"}},
	{"", "MEDIUMINT", []string{"NULL", "8388607", "-8388608", "8388608"}},
	{"", "INT UNSIGNED", []string{"NULL", "0", "3", "4294967295", "4294967296"}},
	{"", "BIGINT", []string{"NULL", "0", "9223372036854775807", "-9223372036854775808", "9223372036854775808"}},
	{"", "BIGINT UNSIGNED DEFAULT 7", []string{"NULL", "0", "1", "18446744073709551615", "9223372036854775807"}},
	{"", "VARCHAR(5)", []string{"NULL", "''", "'a'", "'A'", "'a '", "'ünïcö'", "'toolong'", "'😀😀'", "7"}},
	{"", "VARCHAR(5) COLLATE utf8mb4_bin NOT NULL DEFAULT 'd'", []string{"''", "'a'", "'A'", "'a '", "'sixsix'", "NULL"}},
	{"", "CHAR(4)", []string{"NULL", "'x'", "'X'", "'pad '", "'1'", "1"}},
	{"", "TEXT", []string{"NULL", "'long'", "''"}},
	{"", "TINYTEXT", []string{"NULL", "'t'", "'" + strings.Repeat("ä", 127) + "'", "'" + strings.Repeat("ä", 128) + "'"}},
	{"", "CHAR(10) CHARACTER SET latin1", []string{"NULL", "'x'", "'é'"}},
	{"", "DECIMAL(6,2)", []string{"NULL", "1", "1.5"}},
	{"", "VARBINARY(4)", []string{"NULL", "'x'"}},
	{"", "DATE DEFAULT '2020-01-01'", []string{"NULL", "'2020-02-29'"}},
	{"", "ENUM('a','b','c')", []string{"NULL", "'b'", "2"}},
}

// changes are statements of one session that change rows or lock them, alone or in a
// transaction, under changing variables.
func (d *differential) changes() {
	c := d.sessions[d.r.IntN(2)]
	n := pick(d, d.tables)
	if d.chance(4) {
		c.query(pick(d, []string{"SET SESSION sql_mode = ''", "SET SESSION sql_mode = DEFAULT", "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
			"SET SESSION transaction_isolation = 'READ-COMMITTED'", "SET SESSION transaction_isolation = 'SERIALIZABLE'",
			"SET SESSION transaction_isolation = 'REPEATABLE-READ'", "SET SESSION snapshot_isolation = OFF", "SET SESSION snapshot_isolation = ON",
			"SET autocommit = 0", "SET autocommit = 1", "SET NAMES latin1", "SET NAMES utf8mb4", "SET SESSION transaction_read_only = ON",
			"SET SESSION transaction_read_only = OFF", "SET SESSION transaction_read_only = OFF"}))
	}
	if d.r.IntN(250) == 0 {
		i := slices.Index(d.tables, n)
		c.query("DROP TABLE " + n.name)
		d.tables = slices.Delete(d.tables, i, i+1)
		d.create(n.name)
		n = d.tables[len(d.tables)-1]
	}
	if d.chance(40) {
		c.query(pick(d, []string{"BEGIN", "BEGIN", "START TRANSACTION READ ONLY"}))
		if d.chance(30) {
			d.readFrom(c, n)
		}
	}
	for range 1 + d.r.IntN(6) {
		d.change(c, n)
		if d.chance(30) {
			c.query("SELECT " + n.key[0].name + " FROM " + n.name + " WHERE " + n.key[0].name + " = " + pick(d, n.key[0].values) + pick(d, []string{" FOR UPDATE", " FOR SHARE"}))
			d.state(c)
		}
	}
	if d.chance(20) {
		c.query("SELECT * FROM " + n.name + " ORDER BY " + n.key[0].name)
	}
	c.query(pick(d, []string{"COMMIT", "COMMIT", "ROLLBACK"})) // it keeps no lock that the other waits for
}

// template is a statement with the columns that its parameters are compared with.
type template struct {
	text string
	keys []fastColumn
}

// readFrom reads by the primary key, mostly. Few texts, so that most were seen before.
func (d *differential) readFrom(c *twinSession, n *fastTable) {
	if len(n.pool) < 12 || d.chance(3) {
		n.pool = append(n.pool, d.selection(n))
	}
	d.run(c, pick(d, n.pool))
	if d.chance(10) {
		d.state(c)
	}
}

// run runs a template, as a text or prepared.
func (d *differential) run(c *twinSession, m template) {
	var values []string
	for i, k := range m.keys {
		value := pick(d, k.values)
		if d.chance(5) {
			value = pick(d, []string{"5000000000", "'1'", "1.0", "NULL", "'a'", "007", "99999999999999999999", "-9223372036854775809", "1e0", "TRUE", "'1 '"})
		}
		if i > 0 && strings.Contains(m.text, "BETWEEN") && d.chance(80) {
			x, errX := strconv.ParseInt(values[i-1], 10, 64)
			y, errY := strconv.ParseInt(value, 10, 64)
			if errX == nil && errY == nil && x > y {
				values[i-1], value = value, values[i-1]
			}
		}
		values = append(values, value)
	}
	if locks := strings.ToUpper(m.text); strings.Contains(locks, " FOR UPDATE") || strings.Contains(locks, " SHARE") {
		for _, other := range d.sessions { // a SERIALIZABLE one may have locked what it has read
			if other != c {
				other.query("COMMIT AND NO CHAIN")
			}
		}
		defer c.query("COMMIT AND NO CHAIN") // nobody is to wait for its locks
	}
	if d.chance(50) {
		parameters := make([]any, len(values))
		for i, v := range values {
			parameters[i] = d.parameter(v)
		}
		c.execute(m.text, parameters...)
		return
	}
	text := m.text
	for _, v := range values {
		text = strings.Replace(text, "?", v, 1)
	}
	if d.chance(5) {
		c.execute(text)
		return
	}
	c.query(text)
}

// selection is a SELECT of rows by the primary key, or something like it.
func (d *differential) selection(n *fastTable) template {
	if len(n.key) == 1 && d.chance(40) {
		return d.between(n)
	}
	table := n.name
	if d.chance(10) {
		table = pick(d, []string{"app." + n.name, "`" + n.name + "`", strings.ToUpper(n.name)})
	}
	columns := d.columnsOf(n)
	var conditions []string
	for _, k := range n.key {
		conditions = append(conditions, k.name+" = ?")
	}
	where, keys := strings.Join(conditions, " AND "), n.key
	if d.chance(10) {
		where += pick(d, []string{" FOR UPDATE", " FOR UPDATE", " for update", " LOCK IN SHARE MODE", " FOR SHARE", " FOR UPDATE OF " + n.name, " FOR SHARE NOWAIT"})
	} else if d.chance(15) {
		all := where
		where = pick(d, []string{where + " AND 1 = 1", "(" + where + ")", where + " OR " + where, where + " LIMIT 1", where + " FOR UPDATE SKIP LOCKED",
			where + " LOCK IN SHARE MODE", "NOT (" + where + ")", where + " ORDER BY 1", where + " AND " + n.key[0].name + " > 0", where + " -- end",
			where + ";", where + " ORDER BY " + n.columns[0].name})
		if strings.Count(where, "?") > strings.Count(all, "?") {
			keys = append(append([]fastColumn{}, keys...), keys...)
		}
	}
	return template{"SELECT " + columns + " FROM " + table + " WHERE " + where, keys}
}

// change is an UPDATE or DELETE of a row by its primary key, or something like it.
func (d *differential) change(c *twinSession, n *fastTable) {
	switch {
	case len(n.changes) < 8 || d.chance(3) && !d.simple:
		n.changes = append(n.changes, d.changing(n))
	case d.chance(1):
		n.changes[d.r.IntN(len(n.changes))] = d.changing(n)
	}
	d.run(c, pick(d, n.changes))
	d.state(c)
	if d.chance(20) {
		d.write(c.query, n, "INSERT IGNORE") // so that there is something to change
	}
}

func (d *differential) changing(n *fastTable) template {
	var m template
	if d.simple && len(n.changes) == 0 { // one of the sums that may not fit
		x := n.columns[slices.IndexFunc(n.columns, func(c fastColumn) bool { return c.name == n.added })]
		return template{"UPDATE " + n.name + " SET " + x.name + " = " + x.name + " + ? WHERE k0 = ?", []fastColumn{{values: []string{"1", "3", "-1"}}, n.key[0]}}
	}
	if d.chance(35) {
		columns := slices.Clone(n.columns)
		if d.chance(30) && len(columns) > 1 { // without the last one
			columns = columns[:len(columns)-1]
		}
		var names, places []string
		for _, c := range columns {
			names, places, m.keys = append(names, c.name), append(places, "?"), append(m.keys, c)
		}
		m.text = pick(d, []string{"INSERT", "INSERT", "INSERT", "REPLACE"}) + " INTO " + n.name + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(places, ", ") + ")"
		if d.chance(30) {
			for range 1 + d.r.IntN(2) {
				m.text, m.keys = m.text+", ("+strings.Join(places, ", ")+")", append(m.keys, m.keys[:len(columns)]...)
			}
		}
		if d.chance(20) {
			m.text = strings.Replace(m.text, " ("+strings.Join(names, ", ")+")", "", 1)
		}
		return m
	}
	if d.chance(25) {
		m.text = "DELETE FROM " + n.name
	} else {
		var sets []string
		for range 1 + d.r.IntN(2) {
			x := pick(d, n.columns)
			form := d.r.IntN(6)
			if d.simple && d.chance(25) {
				form = 1
			}
			switch form {
			case 0:
				sets = append(sets, x.name+" = "+x.name+pick(d, []string{" + 1", " - 1", " + 1000", " * 2"}))
			case 1:
				sets = append(sets, x.name+" = "+x.name+" + ?")
				numbers := []string{"1", "1", "1", "2", "300", "-1"}
				if d.simple {
					numbers = append(numbers, "9223372036854775807", "9223372036854775808", "-9223372036854775808")
				}
				m.keys = append(m.keys, fastColumn{values: numbers})
			default:
				sets = append(sets, x.name+" = ?")
				m.keys = append(m.keys, x)
			}
		}
		m.text = "UPDATE " + pick(d, []string{"", "", "", "", "IGNORE "}) + n.name + " SET " + strings.Join(sets, ", ")
	}
	var conditions []string
	for _, k := range n.key {
		conditions = append(conditions, k.name+" = ?")
		m.keys = append(m.keys, k)
	}
	m.text += " WHERE " + strings.Join(conditions, " AND ")
	if d.chance(10) {
		m.text += pick(d, []string{" LIMIT 1", " ORDER BY 1", " AND 1 = 1"})
	}
	return m
}

// index adds a secondary index to the definitions of a table, mostly over one column
// that UPDATE changes.
func (d *differential) index(n *fastTable, definitions []string) []string {
	if d.chance(50) {
		return definitions
	}
	for _, x := range n.columns {
		kind, _, _ := strings.Cut(x.definition, " ")
		kind, _, _ = strings.Cut(kind, "(")
		if slices.Contains([]string{"INT", "BIGINT", "VARCHAR", "CHAR", "DECIMAL", "DATE"}, kind) && d.chance(40) {
			definitions = append(definitions, pick(d, []string{"KEY (", "KEY (", "KEY (", "UNIQUE KEY ("})+x.name+")")
		}
	}
	return definitions
}

func (d *differential) columnsOf(n *fastTable) string {
	switch d.r.IntN(4) {
	case 0:
		return "*"
	case 1:
		return n.columns[0].name
	case 2:
		return n.columns[len(n.columns)-1].name + ", " + n.columns[0].name
	}
	var names []string
	for _, x := range n.columns {
		names = append(names, x.name)
	}
	columns := strings.Join(names, ",")
	if d.chance(30) {
		return pick(d, []string{columns + " AS x", strings.ToUpper(columns), n.name + "." + columns, "1, " + columns, "nothing", columns + ", COUNT(*)",
			"DISTINCT " + columns, "ALL " + columns, "SQL_CALC_FOUND_ROWS " + columns, "/*+ MAX_EXECUTION_TIME(60000) */ " + columns})
	}
	return columns
}

// between is a SELECT by a range of the primary key.
func (d *differential) between(n *fastTable) template {
	a, b := n.columns[0].name, n.columns[len(n.columns)-1].name
	key := n.key[0]
	if d.chance(25) {
		list, keys := "?", []fastColumn{key}
		for range d.r.IntN(4) {
			list, keys = list+", ?", append(keys, key)
		}
		return template{"SELECT " + pick(d, []string{"*", a, "COUNT(*)", b + ", " + a}) + " FROM " + n.name + " WHERE " + key.name + " IN (" + list + ")" +
			pick(d, []string{"", "", " ORDER BY " + a}), keys}
	}
	text := "SELECT " + pick(d, []string{"*", a, b + ", " + a, "DISTINCT " + a, "SUM(" + key.name + ")", "COUNT(*)", "COUNT(" + a + "), MIN(" + b + ")",
		"MAX(" + a + ")", "AVG(" + b + ") AS x", "sum( " + key.name + " )", "COUNT(DISTINCT " + a + ")", a + ", COUNT(*)"}) +
		" FROM " + n.name + " WHERE " + key.name + " BETWEEN ? AND ?"
	if !strings.Contains(text, "(") {
		text += pick(d, []string{"", "", " ORDER BY " + key.name, " ORDER BY " + key.name + " DESC", " ORDER BY " + a, " ORDER BY " + b + " DESC, " + a, " LIMIT 2"})
	}
	return template{text, []fastColumn{key, key}}
}

// parameter is a literal as a value of the binary protocol.
func (d *differential) parameter(literal string) any {
	switch literal {
	case "NULL":
		return nil
	case "TRUE":
		return int8(1)
	}
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
		switch {
		case d.chance(20) && n >= 0:
			return uint64(n)
		case d.chance(20) && int64(int8(n)) == n:
			return int8(n)
		case d.chance(20) && int64(int32(n)) == n:
			return int32(n)
		case d.chance(5):
			return literal
		case d.chance(5):
			return float64(n)
		}
		return n
	}
	if n, err := strconv.ParseUint(literal, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(literal, 64); err == nil {
		return f
	}
	if d.chance(10) {
		return []byte(strings.Trim(literal, "'"))
	}
	return strings.Trim(literal, "'")
}
