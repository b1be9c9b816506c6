package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/auth"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(exitUsage)
	case err != nil:
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(exitFailure)
	}
}

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	flags := flag.NewFlagSet("embed", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:8081", "`ADDR` to serve on")
	data := flags.String("data", "./embed-data", "`DIR` for the database and the blobs")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	s := settings{dir: *data, key: getenv("EMBED_KEY"), workerKey: getenv("EMBED_WORKER_KEY"), log: slog.New(slog.NewTextHandler(stderr, nil))}
	for name, key := range map[string]string{"EMBED_KEY": s.key, "EMBED_WORKER_KEY": s.workerKey} {
		if err := auth.CheckStrength(key); err != nil {
			return fmt.Errorf("%w: %s: %w", errUsage, name, err)
		}
	}
	service, err := newService(ctx, s)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err == nil {
		s.log.Info("serving", "address", listener.Addr().String())
		err = serve(ctx, listener, service)
	}
	return errors.Join(err, service.close())
}

// serve runs the HTTP server and the hub until ctx ends or one of them fails.
func serve(ctx context.Context, listener net.Listener, s *service) error {
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.hub.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return server.Shutdown(ctx)
	})
	return group.Wait()
}
