package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	err := execute(ctx, args, getenv, stdout, stderr)
	if err == nil || errors.Is(err, errHelp) {
		return exitOK
	}
	fmt.Fprintln(stderr, "slipway: "+oneLine(err.Error()))
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}

func execute(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var cli commandLine
	parser, err := kong.New(&cli,
		kong.Name("slipway"),
		kong.Description("Submit builds to a Slipway controller and see what becomes of them."),
		kong.NoDefaultHelp(),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return misused(err)
	}
	in := cli.invocation(ctx, getenv, stdout, stderr)
	return explain(in, command.Run(in))
}

// errHelp says that help was asked for and given.
var errHelp = errors.New("help")

// A usageError is what whoever typed the command has to correct.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// misused makes an error of the parser say where to look.
func misused(err error) error {
	if errors.Is(err, errHelp) {
		return errHelp
	}
	words := []string{"slipway"}
	if e, ok := errors.AsType[*kong.ParseError](err); ok && e.Context != nil {
		for _, step := range e.Context.Path {
			if step.Command != nil {
				words = append(words, step.Command.Name)
			}
		}
	}
	return usage("%w; see: %s --help", err, strings.Join(words, " "))
}

// oneLine keeps a message from breaking out of its line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
