package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/slipway-build/slipway/internal/testenv"
)

const (
	exitUsage = 2
	exitOwn   = 125
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("pgtemp", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: pgtemp [-fsync] -- command [argument ...]")
		flags.PrintDefaults()
	}
	fsync := flags.Bool("fsync", false, "make the server as durable as one in production")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return exitUsage
	}

	// Caught before the cluster exists, so that no signal ends pgtemp in between.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	cluster, err := testenv.StartPostgres(ctx, &testenv.Options{Fsync: *fsync})
	if err != nil {
		fmt.Fprintln(stderr, "pgtemp:", err)
		return exitOwn
	}
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Env = append(os.Environ(), testenv.EnvDatabaseURL+"="+cluster.URL())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	code, err := execute(cmd, signals)
	if err := errors.Join(err, cluster.Stop()); err != nil {
		fmt.Fprintln(stderr, "pgtemp:", err)
		if code == 0 {
			code = exitOwn
		}
	}
	return code
}

// execute runs cmd, passes signals on to its process group and returns the exit
// code to end with. The error is nil unless the command could not be run.
func execute(cmd *exec.Cmd, signals <-chan os.Signal) (int, error) {
	if err := cmd.Start(); err != nil {
		return exitOwn, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if s, ok := sig.(syscall.Signal); ok {
				// A group that is gone needs no signal; Wait is about to say so.
				_ = syscall.Kill(-cmd.Process.Pid, s)
			}
		case err := <-exited:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
					return 128 + int(ws.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			if err != nil {
				return exitOwn, err
			}
			return 0, nil
		}
	}
}
