package sqlfront

import (
	"github.com/rowlockdb/rowlock/sqlfront/catalog"
	"github.com/rowlockdb/rowlock/txn"
)

// peerKind is what a server asks another one for. The numbers are part of the
// format.
type peerKind byte

const (
	askProcesses    peerKind = 1 // the sessions
	askKill         peerKind = 2 // KILL of one of them
	askTransactions peerKind = 3
	askShards       peerKind = 4 // rows of the views of the rowlock database
	askDeadlocks    peerKind = 5
	askMetrics      peerKind = 6
	askReplicas     peerKind = 7
	askChecksums    peerKind = 8
	askClaim        peerKind = 9 // hold table locks, or go on holding them
	askUnclaim      peerKind = 10
	askClaims       peerKind = 11 // what sessions have locked on all nodes
	askPoke         peerKind = 12 // look for schema changes, users and variables
)

// peerRequest is a question of one server to another.
type peerRequest struct {
	kind  peerKind
	kill  killRequest
	claim claimRequest
}

func (q *peerRequest) fields(c *peerCoder) {
	c.format()
	c.byte((*byte)(&q.kind))
	switch q.kind {
	case askKill:
		q.kill.fields(c)
	case askClaim:
		claimFields(c, &q.claim)
	case askUnclaim:
		c.uint(&q.claim.id)
	case askProcesses, askTransactions, askShards, askDeadlocks, askMetrics, askReplicas, askChecksums, askClaims:
	case askPoke:
	default:
		c.fail()
	}
}

func (q *peerRequest) encode() []byte {
	c := peerCoder{}
	q.fields(&c)
	return c.b
}

func decodePeerRequest(b []byte) (*peerRequest, error) {
	c, q := peerCoder{b: b, reading: true}, &peerRequest{}
	q.fields(&c)
	return q, c.finish()
}

// peerAnswer answers a peerRequest.
type peerAnswer struct {
	kind peerKind
	node uint64 // who says so; not part of the format
	// problem tells why the answer is not complete; "" if it is.
	problem string

	sessions     []nodeSession
	killed       killResult
	transactions []txn.Info
	shards       []ShardInfo
	deadlocks    []DeadlockInfo
	metrics      []MetricInfo
	replicas     []ReplicaInfo
	checksums    []ChecksumInfo
	claimed      claimResult
	claims       []claimRequest
}

func (a *peerAnswer) fields(c *peerCoder) {
	c.format()
	c.byte((*byte)(&a.kind))
	c.text(&a.problem)
	switch a.kind {
	case askProcesses:
		elements(c, &a.sessions, processFields)
	case askKill:
		c.byte((*byte)(&a.killed))
	case askTransactions:
		elements(c, &a.transactions, transactionFields)
	case askShards:
		elements(c, &a.shards, shardFields)
	case askDeadlocks:
		elements(c, &a.deadlocks, deadlockFields)
	case askMetrics:
		elements(c, &a.metrics, metricFields)
	case askReplicas:
		elements(c, &a.replicas, replicaFields)
	case askChecksums:
		elements(c, &a.checksums, checksumFields)
	case askClaim:
		c.byte((*byte)(&a.claimed))
	case askUnclaim, askPoke:
	case askClaims:
		elements(c, &a.claims, claimFields)
	default:
		c.fail()
	}
}

func (a *peerAnswer) encode() []byte {
	c := peerCoder{}
	a.fields(&c)
	return c.b
}

func decodePeerAnswer(b []byte) (*peerAnswer, error) {
	c, a := peerCoder{b: b, reading: true}, &peerAnswer{}
	a.fields(&c)
	return a, c.finish()
}

func processFields(c *peerCoder, p *nodeSession) {
	c.uint(&p.id)
	c.text(&p.user)
	c.text(&p.host)
	c.text(&p.database)
	c.text(&p.command)
	c.uint(&p.seconds)
	c.text(&p.state)
	c.text(&p.info)
}

func (k *killRequest) fields(c *peerCoder) {
	c.uint(&k.connection)
	c.bool(&k.queryOnly)
	c.bool(&k.anybody)
	c.text(&k.user)
}

func transactionFields(c *peerCoder, t *txn.Info) {
	c.txn(&t.ID)
	c.text(&t.Label)
	c.uint(&t.Connection)
	c.byte((*byte)(&t.Isolation))
	c.bool(&t.ReadOnly)
	c.text((*string)(&t.State))
	c.time(&t.Begun)
	c.int(&t.Writes)
	c.int64(&t.Bytes)
	c.int(&t.Locks)
	shards := len(t.Shards)
	c.int(&shards)
	for i := 0; i < shards && !c.bad; i++ {
		if c.reading {
			t.Shards = append(t.Shards, 0)
		}
		c.uint((*uint64)(&t.Shards[i]))
	}
	c.text(&t.Statement)
}

func shardFields(c *peerCoder, s *ShardInfo) {
	c.uint(&s.Shard)
	c.uint(&s.Owner)
	c.uint(&s.Epoch)
	c.text(&s.State)
	c.uint(&s.Bytes)
	c.float(&s.Share)
	c.uint(&s.Applied)
}

func deadlockFields(c *peerCoder, d *DeadlockInfo) {
	c.uint(&d.Number)
	c.time(&d.Time)
	c.txn(&d.Victim)
	elements(c, &d.Members, lockFields)
}

func lockFields(c *peerCoder, l *LockInfo) {
	c.uint(&l.Shard)
	c.txn(&l.Transaction)
	c.uint(&l.Connection)
	c.text(&l.Mode)
	c.bytes(&l.Lo)
	c.optional(&l.Hi)
	c.bool(&l.Granted)
	c.bool(&l.Voted)
	c.int64((*int64)(&l.Waited))
	c.int(&l.Weight)
	elements(c, &l.WaitsFor, (*peerCoder).txn)
	c.text(&l.Statement)
}

func metricFields(c *peerCoder, m *MetricInfo) {
	c.text(&m.Name)
	c.float(&m.Value)
	c.text(&m.Help)
}

func replicaFields(c *peerCoder, r *ReplicaInfo) {
	c.uint(&r.Shard)
	c.uint(&r.Node)
	c.uint(&r.Replica)
	c.text(&r.Role)
	c.uint(&r.Applied)
}

func checksumFields(c *peerCoder, r *ChecksumInfo) {
	c.uint(&r.Shard)
	c.uint(&r.Node)
	c.uint(&r.Replica)
	c.uint(&r.Applied)
	c.uint(&r.Checksum)
}

func claimFields(c *peerCoder, q *claimRequest) {
	c.uint(&q.id)
	c.uint(&q.version)
	elements(c, &q.requests, func(c *peerCoder, r *catalog.Request) {
		c.text(&r.Name)
		c.byte((*byte)(&r.Mode))
		if r.Mode < catalog.SharedRead || r.Mode > catalog.Exclusive {
			c.fail()
		}
	})
	c.int64((*int64)(&q.wait))
	c.bool(&q.renewal)
}
