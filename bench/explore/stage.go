package explore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// Stage lets actors, which are goroutines that run real code, go on one step at
// a time, in an order that the test chooses. It lives in a synctest bubble: when
// everybody waits, it lets one of those go on that wait for it, or carries out
// something that the world around the actors may do, a message delivered, an
// entry applied. Time passes only when nothing else is left to do.
type Stage struct {
	choose func(options []string) int
	limit  int

	mu struct {
		sync.Mutex
		waiting map[string]chan struct{} // by name: actor, step
		offers  map[string]func()        // what the world may do
		running int                      // actors that have not returned
		free    bool                     // nobody stops any more
	}
	// Trace is what was done, in order.
	Trace []string
}

// actor is the key under which a context carries an actor's name.
type actor struct{}

// As returns a context in which steps are the named actor's.
func As(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actor{}, name)
}

// Actor returns the name that As put into a context.
func Actor(ctx context.Context) string {
	name, _ := ctx.Value(actor{}).(string)
	return name
}

// NewStage returns a stage. choose picks one of the options, which come in a
// fixed order: first the one that lets who moved last go on.
func NewStage(choose func(options []string) int) *Stage {
	s := &Stage{choose: choose, limit: 2000}
	s.mu.waiting, s.mu.offers = map[string]chan struct{}{}, map[string]func(){}
	return s
}

// Go starts an actor.
func (s *Stage) Go(ctx context.Context, name string, f func(ctx context.Context)) {
	s.mu.Lock()
	s.mu.running++
	s.mu.Unlock()
	ctx = As(ctx, name)
	go func() {
		s.At(ctx, "starts")
		f(ctx)
		s.mu.Lock()
		s.mu.running--
		s.mu.Unlock()
	}()
}

// At stops the actor until the stage lets it go on. Steps of nobody pass.
func (s *Stage) At(ctx context.Context, step string) {
	name := Actor(ctx)
	if name == "" {
		return
	}
	release := make(chan struct{})
	s.mu.Lock()
	if s.mu.free {
		s.mu.Unlock()
		return
	}
	key := name + ": " + step
	for n := 2; s.mu.waiting[key] != nil; n++ { // parallel requests of one actor
		key = fmt.Sprintf("%s: %s (%d)", name, step, n)
	}
	s.mu.waiting[key] = release
	s.mu.Unlock()
	<-release
}

// Offer adds something that the world may do, once.
func (s *Stage) Offer(name string, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.offers[name] != nil {
		panic("explore: offered twice: " + name)
	}
	s.mu.offers[name] = f
}

// Withdraw takes an offer back.
func (s *Stage) Withdraw(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.offers, name)
}

// Run lets everything happen until all actors have returned and the world has
// nothing left to do. It returns an error if that does not come about.
func (s *Stage) Run() error {
	last, idle := "", time.Millisecond
	for range s.limit {
		synctest.Wait()
		options := s.options(last)
		if len(options) == 0 {
			if s.finished() {
				return nil
			}
			if idle > time.Hour {
				return fmt.Errorf("actors wait for ever, after\n\t%s", strings.Join(s.Trace, "\n\t"))
			}
			time.Sleep(idle)
			s.Trace = append(s.Trace, "time passes: "+idle.String())
			idle *= 2
			continue
		}
		option := options[s.choose(options)]
		s.Trace = append(s.Trace, option)
		last, _, _ = strings.Cut(option, ":")
		s.carryOut(option)
	}
	return fmt.Errorf("no end after %d steps", s.limit)
}

func (s *Stage) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.running == 0
}

// options lists what can happen next: who moved last goes first, then the world,
// then the others.
func (s *Stage) options(last string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var same, world, others []string
	for name := range s.mu.waiting {
		if strings.HasPrefix(name, last+":") {
			same = append(same, name)
		} else {
			others = append(others, name)
		}
	}
	for name := range s.mu.offers {
		world = append(world, name)
	}
	slices.Sort(same)
	slices.Sort(world)
	slices.Sort(others)
	return append(append(same, world...), others...)
}

func (s *Stage) carryOut(option string) {
	s.mu.Lock()
	waiter, offer := s.mu.waiting[option], s.mu.offers[option]
	delete(s.mu.waiting, option)
	delete(s.mu.offers, option)
	s.mu.Unlock()
	if waiter != nil {
		close(waiter)
	} else {
		offer()
	}
}

// Free lets everybody who waits go on, now and from now on.
func (s *Stage) Free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.free = true
	for name, waiter := range s.mu.waiting {
		close(waiter)
		delete(s.mu.waiting, name)
	}
}

// Random chooses evenly.
func Random(rng *rand.Rand) func([]string) int {
	return func(options []string) int { return rng.IntN(len(options)) }
}

// Priorities chooses by priorities, drawn when something is first met, and
// lowers that of what moves at changes places among the first length: few
// changes reach deep (Burckhardt and others, "A Randomized Scheduler with
// Probabilistic Guarantees of Finding Bugs").
func Priorities(rng *rand.Rand, changes, length int) func([]string) int {
	priority, place, low := map[string]float64{}, 0, 0.0
	lower := map[int]bool{}
	for range changes {
		lower[rng.IntN(length)] = true
	}
	return func(options []string) int {
		best, who := -1, ""
		for i, name := range options {
			name, _, _ = strings.Cut(name, ":") // all steps of an actor alike
			if _, known := priority[name]; !known {
				priority[name] = 1 + rng.Float64()
			}
			if best < 0 || priority[name] > priority[who] {
				best, who = i, name
			}
		}
		if lower[place] {
			low--
			priority[who] = low
		}
		place++
		return best
	}
}

// Script chooses what its lines say, one after the other, and afterwards as
// little change as possible. "T1" lets the actor T1 go on until it waits for
// something else, "T1 > look" until its next step is one that begins with look;
// any other line is the beginning of something that the world does. A line that
// does not fit is passed over: the code may be safer than the script.
func Script(lines ...string) func([]string) int {
	return func(options []string) int {
		for ; len(lines) > 0; lines = lines[1:] {
			who, until, steps := strings.Cut(lines[0], " > ")
			at := slices.IndexFunc(options, func(o string) bool { return strings.HasPrefix(o, who+":") })
			if at >= 0 && !(steps && strings.HasPrefix(options[at], who+": "+until)) {
				return at
			}
			if at < 0 && !steps {
				if at = slices.IndexFunc(options, func(o string) bool { return strings.HasPrefix(o, who) }); at >= 0 {
					lines = lines[1:]
					return at
				}
			}
		}
		return 0
	}
}

// Schedules are the orders of one test's steps that differ from the order of
// least change, in which everybody runs until he must wait, at no more than
// a number of places.
type Schedules struct {
	places  int
	pending [][]deviation
	run     []deviation // of the schedule under way
	sizes   []int       // options at each place of it
}

type deviation struct{ place, option int }

// NewSchedules begins with the order of least change.
func NewSchedules(places int) *Schedules {
	return &Schedules{places: places, pending: [][]deviation{nil}}
}

// Next begins the next schedule; nil after the last one. Schedules that differ
// in few places come first.
func (s *Schedules) Next() func(options []string) int {
	s.expand()
	if len(s.pending) == 0 {
		return nil
	}
	s.run, s.pending = s.pending[0], s.pending[1:]
	s.sizes = s.sizes[:0]
	return func(options []string) int {
		place := len(s.sizes)
		s.sizes = append(s.sizes, len(options))
		for _, d := range s.run {
			if d.place == place && d.option < len(options) {
				return d.option
			}
		}
		return 0
	}
}

// expand adds the schedules that differ from the last one at one later place.
func (s *Schedules) expand() {
	if len(s.run) == s.places {
		return
	}
	first := 0
	if n := len(s.run); n > 0 {
		first = s.run[n-1].place + 1
	}
	for place := first; place < len(s.sizes); place++ {
		for option := 1; option < s.sizes[place]; option++ {
			s.pending = append(s.pending, append(slices.Clone(s.run), deviation{place, option}))
		}
	}
}

// WithdrawPrefix takes back every offer whose name begins like this.
func (s *Stage) WithdrawPrefix(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.mu.offers {
		if strings.HasPrefix(name, prefix) {
			delete(s.mu.offers, name)
		}
	}
}
