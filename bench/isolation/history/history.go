package history

import (
	"fmt"
	"slices"
	"strings"
)

// Outcome is what the client was told about the end of a transaction.
type Outcome uint8

const (
	Committed Outcome = iota + 1
	Aborted
	Unknown // the connection was lost, or the server said that it does not know
)

func (o Outcome) String() string {
	return [...]string{"?", "committed", "aborted", "unknown"}[o]
}

// Kind is what an operation does.
type Kind uint8

const (
	Append   Kind = iota + 1 // Value at the end of the list Key
	ReadList                 // the list Key was List
	Write                    // Value into the register Key
	Read                     // the register Key held Value, or 0 if nobody had written it
)

// Op is one operation that was carried out and answered, or, in a transaction
// that did not commit, that may have been. Values written to a key are unique
// and not 0. A key is either a list or a register.
type Op struct {
	Kind  Kind
	Key   int32
	Value int32
	List  []int32
}

func (o Op) String() string {
	switch o.Kind {
	case Append:
		return fmt.Sprintf("append %d to %d", o.Value, o.Key)
	case ReadList:
		return fmt.Sprintf("read %d = %s", o.Key, shortList(o.List))
	case Write:
		return fmt.Sprintf("write %d to %d", o.Value, o.Key)
	default:
		return fmt.Sprintf("read %d = %d", o.Key, o.Value)
	}
}

// shortList shows the end of a list, which is where things go wrong.
func shortList(list []int32) string {
	const shown = 8
	if len(list) <= shown {
		return fmt.Sprint(list)
	}
	return fmt.Sprintf("[… %d more …%s", len(list)-shown, strings.TrimPrefix(fmt.Sprint(list[len(list)-shown:]), "["))
}

// Txn is one attempt at a transaction.
type Txn struct {
	Process int // the session; one transaction at a time
	// Begin was taken from the observer's clock before the first statement was
	// sent, End after the last answer. Only a committed one needs an End.
	Begin, End int64
	Outcome    Outcome
	Ops        []Op
}

// about shows a transaction as far as it concerns some keys.
func (t Txn) about(keys []int32) string {
	var text []string
	left := 0
	for _, op := range t.Ops {
		if slices.Contains(keys, op.Key) {
			text = append(text, op.String())
		} else {
			left++
		}
	}
	if left > 0 {
		text = append(text, fmt.Sprintf("%d more on other keys", left))
	}
	return fmt.Sprintf("session %d, %v: %s", t.Process, t.Outcome, strings.Join(text, "; "))
}
