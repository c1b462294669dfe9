package wire

import (
	"strings"

	"github.com/dolthub/vitess/go/vt/sqlparser"
)

// Control is what a statement that begins or ends a transaction says beyond its verb. The engine's grammar reads these words
// and forgets them, so the parser writes such a statement as a SAVEPOINT whose name carries them.
type Control struct {
	Verb     ControlVerb
	Snapshot bool   // WITH CONSISTENT SNAPSHOT
	Access   Access // READ ONLY or READ WRITE
	Chain    Choice // AND [NO] CHAIN
	Release  Choice // [NO] RELEASE
}

// ControlVerb is the verb of a Control.
type ControlVerb byte

// The verbs.
const (
	ControlBegin    ControlVerb = 'b'
	ControlCommit   ControlVerb = 'c'
	ControlRollback ControlVerb = 'r'
	ControlFlush    ControlVerb = 'f' // FLUSH TABLES WITH READ LOCK
)

// Access is an access mode that was written, or none.
type Access byte

// The access modes.
const (
	AccessDefault   Access = '-'
	AccessReadOnly  Access = 'o'
	AccessReadWrite Access = 'w'
)

// Choice is an option of COMMIT and ROLLBACK; without one, completion_type decides.
type Choice byte

// The choices.
const (
	ChoiceDefault Choice = '-'
	ChoiceNo      Choice = 'n'
	ChoiceYes     Choice = 'y'
)

// controlPrefix begins the name of such a savepoint.
const controlPrefix = "rowlock$control:"

func (c Control) encode() string {
	snapshot := byte('-')
	if c.Snapshot {
		snapshot = 's'
	}
	return controlPrefix + string([]byte{byte(c.Verb), snapshot, byte(c.Access), byte(c.Chain), byte(c.Release)})
}

// DecodeControl reads the name of a savepoint; ok is false for one that a user has named.
func DecodeControl(savepoint string) (c Control, ok bool) {
	s, ok := strings.CutPrefix(savepoint, controlPrefix)
	if !ok || len(s) != 5 {
		return Control{}, false
	}
	return Control{Verb: ControlVerb(s[0]), Snapshot: s[1] == 's', Access: Access(s[2]), Chain: Choice(s[3]), Release: Choice(s[4])}, true
}

// rewriteControl replaces the statements of a text that Control describes: the first one, or all those in the body of a
// procedure, trigger or event. Text without one comes back as it is, with no edits.
func rewriteControl(text string) (string, []edit) {
	s := &scanner{text: text}
	first := s.word()
	body := false
	switch first {
	case "START", "COMMIT", "ROLLBACK":
	case "CREATE", "ALTER":
		if !mayHold(text, "COMMIT") && !mayHold(text, "ROLLBACK") && !mayHold(text, "TRANSACTION") {
			return text, nil
		}
		body = true
	default:
		return text, nil
	}
	var out strings.Builder
	var edits []edit
	copied, grown := 0, 0
	for t, begins := first, true; t != ""; {
		from := s.start
		verb := begins && (t == "START" || t == "COMMIT" || t == "ROLLBACK")
		begins = !verb && beginsStatement(t)
		if !verb {
			if t == ";" && !body {
				break
			}
			t = s.word()
			continue
		}
		c, end, next, ok := readControl(s, t)
		if t = next; !ok {
			continue
		}
		clause := "SAVEPOINT `" + c.encode() + "`"
		out.WriteString(text[copied:from])
		out.WriteString(clause)
		grown += len(clause) - (end - from)
		edits = append(edits, edit{end: out.Len(), shift: grown})
		copied = end
	}
	if edits == nil {
		return text, nil
	}
	out.WriteString(text[copied:])
	return out.String(), edits
}

// beginsStatement tells whether a statement may follow a token.
func beginsStatement(token string) bool {
	switch token {
	case ";", ":", "BEGIN", "THEN", "ELSE", "DO", "LOOP", "REPEAT", "ROW", ")":
		return true
	}
	return false
}

// readControl reads what follows the verb: the options, where they end, and the token after them. It is not ok when there are
// none, or such as the grammar must refuse.
func readControl(s *scanner, verb string) (c Control, end int, next string, ok bool) {
	c = Control{Access: AccessDefault, Chain: ChoiceDefault, Release: ChoiceDefault}
	switch verb {
	case "START":
		c.Verb = ControlBegin
		if next = s.word(); next != "TRANSACTION" {
			return c, 0, next, false
		}
		return readCharacteristics(s, c)
	case "COMMIT":
		c.Verb = ControlCommit
	default:
		c.Verb = ControlRollback
	}
	return readCompletion(s, c)
}

func readCharacteristics(s *scanner, c Control) (_ Control, end int, next string, ok bool) {
	for next = s.word(); ; next = s.word() {
		word, second := next, ""
		if word == "READ" || word == "WITH" {
			second = s.word()
		}
		switch {
		case word == "READ" && second == "ONLY" && c.Access == AccessDefault:
			c.Access = AccessReadOnly
		case word == "READ" && second == "WRITE" && c.Access == AccessDefault:
			c.Access = AccessReadWrite
		case word == "WITH" && second == "CONSISTENT" && s.word() == "SNAPSHOT":
			c.Snapshot = true
		default:
			return c, 0, s.word(), false
		}
		end = s.pos
		if next = s.word(); next != "," {
			return c, end, next, true
		}
	}
}

func readCompletion(s *scanner, c Control) (_ Control, end int, next string, ok bool) {
	if next = s.word(); next == "WORK" {
		next = s.word()
	}
	if next == "AND" {
		if next = s.word(); next == "NO" {
			c.Chain, next = ChoiceNo, s.word()
		} else {
			c.Chain = ChoiceYes
		}
		if next != "CHAIN" {
			return c, 0, next, false
		}
		end, ok = s.pos, true
		next = s.word()
	}
	switch next {
	case "NO":
		if next = s.word(); next != "RELEASE" {
			return c, 0, next, false
		}
		c.Release, end, ok = ChoiceNo, s.pos, true
		next = s.word()
	case "RELEASE":
		after := s.pos
		c.Release, end, ok = ChoiceYes, after, true
		next = s.word()
	}
	return c, end, next, ok
}

// NextTransaction is the user variable that SET TRANSACTION without a scope assigns to: a characteristic of the next
// transaction only.
const NextTransaction = "rowlock$next"

// nextTransaction redirects SET TRANSACTION without a scope, which means the next transaction only (manual, 13.3.7) and which
// the engine takes for the session's, and gives tx_isolation and tx_read_only their names of today.
func nextTransaction(n *sqlparser.Set) {
	for _, e := range n.Exprs {
		name := e.Name.Name.Lowered()
		switch {
		case !e.Name.Qualifier.IsEmpty() || e.Scope == sqlparser.SetScope_User:
		case name == "transaction" && e.Scope == sqlparser.SetScope_None:
			e.Name, e.Scope = sqlparser.NewColName(NextTransaction), sqlparser.SetScope_User
		case name == "tx_isolation", name == "tx_read_only":
			e.Name = sqlparser.NewColName(strings.Replace(name, "tx_", "transaction_", 1))
		}
	}
}
