// Command rpc measures the transport between nodes beside storj.io/drpc: an echo
// over loopback, with and without TLS, both systems in turn. Ours is kept only
// while it does at least 1.3 times the calls of the other at 64 in flight.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// least is the ratio that must be reached at the highest number in flight.
const least = 1.3

// system is a pair of endpoints in this process.
type system struct {
	name  string
	call  func(ctx context.Context, request []byte) (response []byte, err error)
	close func()
}

type settings struct {
	rounds   int
	length   time.Duration
	inFlight []int
	sizes    []int
}

func main() {
	s := settings{inFlight: []int{1, 64}, sizes: []int{100, 4096}}
	flag.IntVar(&s.rounds, "rounds", 5, "times that each system is measured")
	flag.DurationVar(&s.length, "length", 2*time.Second, "length of a measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer out.Flush()
	fmt.Fprintln(out, "encryption\tbytes\tin flight\town, calls/s\tdrpc, calls/s\tratio\tworst round\t")
	var short []string
	for _, encrypted := range []bool{false, true} {
		for _, size := range s.sizes {
			for _, n := range s.inFlight {
				r, err := compare(ctx, s, encrypted, size, n)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s\t%d\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t\n", named(encrypted), size, n, r.own, r.other, r.ratio, r.worst)
				if n == slices.Max(s.inFlight) && r.ratio < least {
					short = append(short, fmt.Sprintf("%s, %d bytes: %.2f", named(encrypted), size, r.ratio))
				}
			}
		}
	}
	if len(short) > 0 {
		return fmt.Errorf("less than %.1f times the calls of drpc: %v", least, short)
	}
	return nil
}

func named(encrypted bool) string {
	if encrypted {
		return "TLS 1.3"
	}
	return "none"
}

// result has the medians over all rounds.
type result struct{ own, other, ratio, worst float64 }

// compare measures both systems in turn.
func compare(ctx context.Context, s settings, encrypted bool, size, inFlight int) (r result, err error) {
	dir, err := os.MkdirTemp("", "rowlock-rpc-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	c, err := newCertificates(dir, encrypted)
	if err != nil {
		return r, err
	}
	own, err := openOwn(c)
	if err != nil {
		return r, err
	}
	defer own.close()
	other, err := openDRPC(c)
	if err != nil {
		return r, err
	}
	defer other.close()
	var owns, others, ratios []float64
	for range s.rounds {
		a, err := measure(ctx, own, size, inFlight, s.length)
		if err != nil {
			return r, err
		}
		b, err := measure(ctx, other, size, inFlight, s.length)
		if err != nil {
			return r, err
		}
		owns, others, ratios = append(owns, a), append(others, b), append(ratios, a/b)
	}
	return result{median(owns), median(others), median(ratios), slices.Min(ratios)}, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// measure returns calls per second, after a short run that opens connections.
func measure(ctx context.Context, s system, size, inFlight int, length time.Duration) (float64, error) {
	if _, err := load(ctx, s, size, inFlight, length/10); err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	begun := time.Now()
	calls, err := load(ctx, s, size, inFlight, length)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return float64(calls) / time.Since(begun).Seconds(), nil
}

// load calls from inFlight goroutines and counts the right answers.
func load(ctx context.Context, s system, size, inFlight int, length time.Duration) (int, error) {
	counts, errs := make([]int, inFlight), make([]error, inFlight)
	ctx, cancel := context.WithCancel(ctx) // as every call has in a server
	defer cancel()
	end := time.Now().Add(length)
	var callers sync.WaitGroup
	for i := range inFlight {
		callers.Go(func() {
			request := make([]byte, size)
			for time.Now().Before(end) {
				response, err := s.call(ctx, request)
				if err == nil && len(response) != size {
					err = fmt.Errorf("%d bytes came back instead of %d", len(response), size)
				}
				if errs[i] = err; err != nil {
					return
				}
				counts[i]++
			}
		})
	}
	callers.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return total, errors.Join(errs...)
}
