package shard

import (
	"context"

	"github.com/rowlockdb/rowlock/paxos"
)

// carried is the Group of a shard that may share its log with others (a lane).
type carried interface {
	paxos.Submitter
	// sharedLog names the log; nil: the shard has one of its own.
	sharedLog() sharedLog
}

// sharedLog is the log of several shards. Equal logs are equal values.
type sharedLog interface {
	// submitJoint is Submit of the Prepares of one transaction, in one entry. The
	// results are in the order of the parts; those that hasLeft are for the shards' own
	// groups.
	submitJoint(ctx context.Context, parts []shardCommand) (wait func() ([][]byte, error))
}

// applyJoint applies the Prepares of an entry, one after the other.
func (t *Trunk) applyJoint(parts []shardCommand, index paxos.Index) error {
	for _, p := range parts {
		r, err := t.applyPart(p, index)
		if err != nil {
			return err
		}
		t.result = appendBytes(t.result, r.AppendBinary(nil))
	}
	return nil
}
