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
	if len(args) > 0 && args[0] == versionFlag { // as the other programs have it
		args = []string{"-" + versionFlag}
	}
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
