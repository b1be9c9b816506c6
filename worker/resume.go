package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// The files of an attempt, beside its workspace. They outlive the process, which may be killed at any moment: the next one on the same
// directory reports what it finds.
const (
	logFile = "log"
	// capFile has the limit of the log, in bytes.
	capFile = "log.cap"
	// endFile has the end of the attempt from when it is known until the controller has stored it.
	endFile = "result.json"
	// doneFile says that there is nothing to report, where a workspace is kept.
	doneFile = "done"
)

// A Reaper is an [Executor] that can tell what an earlier process of the agent has left running.
type Reaper interface {
	// Reap ends what is left of an attempt of which nothing but Build, Epoch, Dir and Source is known, and returns nil when nothing of
	// it is left alive. The agent that ran it was killed, or gave it up.
	Reap(ctx context.Context, job Job) error
}

// A keptEnd is the content of an endFile.
type keptEnd struct {
	Finished wire.Finished `json:"finished"`
	LogCut   string        `json:"log_cut,omitempty"` // why bytes of the log are missing
}

// keep has the end of the attempt and its log on the disk, so that it is reported whatever becomes of this process.
func (t *attempt) keep(end *wire.Finished) {
	err := t.spool.file.Sync()
	if err == nil {
		var content []byte
		if content, err = json.Marshal(keptEnd{Finished: *end, LogCut: t.spool.cutReason()}); err == nil {
			err = writeWhole(filepath.Join(t.dir, endFile), content)
		}
	}
	if err != nil {
		t.log.Warn("the end of the build is not on the disk: if this agent is killed before it has reported it, the build is attempted again",
			"error", err)
	}
}

// writeWhole replaces a file so that it has all of the content or is as it was, whenever the machine stops.
func writeWhole(name string, content []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// takeUp makes attempts of what an earlier process of the agent left in the directory, and removes what needs no report. What cannot be read
// stays where it is: it keeps nobody from working.
func (a *Agent) takeUp() error {
	builds, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	for _, b := range builds {
		build, err := queue.ParseID(b.Name())
		if err != nil {
			continue // not the agent's
		}
		dir := filepath.Join(a.dir, b.Name())
		attempts, err := os.ReadDir(dir)
		for _, e := range attempts {
			err = errors.Join(err, a.takeUpOne(build, e.Name()))
		}
		if err != nil {
			a.log.Error("what an earlier process of the agent left of a build cannot be taken up, and stays", "dir", dir, "error", err)
			continue
		}
		_ = os.Remove(dir) // if nothing is in it
	}
	return nil
}

// takeUpOne takes up the attempt whose directory has that name.
func (a *Agent) takeUpOne(build queue.ID, name string) error {
	epoch, err := strconv.ParseInt(name, 10, 64)
	if err != nil || epoch < 1 {
		return nil //nolint:nilerr // not the agent's
	}
	id := queue.AttemptID{Build: build, Epoch: epoch}
	dir := a.attemptDir(id)
	if _, err := os.Stat(filepath.Join(dir, doneFile)); err == nil && a.opts.KeepWorkspace {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); errors.Is(err, fs.ErrNotExist) {
		return removeTree(dir) // it was never accepted
	}
	t := a.shell(id)
	t.shipment.limit = readCap(dir)
	t.spool, err = openSpool(filepath.Join(dir, logFile), min(a.opts.SpoolMax, t.shipment.limit), t.shipment.poke)
	if err != nil {
		return err
	}
	t.shipment.spool = t.spool
	kept := t.readEnd()
	t.stage = wire.StageRunning
	if kept != nil {
		t.stage, t.exit, t.quiet = wire.StageFinished, kept.Finished.ExitCode, true
		t.spool.cut = kept.LogCut
		t.spool.close()
	}
	close(t.started)
	a.attempts[id] = t
	a.left = append(a.left, func() { t.resume(kept) })
	t.log.Info("build taken up that an earlier process of the agent left", "ended", kept != nil)
	return nil
}

// writeCap keeps the limit of an attempt's log.
func writeCap(dir string, limit int64) error {
	return os.WriteFile(filepath.Join(dir, capFile), strconv.AppendInt(nil, limit, 10), 0o600)
}

// readCap reads it. Where it is not known, as the agent was killed too early or is of an older version, there is none but the queue's.
func readCap(dir string) int64 {
	content, err := os.ReadFile(filepath.Join(dir, capFile))
	if err != nil {
		return math.MaxInt64
	}
	limit, err := strconv.ParseInt(string(content), 10, 64)
	if err != nil || limit < 0 {
		return math.MaxInt64
	}
	return limit
}

// readEnd reads how the attempt ended. It is nil if it had not, or nobody knows.
func (t *attempt) readEnd() *keptEnd {
	name := filepath.Join(t.dir, endFile)
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var kept keptEnd
	if err == nil {
		err = json.Unmarshal(content, &kept)
	}
	if err == nil && queue.AttemptID(kept.Finished.Ref) != queue.AttemptID(t.ref) {
		err = fmt.Errorf("it is about build %v, epoch %d", kept.Finished.Build, kept.Finished.Epoch)
	}
	if err != nil {
		t.log.Error("the file with the end of a build cannot be used; the build is taken for one that had not ended", "file", name, "error", err)
		return nil
	}
	return &kept
}

// resume reports an attempt that an earlier process of the agent has left.
func (t *attempt) resume(kept *keptEnd) {
	defer t.cleanUp()
	defer t.agent.forget(t)
	t.conclude(func() *wire.Finished {
		if kept != nil {
			return &kept.Finished
		}
		return t.bury()
	})
}

// bury sees to it that nothing of the attempt lives, and returns its end. It is nil if the agent stopped before that.
func (t *attempt) bury() *wire.Finished {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-t.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	if reaper, ok := t.agent.opts.Executor.(Reaper); ok {
		job := Job{Build: t.ref.Build, Epoch: t.ref.Epoch, Dir: t.workDir(), Source: t.sourceDir()}
		for wait := t.agent.opts.Repeat; ; {
			err := reaper.Reap(ctx, job)
			if err == nil {
				break
			}
			t.log.Error("a build that the earlier process of the agent has left cannot be ended; trying again", "error", err)
			if !sleep(ctx, wait) {
				return nil
			}
		}
	}
	t.mu.Lock()
	t.quiet = true
	t.mu.Unlock()
	const missing = "the agent was killed here: what the build wrote last may be missing"
	t.spool.notice(missing)
	t.spool.close()
	end := &wire.Finished{Ref: t.ref, Outcome: wire.OutcomeLost, Reason: wire.ReasonAgentRestart, PartialReason: missing}
	t.keep(end)
	return end
}

// shell returns an attempt without an offer, a log and a place in the agent.
func (a *Agent) shell(id queue.AttemptID) *attempt {
	t := &attempt{
		agent: a, since: time.Now(), ref: wire.Ref(id), offer: &wire.Offer{Ref: wire.Ref(id)}, log: a.log.With("build", id.Build, "epoch", id.Epoch),
		dir: a.attemptDir(id), kill: make(chan struct{}), started: make(chan struct{}), over: make(chan struct{}),
		again: make(chan struct{}, 1), stage: wire.StageAccepted,
	}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	t.shipment = &shipment{
		ref: t.ref, links: a.link.Load, log: t.log, wake: make(chan struct{}, 1), patience: a.opts.LogTimeout, limit: math.MaxInt64,
	}
	return t
}
