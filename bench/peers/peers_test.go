package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rowlockdb/rowlock/bench/process"
	"github.com/rowlockdb/rowlock/bench/workload"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 8, 1, 2}, 3}} {
		require.Equal(t, c.want, median(c.all), "%v", c.all)
	}
}

// measured is a course that was run: a server beside two others, one of which
// failed once and once always.
func measured() *course {
	s := settings{rounds: 3, span: 10 * time.Second, many: 256, idle: 1000}
	servers := []*server{{name: "rowlock"}, {name: "mariadb"}, {name: "<other>"}}
	trials := []trial{
		{name: idleName, threads: 1000, fresh: true},
		{name: "point_select", threads: 8, unit: "queries"},
		{name: "point_select", threads: 32, unit: "queries"},
		{name: "point_select", threads: 256, unit: "queries"},
		{name: "bank", threads: 8, unit: "transfers"},
		{name: "scan_sum", threads: 1, unit: "rows"},
	}
	c := newCourse(s, servers, trials, io.Discard)
	put := func(name string, threads int, server string, samples ...sample) {
		c.figures[place{name, threads, server}] = &figures{samples: samples}
	}
	runs := func(cpu float64, rates ...float64) (all []sample) {
		for i, rate := range rates {
			took := time.Duration(i+1) * time.Millisecond
			all = append(all, sample{rate: rate, cpu: cpu, memory: int64(i+1) << 20, deadlocks: i,
				latency: workload.Latency{P50: took, P95: 2 * took, P99: 10 * took}, others: 0.02})
		}
		return all
	}
	put(idleName, 1000, "rowlock", sample{growth: 177 << 20})
	put(idleName, 1000, "mariadb", sample{growth: 210 << 20})
	put("point_select", 8, "rowlock", runs(14, 41_000, 39_000, 40_000)...)
	put("point_select", 8, "mariadb", runs(50, 20_000, 21_000, 19_000)...)
	put("point_select", 8, "<other>", runs(0, 80_000)...)
	put("point_select", 32, "rowlock", runs(14, 50_000)...)
	put("point_select", 32, "mariadb", runs(50, 40_000)...)
	put("point_select", 256, "rowlock", runs(15, 30_000)...)
	put("point_select", 256, "mariadb", runs(60, 35_000)...)
	put("bank", 8, "rowlock", runs(80.4, 1_000, 1_200)...)
	put("bank", 8, "mariadb", runs(51.26, 4_000, 4_400)...)
	c.figures[place{"bank", 8, "mariadb"}].failed = errors.New("the connection was lost")
	c.figures[place{"bank", 8, "<other>"}] = &figures{failed: errors.New("error 1213")}
	put("scan_sum", 1, "rowlock", sample{rate: 2e6, cpu: 0.4, latency: workload.Latency{P50: time.Second / 2}, others: 0.3})
	return c
}

func TestReports(t *testing.T) {
	lines := measured().lines()
	for name, write := range map[string]func(io.Writer, []line) error{"table.txt": writeTable, "table.csv": writeCSV, "plot.svg": writeSVG} {
		var got bytes.Buffer
		require.NoError(t, write(&got, lines))
		path := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), got.String(), name)
	}
}

func TestThePlotIsXML(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, writeSVG(&out, measured().lines()))
	decoder := xml.NewDecoder(&out)
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestFilesOfAReport(t *testing.T) {
	c := measured()
	c.settings.csv, c.settings.svg = filepath.Join(t.TempDir(), "a.csv"), filepath.Join(t.TempDir(), "a.svg")
	var out bytes.Buffer
	c.out = &out
	require.NoError(t, c.report())
	require.FileExists(t, c.settings.csv)
	require.FileExists(t, c.settings.svg)
	require.Contains(t, out.String(), "NOT of this run")
	c.settings.csv = filepath.Join(t.TempDir(), "no", "directory.csv")
	require.Error(t, c.report())
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		goal      goal
		rate, cpu float64
		want      string
	}{
		{goal{}, 9, 0.1, ""},
		{goal{1.5, 0.5}, 1.5, 0.5, "met"},
		{goal{1.5, 0.5}, 1.49, 0.5, "short"},
		{goal{1.5, 0.5}, 1.5, 0.51, "short"},
		{goal{0.5, 0}, 0.6, 7, "met"},
	} {
		require.Equal(t, c.want, c.goal.verdict(c.rate, c.cpu), "%+v", c)
	}
	require.Equal(t, goal{1.5, 0.5}, goalOf("mariadb", "point_select", 32))
	require.Equal(t, goal{}, goalOf("mariadb", "point_select", 256), "nothing is asked beside a peer with many sessions")
	require.Equal(t, goal{}, goalOf("tidb", "point_select", 8))
	for peer, all := range goals {
		for name := range all {
			require.Contains(t, names, name, peer)
		}
	}
}

func TestPeers(t *testing.T) {
	one, err := readPeer("tidb=root:secret@tcp(127.0.0.1:4000)/#1234")
	require.NoError(t, err)
	require.Equal(t, "tidb 127.0.0.1:4000 root secret [1234]", fmt.Sprint(one.name, " ", one.addresses[0], " ", one.user, " ", one.password, " ", one.pids))
	one, err = readPeer("x=root@tcp(127.0.0.1:4000)/")
	require.NoError(t, err)
	_, known := one.cpu()
	require.False(t, known)
	require.Zero(t, one.memory())
	for _, broken := range []string{"", "tidb", "=root@tcp(a:1)/", "a=root@tcp(a:1)/#x", "a=no dsn", "a=root@unix(/tmp/s)/"} {
		_, err := readPeer(broken)
		require.Error(t, err, broken)
	}
}

func TestSettingsOfMariaDB(t *testing.T) {
	m := &mariadb{dir: "d", user: "u", library: "l", settings: settings{bufferMB: 64}, network: process.NewLoopback()}
	alone := strings.Join(m.args(1), " ")
	require.Contains(t, alone, "--innodb-flush-log-at-trx-commit=1 ", "a commit is on disk before it is answered")
	require.Contains(t, alone, "--bind-address=127.", "nobody else reaches a server that lets everybody in")
	require.NotContains(t, alone, "wsrep")
	m.settings.cluster = 3
	first, second := strings.Join(m.args(1), " "), strings.Join(m.args(2), " ")
	require.Contains(t, second, "--innodb-flush-log-at-trx-commit=1 ")
	require.Contains(t, first, "--wsrep-new-cluster")
	require.NotContains(t, second, "--wsrep-new-cluster")
	require.Contains(t, second, "gcomm://"+m.host(1)+":4300,"+m.host(2)+":4300,"+m.host(3)+":4300")
}

func TestFlags(t *testing.T) {
	var s settings
	require.NoError(t, s.read("8,32", "bank,insert"))
	require.Equal(t, []int{8, 32}, s.threads)
	require.Equal(t, []string{"insert", "bank"}, namesOf(s.trials()))
	require.Error(t, s.read("8,", ""))
	require.Error(t, s.read("0", ""))
	require.Error(t, s.read("8", "banc"))
}

func TestTrials(t *testing.T) {
	s := settings{threads: []int{8, 32}, many: 256, idle: 1000}
	require.Equal(t, names, namesOf(s.trials()), "every name is measured, in this order")
	s.cluster = 3
	require.Equal(t, names[1:11], namesOf(s.trials()), "what speaks of one server is not measured on several")
	s.only, s.threads = []string{"point_select", "update_index"}, []int{8}
	var got []string
	for _, one := range s.trials() {
		got = append(got, fmt.Sprint(one.name, " ", one.threads))
	}
	require.Equal(t, []string{"point_select 8", "point_select 256", "update_index 8"}, got)
}

func TestOthers(t *testing.T) {
	require.InDelta(t, 0.25, others(15*time.Second, 7*time.Second, 3*time.Second, 10*time.Second, 2), 1e-9)
	require.Zero(t, others(5*time.Second, 4*time.Second, 2*time.Second, 10*time.Second, 2), "clocks that round make no debt")
}

func TestRowsToLoad(t *testing.T) {
	const n = 1000
	all, err := io.ReadAll(&bigRows{n: n})
	require.NoError(t, err)
	small, err := io.ReadAll(iotest.OneByteReader(&bigRows{n: n}))
	require.NoError(t, err)
	require.Equal(t, string(all), string(small), "whatever the size of the buffer")
	lines := strings.Split(strings.TrimSuffix(string(all), "\n"), "\n")
	require.Len(t, lines, n)
	groups := map[string]bool{}
	for i, line := range lines {
		fields := strings.Split(line, "\t")
		require.Len(t, fields, 4)
		require.Equal(t, fmt.Sprint(i+1), fields[0])
		require.LessOrEqual(t, len(fields[3]), 40)
		groups[fields[1]] = true
	}
	require.Len(t, groups, parts)
}
