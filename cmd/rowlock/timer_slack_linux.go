package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
)

// Go's runtime has a thread that looks after the others. While a server is neither idle
// nor busy, which it is between two fsyncs and two messages all the time, that thread
// asks to be woken every 20 µs. Linux wakes it when that has passed and the thread's timer
// slack, 50 µs as a rule, so 14,000 times a second: a tenth of a node's processor time and
// two fifths of its switches of threads. Slack is the only say that anybody has in it, and a
// thread has the slack of the one that made it, so it must be there before the runtime
// starts. It is kept when a process runs another program, or the same one again.

// timerSlack is what a server's threads get, in nanoseconds: by so much a timer may
// ring late. Decision 0095 says why so much.
const timerSlack = 500_000

// defaultTimerSlack is the kernel's; another one was chosen by somebody.
const defaultTimerSlack = 50_000

// startedAgain is in the environment of a program that runs for the second time.
const startedAgain = "ROWLOCK_STARTED_AGAIN"

// chosenSlack is the variable that says, with the value keep, that the slack is to stay
// what it is.
const chosenSlack = "ROWLOCK_TIMER_SLACK"

// process is what widenTimerSlack asks of the system.
type process struct {
	threads  func() int // that run Go code at one time
	slack    func() (int, error)
	setSlack func(int) error
	exec     func(environ []string) error // does not return if it succeeds
}

// widenTimerSlack gives all threads of a server another timer slack, by running the
// program again in the same process. Nothing has been opened yet. If it cannot be done
// the server runs as it is.
func widenTimerSlack() {
	again := os.Getenv(startedAgain) != ""
	os.Unsetenv(startedAgain)
	if os.Getenv(chosenSlack) == "keep" && !mutated("0095.keep-unheard") {
		return
	}
	runtime.LockOSThread() // the slack of this thread is what the program gets
	defer runtime.UnlockOSThread()
	_ = thisProcess.widen(again)
}

// widen returns why the program goes on as it is. It never runs the program a third
// time, whatever the system makes of slacks.
func (p process) widen(again bool) error {
	if again && !mutated("0095.for-ever") {
		return errors.New("runs for the second time")
	}
	// The runtime's thread also finds others something to do while a call of the system
	// blocks, and does so later now. Where only one runs, nothing would run meanwhile.
	if p.threads() < 2 && !mutated("0095.the-only-one-waits") {
		return errors.New("one thread runs everything")
	}
	now, err := p.slack()
	if err != nil {
		return err
	}
	if now != defaultTimerSlack && !mutated("0095.choice-overridden") {
		return errors.New("a timer slack was chosen")
	}
	if err := p.setSlack(timerSlack); err != nil {
		return err
	}
	err = p.exec(append(slices.Clone(os.Environ()), startedAgain+"=1"))
	return errors.Join(err, p.setSlack(now))
}

var thisProcess = process{
	threads:  func() int { return runtime.GOMAXPROCS(0) },
	slack:    func() (int, error) { return prctl(syscall.PR_GET_TIMERSLACK, 0) },
	setSlack: func(to int) error { _, err := prctl(syscall.PR_SET_TIMERSLACK, to); return err },
	exec: func(environ []string) error {
		path, err := programFile(os.Args[0])
		if err != nil {
			return err
		}
		return syscall.Exec(path, os.Args, environ)
	},
}

// programFile returns the file to run for the same program again. The process is called
// after it, so it is the one that the program was started by, perhaps a link; else the
// one that the system names.
func programFile(startedBy string) (string, error) {
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath(startedBy); err == nil {
		file, err := os.Stat(path)
		if err == nil && os.SameFile(file, running) && !mutated("0095.name-lost") {
			return filepath.Abs(path)
		}
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	return path, sameBuild(path)
}

// sameBuild returns why a file is not known to be this program. To the system a program
// that was given to the dynamic loader to run is the loader, and one that was
// replaced since it was started is the new one.
func sameBuild(path string) error {
	self, ok := debug.ReadBuildInfo()
	file, err := buildinfo.ReadFile(path)
	if mutated("0095.whatever-it-is") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at what %s is: %w", path, err)
	}
	if !ok || file.String() != self.String() {
		return fmt.Errorf("%s is another program", path)
	}
	return nil
}

func prctl(option, argument int) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, uintptr(option), uintptr(argument), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
