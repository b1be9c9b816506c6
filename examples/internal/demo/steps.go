package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
)

// submit submits an empty directory with one of the demo's own jobs, and returns the build's id.
func (d *demo) submit(ctx context.Context, kind string, s stage) (string, error) {
	dir := d.path("source")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("The source of a build that needs none.\n"), 0o600); err != nil {
		return "", err
	}
	out, err := d.slipway(ctx, "submit", dir, "-q", "--", d.self, kind, s.dir)
	return strings.TrimSpace(out), err
}

// compile builds the agent from this repository's source, while the demo looks on.
func (d *demo) compile(ctx context.Context) error {
	s, err := d.newStage("compile")
	if err != nil {
		return err
	}
	// The build waits for the gate, which opens when its first line has been read: a log that is not live leads nowhere.
	script := `echo "a line to be read before the build goes on"
		while [ ! -e "$GATE" ]; do sleep 0.1; done
		cd examples && go version && go build -o ../out/slipway-agent ./agent && ls ../out`
	out, err := d.slipway(ctx, "submit", d.root, "--artifact", "out/*", "--env", "GATE="+filepath.Join(s.dir, "gate"), "--", "sh", "-c", script)
	if err != nil {
		return err
	}
	id := strings.TrimSpace(out)
	d.say("build %s is submitted, and this is its log while it runs:", id)
	log, err := d.follow(ctx, id, &indenter{w: d.out})
	if err != nil {
		return err
	}
	if err := until(ctx, time.Minute, "the first line of the log", func() bool { return log.prints("before the build goes on\n") }); err != nil {
		return err
	}
	if b, err := d.show(ctx, id); err != nil || b.State != "running" {
		return fmt.Errorf("the log is there, but the build is %q (%w)", b.State, errors.Join(err))
	}
	if err := s.openGate(); err != nil {
		return err
	}
	if _, err := log.wait(ctx, 4*time.Minute); err != nil {
		return err
	}
	return d.fetch(ctx, id)
}

// fetch downloads the agent that a build has made, and runs it.
func (d *demo) fetch(ctx context.Context, id string) error {
	if b, err := d.show(ctx, id); err != nil || b.State != "succeeded" {
		return fmt.Errorf("the build is %q: %s (%w)", b.State, b.Reason, errors.Join(err))
	}
	var saved struct {
		Files []struct {
			Name, Path, SHA256 string
			Size               int64
		}
	}
	if err := d.slipwayJSON(ctx, &saved, "download", id, "-o", d.path("fetched")); err != nil {
		return err
	}
	if len(saved.Files) != 1 || saved.Files[0].Name != "out/slipway-agent" {
		return fmt.Errorf("downloaded %+v, want out/slipway-agent alone", saved.Files)
	}
	file := saved.Files[0]
	content, err := os.ReadFile(file.Path)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != file.SHA256 || int64(len(content)) != file.Size {
		return fmt.Errorf("%s has %d bytes of SHA-256 %x, want %d of %s", file.Path, len(content), sum, file.Size, file.SHA256)
	}
	d.say("%s is downloaded: %d bytes, sha256 %s", file.Name, file.Size, file.SHA256)
	if err := os.Chmod(file.Path, 0o700); err != nil { //nolint:gosec // it is a program
		return err
	}
	r, err := d.run(ctx, time.Minute, nil, file.Path, "version")
	if err != nil || r.code != 0 || !strings.HasPrefix(r.stdout, "slipway-agent ") {
		return fmt.Errorf("the downloaded agent's version: exit code %d, %q, %q (%w)", r.code, r.stdout, r.stderr, errors.Join(err))
	}
	d.say("it says: %s", strings.TrimSpace(r.stdout))
	return nil
}

// fail has a build fail by itself.
func (d *demo) fail(ctx context.Context) error {
	dir := d.path("fail")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("f\n"), 0o600); err != nil {
		return err
	}
	r, err := d.run(ctx, time.Minute, d.cliEnv(), d.path("bin", "slipway"), "submit", dir, "--wait", "--", "sh", "-c", "echo this will not do; exit 3")
	if err != nil {
		return err
	}
	if r.code != 1 || !strings.Contains(r.stderr, "failed: exit code 3") || !strings.Contains(r.stdout, "this will not do\n") {
		return fmt.Errorf("slipway submit --wait ended with %d and printed %q and %q", r.code, r.stdout, r.stderr)
	}
	_, _ = (&indenter{w: d.out}).Write([]byte(r.stdout + r.stderr)) // what cannot be shown is no deviation
	var list api.BuildPage
	if err := d.slipwayJSON(ctx, &list, "list", "--state", "failed"); err != nil {
		return err
	}
	if len(list.Builds) != 1 || list.Builds[0].ExitCode == nil || *list.Builds[0].ExitCode != 3 {
		return fmt.Errorf("the list of failed builds is %+v, want one with exit code 3", list.Builds)
	}
	d.say("slipway submit --wait ended with 1, and the build is shown failed with exit code 3")
	return nil
}

// cancel cancels a build with children that do not listen.
func (d *demo) cancel(ctx context.Context) error {
	s, err := d.newStage("cancel")
	if err != nil {
		return err
	}
	id, err := d.submit(ctx, jobFamily, s)
	if err != nil {
		return err
	}
	pids, err := d.awaitFamily(ctx, s, 1)
	if err != nil {
		return err
	}
	state, err := d.slipway(ctx, "cancel", id, "--reason", "the demo wants it")
	if err != nil || strings.TrimSpace(state) != "cancelling" {
		return fmt.Errorf("slipway cancel printed %q (%w)", state, errors.Join(err))
	}
	begun := time.Now()
	if err := until(ctx, cancelGrace, "the end of all processes of a canceled build", func() bool { return gone(pids) }); err != nil {
		return err
	}
	d.say("all of them are gone %v after the cancel, within the grace of %v", time.Since(begun).Round(10*time.Millisecond), cancelGrace)
	b, err := d.awaitEnd(ctx, id, time.Minute)
	if err != nil || b.State != "canceled" || b.Reason != "the demo wants it" {
		return fmt.Errorf("the build is %q: %q (%w)", b.State, b.Reason, errors.Join(err))
	}
	d.say("the build is canceled: %s", b.Reason)
	return nil
}

// awaitFamily waits until all processes of an attempt have told of themselves.
func (d *demo) awaitFamily(ctx context.Context, s stage, epoch int64) ([]int, error) {
	var pids []int
	err := until(ctx, time.Minute, "the processes of a build", func() bool {
		pids = s.pids(epoch)
		return len(pids) == familySize()
	})
	if err == nil && gone(pids) {
		err = fmt.Errorf("the processes %v are gone before they were to", pids)
	}
	if err == nil {
		d.say("the build runs as processes %v: a parent and children that ignore SIGTERM", pids)
	}
	return pids, err
}

// awaitEnd waits for the end of a build.
func (d *demo) awaitEnd(ctx context.Context, id string, limit time.Duration) (b api.Build, err error) {
	waitErr := until(ctx, limit, "the end of build "+id, func() bool {
		b, err = d.show(ctx, id)
		return err != nil || b.FinishedAt != nil
	})
	return b, errors.Join(err, waitErr)
}

// killAgent kills an agent and has another finish what it began.
func (d *demo) killAgent(ctx context.Context) error {
	s, err := d.newStage("kill-agent")
	if err != nil {
		return err
	}
	id, err := d.submit(ctx, jobFamily, s)
	if err != nil {
		return err
	}
	pids, err := d.awaitFamily(ctx, s, 1)
	if err != nil {
		return err
	}
	d.agent.kill()
	begun := time.Now()
	if err := until(ctx, killTime, "the end of a build whose agent was killed", func() bool { return gone(pids) }); err != nil {
		return err
	}
	d.say("the agent is killed, and %v later nothing of the build lives", time.Since(begun).Round(time.Millisecond))
	if d.agent, err = d.startAgent(ctx, "second"); err != nil {
		return err
	}
	if err := s.openGate(); err != nil {
		return err
	}
	b, err := d.awaitEnd(ctx, id, 2*time.Minute)
	if err != nil {
		return err
	}
	if b.State != "succeeded" || len(b.Attempts) != 2 || b.Epoch < 2 || b.Worker != "second" || b.Attempts[0].Outcome != "lost" {
		return fmt.Errorf("the build is not what a second attempt makes of it: %+v", b)
	}
	d.say("attempts: epoch %d on %q was lost, epoch %d on %q succeeded", b.Attempts[0].Epoch, b.Attempts[0].Worker, b.Epoch, b.Worker)
	return nil
}

// killController kills the controller and starts it again, while a build writes its log and somebody reads it.
func (d *demo) killController(ctx context.Context) error {
	s, err := d.newStage("kill-controller")
	if err != nil {
		return err
	}
	id, err := d.submit(ctx, jobWriter, s)
	if err != nil {
		return err
	}
	log, err := d.follow(ctx, id, io.Discard)
	if err != nil {
		return err
	}
	written := filepath.Join(s.dir, "written")
	if err := until(ctx, time.Minute, "the beginning of the log", func() bool { return log.prints("line 50 ") }); err != nil {
		return err
	}
	before, err := d.show(ctx, id)
	if err != nil {
		return err
	}
	d.controller.kill()
	mark := size(written)
	d.say("the controller is killed when the build has written %d bytes", mark)
	if err := until(ctx, lease/2, "a build that goes on without a controller", func() bool { return size(written) >= mark+2000 }); err != nil {
		return err
	}
	if err := d.startController(ctx, strings.TrimPrefix(d.url, "http://")); err != nil {
		return err
	}
	mark = size(written)
	d.say("it is started again when the build has written %d", mark)
	if err := until(ctx, lease+killTime, "a build that goes on with the new controller", func() bool { return size(written) >= mark+2000 }); err != nil {
		return err
	}
	if err := s.openGate(); err != nil {
		return err
	}
	read, err := log.wait(ctx, time.Minute)
	if err != nil {
		return err
	}
	return d.compareLog(ctx, id, before, written, read)
}

// compareLog holds a log against what the build has written itself.
func (d *demo) compareLog(ctx context.Context, id string, before api.Build, written string, read []byte) error {
	want, err := os.ReadFile(written)
	if err != nil {
		return err
	}
	b, err := d.show(ctx, id)
	if err != nil {
		return err
	}
	if b.State != "succeeded" || b.Epoch != before.Epoch || len(b.Attempts) != 1 {
		return fmt.Errorf("the build is not the one that ran before: %+v", b)
	}
	sum := sha256.Sum256(want)
	if a := b.Attempts[0]; !a.LogComplete || a.LogLength != int64(len(want)) || a.LogSHA256 != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the log is %+v, want %d bytes of SHA-256 %x", a, len(want), sum)
	}
	if !bytes.Equal(read, want) {
		return fmt.Errorf("slipway logs -f printed %d bytes that are not the %d that were written", len(read), len(want))
	}
	d.say("the same attempt, epoch %d, succeeded; its log has %d bytes, sha256 %x, as it was written and as it was read", b.Epoch, len(want), sum)
	return nil
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
