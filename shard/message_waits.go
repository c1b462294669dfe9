package shard

// ReportedWait is a wait for a lock, named by shard, epoch and ID.
type ReportedWait struct {
	LockInfo
	Epoch, ID uint64
}

// WaitsRequest reports all waits at a node's shards that have lasted a while, to
// the owner of the system shard, which looks for cycles among those of all nodes.
type WaitsRequest struct {
	Reporter uint64 // one life of one node
	Sequence uint64 // rises with every report
	// Epoch and Seen are those of the last answer that had come in when the node
	// looked at its waits; 0 before the first.
	Epoch, Seen uint64
	Waits       []ReportedWait
}

// WaitVerdict ends one wait in a deadlock; it is void if that wait is over (H4).
// Members is the cycle, beginning with the victim.
type WaitVerdict struct {
	Shard     ID
	Epoch, ID uint64
	Members   []LockInfo
}

// WaitsResponse answers a report. Verdicts are on waits of this report.
type WaitsResponse struct {
	Epoch, Step uint64
	Verdicts    []WaitVerdict
}

func appendLockInfo(b []byte, l *LockInfo) []byte {
	b = append(appendTxn(appendUint(b, uint64(l.Shard)), l.Txn), byte(l.Mode))
	b = appendBool(appendOptional(appendBytes(b, l.Lo), l.Hi), l.Waiting)
	b = appendUint(appendBool(b, l.Voted), uint64(l.Since))
	b = appendTxns(appendString(b, l.Statement), l.BlockedBy)
	return appendUint(appendUint(b, l.Connection), uint64(l.Weight))
}

func (d *decoder) lockInfo() LockInfo {
	return LockInfo{Shard: ID(d.uint()), Txn: d.txn(), Mode: LockMode(d.byte()), Lo: d.bytes(), Hi: d.optional(),
		Waiting: d.bool(), Voted: d.bool(), Since: d.duration(), Statement: d.string(), BlockedBy: d.txns(),
		Connection: d.uint(), Weight: d.small()}
}

// AppendBinary appends the encoding.
func (m *WaitsRequest) AppendBinary(b []byte) []byte {
	b = appendUint(appendUint(append(b, formatVersion), m.Reporter), m.Sequence)
	b = appendUint(appendUint(b, m.Epoch), m.Seen)
	b = appendUint(b, uint64(len(m.Waits)))
	for i := range m.Waits {
		w := &m.Waits[i]
		b = appendUint(appendUint(appendLockInfo(b, &w.LockInfo), w.Epoch), w.ID)
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *WaitsRequest) Decode(b []byte) error {
	d := newDecoder(b)
	*m = WaitsRequest{Reporter: d.uint(), Sequence: d.uint(), Epoch: d.uint(), Seen: d.uint(),
		Waits: list(&d, func(d *decoder) ReportedWait {
			return ReportedWait{LockInfo: d.lockInfo(), Epoch: d.uint(), ID: d.uint()}
		})}
	return d.done()
}

// AppendBinary appends the encoding.
func (m *WaitsResponse) AppendBinary(b []byte) []byte {
	b = appendUint(appendUint(append(b, formatVersion), m.Epoch), m.Step)
	b = appendUint(b, uint64(len(m.Verdicts)))
	for _, v := range m.Verdicts {
		b = appendUint(appendUint(appendUint(b, uint64(v.Shard)), v.Epoch), v.ID)
		b = appendUint(b, uint64(len(v.Members)))
		for i := range v.Members {
			b = appendLockInfo(b, &v.Members[i])
		}
	}
	return b
}

// Decode reads what AppendBinary wrote.
func (m *WaitsResponse) Decode(b []byte) error {
	d := newDecoder(b)
	*m = WaitsResponse{Epoch: d.uint(), Step: d.uint(), Verdicts: list(&d, func(d *decoder) WaitVerdict {
		return WaitVerdict{Shard: ID(d.uint()), Epoch: d.uint(), ID: d.uint(), Members: list(d, (*decoder).lockInfo)}
	})}
	return d.done()
}
