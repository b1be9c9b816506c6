package worker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
	"github.com/slipway-build/slipway/worker/wire"
)

// always is secrets that every build has.
func always(secrets map[string]worker.Secret) func(*worker.HubOptions) {
	return func(o *worker.HubOptions) {
		o.Secrets = func(context.Context, queue.Lease) (map[string]worker.Secret, error) { return secrets, nil }
	}
}

// everything returns all that is known of a build outside it: rows, log, what hub and agent logged, and the agent's directory.
func (w *world) everything(id queue.ID, dir string) map[string]string {
	w.t.Helper()
	attempts, err := w.queue.Attempts(w.t.Context(), project, id)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]string{
		"the build": fmt.Sprintf("%+v", w.build(id)), "its attempts": fmt.Sprintf("%+v", attempts), "its log": string(w.readLog(id)),
		"what was logged": w.log.String(),
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		all[name] = name + string(content)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// TestSecretsOfABuild has a build that is run by processes print its secrets, in every way a careless one might.
func TestSecretsOfABuild(t *testing.T) {
	t.Parallel()
	canary := "canary-" + rand.Text()
	lines := []string{"BEGIN-" + rand.Text(), "line-" + rand.Text()}
	w := newWorld(t)
	c := w.controller(always(map[string]worker.Secret{
		"CANARY": worker.Secret(canary), "KEY": worker.Secret(strings.Join(lines, "\n") + "\n"),
	}))
	executor, err := procexec.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "one")
	w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor, o.Dir, o.KeepWorkspace = executor, dir, true }, c.server.URL)
	spec, err := procexec.Spec{Command: []string{"sh", "-c", `
		echo "whole: $CANARY"; echo "$CANARY" >&2
		i=1; while [ $i -le ${#CANARY} ]; do printf %s "$CANARY" | cut -c $i | tr -d '\n'; i=$((i+1)); done; echo ": in pieces"
		printf %s "${CANARY%????????????}"; printf %s "${CANARY#"${CANARY%????????????}"}" >&2; echo ": in two streams"
		echo "$KEY"; env; printf %s "$CANARY" | base64
		set -x; : "$CANARY"; set +x
		printf '%s\n' "digest $(printf %s "$CANARY" | sha256sum)"
		printf '%s\n' "digest $(printf %s "$KEY" | sha256sum)"
		printf %s "last: $CANARY"; exit 3`}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	id := w.submit(func(p *queue.Params) { p.Spec = spec })
	if b := w.end(id); b.State != queue.Failed || b.ExitCode == nil || *b.ExitCode != 3 {
		t.Fatalf("the build ended as %+v", b)
	}
	log := string(w.readLog(id))
	for _, secret := range []string{canary, strings.Join(lines, "\n") + "\n"} {
		if want := fmt.Sprintf("digest %x ", sha256.Sum256([]byte(secret))); !strings.Contains(log, want) {
			t.Errorf("the build did not have a secret: there is no %q in\n%s", want, log)
		}
	}
	if !strings.Contains(log, "whole: [redacted]\n[redacted]\n[redacted]: in pieces\n[redacted]: in two streams\n") || !strings.HasSuffix(log, "last: [redacted]") {
		t.Errorf("the log is\n%s", log)
	}
	w.checkComplete(id, []byte(log))
	// What it printed of itself, in whatever form, is nowhere: no eight characters of it in a row.
	for where, text := range w.everything(id, dir) {
		for _, secret := range append(lines, canary, base64.StdEncoding.EncodeToString([]byte(canary))[:40]) {
			for i := range len(secret) - 8 {
				if strings.Contains(text, secret[i:i+8]) && secret[i:i+8] != "canary-" {
					t.Errorf("%s has %q, a part of a secret", where, secret[i:i+8])
				}
			}
		}
	}
}

// TestSecretsOfAnExecutor has an executor put a secret into all that it returns.
func TestSecretsOfAnExecutor(t *testing.T) {
	t.Parallel()
	canary := "canary-" + rand.Text()
	for name, run := range map[string]executor{
		"error": func(context.Context, worker.Job) (worker.Result, error) {
			return worker.Result{}, errors.New("with " + canary)
		},
		"bad spec": func(context.Context, worker.Job) (worker.Result, error) {
			return worker.Result{}, fmt.Errorf("%w: with %s", worker.ErrBadSpec, canary)
		},
		"panic": func(context.Context, worker.Job) (worker.Result, error) { panic("with " + canary) },
		"artifact": func(_ context.Context, job worker.Job) (worker.Result, error) {
			return worker.Result{Artifacts: []worker.File{{Name: canary, Path: filepath.Join(job.Dir, canary)}}}, nil
		},
		"token": func(_ context.Context, job worker.Job) (worker.Result, error) {
			for _, variable := range job.Env {
				if strings.HasPrefix(variable, "SLIPWAY_TOKEN=") {
					return worker.Result{}, errors.New(variable)
				}
			}
			return worker.Result{}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.controller(always(map[string]worker.Secret{"CANARY": worker.Secret(canary)}))
			dir := filepath.Join(t.TempDir(), "one")
			w.agent("one", run, func(o *worker.AgentOptions) { o.Dir, o.KeepWorkspace = dir, true }, c.server.URL)
			id := w.submit(func(p *queue.Params) { p.MaxAttempts = 1 })
			w.end(id)
			marked := false
			for where, text := range w.everything(id, dir) {
				if strings.Contains(text, canary) || strings.Contains(text, "slw_build_") {
					t.Errorf("%s has the secret:\n%s", where, text)
				}
				marked = marked || strings.Contains(text, "[redacted]")
			}
			if !marked {
				t.Error("the secret was to be shown nowhere")
			}
		})
	}
}

// TestSecretsAgain: a worker whose connection breaks before the start gets the secrets with the start that its hello leads to.
func TestSecretsAgain(t *testing.T) {
	t.Parallel()
	const canary = "canary-91f0"
	w := newWorld(t)
	asked, answer := make(chan queue.Lease, 100), make(chan struct{})
	c := w.controllerOn(patiently(), func(o *worker.HubOptions) {
		o.Secrets = func(_ context.Context, lease queue.Lease) (map[string]worker.Secret, error) {
			asked <- lease
			<-answer
			return map[string]worker.Secret{"CANARY": canary}, nil
		}
	})
	answered := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(answered)
	p := newProxy(t, c.server.URL)
	ran := make(chan []string, 1)
	w.agent("one", func(_ context.Context, job worker.Job) (worker.Result, error) {
		ran <- job.Env
		return worker.Result{}, nil
	}, nil, p.url())
	id := w.submit(nil)
	if lease := receive(t, "the first question", asked); lease.Build != id || lease.Project != project || lease.Worker != "one" {
		t.Errorf("asked for the secrets of %+v", lease)
	}
	p.cut()
	receive(t, "the second question", asked) // while the first one stands
	answered()
	env := strings.Join(receive(t, "the build runs", ran), " ")
	if strings.Count(env, "CANARY="+canary) != 1 {
		t.Errorf("its environment is %s", env)
	}
	if b := w.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 1 {
		t.Errorf("the build ended as %+v", b)
	}
}

// TestSecretsNotFound: without its secrets nothing of a build runs, and it is attempted again; why is for the controller's log alone.
func TestSecretsNotFound(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() (map[string]worker.Secret, error){
		"error":         func() (map[string]worker.Secret, error) { return nil, errors.New("internals at 192.0.2.7") },
		"panic":         func() (map[string]worker.Secret, error) { panic("canary-77aa") },
		"a short value": func() (map[string]worker.Secret, error) { return map[string]worker.Secret{"PIN": "12345"}, nil },
		"Slipway's own": func() (map[string]worker.Secret, error) {
			return map[string]worker.Secret{"SLIPWAY_URL": "canary-77aa"}, nil
		},
		"value with NUL": func() (map[string]worker.Secret, error) { return map[string]worker.Secret{"A": "canary-77aa\x00"}, nil },
		"more than can be": func() (map[string]worker.Secret, error) {
			return map[string]worker.Secret{"A": worker.Secret(strings.Repeat("canary-77aa", wire.MaxSecretBytes/10))}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var asked, ran atomic.Int32
			c := w.controller(func(o *worker.HubOptions) {
				o.Secrets = func(context.Context, queue.Lease) (map[string]worker.Secret, error) {
					if asked.Add(1) == 1 {
						return fail()
					}
					return nil, nil
				}
			})
			w.agent("one", func(context.Context, worker.Job) (worker.Result, error) {
				ran.Add(1)
				return worker.Result{}, nil
			}, nil, c.server.URL)
			id := w.submit(nil)
			if b := w.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 2 || ran.Load() != 1 {
				t.Errorf("the build ended as %+v, and ran %d times", b, ran.Load())
			}
			attempts, err := w.queue.Attempts(t.Context(), project, id)
			if err != nil || len(attempts) != 2 || attempts[0].Outcome != queue.Lost ||
				attempts[0].Reason != "the controller could not get the build's secrets" {
				t.Errorf("attempts %+v, %v", attempts, err)
			}
			log := w.log.String()
			if strings.Contains(log, "canary") || !strings.Contains(log, "secrets not found") {
				t.Errorf("logged was\n%s", log)
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, "internals") && !strings.Contains(line, "who=hub") {
					t.Errorf("the agent was told: %s", line)
				}
			}
		})
	}
}

// TestSecretsOfTheRunning: a build that was started is not given to another worker because a start that is asked for once more cannot be had.
func TestSecretsOfTheRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var failing atomic.Bool
	c := w.controller(func(o *worker.HubOptions) {
		o.Secrets = func(context.Context, queue.Lease) (map[string]worker.Secret, error) {
			if failing.Load() {
				return nil, errors.New("down")
			}
			return map[string]worker.Secret{"CANARY": "canary-91f0"}, nil
		}
	})
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, token := p.take()
	failing.Store(true)
	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: token.Hash()})
	if refused := expect[*wire.Error](p); refused.Code != wire.CodeInternal || refused.Re != wire.TypeAccept {
		t.Errorf("answered with %+v", refused)
	}
	if b := w.build(id); b.State != queue.Running {
		t.Errorf("the build is %+v", b)
	}
	failing.Store(false)
	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: token.Hash()})
	if start := expect[*wire.Start](p); start.Secrets["CANARY"] != "canary-91f0" {
		t.Errorf("answered with %d secrets", len(start.Secrets))
	}
	p.send(finished(offer.Ref, ""))
	expect[*wire.FinishedOK](p)
	// None for the next, whose start therefore does not come.
	failing.Store(true)
	next := w.submit(func(p *queue.Params) { p.MaxAttempts = 1 })
	another := expect[*wire.Offer](p)
	p.send(&wire.Accept{Ref: another.Ref, TokenHash: token.Hash()})
	if refused := expect[*wire.Error](p); refused.Code != wire.CodeStaleLease || refused.Message != "" {
		t.Errorf("answered with %+v", refused)
	}
	if b := w.end(next); b.State != queue.Lost {
		t.Errorf("the build ended as %+v", b)
	}
}

// TestSecretsArePerBuild: the host is asked for each build, and one gets nothing of another.
func TestSecretsArePerBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) {
		o.Secrets = func(_ context.Context, lease queue.Lease) (map[string]worker.Secret, error) {
			return map[string]worker.Secret{"OF": worker.Secret("secret of " + lease.Build.String())}, nil
		}
	})
	var mixed atomic.Pointer[string]
	w.agent("one", func(_ context.Context, job worker.Job) (worker.Result, error) {
		env := strings.Join(job.Env, "\n")
		if strings.Count(env, "secret of ") != 1 || !strings.Contains(env, "OF=secret of "+job.Build.String()) {
			mixed.Store(&env)
		}
		_, err := job.Log.Write(bytes.Repeat([]byte(env), 3))
		return worker.Result{}, err
	}, func(o *worker.AgentOptions) { o.Slots = 4 }, c.server.URL)
	for range 8 {
		id := w.submit(nil)
		if b := w.end(id); b.State != queue.Succeeded || bytes.Contains(w.readLog(id), []byte("secret of "+id.String())) {
			t.Errorf("the build ended as %+v", b)
		}
	}
	if env := mixed.Load(); env != nil {
		t.Errorf("a build's environment is\n%s", *env)
	}
}
