package queue_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

func TestPrepareFillsInDefaults(t *testing.T) {
	q := queue.New(memqueue.New(), &queue.Options{RunTimeout: 7 * time.Minute, MaxAttempts: 9})
	builds, err := q.Prepare(queue.Params{Project: "site"})
	if err != nil {
		t.Fatal(err)
	}
	b := builds[0]
	if b.ID.IsZero() || b.Pool != queue.DefaultPool || b.RunTimeout != 7*time.Minute || b.MaxAttempts != 9 || b.QueueTimeout != 0 || b.Source != nil {
		t.Errorf("build is %+v", b)
	}
	p := queue.Params{
		ID: queue.NewID(), Project: "site", Pool: "ci", Labels: queue.Labels{"a": "b"}, Spec: []byte("spec"), Source: &queue.Source{Size: 1},
		QueueTimeout: time.Hour, RunTimeout: time.Minute, MaxAttempts: 1,
	}
	builds, err = q.Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	b = builds[0]
	if b.ID != p.ID || b.Pool != "ci" || b.QueueTimeout != time.Hour || b.RunTimeout != time.Minute || b.MaxAttempts != 1 || *b.Source != *p.Source {
		t.Errorf("build is %+v", b)
	}
	p.Labels["a"], p.Spec[0], p.Source.Size = "c", 'X', 2
	if b.Labels["a"] != "b" || !bytes.Equal(b.Spec, []byte("spec")) || b.Source.Size != 1 {
		t.Errorf("the build changes with its params: %+v", b)
	}
}

func TestPrepareChecks(t *testing.T) {
	q := queue.New(memqueue.New(), nil)
	for name, change := range map[string]func(p *queue.Params){
		"id":             func(p *queue.Params) { p.ID = queue.ID{1} },
		"id version":     func(p *queue.Params) { p.ID = queue.NewID(); p.ID[6] = 0x40 },
		"project":        func(p *queue.Params) { p.Project = "" },
		"project path":   func(p *queue.Params) { p.Project = "../x" },
		"pool":           func(p *queue.Params) { p.Pool = "A" },
		"label":          func(p *queue.Params) { p.Labels = queue.Labels{"": "x"} },
		"spec":           func(p *queue.Params) { p.Spec = make([]byte, queue.MaxSpec+1) },
		"source":         func(p *queue.Params) { p.Source = &queue.Source{Size: -1} },
		"source too big": func(p *queue.Params) { p.Source = &queue.Source{Size: math.MaxInt64} },
		"queue timeout":  func(p *queue.Params) { p.QueueTimeout = -1 },
		"long wait":      func(p *queue.Params) { p.QueueTimeout = queue.MaxTimeout + 1 },
		"run timeout":    func(p *queue.Params) { p.RunTimeout = -time.Second },
		"long run":       func(p *queue.Params) { p.RunTimeout = queue.MaxTimeout + 1 },
		"attempts":       func(p *queue.Params) { p.MaxAttempts = -1 },
		"many attempts":  func(p *queue.Params) { p.MaxAttempts = queue.MaxMaxAttempts + 1 },
	} {
		p := queue.Params{Project: "site"}
		change(&p)
		_, err := q.Prepare(p)
		wantInvalid(t, name, err)
		_, err = q.Submit(t.Context(), p)
		wantInvalid(t, name, err)
		if wrapped, ok := errors.AsType[*queue.Error](err); !ok || wrapped.Op != "submit" {
			t.Errorf("%s: error is %#v", name, err)
		}
		_, err = q.Prepare(queue.Params{Project: "site"}, p)
		if wantInvalid(t, name, err); err != nil && !strings.Contains(err.Error(), "item 1") {
			t.Errorf("%s: error does not name the item: %v", name, err)
		}
	}
	ok := queue.Params{
		Project: "site", Spec: make([]byte, queue.MaxSpec), QueueTimeout: queue.MaxTimeout, RunTimeout: queue.MaxTimeout,
		MaxAttempts: queue.MaxMaxAttempts, Source: &queue.Source{Size: math.MaxInt64 - 1},
	}
	if _, err := q.Prepare(ok); err != nil {
		t.Errorf("params at their limits: %v", err)
	}
	_, err := q.Prepare(make([]queue.Params, queue.MaxBatch+1)...)
	wantInvalid(t, "batch", err)
}

func TestDelay(t *testing.T) {
	const most = time.Duration(math.MaxInt64)
	for _, c := range []struct {
		base, longest time.Duration
		used          int
		want          time.Duration
	}{
		{5, 100, 1, 5},
		{5, 100, 2, 10},
		{5, 100, 3, 20},
		{5, 100, 5, 80},
		{5, 100, 6, 100},
		{5, 100, 1000, 100},
		{0, 100, 5, 0},
		{5, 0, 1, 0},
		{200, 100, 1, 100},
		{5, 100, 0, 5},
		{1, most, 1000, most},
		{most, most, 3, most},
	} {
		r := queue.Backoff{Base: c.base, Max: c.longest}
		if got := r.Delay(c.used); got != c.want {
			t.Errorf("%d doubled from %d on, at most %d, is %d, want %d", c.used, c.base, c.longest, got, c.want)
		}
	}
}

func TestOptionsDefaults(t *testing.T) {
	o := queue.New(memqueue.New(), nil).Options()
	if o.Grace <= o.OfferTimeout || o.MaxAttempts != 3 || o.RunTimeout != time.Hour || o.ControllerTTL != 20*time.Second || o.Logger == nil {
		t.Errorf("defaults are %+v", o)
	}
	given := queue.Options{Grace: time.Second, MaxAttempts: -1}
	o = queue.New(memqueue.New(), &given).Options()
	if o.Grace != time.Second || o.MaxAttempts != 3 || given.MaxAttempts != -1 {
		t.Errorf("options are %+v, given %+v", o, given)
	}
}

func TestTimeoutsAreWholeMicroseconds(t *testing.T) {
	builds, err := queue.New(memqueue.New(), nil).Prepare(queue.Params{
		Project: "site", QueueTimeout: 1, RunTimeout: time.Second + 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if b := builds[0]; b.QueueTimeout != time.Microsecond || b.RunTimeout != time.Second+time.Microsecond {
		t.Errorf("got %v and %v, want them rounded up to microseconds", b.QueueTimeout, b.RunTimeout)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	q := queue.New(memqueue.New(), nil)
	large := queue.Params{Project: "site", Spec: make([]byte, queue.MaxSpec)}
	fits := slices.Repeat([]queue.Params{large}, queue.MaxBatchBytes/queue.MaxSpec)
	if _, err := q.Prepare(fits...); err != nil {
		t.Errorf("a batch of MaxBatchBytes: %v", err)
	}
	if _, err := q.Prepare(append(fits, large)...); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("a larger batch: %v, want ErrInvalid", err)
	}
	id := queue.AttemptID{Build: queue.NewID(), Epoch: 1}
	_, err := q.AppendLogs(t.Context(), []queue.LogChunk{{AttemptID: id, Data: make([]byte, queue.MaxLogChunk+1)}})
	if !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("a chunk above MaxLogChunk: %v, want ErrInvalid", err)
	}
}
