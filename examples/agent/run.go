package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

// run runs an agent until signals, or a controller, have it end.
func (in *invocation) run(context.Context) error {
	s := in.settings
	if err := s.check(in.getenv); err != nil {
		return err
	}
	executor, err := s.executor()
	if err != nil {
		return err
	}
	o := s.agent
	o.Executor, o.Logger = executor, s.logger(in.stderr)
	a, err := worker.NewAgent(o)
	if err != nil {
		return &configError{err}
	}
	if s.health != "" {
		stop, err := serveHealth(context.Background(), s.health, a, o.Logger)
		if err != nil {
			return unusable("%s: %w", s.called("health"), err)
		}
		defer stop()
	}
	o.Logger.Info("agent starts", "worker", o.Worker, "version", o.Version, "dir", o.Dir, "slots", o.Slots)
	if err := executor.MakeDir(o.Dir); err != nil {
		return unusable("%s: %w", s.called("dir"), err)
	}
	if err := executor.CheckReach(o.Dir); err != nil {
		o.Logger.Warn("builds may not find their directories", "error", err)
	}
	c, err := openControl(context.Background(), o.Dir, a, o.Logger)
	if err != nil {
		// The agent does its work without; if another one works here, Run finds that.
		o.Logger.Warn("agent status and agent drain cannot reach this agent", "error", err)
	}
	telling, silent := context.WithCancel(context.Background())
	defer silent()
	var told sync.WaitGroup
	if n := newNotifier(o.Logger); n != nil {
		told.Go(func() { n.run(telling, a) })
	}
	whole, err := supervise(in.signals, a, o.Logger)
	if _, killed := errors.AsType[*killedError](err); killed {
		return err
	}
	silent()
	told.Wait()
	if c != nil {
		c.close(err != nil || !whole)
	}
	o.Logger.Info("agent stopped")
	return s.hinted(err)
}

// supervise runs a until it ends, or three signals have come. It reports whether what ran was left to come to its end.
func supervise(signals <-chan os.Signal, a *worker.Agent, log *slog.Logger) (whole bool, err error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stages := []func(){
		func() {
			log.Info("draining: no build is taken, those that run go on to their ends; a second signal stops them")
			a.Drain()
		},
		func() {
			log.Warn("stopping the builds that run; a third signal kills them, and ends the agent at once")
			stop()
		},
	}
	for {
		select {
		case err := <-ended:
			return ctx.Err() == nil, err
		case signal := <-signals:
			if len(stages) == 0 {
				return false, &killedError{signal} // the builds' guardians see to the builds
			}
			stages[0]()
			stages = stages[1:]
		}
	}
}

// executor returns what runs the builds.
func (s *settings) executor() (*procexec.Executor, error) {
	executor, err := procexec.New(&procexec.Options{Nice: s.nice, PassEnv: s.passEnv, User: s.buildUser, Tools: s.tools})
	if e, ok := errors.AsType[*procexec.OptionError](err); ok {
		flags := map[string]string{"Nice": "nice", "PassEnv": "pass-env", "User": "build-user", "Tools": "tools"}
		return nil, unusable("%s: %w", s.called(flags[e.Option]), err)
	}
	if err != nil {
		return nil, &configError{err}
	}
	if s.buildUser != "" {
		if err := s.checkHidden(); err != nil {
			return nil, unusable("%s: %w", s.called("build-user"), err)
		}
	}
	return executor, nil
}

// checkHidden returns an error if anybody but root may be able to read the credential.
func (s *settings) checkHidden() error {
	if s.keyFile == "" {
		return nil // in the agent's environment, which is root's
	}
	info, err := os.Stat(s.keyFile)
	if err != nil {
		return nil //nolint:nilerr // which readCredential tells
	}
	if info.Mode().Perm()&0o077 != 0 || !ofRoot(info) {
		return fmt.Errorf("others than root can read the credential in %s: run chown root %[1]s && chmod 600 %[1]s", s.keyFile)
	}
	return nil
}

// hinted adds to what ended the agent what its keeper can do.
func (s *settings) hinted(err error) error {
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
