package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A fleet is a queue with sessions of workers, for tests of who is given what.
type fleet struct {
	*queue.Queue
	t *testing.T
}

func newFleet(t *testing.T, b queue.Backend, o *queue.Options) *fleet {
	return &fleet{queue.New(b, o), t}
}

func (f *fleet) session(worker string, labels queue.Labels, pools ...string) queue.SessionID {
	f.t.Helper()
	if len(pools) == 0 {
		pools = []string{queue.DefaultPool}
	}
	id, err := f.OpenSession(f.t.Context(), queue.NewSession{Worker: worker, Instance: "1", Labels: labels, Pools: pools, Slots: 100})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// submit submits builds and has them queued.
func (f *fleet) submit(n int, p queue.Params) []queue.ID {
	f.t.Helper()
	if p.Project == "" {
		p.Project = "project"
	}
	ids, err := f.SubmitMany(f.t.Context(), slices.Repeat([]queue.Params{p}, n))
	if err != nil {
		f.t.Fatal(err)
	}
	f.maintain()
	return ids
}

func (f *fleet) maintain() {
	f.t.Helper()
	for more := true; more; {
		done, err := f.Maintain(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		more = done.More
	}
}

// claim returns how many builds of which pools each session was given, as "session pool".
func (f *fleet) claim(idle ...queue.Idle) map[string]int {
	f.t.Helper()
	offers, err := f.Claim(f.t.Context(), idle)
	if err != nil {
		f.t.Fatal(err)
	}
	got := make(map[string]int)
	seen := make(map[queue.ID]bool)
	for _, o := range offers {
		if seen[o.Build] {
			f.t.Errorf("build %v was given twice", o.Build)
		}
		seen[o.Build] = true
		got[fmt.Sprintf("%d %s", o.Session, o.Pool)]++
	}
	return got
}

func (f *fleet) want(got map[string]int, want ...any) {
	f.t.Helper()
	wanted := make(map[string]int)
	for i := 0; i < len(want); i += 3 {
		wanted[fmt.Sprintf("%d %s", want[i], want[i+1])] = want[i+2].(int)
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		f.t.Errorf("builds given are %v, want %v", got, wanted)
	}
}

func TestClaimServesOnlyWhatFits(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	linux, mac := queue.Labels{"os": "linux"}, queue.Labels{"os": "darwin"}
	f.submit(2, queue.Params{Pool: "ci", Labels: linux})
	f.submit(2, queue.Params{Pool: "ci", Labels: mac})
	f.submit(2, queue.Params{Pool: "ci"})
	f.submit(2, queue.Params{Pool: "release", Labels: linux})
	f.submit(2, queue.Params{Pool: "ci", Labels: queue.Labels{"os": "linux", "gpu": "yes"}})
	s := f.session("worker", queue.Labels{"os": "linux", "arch": "arm64"}, "ci", "nightly")
	f.want(f.claim(queue.Idle{Session: s, Slots: 100}), s, "ci", 4)
	f.want(f.claim(queue.Idle{Session: s, Slots: 100}))
}

func TestClaimAcrossClassesAndPools(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	for _, pool := range []string{"a", "b", "c"} {
		f.submit(3, queue.Params{Pool: pool})
	}
	both, onlyB := f.session("both", nil, "a", "b"), f.session("only-b", nil, "b")
	got := f.claim(queue.Idle{Session: both, Slots: 3}, queue.Idle{Session: onlyB, Slots: 100})
	f.want(got, both, "a", 3, onlyB, "b", 3)
	f.want(f.claim(queue.Idle{Session: both, Slots: 3}))
}

func TestClaimFillsSlotsOnly(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(20, queue.Params{})
	one, two := f.session("one", nil), f.session("two", nil)
	f.want(f.claim(queue.Idle{Session: one, Slots: 3}, queue.Idle{Session: two, Slots: 1}), one, "default", 3, two, "default", 1)
	f.want(f.claim(queue.Idle{Session: one, Slots: 0}, queue.Idle{Session: two, Slots: -1}))
	f.want(f.claim(queue.Idle{Session: one, Slots: 2}, queue.Idle{Session: one, Slots: 2}), one, "default", 2)
}

// A probes is a backend that notes how far it was asked to look.
type probes struct {
	queue.Backend
	max []int
}

func (p *probes) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	p.max = append(p.max, max)
	return p.Backend.Probe(ctx, reaches, max)
}

// Builds far beyond the idle slots are not even looked at, and yet all slots are filled, whatever the classes have.
func TestClaimLooksNotFarBeyondSlots(t *testing.T) {
	b := &probes{Backend: memqueue.New()}
	f := newFleet(t, b, nil)
	f.submit(20, queue.Params{Pool: "a"})
	f.submit(2, queue.Params{Pool: "b"})
	f.submit(20, queue.Params{Pool: "c"})
	one, two, three := f.session("one", nil, "a"), f.session("two", nil, "b", "c"), f.session("three", nil, "a", "b", "c")
	got := f.claim(queue.Idle{Session: one, Slots: 1}, queue.Idle{Session: two, Slots: 5}, queue.Idle{Session: three, Slots: 2})
	f.want(got, one, "a", 1, two, "b", 2, two, "c", 3, three, "a", 2)
	if len(b.max) == 0 || slices.Max(b.max) > 32 {
		t.Errorf("with 8 idle slots, claims looked as far as %v", b.max)
	}
	four := f.session("four", nil, "d", "e")
	f.submit(queue.MaxClaim+100, queue.Params{Pool: "d"})
	f.submit(1, queue.Params{Pool: "e"})
	f.want(f.claim(queue.Idle{Session: four, Slots: queue.MaxSlots}), four, "d", queue.MaxClaim)
	if slices.Max(b.max) != queue.MaxClaim {
		t.Errorf("claims looked as far as %v", b.max)
	}
}

// Of a single class nothing is looked at, and no session has to be asked in vain.
func TestClaimOfOneClassDoesNotLook(t *testing.T) {
	b := &probes{Backend: memqueue.New()}
	f := newFleet(t, b, nil)
	f.submit(300, queue.Params{})
	s := f.session("one", nil)
	for _, want := range []int{200, 100} {
		f.want(f.claim(queue.Idle{Session: s, Slots: 200}), s, "default", want)
	}
	f.want(f.claim(queue.Idle{Session: s, Slots: 200}))
	if len(b.max) > 0 {
		t.Errorf("claims looked as far as %v", b.max)
	}
}

// A class whose first builds avoid those who are asked for it first is asked for the others.
func TestClaimOfOneClassReachesEverySession(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(1, queue.Params{})
	picky := f.session("picky", nil)
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: picky, Slots: 1}})
	if err != nil || len(offers) != 1 {
		t.Fatalf("Claim = %v, %v, want one offer", offers, err)
	}
	if err := f.Release(t.Context(), offers[0].AttemptID); err != nil {
		t.Fatal(err)
	}
	patient := f.session("patient", nil)
	got := make(map[string]int)
	for range 2 { // the slot that the build is given may be the worker's that it avoids, by chance
		for what, n := range f.claim(queue.Idle{Session: picky, Slots: 1000}, queue.Idle{Session: patient, Slots: 1}) {
			got[what] += n
		}
	}
	f.want(got, patient, "default", 1)
}

// Builds spread over machines: with as many builds as sessions, each has one, however many slots it has.
func TestClaimSpreads(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	var idle []queue.Idle
	for i := range 10 {
		idle = append(idle, queue.Idle{Session: f.session(fmt.Sprintf("worker-%d", i), nil), Slots: 8})
	}
	f.submit(10, queue.Params{})
	if got := f.claim(idle...); len(got) != 10 {
		t.Errorf("10 builds went to %d sessions: %v", len(got), got)
	}
	first := make(map[string]bool)
	for range 100 {
		f.submit(1, queue.Params{})
		for session := range f.claim(idle...) {
			first[session] = true
		}
	}
	if len(first) < 5 {
		t.Errorf("of 10 sessions only %d were ever the first", len(first))
	}
}

// A worker takes turns by rank: what was submitted first is given first, across classes.
func TestClaimGoesByRank(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	var want []queue.ID
	for i := range 12 {
		want = append(want, f.submit(1, queue.Params{Pool: []string{"a", "b", "c"}[i%3]})...)
	}
	s := f.session("worker", nil, "a", "b", "c")
	var got []queue.ID
	for range want {
		offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}})
		if err != nil || len(offers) != 1 {
			t.Fatalf("Claim = %v, %v, want one offer", offers, err)
		}
		got = append(got, offers[0].Build)
	}
	if !slices.Equal(got, want) {
		t.Errorf("builds were given in the order %v, want %v", got, want)
	}
}

// Builds of one batch keep their order.
func TestClaimKeepsTheOrderOfABatch(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	want := f.submit(50, queue.Params{})
	s := f.session("worker", nil)
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 50}})
	if err != nil {
		t.Fatal(err)
	}
	var got []queue.ID
	for _, o := range offers {
		got = append(got, o.Build)
	}
	if !slices.Equal(got, want) {
		t.Errorf("builds were given in the order %v, want %v", got, want)
	}
}

func TestClaimWithoutSessions(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(3, queue.Params{})
	f.want(f.claim())
	f.want(f.claim(queue.Idle{Session: 12345, Slots: 5}))

	lost, replaced := f.session("lost", nil), f.session("replaced", nil)
	if err := f.LoseSessions(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	live := f.session("replaced", nil)
	f.want(f.claim(queue.Idle{Session: lost, Slots: 5}, queue.Idle{Session: replaced, Slots: 5}))

	other := newFleet(t, f.Backend(), nil)
	other.want(other.claim(queue.Idle{Session: live, Slots: 5})) // another process's session
	f.want(f.claim(queue.Idle{Session: live, Slots: 5}), live, "default", 3)
}

// A session that was replaced stands in the way of nobody, before and after Beat has told of it.
func TestClaimPassesOverReplacedSessions(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	if _, err := f.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	replaced, live := f.session("replaced", nil), f.session("live", nil)
	other := newFleet(t, f.Backend(), nil)
	other.session("replaced", nil)
	f.submit(4, queue.Params{})
	f.want(f.claim(queue.Idle{Session: replaced, Slots: 2}, queue.Idle{Session: live, Slots: 2}), live, "default", 2)
	beat, err := f.Beat(t.Context())
	if err != nil || !slices.Equal(beat.Ended, []queue.SessionID{replaced}) {
		t.Fatalf("Beat = %+v, %v, want session %d to have ended", beat, err, replaced)
	}
	f.want(f.claim(queue.Idle{Session: replaced, Slots: 2}, queue.Idle{Session: live, Slots: 2}), live, "default", 2)
}

// A build that avoids the only worker of its class does not keep that worker from other classes, nor other workers from the build.
func TestClaimPassesOverAvoidedBuilds(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(1, queue.Params{Pool: "a"})
	picky := f.session("picky", nil, "a", "b")
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: picky, Slots: 1}})
	if err != nil || len(offers) != 1 {
		t.Fatalf("Claim = %v, %v, want one offer", offers, err)
	}
	if err := f.Release(t.Context(), offers[0].AttemptID); err != nil {
		t.Fatal(err)
	}
	f.submit(2, queue.Params{Pool: "b"})
	f.want(f.claim(queue.Idle{Session: picky, Slots: 1}), picky, "b", 1)
	patient := f.session("patient", nil, "a")
	f.want(f.claim(queue.Idle{Session: picky, Slots: 5}, queue.Idle{Session: patient, Slots: 5}), picky, "b", 1, patient, "a", 1)
}

// An offer that never reached its worker may go to the same worker again at once.
func TestWithdraw(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(2, queue.Params{})
	s := f.session("worker", nil)
	first, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 2}})
	if err != nil || len(first) != 2 {
		t.Fatalf("Claim = %v, %v, want two offers", first, err)
	}
	wakes := f.Wakes(queue.ForClaims, time.Hour)
	defer wakes.Stop()
	wakes.Next(t.Context()) // as the first always does
	if err := f.Accept(t.Context(), s, first[0].AttemptID, queue.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if err := f.Withdraw(t.Context(), first[0].AttemptID, first[1].AttemptID); err != nil {
		t.Fatal(err)
	}
	if !wakes.Next(t.Context()) {
		t.Error("nobody is told that a build is pending again")
	}
	second, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 2}})
	if err != nil || len(second) != 1 || second[0].Build != first[1].Build || second[0].Epoch != 2 {
		t.Errorf("Claim = %v, %v, want build %v under epoch 2", second, err, first[1].Build)
	}
	if err := f.Withdraw(t.Context()); err != nil {
		t.Errorf("Withdraw of nothing: %v", err)
	}
	if err := f.Withdraw(t.Context(), make([]queue.AttemptID, queue.MaxBatch+1)...); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("Withdraw of too many: %v, want ErrInvalid", err)
	}
}

func TestClaimIsBounded(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(queue.MaxClaim+100, queue.Params{})
	var idle []queue.Idle
	for i := range 10 {
		idle = append(idle, queue.Idle{Session: f.session(fmt.Sprintf("worker-%d", i), nil), Slots: 100})
	}
	for _, want := range []int{queue.MaxClaim, 100, 0} {
		sum := 0
		for _, n := range f.claim(idle...) {
			sum += n
		}
		if sum != want {
			t.Errorf("Claim gave %d builds, want %d", sum, want)
		}
	}
}

func TestClaimReturnsBuildsWhole(t *testing.T) {
	f := newFleet(t, memqueue.New(), &queue.Options{OfferTimeout: 7 * time.Second})
	specs := make(map[queue.ID][]byte)
	for i := range 40 {
		spec := bytes.Repeat([]byte{byte(i)}, queue.InlineSpec-20+i)
		id := f.submit(1, queue.Params{Spec: spec, RunTimeout: time.Minute, Source: &queue.Source{Size: int64(i)}})[0]
		specs[id] = spec
	}
	s := f.session("worker", nil)
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 40}})
	if err != nil || len(offers) != 40 {
		t.Fatalf("Claim gave %d offers, %v", len(offers), err)
	}
	for _, o := range offers {
		want := specs[o.Build]
		if !bytes.Equal(o.Spec, want) || o.SpecSize != len(want) || o.Source == nil || o.Expires != 7*time.Second || o.RunTimeout != time.Minute ||
			o.Epoch != 1 || o.Session != s || o.Project != "project" {
			t.Errorf("offer is %+v", o)
		}
	}
}

// Classes that are made while a process runs are learned, by all processes.
func TestClaimLearnsClasses(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	s := f.session("worker", queue.Labels{"n": "7"})
	for i := range 3 {
		f.submit(1, queue.Params{Labels: queue.Labels{"n": "7"}})
		f.submit(1, queue.Params{Labels: queue.Labels{"n": fmt.Sprint(100 + i)}})
		f.want(f.claim(queue.Idle{Session: s, Slots: 5}), s, "default", 1)
	}
	other := newFleet(t, f.Backend(), nil)
	f.submit(1, queue.Params{})
	late := other.session("late", nil)
	other.want(other.claim(queue.Idle{Session: late, Slots: 5}), late, "default", 1)
}

func TestClaimByManyAtOnce(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(300, queue.Params{})
	var given tally
	for i := range 8 {
		given.claimAll(f, f.session(fmt.Sprintf("worker-%d", i), nil), 3)
	}
	given.want(t, 300)
}

// A tally counts how often each build is given to somebody.
type tally struct {
	claiming sync.WaitGroup
	mu       sync.Mutex
	given    map[queue.ID]int
}

// claimAll has a session claim beside others until nothing is left.
func (c *tally) claimAll(f *fleet, s queue.SessionID, slots int) {
	c.claiming.Go(func() {
		for {
			offers, err := f.Claim(f.t.Context(), []queue.Idle{{Session: s, Slots: slots}})
			if err != nil {
				f.t.Error(err)
			}
			if len(offers) == 0 {
				return
			}
			c.add(offers)
		}
	})
}

func (c *tally) add(offers []queue.Offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given == nil {
		c.given = make(map[queue.ID]int)
	}
	for _, o := range offers {
		c.given[o.Build]++
	}
}

// want waits for all who claim, and checks that they were given so many builds, each once.
func (c *tally) want(t *testing.T, n int) {
	t.Helper()
	c.claiming.Wait()
	for id, times := range c.given {
		if times != 1 {
			t.Errorf("build %v was given %d times", id, times)
		}
	}
	if len(c.given) != n {
		t.Errorf("%d builds were given, want %d", len(c.given), n)
	}
}

var errBroken = errors.New("broken")

// A faulty backend fails when it is told to.
type faulty struct {
	queue.Backend
	claims int    // that succeed before one fails
	then   func() // after each of them
	specs  error
	probe  error
	class  error
	forget bool // specs are gone
}

func (b *faulty) Classes(ctx context.Context, after queue.ClassID, max int) ([]queue.Class, error) {
	if b.class != nil {
		return nil, b.class
	}
	return b.Backend.Classes(ctx, after, max)
}

func (b *faulty) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	if b.probe != nil {
		return nil, b.probe
	}
	return b.Backend.Probe(ctx, reaches, max)
}

func (b *faulty) Claim(ctx context.Context, d []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	if b.claims--; b.claims < 0 {
		return nil, errBroken
	}
	claimed, err := b.Backend.Claim(ctx, d, offer, now)
	if b.then != nil {
		b.then()
	}
	return claimed, err
}

func (b *faulty) Specs(ctx context.Context, ids []queue.ID) (map[queue.ID][]byte, error) {
	if b.specs != nil || b.forget {
		return nil, b.specs
	}
	return b.Backend.Specs(ctx, ids)
}

// When Claim returns an error together with offers, those offers were claimed and count.
func TestClaimErrorWithOffers(t *testing.T) {
	b := &faulty{Backend: memqueue.New(), claims: 3}
	f := newFleet(t, b, nil)
	more := func() { // so that a claim takes several rounds
		f.submit(1, queue.Params{Pool: "a"})
		f.submit(1, queue.Params{Pool: "b"})
	}
	more()
	b.then = more
	s := f.session("worker", nil, "a", "b")
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 10}})
	if !errors.Is(err, errBroken) || len(offers) != 6 {
		t.Fatalf("Claim gave %d offers, %v, want 6 and the error", len(offers), err)
	}
	for _, o := range offers {
		if err := f.Accept(t.Context(), s, o.AttemptID, queue.Digest{}); err != nil {
			t.Errorf("an offer that came with an error does not count: %v", err)
		}
	}
	for _, fault := range []*error{&b.class, &b.probe} {
		*fault = errBroken
		if offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}}); !errors.Is(err, errBroken) || len(offers) != 0 {
			t.Errorf("Claim = %v, %v, want the error", offers, err)
		}
		*fault = nil
	}
}

// A build whose spec cannot be read is given back, whatever kind of session it was given to, and does not stop the others.
func TestClaimWithoutSpec(t *testing.T) {
	for _, direct := range []bool{false, true} {
		for _, broken := range []error{errBroken, nil} {
			b := &faulty{Backend: memqueue.New(), claims: 1000, specs: broken, forget: true}
			f := newFleet(t, b, nil)
			small := f.submit(1, queue.Params{Spec: []byte("small")})[0]
			large := f.submit(1, queue.Params{Spec: make([]byte, queue.InlineSpec+1)})[0]
			s, err := f.OpenSession(t.Context(), queue.NewSession{Worker: "worker", Instance: "1", Pools: []string{"default"}, Slots: 2, Direct: direct})
			if err != nil {
				t.Fatal(err)
			}
			offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 2}})
			want := broken
			if want == nil {
				want = queue.ErrNotFound
			}
			if !errors.Is(err, want) || len(offers) != 1 || offers[0].Build != small {
				t.Errorf("Claim = %v, %v, want the small build and %v", offers, err, want)
			}
			got, err := f.Get(t.Context(), "project", large)
			if err != nil || got.State != queue.Pending {
				t.Errorf("direct %t: the large build is %v, %v, want it pending", direct, got.State, err)
			}
		}
	}
}

// cutOff ends its caller's context between a claim and the reading of large specs.
type cutOff struct {
	queue.Backend
	cut context.CancelFunc
}

func (c cutOff) Specs(ctx context.Context, _ []queue.ID) (map[queue.ID][]byte, error) {
	c.cut()
	return nil, ctx.Err()
}

func TestClaimThatIsCutOffGivesBack(t *testing.T) {
	for name, direct := range map[string]bool{"offered": false, "direct": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cut := context.WithCancel(t.Context())
			q := queue.New(cutOff{memqueue.New(), cut}, nil)
			id, err := q.Submit(t.Context(), queue.Params{Project: "site", Spec: make([]byte, queue.InlineSpec+1)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			session, err := q.OpenSession(t.Context(), queue.NewSession{
				Worker: "w", Instance: "i", Pools: []string{queue.DefaultPool}, Slots: 1, Direct: direct,
			})
			if err != nil {
				t.Fatal(err)
			}
			offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
			if len(offers) != 0 || err == nil {
				t.Fatalf("Claim = %v, %v; want no offers and an error", offers, err)
			}
			b, err := q.Get(t.Context(), "site", id)
			if err != nil || b.State != queue.Pending {
				t.Errorf("the build is %v, %v; want pending: nobody runs it", b.State, err)
			}
		})
	}
}
