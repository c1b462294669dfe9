package wire

import (
	"context"

	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"
)

// Answer sends a result to the client.
type Answer func(*sqltypes.Result) error

// FastPath answers some statements without the engine.
type FastPath interface {
	// Try executes a statement. If it is not taken, nothing has been done: the engine is to run it, and what it says of the
	// result's columns goes to the lesson, if there is one. prepared is nil for a statement that came as text.
	Try(ctx context.Context, c *mysql.Conn, text string, prepared *mysql.PrepareData, answer Answer) (taken bool, lesson Lesson, err error)
}

// Lesson takes the columns of a result of the engine, once the statement has succeeded; none of a statement without rows.
type Lesson interface {
	Learn(fields []*querypb.Field)
}

// fast is run for the fast path. If the statement is not taken, what is to be learned from it is returned.
func (h *Handler) fast(ctx context.Context, c *mysql.Conn, text string, prepared *mysql.PrepareData, answer Answer) (taken bool, l *pupil, err error) {
	if h.options.Fast == nil {
		return false, nil, nil
	}
	defer h.recovered(c, &err)
	taken = true
	if h.refused(c) {
		return true, nil, errEnded()
	}
	taken, lesson, err := h.options.Fast.Try(ctx, c, text, prepared, answer)
	if taken {
		h.dismiss(c)
		return true, nil, h.answer(c, text, err)
	}
	if lesson != nil {
		l = &pupil{lesson: lesson}
	}
	return false, l, nil
}

// pupil listens to the engine's answer. A nil pupil does not.
type pupil struct {
	lesson Lesson
	fields []*querypb.Field
	heard  bool
}

func (p *pupil) listen(r *sqltypes.Result) {
	if p != nil && !p.heard {
		p.heard, p.fields = true, r.Fields
	}
}

// end hands on what was heard, if the statement succeeded.
func (p *pupil) end(err error) {
	if p != nil && err == nil && p.heard {
		p.lesson.Learn(p.fields)
	}
}
