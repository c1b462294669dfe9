package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"
)

// report prints the table and writes the files.
func (c *course) report() error {
	lines := c.lines()
	fmt.Fprintf(c.out, "\nmedians of %d rounds of %v; × is what %s makes of the server's figure\n", c.settings.rounds, c.settings.span, c.servers[0].name)
	if err := writeTable(c.out, lines); err != nil {
		return err
	}
	writeElsewhere(c.out)
	if err := toFile(c.settings.csv, lines, writeCSV); err != nil {
		return err
	}
	return toFile(c.settings.svg, lines, writeSVG)
}

func toFile(path string, lines []line, write func(io.Writer, []line) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f, lines); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}

func writeTable(out io.Writer, lines []line) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "workload\tsessions\tserver\trate/s\tworst\tbest\tp50 ms\tp95 ms\tp99 ms\tCPU µs\tMiB\t1213\tothers\trate ×\tCPU ×\tasked\t\t")
	last := place{}
	for _, l := range lines {
		name, threads := l.name, strconv.Itoa(l.threads)
		if (place{l.name, l.threads, ""}) == last {
			name, threads = "", ""
		}
		last = place{l.name, l.threads, ""}
		memory := l.memory
		if l.name == idleName {
			memory = l.growth
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t", name, threads, l.server)
		if l.rounds == 0 {
			fmt.Fprintf(table, "failed\t\t\t\t\t\t\t\t\t\t\t\t%s\t%s\t\n", l.goal, l.verdict)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
			known("%.0f", l.rate), known("%.0f", l.low), known("%.0f", l.high), milliseconds(l.p50), milliseconds(l.p95), milliseconds(l.p99),
			cpuText(l.cpu), known("%.0f", float64(memory>>20)), known("%.0f", l.deadlocks), fmt.Sprintf("%.0f %%", 100*l.others),
			known("%.2f", l.rateRatio), known("%.2f", l.cpuRatio), l.goal, l.verdict)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range lines {
		if l.failed != "" {
			fmt.Fprintf(out, "%s, %d, %s failed: %s\n", l.name, l.threads, l.server, l.failed)
		}
	}
	for _, l := range lines {
		if l.others > busyMachine {
			fmt.Fprintf(out, "others used more than %.0f %% of the machine in some runs: look at the ratios and the processor time only, or run again\n", 100*busyMachine)
			break
		}
	}
	return nil
}

// busyMachine is the part of the processors used by others above which rates say
// little.
const busyMachine = 0.1

// known is empty for zero, which stands for an unknown figure.
func known(format string, x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf(format, x)
}

// cpuText has a digit more for the work on single rows.
func cpuText(us float64) string {
	if us < 10 {
		return known("%.2f", us)
	}
	return known("%.0f", us)
}

func milliseconds(d time.Duration) string { return known("%.2f", float64(d.Microseconds())/1000) }

func writeCSV(out io.Writer, lines []line) error {
	w := csv.NewWriter(out)
	w.Write([]string{"workload", "sessions", "server", "unit", "rounds", "rate", "worst", "best", "p50_ms", "p95_ms", "p99_ms",
		"cpu_us", "resident_bytes", "growth_bytes", "deadlocks", "others", "rate_ratio", "cpu_ratio", "asked", "verdict", "failed"})
	for _, l := range lines {
		w.Write([]string{l.name, strconv.Itoa(l.threads), l.server, l.unit, strconv.Itoa(l.rounds),
			known("%.1f", l.rate), known("%.1f", l.low), known("%.1f", l.high), known("%.3f", l.p50.Seconds()*1000), known("%.3f", l.p95.Seconds()*1000), known("%.3f", l.p99.Seconds()*1000),
			known("%.2f", l.cpu), known("%.0f", float64(l.memory)), known("%.0f", float64(l.growth)), known("%.0f", l.deadlocks), known("%.3f", l.others),
			known("%.3f", l.rateRatio), known("%.3f", l.cpuRatio), l.goal, l.verdict, l.failed})
	}
	w.Flush()
	return w.Error()
}
