package sqlfront

import (
	"encoding/binary"
	"sync"

	"github.com/dolthub/go-mysql-server/sql"

	"github.com/rowlockdb/rowlock/txn"
)

// What one statement may keep of its own reads.
const (
	rereadValues = 128 << 10 // column values in all
	rereadScans  = 1024      // different scans
)

// rereads keeps the rows of scans that a statement repeats: the engine opens the
// inner side of a nested loop and the body of a correlated subquery once per
// outer row. All of a statement's plain reads are of one snapshot, so a repeated
// scan returns the same rows until the statement itself writes; then everything
// is forgotten, as it is when the next statement or transaction begins.
//
// The first scan of a statement costs nothing here, the first two of a kind cost
// a key, the third is answered from memory if the second ran to its end.
//
// The engine groups rows in one goroutine and filters them in another, and either may
// evaluate a subquery, so that scans of one statement run beside each other.
type rereads struct {
	mu        sync.Mutex
	statement uint64
	tx        *txn.Txn
	opens     int
	scans     map[string]*reread
	values    int    // kept
	changes   uint64 // of what this session's reads would find; it only grows
}

// reread is one kind of scan. Its rows belong to the scan that records them until they
// are complete; the rest is under rereads.mu.
type reread struct {
	rows      []sql.Row
	recording bool
	complete  bool
	hopeless  bool // too large
}

// forget drops everything: the statement has written, or reads another snapshot.
// The caller holds mu.
func (r *rereads) forget() { r.opens, r.scans, r.values = 0, nil, 0 }

// changed forgets everything because the same read may find other rows now.
func (r *rereads) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	r.changes++
}

// changeCount tells by how many changes have been told so far whether there were any.
func (r *rereads) changeCount() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

// find returns what is known of a scan; nil if it is not worth remembering.
// The caller holds mu.
func (r *rereads) find(statement uint64, s *rowScan) *reread {
	if r.statement != statement || r.tx != s.tx {
		r.forget()
		r.statement, r.tx = statement, s.tx
	}
	r.opens++
	if r.opens == 1 || s.mode != (readMode{}) || s.check != nil || s.table.session.ddl != nil {
		return nil
	}
	key := s.rereadKey()
	known := r.scans[string(key)]
	if known == nil && len(r.scans) < rereadScans {
		if r.scans == nil {
			r.scans = map[string]*reread{}
		}
		r.scans[string(key)] = &reread{}
	}
	return known
}

// rereadKey says what the scan returns: index, spans, direction, columns.
func (s *rowScan) rereadKey() []byte {
	key := binary.AppendUvarint(nil, uint64(s.info.primary.id))
	key = binary.AppendUvarint(key, uint64(s.index.id))
	if s.reverse {
		key = append(key, 1)
	}
	for _, span := range s.spans {
		key = binary.AppendUvarint(key, uint64(len(span.Lo)))
		key = append(key, span.Lo...)
		key = binary.AppendUvarint(key, uint64(len(span.Hi)))
		key = append(key, span.Hi...)
	}
	if s.out != nil {
		key = append(key, 0xff)
		for _, c := range s.out {
			key = binary.AppendUvarint(key, uint64(c))
		}
	}
	return key
}

// remember makes the scan record its rows if it is worth it, or answers from what was
// recorded.
func (s *rowScan) remember() {
	session := s.table.session
	r := &session.rereads
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.find(session.statement, s)
	switch {
	case known == nil || known.hopeless || known.recording:
	case known.complete:
		s.spans, s.done = nil, true
		s.page = known.rows
		s.replay = true
	default:
		known.recording, known.rows = true, nil
		s.record = known
	}
}

// note records one row that is about to be returned.
func (s *rowScan) note(row sql.Row) {
	s.record.rows = append(s.record.rows, row.Copy())
	r := &s.table.session.rereads
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values += len(row) + 1; r.values > rereadValues {
		s.record.hopeless = true
		s.dropRecord()
	}
}

// endRecord ends the recording, complete or not.
func (s *rowScan) endRecord(complete bool) {
	if s.record == nil {
		return
	}
	r := &s.table.session.rereads
	r.mu.Lock()
	defer r.mu.Unlock()
	if !complete {
		s.dropRecord()
		return
	}
	s.record.recording, s.record.complete = false, true
	s.record = nil
}

// dropRecord gives up what was recorded. The caller holds mu.
func (s *rowScan) dropRecord() {
	r := &s.table.session.rereads
	r.values = max(0, r.values-s.record.size()) // 0: forgotten meanwhile
	s.record.recording, s.record.complete, s.record.rows = false, false, nil
	s.record = nil
}

func (r *reread) size() int {
	n := 0
	for _, row := range r.rows {
		n += len(row) + 1
	}
	return n
}
