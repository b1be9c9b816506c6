package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command, environ []string, out io.Writer) error {
	if len(command) == 0 {
		return errors.New("usage: interop command [argument ...]")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return tryWorker(ctx, out, func(ctx context.Context, url string) error {
		worker := exec.CommandContext(ctx, command[0], command[1:]...)
		worker.Env = append(environ, "SLIPWAY_URL="+url, "SLIPWAY_CREDENTIAL="+credential, "SLIPWAY_WORKER="+name)
		worker.Stdout, worker.Stderr = out, os.Stderr
		worker.WaitDelay = 5 * time.Second
		if err := worker.Run(); ctx.Err() == nil {
			return fmt.Errorf("the worker exited: %w", errors.Join(err, errExited))
		}
		return nil
	})
}

var errExited = errors.New("it should have gone on until it was killed")
