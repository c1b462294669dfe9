package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowlockdb/rowlock/bench/workload"
)

// bigTable is what is loaded and scanned.
const bigTable = "big"

// parts is the number of groups of the scan with GROUP BY.
const parts = 100

// loadData fills a new table by LOAD DATA LOCAL, in one statement.
func (s settings) loadData(ctx context.Context, one *server) (sample, error) {
	err := one.exec(ctx, "", "SET GLOBAL local_infile = 1", "DROP DATABASE IF EXISTS "+scanData, "CREATE DATABASE "+scanData,
		"CREATE TABLE "+scanData+"."+bigTable+" (id INT NOT NULL PRIMARY KEY, part INT NOT NULL, amount BIGINT NOT NULL, note VARCHAR(40) NOT NULL)")
	if err != nil {
		return sample{}, err
	}
	const source = "rows of big"
	mysql.RegisterReaderHandler(source, func() io.Reader { return &bigRows{n: s.loadRows} })
	defer mysql.DeregisterReaderHandler(source)
	begun := time.Now()
	if err := one.exec(ctx, scanData, "LOAD DATA LOCAL INFILE 'Reader::"+source+"' INTO TABLE "+bigTable); err != nil {
		return sample{}, err
	}
	return s.timed(time.Since(begun)), nil
}

// timed is the sample of one statement over all rows.
func (s settings) timed(took time.Duration) sample {
	return sample{rate: float64(s.loadRows) / took.Seconds(), units: float64(s.loadRows), latency: workload.Latency{P50: took}}
}

// scan reads the table that loadData has filled, three times; the rate is that of
// all three.
func (s settings) scan(query string) func(context.Context, *server) (sample, error) {
	const times = 3
	return func(ctx context.Context, one *server) (sample, error) {
		pools, err := one.pool(scanData)
		if err != nil {
			return sample{}, err
		}
		begun := time.Now()
		for range times {
			rows, err := pools[0].QueryContext(ctx, query)
			if err != nil {
				return sample{}, fmt.Errorf("%s: %w", query, err)
			}
			n := 0
			for rows.Next() {
				n++
			}
			err = rows.Err()
			rows.Close()
			if err != nil {
				return sample{}, fmt.Errorf("%s: %w", query, err)
			}
			if n != 1 && n != min(parts, s.loadRows) {
				return sample{}, fmt.Errorf("%s: %d rows", query, n)
			}
		}
		r := s.timed(time.Since(begun) / times)
		r.units *= times
		return r, nil
	}
}

// bigRows writes rows as LOAD DATA reads them, in the order of their key.
type bigRows struct {
	n, next int
	rest    []byte
}

func (b *bigRows) Read(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if len(b.rest) == 0 {
			if b.next == b.n {
				break
			}
			b.next++
			b.rest = b.line(b.rest)
		}
		n := copy(p[done:], b.rest)
		b.rest = b.rest[n:]
		done += n
	}
	if done == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return done, nil
}

// line is the row of the next number; its columns look random and are the same in
// every run.
func (b *bigRows) line(to []byte) []byte {
	mixed := uint64(b.next) * 0x9e3779b97f4a7c15
	to = strconv.AppendInt(to[:0], int64(b.next), 10)
	to = strconv.AppendUint(append(to, '\t'), mixed>>32%parts, 10)
	to = strconv.AppendUint(append(to, '\t'), mixed>>40, 10)
	to = append(to, "\tnote "...)
	to = strconv.AppendUint(to, mixed, 36)
	to = append(to, strings.Repeat(".", 15)...)
	return append(to, '\n')
}
