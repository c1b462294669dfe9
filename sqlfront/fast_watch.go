package sqlfront

import (
	"context"
	"sync"
	"time"

	"github.com/dolthub/vitess/go/mysql"
)

// watchAfter is how long a statement runs before anybody looks whether its client is
// still there.
const watchAfter = 50 * time.Millisecond

// clientWatch ends a statement whose client has gone, once it has taken a while. Almost
// every statement is over before: until then there is no more of it than a timer.
type clientWatch struct {
	conn  *mysql.Conn
	ctx   context.Context
	end   context.CancelFunc // of the statement
	timer *time.Timer

	mu struct {
		sync.Mutex
		stopped bool
		stop    context.CancelFunc // ends the look; nil: it has not begun
		done    chan struct{}      // closed behind the look
	}
}

// watch begins the watch. It must be ended before anybody reads from the connection
// again.
func (q *fastQuery) watch(ctx context.Context, end context.CancelFunc) {
	w := &clientWatch{conn: q.conn, ctx: ctx, end: end}
	q.watched = w
	w.timer = time.AfterFunc(watchAfter, w.look)
}

// unwatch ends what watch has begun, if it goes on.
func (q *fastQuery) unwatch() {
	if w := q.watched; w != nil {
		q.watched = nil
		w.close()
	}
}

// look waits for the client to say something, or to go.
func (w *clientWatch) look() {
	w.mu.Lock()
	if w.mu.stopped {
		w.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan struct{})
	w.mu.stop, w.mu.done = stop, done
	w.mu.Unlock()
	defer close(done)
	if w.conn.WaitForClientActivity(ctx) != nil {
		w.end()
	}
}

// close ends the watch and waits until nobody looks.
func (w *clientWatch) close() {
	if w.timer.Stop() {
		return
	}
	w.mu.Lock()
	w.mu.stopped = true
	stop, done := w.mu.stop, w.mu.done
	w.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}
