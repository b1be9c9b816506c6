// Controller keeps builds in a durable queue, gives them to agents over WebSocket, and serves the HTTP API.
//
// Without settings it keeps a queue and keys in SQLite and bytes in files, all below ./slipway-data, and listens on 127.0.0.1:8080.
// All it has to be told is an admin key, in SLIPWAY_ADMIN_KEY; `controller -help` lists the rest. With -database it works on
// PostgreSQL, together with any number of other controllers.
//
// It ends with 0 after a signal, 1 after a failure or a second signal, 2 for wrong usage, and 3 for settings that it refuses to work
// with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipway-build/slipway/examples/internal/version"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals // asks to stop
		stop()
		<-signals // insists on it
		os.Exit(exitFailure)
	}()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
	}
	os.Exit(exitCode(err))
}

const (
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 3
)

// Errors that have exit codes of their own.
type (
	usageError  struct{ error } // of how the program was called
	configError struct{ error } // of settings that are well formed and not acceptable
)

func usagef(format string, args ...any) error  { return usageError{fmt.Errorf(format, args...)} }
func configf(format string, args ...any) error { return configError{fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[configError](err); ok {
		return exitConfig
	}
	return exitFailure
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	s, err := readSettings(args, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		writeHelp(stdout)
		return nil
	case err != nil:
		return err
	case s.version:
		fmt.Fprintln(stdout, version.Current().Line("slipway-controller"))
		return nil
	}
	c, err := newController(ctx, s, getenv, stdout, stderr)
	if err != nil {
		return err
	}
	err = c.serve(ctx)
	return errors.Join(err, c.close())
}
