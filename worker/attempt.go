package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// An attempt is a build that this worker has taken. One goroutine carries it from the accept to the report; it outlives connections.
type attempt struct {
	agent    *Agent
	since    time.Time // when this process took it
	ref      wire.Ref
	offer    *wire.Offer
	log      *slog.Logger
	dir      string
	token    token.Token
	killTime time.Duration
	courier  *courier
	spool    *spool
	shipment *shipment

	ctx     context.Context // ends, with the reason as its cause, when the attempt shall stop
	stop    context.CancelCauseFunc
	kill    chan struct{} // closed when the attempt shall stop at once
	started chan struct{} // closed when it may begin
	over    chan struct{} // closed when there is nothing more to say of it
	again   chan struct{} // asks for what was said to be said again
	killing sync.Once
	closing sync.Once

	mu      sync.Mutex
	stage   wire.Stage
	secrets wire.Secrets // set by the start, and not changed from then on
	quiet   bool         // nothing of it runs any more
	stale   bool         // it is not this worker's any more
	kept    bool         // its files stay, for the next process of the agent to report it
	lease   lease
	asker   *link // the link over which accept was last sent
	asked   moment
	exit    *int
	killer  *time.Timer // of a cancel's grace
}

// newAttempt makes the attempt that an offer is about, and its place on the disk.
func (a *Agent) newAttempt(l *link, o *wire.Offer) (*attempt, error) {
	id := queue.AttemptID(o.Ref)
	t := a.shell(id)
	t.offer, t.token, t.killTime = o, token.New(id.Build, id.Epoch), l.welcome.KillTime.Duration()
	t.shipment.limit = o.Limits.LogCap
	t.courier = &courier{
		client: a.client, base: a.controller.Load, token: t.token, stall: a.opts.StallTimeout, patience: a.opts.TransferTimeout,
	}
	if err := errors.Join(a.makeDir(filepath.Dir(t.dir)), a.makeDir(t.dir)); err != nil {
		return nil, err
	}
	err := writeCap(t.dir, o.Limits.LogCap)
	if err != nil {
		return nil, err
	}
	t.spool, err = newSpool(filepath.Join(t.dir, logFile), min(a.opts.SpoolMax, o.Limits.LogCap), t.shipment.poke)
	if err != nil {
		return nil, err
	}
	t.shipment.spool = t.spool
	return t, nil
}

// run carries the attempt through.
func (t *attempt) run() {
	defer t.cleanUp()
	defer t.agent.forget(t)
	if t.preflight() && t.await() {
		t.conclude(t.perform)
	}
}

// conclude has the attempt performed, sends its log meanwhile, and reports its end.
func (t *attempt) conclude(perform func() *wire.Finished) {
	shipping, arrived := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { t.shipment.run(shipping) })
	if end := perform(); end != nil {
		t.report(end)
	} else {
		<-t.over
	}
	arrived()
	work.Wait()
}

// await accepts the offer, again and again, until the controller has said whether the attempt may start. An offer that ran out
// in the meantime is answered like any other: only the controller knows.
func (t *attempt) await() bool {
	repeat := time.NewTicker(t.agent.opts.Repeat)
	defer repeat.Stop()
	for {
		if t.dropped() {
			return false
		}
		t.accept()
		select {
		case <-t.started:
			return true
		case <-t.over:
			return false
		case <-t.again:
		case <-repeat.C:
		}
	}
}

func (t *attempt) accept() {
	l := t.agent.link.Load()
	if l == nil {
		return
	}
	t.mu.Lock()
	if t.asker != l { // a start may be the answer to the first of several
		t.asker, t.asked = l, thisMoment()
	}
	t.mu.Unlock()
	l.send(t.ctx, &wire.Accept{Ref: t.ref, TokenHash: t.token.Hash()})
}

// start lets the attempt begin, with a lease that counts from when it was asked for.
func (t *attempt) start(length time.Duration, secrets wire.Secrets) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lease.renew(t.asked, length)
	if t.stage == wire.StageAccepted {
		t.stage, t.secrets = wire.StageRunning, secrets
		close(t.started)
	}
}

// decide does what a controller has decided after a reconnect. It reports false if the controller wants to keep what is not there any
// more.
func (t *attempt) decide(l *link, d wire.Decision) bool {
	t.shipment.goTo(d.LogOffset)
	switch d.Action {
	case wire.ActionKeep, wire.ActionCancel:
		if !t.reprieve() {
			return false
		}
		t.renew(l.hello, l.welcome.Lease.Duration())
		if d.Action == wire.ActionCancel {
			t.cancelBuild(t.offer.Limits.CancelGrace.Duration())
		}
	case wire.ActionAbandon:
		t.log.Warn("lease lost: the controller says so")
		t.drop(ErrLeaseLost)
	case wire.ActionResendResult: // which every new connection makes it do
	}
	return true
}

// renew counts the lease from when a message was sent that has been answered.
func (t *attempt) renew(sent moment, length time.Duration) {
	t.mu.Lock()
	t.lease.renew(sent, length)
	t.mu.Unlock()
}

// checkLease stops the attempt when its lease is over, and kills it when half of the kill time has passed, so that the other half is
// left for the killing. What has ended by itself needs no lease: whether its report counts is for the controller to say.
func (t *attempt) checkLease(now moment) {
	t.mu.Lock()
	needed := !t.quiet && t.stage != wire.StageAccepted
	left := t.lease.left(now)
	t.mu.Unlock()
	if !needed || left > 0 {
		return
	}
	if t.ctx.Err() == nil {
		t.log.Warn("lease lost: it was not renewed in time")
		t.stop(ErrLeaseLost)
	}
	if left <= -t.killTime/2 {
		t.killNow()
	}
}

// mayLive returns how long it is until checkLease kills what runs of the attempt, if the lease is not renewed.
func (t *attempt) mayLive() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease.left(thisMoment()) + t.killTime/2
}

// patience is how much of a grace a build has to end by itself. The rest is for the killing, so that nothing of the build lives when
// the grace is over.
func patience(grace time.Duration) time.Duration { return grace - min(grace/5, time.Second) }

// cancelBuild stops the attempt because somebody canceled the build, and kills it within grace. A build that is canceled was started, as
// far as the controller knows.
func (t *attempt) cancelBuild(grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.stage {
	case wire.StageCancelling, wire.StageFinished:
		return
	case wire.StageAccepted:
		close(t.started)
	case wire.StageRunning:
	}
	t.stage = wire.StageCancelling
	t.log.Info("build canceled")
	t.stop(ErrCanceled)
	t.killer = time.AfterFunc(patience(grace), t.killNow)
}

// shutDown stops what still runs because the agent ends.
func (t *attempt) shutDown() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.quiet {
		t.stop(ErrShutdown)
	}
}

// drop kills what runs of an attempt that is not this worker's any more. Until it is dead it has its slot, and is in hello; then it is
// forgotten without a word.
func (t *attempt) drop(reason error) {
	t.mu.Lock()
	t.stale = true
	t.mu.Unlock()
	t.stop(reason)
	t.killNow()
	t.poke()
}

func (t *attempt) dropped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stale
}

// dying reports whether something of a dropped attempt may be alive.
func (t *attempt) dying() bool { return t.stale && !t.quiet && t.stage != wire.StageAccepted }

// reprieve makes a dropped attempt this worker's again, because a controller says so: it dies nevertheless, but then is reported. It
// reports false if it is too late for that.
func (t *attempt) reprieve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stale && !t.dying() {
		return false
	}
	t.stale = false
	return true
}

func (t *attempt) killNow() { t.killing.Do(func() { close(t.kill) }) }

func (t *attempt) close() { t.closing.Do(func() { close(t.over) }) }

// poke has the attempt say again what it last said.
func (t *attempt) poke() { wake(t.again) }

// running describes the attempt for hello. It reports false for one that was dropped.
func (t *attempt) running() (wire.Running, bool) {
	length, _ := t.spool.size()
	t.mu.Lock()
	defer t.mu.Unlock()
	return wire.Running{Ref: t.ref, State: t.stage, LogLen: length, Exit: t.exit}, !t.stale
}

// lingering describes attempts that were dropped and may not be dead yet, for hello: what hello does not name runs nowhere, as far as a
// controller knows, and may be given to another worker once its grace is over. Heartbeats do not name them, so that nothing renews them.
func (a *Agent) lingering() (all []wire.Running) {
	for _, t := range a.all() {
		described, _ := t.running()
		t.mu.Lock()
		if t.dying() {
			all = append(all, described)
		}
		t.mu.Unlock()
	}
	return all
}

// phase tells people how far the attempt is.
func (t *attempt) phase(name string) {
	t.log.Info("build proceeds", "phase", name)
	if l := t.agent.link.Load(); l != nil {
		l.send(t.ctx, &wire.StateReport{Ref: t.ref, Phase: name})
	}
}

// cleanUp removes what is left of the attempt.
func (t *attempt) cleanUp() {
	t.mu.Lock()
	if t.killer != nil {
		t.killer.Stop()
	}
	t.mu.Unlock()
	t.stop(nil)
	_ = t.spool.file.Close()
	switch {
	case t.left():
		t.log.Warn("build not reported; the next start of the agent in this directory will do it", "dir", t.dir)
		return
	case t.agent.opts.KeepWorkspace:
		if err := writeWhole(filepath.Join(t.dir, doneFile), nil); err != nil {
			t.log.Error("workspace not marked as reported: the next start of the agent reports it again", "error", err)
		}
		return
	}
	if err := removeTree(t.dir); err != nil {
		t.log.Error("workspace not removed", "error", err)
		return
	}
	_ = os.Remove(filepath.Dir(t.dir)) // unless another attempt of the build is there
}

// leave gives the attempt up without a word, because the agent ends. What is not dead is killed. Its files stay.
func (t *attempt) leave() {
	t.mu.Lock()
	t.kept = true
	t.mu.Unlock()
	t.drop(ErrShutdown)
	t.close()
}

// left reports whether the files of the attempt are for the next process of the agent.
func (t *attempt) left() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

func (t *attempt) workDir() string { return filepath.Join(t.dir, "work") }

func (t *attempt) sourceDir() string { return filepath.Join(t.workDir(), "source") }

func (t *attempt) artifactsPath() string { return attemptPath(queue.AttemptID(t.ref)) + "/artifacts" }

// environment returns the variables that Slipway gives to a build.
func (t *attempt) environment() []string {
	env := []string{
		"CI=true",
		"SLIPWAY_BUILD_ID=" + t.ref.Build.String(),
		fmt.Sprintf("SLIPWAY_EPOCH=%d", t.ref.Epoch),
		"SLIPWAY_PROJECT=" + t.offer.Project,
		"SLIPWAY_POOL=" + t.offer.Pool,
		"SLIPWAY_URL=" + strings.TrimSuffix(t.agent.controller.Load().String(), "/"),
		"SLIPWAY_TOKEN=" + t.token.Reveal(),
	}
	for name, value := range t.secrets {
		env = append(env, name+"="+value)
	}
	return env
}
