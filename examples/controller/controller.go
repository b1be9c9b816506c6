package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/examples/internal/version"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/keyauth"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

// maxHeaderBytes is the largest head of a request.
const maxHeaderBytes = 64 << 10

// A controller is the program, put together.
type controller struct {
	settings *settings
	log      *slog.Logger
	stdout   io.Writer
	devKey   auth.Secret // to be printed; usually there is none
	tls      *tls.Config // nil: none
	secrets  *secretsDir // nil: builds have none
	data     *data
	hub      *worker.Hub
	server   *server.Server
}

// newController opens all that the controller works on. What is wrong with settings is found before anything is opened.
func newController(ctx context.Context, s *settings, getenv func(string) string, stdout, stderr io.Writer) (_ *controller, err error) {
	c := &controller{settings: s, log: s.logger(stderr), stdout: stdout}
	key, made, err := adminKey(s, getenv)
	if err != nil {
		return nil, err
	}
	if made {
		c.devKey = key
	}
	if c.tls, err = tlsConfig(s); err != nil {
		return nil, err
	}
	if s.secrets != "" {
		if c.secrets, err = openSecrets(s.secrets); err != nil {
			return nil, configf("-secrets-dir: %w", err)
		}
	}
	if c.data, err = openData(ctx, s); err != nil {
		return nil, errors.Join(err, c.secrets.close())
	}
	if err := c.assemble(key); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *controller) assemble(key auth.Secret) error {
	s := c.settings
	s.queue.Logger, s.hub.Logger, s.server.Logger = c.log, c.log, c.log
	s.hub.StallTimeout = s.server.StallTimeout
	s.queue.LogBytes = s.hub.LogCap // what workers send is what is kept
	s.queue.Archive = c.data.logs
	if c.secrets != nil {
		s.hub.Secrets = c.secrets.find
	}
	s.server.Version = version.Current().Version
	keys, err := auth.New(c.data.auth, &auth.Options{AdminKey: key, Logger: c.log})
	if err != nil {
		return err
	}
	q := queue.New(c.data.queue, &s.queue)
	c.hub, err = worker.NewHub(q, storeblobs.New(c.data.store), keyauth.New(keys), &s.hub)
	if err != nil {
		return configf("settings that do not go together: %w", err)
	}
	c.server, err = server.New(server.Parts{Queue: q, Store: c.data.store, Keys: keys, Hub: c.hub}, &s.server)
	return err
}

func tlsConfig(s *settings) (*tls.Config, error) {
	if s.tlsCert == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
	if err != nil {
		return nil, configf("-tls-cert and -tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// serve serves until ctx ends or something fails, and then shuts down in order: not ready any more, workers' connections, requests.
func (c *controller) serve(ctx context.Context) error {
	listener, err := c.listen(ctx)
	if err != nil {
		return err
	}
	httpServer := &http.Server{
		Handler:           c.server,
		ReadHeaderTimeout: c.settings.readHeaderTimeout,
		IdleTimeout:       c.settings.idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	group, failing := errgroup.WithContext(ctx)
	hubContext, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHub()
	hubEnded := make(chan struct{})
	group.Go(func() error {
		defer close(hubEnded)
		return c.hub.Run(hubContext)
	})
	group.Go(func() error {
		if err := httpServer.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-failing.Done()
		c.log.Info("shutting down")
		c.server.Drain()
		c.pause(c.settings.drainDelay)
		stopHub()
		<-hubEnded
		return c.finish(httpServer)
	})
	err = group.Wait()
	c.log.Info("stopped")
	return err
}

// pause lets others see that the controller is about to go.
func (*controller) pause(d time.Duration) { <-time.After(d) }

// finish waits for the requests under way, and ends them when their time is up.
func (c *controller) finish(httpServer *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.settings.shutdownTimeout)
	defer cancel()
	err := httpServer.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		c.log.Warn("requests cut off by the shutdown")
		err = httpServer.Close()
	}
	return err
}

// listen opens the port and tells where it is.
func (c *controller) listen(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.settings.listen)
	if err != nil {
		return nil, err
	}
	address, scheme := listener.Addr().String(), "http"
	if c.tls != nil {
		listener, scheme = tls.NewListener(listener, c.tls), "https"
	} else if host, _, err := net.SplitHostPort(address); err == nil && !loopback(host) {
		c.log.Warn("serving without TLS: keys and builds can be read on the network, unless a proxy in front of it encrypts them")
	}
	if c.settings.addrFile != "" {
		if err := writeFile(c.settings.addrFile, address+"\n"); err != nil {
			return nil, errors.Join(fmt.Errorf("-addr-file: %w", err), listener.Close())
		}
	}
	c.log.Info("serving", "address", address, "tls", c.tls != nil, "version", version.Current().Version)
	fmt.Fprintf(c.stdout, "SLIPWAY_URL=%s://%s\n", scheme, address)
	if !c.devKey.IsZero() {
		fmt.Fprintf(c.stdout, "%s=%s\n", adminKeyVariable, c.devKey.Reveal())
	}
	return listener, nil
}

// writeFile puts text into a file that readers see whole or not at all.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".addr-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// close closes the data, which comes last.
func (c *controller) close() error { return errors.Join(c.data.Close(), c.secrets.close()) }
