package pgqueue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// A plant is a server that crashes, and all that goes on on it meanwhile. Its times have the proportions of the defaults.
type plant struct {
	*testing.T
	cluster *testenv.Cluster
	ctx     context.Context // ends with the load
	probe   *pgxpool.Pool

	submitting atomic.Bool
	submitted  atomic.Int64
	finished   atomic.Int64

	finishing gate // shut while workers must not finish what they run

	mu        sync.Mutex
	accepted  map[queue.ID]bool            // submits that returned success
	running   map[queue.ID]queue.AttemptID // what workers have started and not ended
	started   map[queue.AttemptID]string   // by whom
	won       map[queue.ID][]int64         // the epochs whose Finish was told to have succeeded
	abandoned map[queue.AttemptID]bool     // by workers that died
}

const (
	plantGrace = 3 * time.Second
	plantTTL   = 1500 * time.Millisecond
	slotsEach  = 4 // of a worker
	kills      = 10
	succeeded  = 5 // as it is stored
)

func newPlant(t *testing.T, ctx context.Context) *plant { //nolint:revive // t first, as in every test helper
	t.Helper()
	cluster, err := testenv.StartPostgres(ctx, &testenv.Options{Fsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	p := &plant{
		T: t, cluster: cluster, ctx: ctx,
		accepted: make(map[queue.ID]bool), running: make(map[queue.ID]queue.AttemptID), started: make(map[queue.AttemptID]string),
		won: make(map[queue.ID][]int64), abandoned: make(map[queue.AttemptID]bool),
	}
	p.submitting.Store(true)
	p.probe = p.pool()
	if err := backend(t, p.probe, nil).Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plant) pool() *pgxpool.Pool {
	p.Helper()
	config, err := pgxpool.ParseConfig(p.cluster.URL())
	if err != nil {
		p.Fatal(err)
	}
	config.MaxConns = 6
	pool, err := pgxpool.NewWithConfig(p.ctx, config)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(pool.Close)
	return pool
}

// queue returns the queue of a process of its own.
func (p *plant) queue() *queue.Queue {
	b := backend(p.T, p.pool(), &pgqueue.Options{Timeout: time.Second})
	return queue.New(b, &queue.Options{
		Grace: plantGrace, ControllerTTL: plantTTL, OfferTimeout: 400 * time.Millisecond, Avoid: 20 * time.Millisecond,
		Backoff: queue.Backoff{Base: 20 * time.Millisecond, Max: 40 * time.Millisecond}, MaxAttempts: 10, RunTimeout: time.Minute,
	})
}

// pause waits, and reports whether the load goes on.
func (p *plant) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// unknown reports whether an error leaves it open what was done.
func (p *plant) unknown(err error) bool {
	return errors.Is(err, queue.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || p.ctx.Err() != nil
}

// insist makes a call until its outcome is known, and returns that. While it is not, the error must say so.
func (p *plant) insist(what string, call func() error) error {
	for {
		err := call()
		switch {
		case p.unknown(err):
		case err == nil, errors.Is(err, queue.ErrStaleLease), errors.Is(err, queue.ErrConflict):
			return err
		default:
			p.Errorf("%s returned %v, of which nobody can know whether to call again", what, err)
			return err
		}
		if !p.pause(20 * time.Millisecond) {
			return p.ctx.Err()
		}
	}
}

// submit submits builds, each until its outcome is known.
func (p *plant) submit(q *queue.Queue) {
	for p.submitting.Load() && p.pause(time.Duration(rand.IntN(8))*time.Millisecond) {
		params := queue.Params{ID: queue.NewID(), Project: "project", Pool: "pool"}
		err := p.insist("Submit", func() error {
			_, err := q.Submit(p.ctx, params)
			return err
		})
		if err == nil || errors.Is(err, queue.ErrConflict) { // a conflict is with itself
			p.mu.Lock()
			p.accepted[params.ID] = true
			p.mu.Unlock()
			p.submitted.Add(1)
		}
	}
}

// A controller is a process with sessions.
type controller struct {
	*plant
	queue      *queue.Queue
	tasks      *sync.WaitGroup
	beating    gate
	maintained atomic.Int64

	mu   sync.Mutex
	idle map[queue.SessionID]int
	name map[queue.SessionID]string
}

// control starts a controller with some workers.
func (p *plant) control(tasks *sync.WaitGroup, workers ...string) *controller {
	p.Helper()
	c := &controller{plant: p, queue: p.queue(), tasks: tasks, idle: make(map[queue.SessionID]int), name: make(map[queue.SessionID]string)}
	if _, err := c.queue.Beat(p.ctx); err != nil {
		p.Fatal(err)
	}
	for _, worker := range workers {
		c.connect(worker)
	}
	for every, chore := range map[time.Duration]func() error{
		plantTTL / 4:          c.beat,
		50 * time.Millisecond: c.maintain,
		10 * time.Millisecond: c.claim,
	} {
		tasks.Go(func() {
			for p.pause(every) {
				if err := chore(); !p.unknown(err) && err != nil {
					p.Errorf("a chore returned %v", err)
				}
			}
		})
	}
	return c
}

func (c *controller) beat() error {
	if !c.beating.pass(c.ctx) {
		return c.ctx.Err()
	}
	_, err := c.queue.Beat(c.ctx)
	return err
}

func (c *controller) maintain() error {
	_, err := c.queue.Maintain(c.ctx)
	if err == nil {
		c.maintained.Add(1)
	}
	return err
}

func (c *controller) connect(worker string) queue.SessionID {
	c.Helper()
	session := queue.NewSession{Worker: worker, Instance: "i", Pools: []string{"pool"}, Slots: slotsEach}
	id, err := c.queue.OpenSession(c.ctx, session)
	if err != nil {
		c.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle[id], c.name[id] = session.Slots, worker
	return id
}

// claim claims for all idle slots, and has the builds run.
func (c *controller) claim() error {
	var idle []queue.Idle
	c.mu.Lock()
	for session, slots := range c.idle {
		if slots > 0 {
			idle = append(idle, queue.Idle{Session: session, Slots: slots})
		}
	}
	c.mu.Unlock()
	offers, err := c.queue.Claim(c.ctx, idle)
	for _, o := range offers {
		c.take(o.Session, -1)
		c.tasks.Go(func() {
			defer c.take(o.Session, 1)
			c.work(o.Session, o.AttemptID)
		})
	}
	return err
}

func (c *controller) take(session queue.SessionID, slots int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle[session] += slots
}

func (c *controller) worker(session queue.SessionID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name[session]
}

// work accepts a build, holds it for a while and finishes it.
func (c *controller) work(session queue.SessionID, id queue.AttemptID) {
	// An offer that the crash has undone may be made again, with the same epoch and to the same session, while its first accept still insists.
	// By the token that a worker makes for each, one of them starts.
	random := queue.NewID()
	token := queue.Digest(append(random[:], random[:]...))
	err := c.insist("Accept", func() error { return c.queue.Accept(c.ctx, session, id, token) })
	if err != nil {
		return // the offer had run out
	}
	c.start(c.worker(session), id)
	if !c.pause(time.Duration(rand.IntN(40)) * time.Millisecond) {
		return
	}
	if !c.finishing.pass(c.ctx) {
		return
	}
	var state queue.State
	err = c.insist("Finish", func() (err error) {
		state, err = c.queue.Finish(c.ctx, queue.Completion{AttemptID: id, Outcome: queue.Succeeded})
		return err
	})
	c.end(id, state, err)
}

// start notes that a worker has started a build, which nobody else may be running.
func (p *plant) start(worker string, id queue.AttemptID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if by, twice := p.started[id]; twice {
		p.Errorf("%v was started by %s and by %s", id, by, worker)
	}
	if other, twice := p.running[id.Build]; twice {
		p.Errorf("%v was started while %v was running", id, other)
	}
	p.started[id], p.running[id.Build] = worker, id
}

func (p *plant) end(id queue.AttemptID, state queue.State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, id.Build)
	switch {
	case err == nil && state == queue.Succeeded:
		p.won[id.Build] = append(p.won[id.Build], id.Epoch)
		p.finished.Add(1)
	case p.ctx.Err() == nil:
		p.Errorf("%v was taken from a worker that lives: Finish returned %v, %v", id, state, err)
	}
}

// abandon has a worker claim a build, start it and die.
func (c *controller) abandon(worker string) {
	c.Helper()
	session := c.connect(worker)
	c.take(session, -slotsEach) // nobody else claims for it
	for {
		var offers []queue.Offer
		err := c.insist("Claim", func() (err error) {
			offers, err = c.queue.Claim(c.ctx, []queue.Idle{{Session: session, Slots: 1}})
			return err
		})
		if err != nil {
			c.Fatal(err)
		}
		if len(offers) > 0 && c.insist("Accept", func() error {
			return c.queue.Accept(c.ctx, session, offers[0].AttemptID, queue.Digest{1})
		}) == nil {
			c.plant.mu.Lock()
			c.abandoned[offers[0].AttemptID] = true
			c.plant.mu.Unlock()
			break
		}
		if !c.pause(5 * time.Millisecond) {
			c.Fatal("nothing to abandon")
		}
	}
	if err := c.insist("LoseSessions", func() error { return c.queue.LoseSessions(c.ctx, session) }); err != nil {
		c.Fatal(err)
	}
}

// kill ends the server as kill -9 of its first process does. The others end by themselves; they are not killed, since one that is left
// over could wait forever for what another held.
func (p *plant) kill() {
	p.Helper()
	var dir string
	p.until("the server told where it is", func() bool { // the first answers come from connections that the last crash has cut
		return p.probe.QueryRow(p.ctx, "SELECT current_setting('data_directory')").Scan(&dir) == nil
	})
	file, err := os.Open(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		p.Fatal(err)
	}
	defer file.Close()
	var pid int
	if _, err := fmt.Fscan(file, &pid); err != nil {
		p.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
}

// crash kills a process that serves a client. The server then ends all of them and starts again.
func (p *plant) crash() {
	p.Helper()
	var pid int
	p.until("a client was served", func() bool {
		const sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY state LIMIT 1"
		return p.probe.QueryRow(p.ctx, sql).Scan(&pid) == nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.Fatal(err)
	}
}

// restart starts the server again, which waits for the last of its processes to be gone.
func (p *plant) restart() {
	p.Helper()
	for {
		err := p.cluster.Restart(p.ctx)
		if err == nil {
			return
		}
		if !p.pause(50 * time.Millisecond) {
			p.Fatal(err)
		}
	}
}

// busy waits until so many builds are running.
func (p *plant) busy(builds int) {
	p.Helper()
	p.until("all workers were busy", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.running) >= builds
	})
}

// A gate holds up those who come to it while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil: it is
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = nil
}

// pass reports whether the gate was open before ctx ended.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open == nil {
		return true
	}
	select {
	case <-open:
		return true
	case <-ctx.Done():
		return false
	}
}

// until waits for something to happen.
func (p *plant) until(what string, happened func() bool) {
	p.Helper()
	for !happened() {
		if !p.pause(10 * time.Millisecond) {
			p.Fatalf("waited in vain until %s", what)
		}
	}
}

// more waits until so many builds more have been submitted and finished.
func (p *plant) more(n int64) {
	p.Helper()
	submitted, finished := p.submitted.Load()+n, p.finished.Load()+n
	p.until("builds were submitted and finished", func() bool { return p.submitted.Load() >= submitted && p.finished.Load() >= finished })
}

// TestServerCrashesUnderLoad kills the server ten times while builds are submitted and run, and stops it for longer than the grace once.
// What was acknowledged holds: each build that was submitted ends, by one attempt, and none is taken from a worker that lives.
func TestServerCrashesUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := newPlant(t, ctx)
	var submitters, tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	workers := []string{"worker-1", "worker-2", "worker-3"}
	controllers := []*controller{p.control(&tasks, workers[:2]...), p.control(&tasks, workers[2:]...)}
	for range 3 {
		q := p.queue()
		submitters.Go(func() { p.submit(q) })
	}

	for n := range kills {
		p.more(60)
		if n%4 == 0 {
			controllers[0].abandon(fmt.Sprintf("mortal-%d", n))
			p.crash()
			p.more(60)
		}
		p.kill()
		p.restart()
	}
	p.more(60)

	// Of two controllers one is back at once and looks for what is due, and the other comes a moment later.
	first, late := controllers[0], controllers[1]
	p.finishing.shut()
	p.busy(len(workers) * slotsEach)
	if err := p.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	late.beating.shut()
	p.pause(2 * plantGrace)
	p.restart()
	rounds := first.maintained.Load() + 5
	p.until("the first controller had looked", func() bool { return first.maintained.Load() >= rounds })
	late.beating.reopen()
	p.finishing.reopen()
	p.more(60)

	p.submitting.Store(false)
	submitters.Wait()
	p.until("all builds had ended", func() bool {
		var left int
		err := p.probe.QueryRow(ctx, "SELECT count(*) FROM slipway.build WHERE finished_at IS NULL").Scan(&left)
		return err == nil && left == 0
	})
	p.until("all workers knew", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.running) == 0
	})
	p.settle(controllers[0].queue)
	t.Logf("%d builds survived %d kills; %d attempts were started, %d abandoned", len(p.accepted), kills, len(p.started), len(p.abandoned))
}

// settle compares what the workers and submitters were told with what is stored.
func (p *plant) settle(q *queue.Queue) {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.accepted {
		b, err := q.Get(p.ctx, "project", id)
		if err != nil || b.State != queue.Succeeded {
			p.Errorf("build %v, whose submit returned success: %v, %v", id, b.State, err)
		}
		if won := p.won[id]; len(won) != 1 || won[0] != b.Epoch {
			p.Errorf("build %v ended with epoch %d, and workers were told that they had ended it with epochs %v", id, b.Epoch, won)
		}
	}
	lost := make(map[queue.AttemptID]bool)
	rows, err := p.probe.Query(p.ctx, "SELECT build_id::text, epoch, outcome FROM slipway.attempt")
	if err != nil {
		p.Fatal(err)
	}
	defer rows.Close()
	wins := make(map[queue.ID]int)
	for rows.Next() {
		var text string
		var id queue.AttemptID
		var outcome int
		if err := rows.Scan(&text, &id.Epoch, &outcome); err != nil {
			p.Fatal(err)
		}
		if id.Build, err = queue.ParseID(text); err != nil {
			p.Fatal(err)
		}
		if outcome == succeeded {
			wins[id.Build]++
		} else {
			lost[id] = true
		}
		if wins[id.Build] > 1 {
			p.Errorf("build %v has two attempts that succeeded", id.Build)
		}
	}
	if err := rows.Err(); err != nil {
		p.Fatal(err)
	}
	for id := range lost {
		if !p.abandoned[id] {
			p.Errorf("%v was lost, and its worker lived", id)
		}
	}
	for id := range p.abandoned {
		if !lost[id] {
			p.Errorf("%v was not lost, and its worker died", id)
		}
		if _, err := q.Finish(p.ctx, queue.Completion{AttemptID: id, Outcome: queue.Succeeded}); !errors.Is(err, queue.ErrStaleLease) {
			p.Errorf("a dead worker's report of %v came to %v", id, err)
		}
	}
}
