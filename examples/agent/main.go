package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

// Exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
	exitConfig
	exitUnauthorized
	exitVersion
	exitKilled
)

func main() {
	procexec.Guardian()
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(signals, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code.
func run(signals <-chan os.Signal, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 0 && strings.TrimLeft(args[0], "-") == "version" {
		fmt.Fprintln(stdout, version.Current().Line("slipway-agent"))
		return exitOK
	}
	s, err := readSettings(args, getenv)
	if errors.Is(err, flag.ErrHelp) {
		writeHelp(stdout)
		return exitOK
	}
	if err == nil {
		err = work(signals, s, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "agent: "+strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return exitCode(err)
}

// work runs an agent until signals, or a controller, have it end.
func work(signals <-chan os.Signal, s *settings, stderr io.Writer) error {
	executor, err := procexec.New(&procexec.Options{PassEnv: s.passEnv, Nice: s.nice})
	if err != nil {
		return &configError{err}
	}
	o := s.agent
	o.Executor, o.Logger = executor, s.logger(stderr)
	a, err := worker.NewAgent(o)
	if err != nil {
		return &configError{err}
	}
	o.Logger.Info("agent starts", "worker", o.Worker, "version", o.Version, "dir", o.Dir, "slots", o.Slots)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stages := []func(){
		func() {
			o.Logger.Info("draining: no build is taken, those that run go on to their ends; a second signal stops them")
			a.Drain()
		},
		func() {
			o.Logger.Warn("stopping the builds that run; a third signal kills them, and ends the agent at once")
			stop()
		},
	}
	for {
		select {
		case err := <-ended:
			o.Logger.Info("agent stopped")
			return hinted(err, s)
		case <-signals:
			if len(stages) == 0 {
				return errKilled // the builds' guardians see to the builds
			}
			stages[0]()
			stages = stages[1:]
		}
	}
}

// errKilled says that somebody would not wait.
var errKilled = errors.New("ended at once by a third signal: the builds that ran are killed, and reported at the next start in this directory")

// hinted adds to what ended the agent what its keeper can do.
func hinted(err error, s *settings) error {
	switch {
	case errors.Is(err, worker.ErrUnauthorized):
		return fmt.Errorf("%w; the credential must be of a key for worker %s that is still good: slipway keys create worker --worker %s makes one",
			err, s.agent.Worker, s.agent.Worker)
	case errors.Is(err, worker.ErrVersion):
		return fmt.Errorf("%w; use an agent of the controller's version", err)
	case errors.Is(err, worker.ErrDirInUse):
		return fmt.Errorf("%w; stop that agent, or choose another -dir", err)
	default:
		return err
	}
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*configError](err); ok || errors.Is(err, worker.ErrDirInUse) {
		return exitConfig
	}
	switch {
	case errors.Is(err, worker.ErrUnauthorized):
		return exitUnauthorized
	case errors.Is(err, worker.ErrVersion):
		return exitVersion
	case errors.Is(err, errKilled):
		return exitKilled
	default:
		return exitFailure
	}
}

// A usageError is wrong in what was typed, a configError in what it leads to.
type (
	usageError  struct{ err error }
	configError struct{ err error }
)

func (e *usageError) Error() string  { return e.err.Error() }
func (e *usageError) Unwrap() error  { return e.err }
func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// logger returns the log, on standard error.
func (s *settings) logger(stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, o))
	}
	return slog.New(slog.NewTextHandler(stderr, o))
}
