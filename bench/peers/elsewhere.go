package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// elsewhere is what other databases made of the same workloads on another day.
type elsewhere struct {
	name               string
	tidb, galera, dolt string
}

// measuredElsewhere: processor time of the server in microseconds a query with 1, 8
// and 32 sessions, and the best rate of the three; of the bank, transfers a second
// with 8 and 32.
var measuredElsewhere = []elsewhere{
	{"point_select", "158 / 168 / 176 · 6,500", "64 / 55 / 63 · 26,100", "149 / 144 / 190 · 11,200"},
	{"point_select_text", "215 / 204 / 221 · 5,000", "76 / 67 / 70 · 21,900", "176 / 161 / 172 · 10,400"},
	{"read_only", "294 / 293 / 277 · 4,600", "76 / 67 / 70 · 22,400", "224 / 197 / 196 · 8,100"},
	{"read_write", "369 / 298 / 316 · 5,300", "129 / 128 / 126 · 12,500", "364 / 761 / 912 · 2,900"},
	{"write_only", "332 / 298 / 314 · 4,800", "220 / 195 / 159 · 10,300", "894 / 2,347 / 2,443 · 900"},
	{"update_index", "547 / 508 / 460 · 3,100", "805 / 648 / 472 · 3,600", "2,408 / 5,849 / 6,056 · 300"},
	{"update_non_index", "472 / 373 / 476 · 3,000", "771 / 606 / 439 · 3,900", "1,573 / 5,614 / 6,281 · 700"},
	{"insert", "564 / 358 / 409 · 3,500", "784 / 591 / 410 · 4,100", "1,928 / 7,312 / 8,629 · 500"},
	{"bank", "1,380 / 1,170", "1,610 / 1,990", "111 / 97"},
	{"load, rows a second", "22,000–42,000", "84,000", "124,000"},
	{"memory, peak", "2.0–2.6 GB", "1.3–1.7 GB", "0.4–1.6 GB"},
}

func writeElsewhere(out io.Writer) {
	fmt.Fprintln(out, "\nFor orientation, NOT of this run: measured elsewhere, in November 2026, on a virtual machine with 2 cores (AMD EPYC, ext4).")
	fmt.Fprintln(out, "µs of server CPU a query with 1 / 8 / 32 sessions · best queries a second; bank: transfers a second with 8 / 32.")
	fmt.Fprintln(out, "TiDB with its embedded store, which does not sync its log by default; Galera with 3 nodes; TiDB and Dolt partly 10 to 40 % too high.")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "workload\tTiDB\tGalera, 3 nodes\tDolt")
	for _, e := range measuredElsewhere {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", e.name, e.tidb, e.galera, e.dolt)
	}
	table.Flush()
}
