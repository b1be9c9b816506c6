package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/slipway-build/slipway/worker"
)

// Exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
	exitConfig
	exitUnauthorized
	exitVersion
	exitPreflight
	exitNotDrained

	// exitSignal and the number of a signal are the code of an agent that the signal ended at once, as a shell has it.
	exitSignal = 128
)

// exitCodes is what the help says of them.
const exitCodes = `Exit codes:
  0      done; of run: stopped by a signal, or drained
  1      failed
  2      the command line or the environment is wrong
  3      the settings cannot be used: no credential, a directory that is in use, ...
  4      the controller refuses the credential, or the token of register
  5      the controller does not speak this agent's version of the protocol
  6      a check of doctor has failed
  7      builds still ran when the time of drain -wait was up
  128+n  ended at once by a third signal, of number n: 130 for SIGINT, 143 for SIGTERM
`

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
	if killed, ok := errors.AsType[*killedError](err); ok {
		return killed.code()
	}
	if _, ok := errors.AsType[*preflightError](err); ok {
		return exitPreflight
	}
	switch {
	case errors.Is(err, worker.ErrUnauthorized):
		return exitUnauthorized
	case errors.Is(err, worker.ErrVersion):
		return exitVersion
	case errors.Is(err, errNotDrained):
		return exitNotDrained
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

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func unusable(format string, args ...any) error { return &configError{fmt.Errorf(format, args...)} }

// A killedError says that somebody would not wait.
type killedError struct{ signal os.Signal }

func (e *killedError) Error() string {
	return fmt.Sprintf("ended at once by a third signal (%v): the builds that ran are killed, and reported at the next start in this directory", e.signal)
}

func (e *killedError) code() int {
	if number, ok := e.signal.(syscall.Signal); ok {
		return exitSignal + int(number)
	}
	return exitFailure
}
