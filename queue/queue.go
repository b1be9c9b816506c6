package queue

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-build/slipway/internal/together"
)

// Options configure a [Queue]. The zero value, and nil, mean the defaults. Every process that works on the same database
// should use the same times.
type Options struct {
	// RunTimeout is how long an attempt may run if its submitter does not say. Default: 1 h.
	RunTimeout time.Duration
	// MaxAttempts is how often a build may be started if its submitter does not say. Default: 3.
	MaxAttempts int
	// OfferTimeout is how long a worker has to answer an offer. Default: 10 s.
	OfferTimeout time.Duration
	// Avoid is how long a build is not offered to the worker that declined it, let its offer run out, or lost it. After that the
	// worker may have it again, so that a build with a single fitting worker does not wait forever. Default: 30 s.
	Avoid time.Duration
	// Grace is how long a lost session's running builds wait for their worker to come back, and how long a dead controller's
	// wait for a controller to take over. It must exceed the lease of the workers plus the time they need to kill a build
	// (worker.Hub checks that). Default: 60 s.
	Grace time.Duration
	// Slack is how long after a build's run timeout its worker's report is awaited. Default: 30 s.
	Slack time.Duration
	// CancelTimeout is how long after a cancel the worker's report is awaited. Default: 40 s, the cancel grace of 10 s and
	// 30 s more.
	CancelTimeout time.Duration
	// ControllerTTL is how long after its last beat a controller counts as alive. Default: 20 s.
	ControllerTTL time.Duration
	// MaintainEvery is how often [Queue.Run] looks for what is due, give or take a fifth, without being told. Default: 1 s.
	MaintainEvery time.Duration
	// Backoff is the wait before a build is attempted again if its submitter does not say. Default: 5 s, at most 5 min.
	Backoff Backoff
	// Retention is how long after its end a build is kept, with its attempts, log and artifacts' rows. Default: forever.
	Retention time.Duration
	// LogBytes and LogLines bound the log of each attempt. What is longer is cut. Defaults: 64 MiB and 1,000,000 lines.
	LogBytes int64
	LogLines int64
	// Archive takes the logs of attempts that have ended, compressed, out of the backend. Default: they stay there.
	Archive LogArchive
	// PollOnly keeps the queue from using the backend's notifications, as behind a PgBouncer that gives a connection to a
	// transaction at a time. Default: they are used where the backend has them.
	PollOnly bool
	// Logger takes what happens in the background. Default: [slog.Default].
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&opts.RunTimeout, time.Hour},
		{&opts.OfferTimeout, 10 * time.Second},
		{&opts.Avoid, 30 * time.Second},
		{&opts.Grace, time.Minute},
		{&opts.Slack, 30 * time.Second},
		{&opts.CancelTimeout, 40 * time.Second},
		{&opts.ControllerTTL, 20 * time.Second},
		{&opts.MaintainEvery, time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if opts.MaxAttempts <= 0 {
		opts.MaxAttempts = 3
	}
	if opts.LogBytes <= 0 {
		opts.LogBytes = 64 << 20
	}
	if opts.LogLines <= 0 {
		opts.LogLines = 1_000_000
	}
	opts.Backoff = opts.Backoff.or(Backoff{Base: 5 * time.Second, Max: 5 * time.Minute})
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return opts
}

// A Queue is the front end of a build queue: it checks arguments, fills in defaults, and turns what its [Backend] stores into
// answers and errors. It is safe for concurrent use. Any number of processes may each have a Queue on one database.
//
// A Queue needs no closing, and starts no goroutines but for calls of the backend that several callers wait for, those of [Queue.Submit],
// of [Queue.OpenSession] and of [Queue.FollowLog], while they do: [Queue.Run] is what keeps it going.
type Queue struct {
	backend    Backend
	opts       Options
	controller ID
	turn       chan struct{} // of the Run that does the work
	bells      bells
	fleet      fleet
	appetite   appetite
	floors     floors
	fronts     fronts
	listeners  listeners
	watchers   watchers
	tails      tails
	outbox     outbox
	unsaid     unsaid
	submits    *together.Group[NewBuild, Submitted]
	openings   *together.Group[opening, Opened]
	crew       crew
}

// Bells call for chores of Run.
type bells struct {
	maintain, admit, serve, survey, archive bell
}

// New returns a queue on a backend. A nil o means the defaults.
func New(b Backend, o *Options) *Queue {
	q := &Queue{
		backend:    b,
		opts:       o.withDefaults(),
		controller: NewID(),
		turn:       make(chan struct{}, 1),
		bells: bells{
			maintain: newBell(), admit: newBell(), serve: newBell(), survey: newBell(), archive: newBell(),
		},
		outbox: outbox{bell: newBell()},
	}
	q.submits = together.NewGroup(q.store, together.Limits[NewBuild]{
		Calls: 2, Most: 500, Size: func(b NewBuild) int { return len(b.Spec) }, Bytes: 4 << 20,
	})
	q.openings = together.NewGroup(q.open, together.Limits[opening]{Calls: 1, Most: 500, Gather: gatherSessions})
	return q
}

// Backend returns the backend that q was made with.
func (q *Queue) Backend() Backend { return q.backend }

// Options returns the options in force, defaults filled in.
func (q *Queue) Options() Options { return q.opts }

// Cancel ends a build: at once if nothing runs yet, else by telling its worker, in which case the build is [Cancelling] until the
// worker reports. It returns the state after the call. Canceling again is not an error. The reason is shown to people; one line of
// at most 200 bytes is kept of it.
//
// Errors: [ErrNotFound]; [ErrFinished] if the build has ended otherwise.
func (q *Queue) Cancel(ctx context.Context, project string, id ID, reason string) (State, error) {
	done, err := q.cancel(ctx, project, []ID{id}, reason)
	switch {
	case err != nil:
		return 0, wrap("cancel", id, err)
	case len(done) == 0:
		return 0, wrap("cancel", id, ErrNotFound)
	case done[0].State != Canceled && done[0].State.Terminal():
		return 0, wrap("cancel", id, ErrFinished)
	default:
		return done[0].State, nil
	}
}

// CancelMany is [Queue.Cancel] for several builds of a project, at most [MaxBatch]. It returns the state of each after the call, in any
// order. What the project does not have is left out; what had ended before has the state in which it ended.
//
// Errors: [ErrInvalid].
func (q *Queue) CancelMany(ctx context.Context, project string, ids []ID, reason string) ([]CanceledBuild, error) {
	done, err := q.cancel(ctx, project, ids, reason)
	return done, wrap("cancel", ID{}, err)
}

func (q *Queue) cancel(ctx context.Context, project string, ids []ID, reason string) ([]CanceledBuild, error) {
	if err := CheckName("project", project); err != nil {
		return nil, err
	}
	if len(ids) > MaxBatch {
		return nil, invalid("batch", "must be at most %d builds", MaxBatch)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	done, err := q.backend.Cancel(ctx, project, ids, legible(reason), q.opts.CancelTimeout, time.Time{})
	if err == nil {
		q.tell(canceled(done))
		if slices.ContainsFunc(done, func(c CanceledBuild) bool { return c.Admitted && c.State == Canceled }) {
			q.bells.admit.ring()
		}
	}
	return done, err
}

// Get returns a build of a project.
//
// Errors: [ErrNotFound], also for a build of another project.
func (q *Queue) Get(ctx context.Context, project string, id ID) (Build, error) {
	if err := CheckName("project", project); err != nil {
		return Build{}, wrap("get", id, err)
	}
	b, err := q.backend.Get(ctx, project, id)
	return b, wrap("get", id, err)
}

// List returns a page of builds, newest first. The id of its last build is the cursor for the page that follows; a
// page shorter than the limit is the last. Builds submitted meanwhile do not shift the pages.
//
// Errors: [ErrInvalid].
func (q *Queue) List(ctx context.Context, filter Filter) ([]Build, error) {
	if filter.Limit == 0 {
		filter.Limit = 50
	}
	if err := filter.check(); err != nil {
		return nil, wrap("list", ID{}, err)
	}
	builds, err := q.backend.List(ctx, filter)
	return builds, wrap("list", ID{}, err)
}

func (f *Filter) check() error {
	if f.AllProjects {
		if f.Project != "" {
			return invalid("project", "must be empty in a list of all projects")
		}
	} else if err := CheckName("project", f.Project); err != nil {
		return err
	}
	if f.Worker != "" {
		if err := CheckName("worker", f.Worker); err != nil {
			return err
		}
	}
	if f.Pool != "" {
		if err := CheckName("pool", f.Pool); err != nil {
			return err
		}
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return invalid("limit", "must be between 1 and %d", MaxPage)
	}
	for _, s := range f.States {
		if !s.Valid() {
			return invalid("state", "must be one of %v", States())
		}
	}
	return nil
}

// Attempts returns the attempts of a build, oldest first.
//
// Errors: [ErrNotFound].
func (q *Queue) Attempts(ctx context.Context, project string, id ID) ([]Attempt, error) {
	if err := CheckName("project", project); err != nil {
		return nil, wrap("attempts", id, err)
	}
	attempts, err := q.backend.Attempts(ctx, project, id)
	return attempts, wrap("attempts", id, err)
}

// Ping returns nil if the backend answers and has a schema that this code can work with.
func (q *Queue) Ping(ctx context.Context) error { return wrap("ping", ID{}, q.backend.Ping(ctx)) }

// maxText is how many bytes are kept of a text that is shown to people.
const maxText = 200

// legible makes one line of valid UTF-8 of a text that is shown to people, and bounds it without cutting a character.
func legible(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*maxText)], "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	end := min(len(s), maxText)
	for end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
