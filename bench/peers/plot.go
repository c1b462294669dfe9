package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
)

// Sizes of the plot, in pixels.
const (
	labelWidth = 190
	panelWidth = 330
	valueWidth = 80 // right of the longest bar
	barHeight  = 14
	groupGap   = 12
	headHeight = 70
)

// colours of the servers, in their order; readable side by side also without colour
// vision, on white.
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}

// group is the lines of one trial.
type group struct {
	label string
	lines []line
}

// writeSVG draws two panels of bars, a group for each trial: the rate, as a part of
// the best server's, and the processor time a unit, as a part of the worst's.
func writeSVG(out io.Writer, lines []line) error {
	groups, names := groupsOf(lines)
	height := headHeight
	for _, g := range groups {
		height += len(g.lines)*barHeight + groupGap
	}
	width := labelWidth + 2*(panelWidth+valueWidth)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	x := 10
	for i, name := range names {
		fmt.Fprintf(&b, `<rect x="%d" y="12" width="12" height="12" fill="%s"/>`+"\n", x, colour(i))
		text(&b, x+17, 22, "start", name)
		x += 40 + 7*len(name)
	}
	text(&b, labelWidth, 55, "start", "rate a second (longer is better)")
	text(&b, labelWidth+panelWidth+valueWidth, 55, "start", "server CPU a query or row, µs (shorter is better)")
	y := headHeight
	for _, g := range groups {
		drawGroup(&b, y, g, names)
		y += len(g.lines)*barHeight + groupGap
	}
	b.WriteString("</svg>\n")
	_, err := out.Write(b.Bytes())
	return err
}

func drawGroup(b *bytes.Buffer, y int, g group, names []string) {
	text(b, labelWidth-10, y+len(g.lines)*barHeight/2+4, "end", g.label)
	var bestRate, worstCPU float64
	for _, l := range g.lines {
		bestRate, worstCPU = max(bestRate, l.rate), max(worstCPU, l.cpu)
	}
	for i, l := range g.lines {
		paint := colours[0]
		for j, name := range names {
			if name == l.server {
				paint = colour(j)
			}
		}
		at := y + i*barHeight
		rate := known("%.0f", l.rate)
		if l.rounds == 0 {
			rate = "failed"
		}
		bar(b, labelWidth, at, ratio(l.rate, bestRate), paint, rate)
		bar(b, labelWidth+panelWidth+valueWidth, at, ratio(l.cpu, worstCPU), paint, cpuText(l.cpu))
	}
}

func bar(b *bytes.Buffer, x, y int, part float64, paint, label string) {
	length := part * panelWidth
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y+1, length, barHeight-2, paint)
	text(b, x+int(length)+4, y+barHeight-3, "start", label)
}

func text(b *bytes.Buffer, x, y int, anchor, content string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s">`, x, y, anchor)
	xml.EscapeText(b, []byte(content))
	b.WriteString("</text>\n")
}

func colour(i int) string { return colours[i%len(colours)] }

// groupsOf puts the lines of a trial together, and names the servers in the order
// of their first line. Trials without a rate are not drawn.
func groupsOf(lines []line) (groups []group, names []string) {
	seen := map[string]bool{}
	for _, l := range lines {
		if l.unit == "" {
			continue
		}
		label := fmt.Sprintf("%s, %d", l.name, l.threads)
		if len(groups) == 0 || groups[len(groups)-1].label != label {
			groups = append(groups, group{label: label})
		}
		last := &groups[len(groups)-1]
		last.lines = append(last.lines, l)
		if !seen[l.server] {
			seen[l.server] = true
			names = append(names, l.server)
		}
	}
	return groups, names
}
