package workload

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLatency(t *testing.T) {
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	for _, c := range []struct {
		name  string
		times []time.Duration
		want  Latency
	}{
		{"none", nil, Latency{}},
		{"one", []time.Duration{7}, Latency{7, 7, 7}},
		{"the higher of two is the 95th", []time.Duration{9, 1}, Latency{1, 9, 9}},
		{"in any order", times, Latency{50, 95, 99}},
	} {
		require.Equal(t, c.want, LatencyOf(c.times), c.name)
	}
	require.Equal(t, Latency{3, 3, 8}, latencyOf([]count{{1, 40}, {3, 58}, {8, 2}}))
}

func TestReportOfSysbench(t *testing.T) {
	out, err := os.ReadFile("testdata/read_write.txt")
	require.NoError(t, err)
	got, err := parseReport(string(out))
	require.NoError(t, err)
	require.Equal(t, Report{
		Transactions: 100, TransactionRate: 50.13, Queries: 2000, QueryRate: 1002.60,
		Average:   1860 * time.Microsecond,
		Latency:   Latency{P50: 1551 * time.Microsecond, P95: 3245 * time.Microsecond, P99: 14207 * time.Microsecond},
		Deadlocks: 12,
	}, got)
}

func TestWhatIsNoReport(t *testing.T) {
	for _, out := range []string{
		"",
		"FATAL: unable to connect",
		"    transactions:                        5    (1.00 per sec.)\n",
		"    transactions:                        0    (0.00 per sec.)\n    queries:                             0    (0.00 per sec.)\n",
	} {
		_, err := parseReport(out)
		require.Error(t, err, out)
	}
}

func TestArgumentsOfSysbench(t *testing.T) {
	s := Sysbench{Addresses: []string{"127.0.0.1:4000", "127.0.0.2:4000"}, User: "root", Password: "p", Database: "d"}
	args, err := s.args("oltp_insert")
	require.NoError(t, err)
	require.Equal(t, []string{"oltp_insert", "--mysql-host=127.0.0.1,127.0.0.2", "--mysql-port=4000", "--mysql-user=root",
		"--mysql-password=p", "--mysql-db=d", "--mysql-ignore-errors=1213"}, args)

	s.Tables, s.Rows, s.Text, s.Distribution, s.Options = 4, 100, true, "uniform", []string{"--more"}
	args, err = s.args("oltp_insert")
	require.NoError(t, err)
	require.Equal(t, []string{"--tables=4", "--table-size=100", "--db-ps-mode=disable", "--rand-type=uniform", "--more"}, args[7:])

	s.Addresses[1] = "127.0.0.2:4001"
	_, err = s.args("oltp_insert")
	require.ErrorContains(t, err, "sysbench wants one")
	s.Addresses[1] = "no port"
	_, err = s.args("oltp_insert")
	require.Error(t, err)
}

func TestComplaints(t *testing.T) {
	require.Equal(t, "FATAL: one; an error; FATAL: two", complaints("hello\nFATAL: one\nfine\nan error\nFATAL: two\nFATAL: three\n"))
	require.Empty(t, complaints("nothing\n"))
}

func TestReportOfTransfers(t *testing.T) {
	sessions := []*session{{times: []time.Duration{4, 2}, deadlocks: 1}, {times: []time.Duration{3, 3}, deadlocks: 2}}
	got, err := reportOf(sessions, 2*time.Second)
	require.NoError(t, err)
	require.Equal(t, Report{Transactions: 4, TransactionRate: 2, Queries: 24, QueryRate: 12, Average: 3, Latency: Latency{3, 4, 4}, Deadlocks: 3}, got)
	_, err = reportOf([]*session{{}}, time.Second)
	require.Error(t, err)
}
