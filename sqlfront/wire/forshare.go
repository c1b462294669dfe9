package wire

import (
	"strings"
)

// shareTable is a name in the OF list of a rewritten FOR SHARE. The grammar knows OF, NOWAIT and SKIP LOCKED only for FOR
// UPDATE, so a FOR SHARE that has any of them is written as a FOR UPDATE with this table first; the parser takes it out again.
const shareTable = "rowlock$share"

// edit says that a rewritten text differs from the original: from end on (a position in the new text) it is shift bytes
// longer.
type edit struct {
	end, shift int
}

// rewriteForShare replaces every FOR SHARE clause by what the engine's grammar understands. Text without one comes back as it
// is, with no edits.
func rewriteForShare(text string) (string, []edit) {
	if !mayHold(text, "SHARE") {
		return text, nil
	}
	var out strings.Builder
	var edits []edit
	s := &scanner{text: text}
	copied, grown := 0, 0
	for t := s.word(); t != ""; {
		if t != "FOR" {
			t = s.word()
			continue
		}
		from := s.start
		if t = s.word(); t != "SHARE" {
			continue
		}
		clause, end, next := readForShare(s)
		out.WriteString(text[copied:from])
		out.WriteString(clause)
		grown += len(clause) - (end - from)
		edits = append(edits, edit{end: out.Len(), shift: grown})
		copied, t = end, next
	}
	if edits == nil {
		return text, nil
	}
	out.WriteString(text[copied:])
	return out.String(), edits
}

// readForShare reads what follows FOR SHARE: the replacement, where the clause ends, and the token after it.
func readForShare(s *scanner) (clause string, end int, next string) {
	end = s.pos
	of, tail := "", ""
	t := s.word()
	if t == "OF" {
		from := s.pos
		for end = from; s.next() != ""; {
			end = s.pos
			if t = s.next(); t == "." {
				s.next()
				end = s.pos
				t = s.next()
			}
			if t != "," {
				break
			}
		}
		of, t = ","+s.text[from:end], strings.ToUpper(t)
	}
	switch t {
	case "NOWAIT":
		tail, end = " NOWAIT", s.pos
		t = s.word()
	case "SKIP":
		if t = s.word(); t == "LOCKED" {
			tail, end = " SKIP LOCKED", s.pos
			t = s.word()
		}
	}
	if of == "" && tail == "" {
		return "LOCK IN SHARE MODE", end, t
	}
	return "FOR UPDATE OF `" + shareTable + "`" + of + tail, end, t
}

// original turns a position in a rewritten text into one in the text it was made from.
func original(position int, edits []edit) int {
	shift := 0
	for _, e := range edits {
		if position < e.end {
			break
		}
		shift = e.shift
	}
	return position - shift
}
