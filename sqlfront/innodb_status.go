package sqlfront

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// innodbStatus is the answer of SHOW ENGINE INNODB STATUS: the latest deadlock and
// the open transactions, laid out as InnoDB's monitor does.
func (s *Server) innodbStatus(ctx context.Context) ([]string, error) {
	v, err := s.lockView(ctx)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	title := v.at.UTC().Format(time.DateTime) + " ROWLOCK MONITOR OUTPUT"
	line := strings.Repeat("=", len(title))
	fmt.Fprintf(&b, "\n%s\n%s\n%s\n", line, title, line)
	members, err := s.deadlockMembers(ctx)
	if err != nil {
		return nil, err
	}
	writeDeadlock(&b, members)
	v.writeTransactions(&b)
	fmt.Fprintf(&b, "%s\nEND OF ROWLOCK MONITOR OUTPUT\n%s\n", line, line)
	return []string{b.String()}, nil
}

func section(b *strings.Builder, title string) {
	line := strings.Repeat("-", len(title))
	fmt.Fprintf(b, "%s\n%s\n%s\n", line, title, line)
}

// writeDeadlock writes the latest of the deadlocks, if there is one.
func writeDeadlock(b *strings.Builder, members []deadlockMember) {
	if len(members) == 0 {
		return
	}
	latest := members[len(members)-1].deadlock
	section(b, "LATEST DETECTED DEADLOCK")
	fmt.Fprintln(b, latest.Time.UTC().Format("2006-01-02 15:04:05.000000"))
	victim := 0
	for _, m := range members {
		if m.deadlock != latest {
			continue
		}
		n := m.position + 1
		if m.Transaction == latest.Victim {
			victim = n
		}
		fmt.Fprintf(b, "*** (%d) TRANSACTION:\nTRANSACTION %s, %d rows written\nMySQL thread id %d\n%s\n", n, m.Transaction, m.Weight, m.Connection, m.Statement)
		fmt.Fprintf(b, "*** (%d) WAITING FOR THIS LOCK TO BE GRANTED:\n%s lock_mode %s, held or asked for first by TRANSACTION %s\n",
			n, m.key, m.Mode, m.next().Transaction)
	}
	fmt.Fprintf(b, "*** WE ROLL BACK TRANSACTION (%d)\n", victim)
}

func (v *lockView) writeTransactions(b *strings.Builder) {
	section(b, "TRANSACTIONS")
	for _, l := range v.rows() {
		if _, known := v.txns[l.Transaction]; known || !l.Granted {
			continue
		}
		fmt.Fprintf(b, "---LOCK OF ANOTHER SERVER'S TRANSACTION %s\n%s lock_mode %s\n", l.Transaction, l.key, l.Mode)
	}
	for _, t := range sortedInfos(v.txns) {
		fmt.Fprintf(b, "---TRANSACTION %s, ACTIVE %d sec, %s, %s\n", t.ID, int(v.at.Sub(t.Begun).Seconds()), t.State, t.Isolation)
		fmt.Fprintf(b, "%d lock(s), %d rows written\nMySQL thread id %d\n%s\n", t.Locks, t.Writes, t.Connection, t.Statement)
		if w := v.waitOf(t.ID); w != nil {
			fmt.Fprintf(b, "------- TRX HAS BEEN WAITING %d SEC FOR THIS LOCK TO BE GRANTED:\n%s lock_mode %s waiting for TRANSACTION %s\n------------------\n",
				int(w.Waited.Seconds()), w.key, w.Mode, joinIDs(w.WaitsFor))
		}
	}
}
