package queue

import (
	"context"
	"slices"
	"time"
)

// MaxSlots is the largest number of builds that a worker may say it takes at once.
const MaxSlots = 1024

// Controller returns the id under which this process keeps sessions. It is a new one for each [Queue].
func (q *Queue) Controller() ID { return q.controller }

// Beat says that this process is alive for another [Options.ControllerTTL], and returns what it should know. Whoever holds sessions
// calls it several times in that time. Leases may be granted or renewed only while the last Beat that succeeded was begun less
// than ControllerTTL ago.
func (q *Queue) Beat(ctx context.Context) (Beat, error) {
	beat, err := q.backend.Beat(ctx, q.controller, q.opts.ControllerTTL, time.Time{})
	if err == nil {
		q.fleet.leave(beat.Ended)
	}
	return beat, wrap("beat", ID{}, err)
}

// OpenSession begins a worker's session in this process; s.Controller is filled in. A session that the worker has elsewhere is
// ended, and told to its controller by [Queue.Beat]. Sessions that are opened at once go to the backend together; whoever comes alone
// waits for nobody.
//
// Errors: [ErrInvalid].
func (q *Queue) OpenSession(ctx context.Context, s NewSession) (SessionID, error) {
	s.Controller = q.controller
	if err := s.check(); err != nil {
		return 0, wrap("open session", ID{}, err)
	}
	opened, err := q.openings.Do(ctx, opening{ctx, s})
	if err == nil && opened.Session == 0 {
		err = ctx.Err()
	}
	if err != nil {
		return 0, wrap("open session", ID{}, err)
	}
	q.fleet.join(opened, s)
	return opened.Session, nil
}

// gatherSessions bounds how often sessions are opened when thousands of workers come at once, as after a restart: to 50 times a second.
const gatherSessions = 20 * time.Millisecond

// An opening is a session that is to be opened, as long as its context lasts.
type opening struct {
	ctx context.Context
	NewSession
}

// open opens sessions that come together. Those whose callers have given up meanwhile are ended again, and come back as zero.
func (q *Queue) open(ctx context.Context, openings []opening) ([]Opened, error) {
	sessions := make([]NewSession, len(openings))
	for i := range openings {
		sessions[i] = openings[i].NewSession
	}
	opened, err := q.backend.OpenSessions(ctx, sessions, time.Time{})
	if err != nil || len(opened) != len(openings) {
		return opened, err
	}
	var abandoned []SessionID
	for i := range openings {
		if openings[i].ctx.Err() != nil {
			abandoned = append(abandoned, opened[i].Session)
			opened[i] = Opened{}
		}
	}
	if err := q.LoseSessions(context.WithoutCancel(ctx), abandoned...); err != nil {
		q.opts.Logger.Warn("sessions not ended that nobody waits for; they end with their controller", "error", err)
	}
	return opened, nil
}

func (s *NewSession) check() error {
	if err := CheckName("worker", s.Worker); err != nil {
		return err
	}
	if s.Instance == "" || len(s.Instance) > MaxName || !all(s.Instance, visibleByte) {
		return invalid("instance", "must be 1 to %d visible ASCII characters", MaxName)
	}
	if err := s.Labels.Check(); err != nil {
		return err
	}
	if len(s.Pools) == 0 || len(s.Pools) > 64 {
		return invalid("pools", "must be 1 to 64")
	}
	for _, pool := range s.Pools {
		if err := CheckName("pool", pool); err != nil {
			return err
		}
	}
	if s.Slots < 1 || s.Slots > MaxSlots {
		return invalid("slots", "must be between 1 and %d", MaxSlots)
	}
	return nil
}

// Adopt gives a new session the leases that its worker says it still holds, and returns how each of them stands. What is held but not
// returned is stale: the worker must stop it. What the worker does not hold is pending again if it was only offered; if it runs, it has
// [Options.Grace] to turn up after all, because held may be what the worker said before it was given the build. If nothing is held, and
// nothing was offered to the worker when the session was opened, there is nothing to be done, and the backend is not asked.
//
// Errors: [ErrInvalid]; [ErrNotFound] if the session has ended meanwhile.
func (q *Queue) Adopt(ctx context.Context, session SessionID, held []AttemptID) ([]Lease, error) {
	if len(held) > MaxSlots {
		return nil, wrap("adopt", ID{}, invalid("held builds", "must be at most %d", MaxSlots))
	}
	if len(held) == 0 && q.fleet.clean(session) {
		return nil, wrap("adopt", ID{}, ctx.Err())
	}
	adopted, err := q.backend.Adopt(ctx, session, held, time.Time{})
	if err == nil && adopted.Released > 0 {
		q.floors.drop()
		q.tell(Hint{Any: true})
	}
	return adopted.Leases, wrap("adopt", ID{}, err)
}

// LoseSessions notes that the connections of sessions are gone. What was offered to them is pending at once; what runs on them has
// [Options.Grace] to be adopted by a new session.
func (q *Queue) LoseSessions(ctx context.Context, sessions ...SessionID) error {
	q.fleet.leave(sessions)
	if len(sessions) == 0 {
		return nil
	}
	err := q.backend.LoseSessions(ctx, sessions, time.Time{})
	if err == nil {
		q.floors.drop()
		q.tell(Hint{Any: true})
	}
	return wrap("lose sessions", ID{}, err)
}

// Leases returns every build that this process's sessions hold or are offered.
func (q *Queue) Leases(ctx context.Context) ([]Lease, error) {
	leases, err := q.backend.Leases(ctx, q.controller, false)
	return leases, wrap("leases", ID{}, err)
}

// Cancels returns the builds of this process's sessions that their workers should stop. It is cheap; [Queue.Wakes] tells when to call it.
func (q *Queue) Cancels(ctx context.Context) ([]Lease, error) {
	leases, err := q.backend.Leases(ctx, q.controller, true)
	return leases, wrap("cancels", ID{}, err)
}

// maintainLimit bounds how many builds of each kind one call of Maintain moves, and with it how long its locks are held.
const maintainLimit = 512

// keepKeys is how long after its build's end an idempotency key is remembered.
const keepKeys = 24 * time.Hour

// Maintain does what is due: builds whose class is new, whose time has come or whose back-off is over are queued or left to be admitted,
// those past a deadline end, leases of lost sessions are swept, what is old is deleted. [Queue.Run] calls it; it is here for whoever
// drives a queue by hand. Any number of processes may call it. It sweeps leases only if this process has been alive, by its
// [Queue.Beat], for a full [Options.Grace], so that nobody's builds are taken away after an outage of the database that kept everybody
// from reporting. With an error it returns what was done nevertheless.
func (q *Queue) Maintain(ctx context.Context) (Maintained, error) {
	rules := Rules{
		Controller: q.controller, Grace: q.opts.Grace, Avoid: q.opts.Avoid,
		KeepKeys: keepKeys, Retention: q.opts.Retention, Limit: maintainLimit,
	}
	done, err := q.backend.Maintain(ctx, rules, time.Time{})
	q.maintained(done)
	return done, wrap("maintain", ID{}, err)
}

// maintained tells what follows from a call of Maintain.
func (q *Queue) maintained(done Maintained) {
	if done.Interned > 0 {
		q.fleet.expect()
		q.bells.serve.ring()
		q.bells.admit.ring()
	}
	if done.Queued+done.Released+done.Requeued > 0 {
		q.tell(Hint{Heads: done.Heads, Any: len(done.Heads) == 0})
	}
	if done.Expired+done.Released+done.TimedOut+done.Canceled+done.Requeued+done.Lost > 0 {
		q.watchers.ringAll()
		q.bells.admit.ring()
	}
}

// clone keeps a session's facts apart from its caller's.
func (s NewSession) clone() NewSession {
	s.Pools = slices.Clone(s.Pools)
	s.Labels = cloneLabels(s.Labels)
	return s
}
