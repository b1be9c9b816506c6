package queue

import (
	"context"
	"errors"
	"iter"
)

// FollowLog yields the log of an attempt from an offset on, in order and without gaps, and what is added to it until the attempt ends,
// whichever process adds it. An epoch of zero stands for the newest attempt or, as long as there is none, the first.
//
// Each page has data, but for the last of an attempt, which has none: Closed is set, and Cut if the log is not whole. The data is shared
// and must not be changed. A build that ended without an attempt has no page. The sequence may be ranged over again, which begins anew.
//
// What this process adds is seen at once; what others add within 100 ms while there is much, and within a second or so after a pause. All
// who follow a log in a process share its reads, and a MiB of its end; one who is slower than that reads what it missed by itself, so
// nobody waits for anybody. When the caller stops, all that was kept for it is freed.
//
// Errors: [ErrInvalid]; [ErrNotFound], also when the build is deleted meanwhile; that of ctx when it ends first. An error comes with a
// zero page, and ends the sequence. A database that is away for a while after the first look is waited for.
func (q *Queue) FollowLog(ctx context.Context, project string, id AttemptID, offset int64) iter.Seq2[LogPage, error] {
	return q.follow(ctx, project, id, offset, false)
}

// FollowLogs is [Queue.FollowLog] for an attempt and all that come after it, each from its beginning, until the build has ended.
func (q *Queue) FollowLogs(ctx context.Context, project string, id AttemptID, offset int64) iter.Seq2[LogPage, error] {
	return q.follow(ctx, project, id, offset, true)
}

func (q *Queue) follow(ctx context.Context, project string, id AttemptID, offset int64, all bool) iter.Seq2[LogPage, error] {
	return func(yield func(LogPage, error) bool) {
		f := follower{queue: q, ctx: ctx, project: project, yield: yield}
		var err error
		switch {
		case offset < 0 || id.Epoch < 0:
			err = invalid("offset and epoch", "must not be negative")
		case id.Epoch == 0 || all:
			err = f.build(id, offset, all)
		default:
			err = f.attempt(id, offset)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(LogPage{}, wrap("follow log", id.Build, unwrapped(err)))
		}
	}
}

// unwrapped returns what an error of another operation is about.
func unwrapped(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err
	}
	return err
}

// errStopped says that whoever ranges over a sequence wants no more of it.
var errStopped = errors.New("stopped")

// A follower follows a log.
type follower struct {
	queue   *Queue
	ctx     context.Context
	project string
	yield   func(LogPage, error) bool
	known   bool // the database has answered
}

// build follows an attempt, or the newest, and those after it if all are wanted.
func (f *follower) build(id AttemptID, offset int64, all bool) error {
	next := id.Epoch
	if next != 0 {
		if _, err := f.read(id, offset, 1); err != nil { // there is no such attempt
			return err
		}
	}
	for b, err := range f.queue.Watch(f.ctx, f.project, id.Build) {
		if err != nil {
			return err
		}
		attempts, err := f.attempts(id.Build)
		if err != nil {
			return err
		}
		switch n := len(attempts); {
		case next != 0:
		case n == 0:
			next = 1 // whichever comes first, even if others follow unseen
		default:
			next = attempts[n-1].Epoch
		}
		for _, a := range attempts {
			if a.Epoch < next {
				continue
			}
			if err := f.attempt(AttemptID{Build: id.Build, Epoch: a.Epoch}, offset); err != nil || !all {
				return err
			}
			next, offset = a.Epoch+1, 0
		}
		if b.State.Terminal() {
			return nil
		}
	}
	return nil
}

// attempt follows the log of an attempt: first by itself, then, from the end of what is there, with all others.
func (f *follower) attempt(id AttemptID, offset int64) error {
	var t *tail
	for {
		page, err := f.read(id, offset, tailRead)
		if err != nil {
			return err
		}
		if offset, err = f.pass(page, offset); err != nil || page.ends(offset) {
			return err
		}
		if offset < page.Length {
			continue
		}
		if t == nil {
			t = f.queue.tails.join(f.ctx, f.queue, f.project, id, offset)
			defer f.queue.tails.leave(id, t)
		}
		if offset, err = f.along(t, offset); !errors.Is(err, errBehind) {
			return err
		}
	}
}

// errBehind says that what a follower needs is not kept any more.
var errBehind = errors.New("behind")

// along follows a tail until its end. It returns errBehind, and where, if what follows is not kept.
func (f *follower) along(t *tail, offset int64) (int64, error) {
	for {
		page, changed, err := t.at(offset)
		if err != nil {
			return offset, err
		}
		if changed == nil {
			if offset, err = f.pass(page, offset); err != nil || page.ends(offset) {
				return offset, err
			}
			continue
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return offset, f.ctx.Err()
		}
	}
}

// pass yields the page at offset, in two if it is the last as well. It returns the offset of what follows.
func (f *follower) pass(page LogPage, offset int64) (int64, error) {
	if len(page.Data) > 0 {
		closed := page.Closed
		page.Closed = false
		if !f.yield(page, nil) {
			return offset, errStopped
		}
		offset += int64(len(page.Data))
		page.Offset, page.Data, page.Closed = offset, nil, closed
	}
	if page.ends(offset) && !f.yield(page, nil) {
		return offset, errStopped
	}
	return offset, nil
}

// ends reports whether nothing will ever follow at offset.
func (p *LogPage) ends(offset int64) bool { return p.Closed && offset >= p.Length }

// read reads a page.
func (f *follower) read(id AttemptID, offset int64, most int) (page LogPage, err error) {
	err = f.patiently(func() error {
		page, err = f.queue.ReadLog(f.ctx, f.project, id, offset, most)
		return err
	})
	return page, err
}

func (f *follower) attempts(id ID) (attempts []Attempt, err error) {
	err = f.patiently(func() error {
		attempts, err = f.queue.Attempts(f.ctx, f.project, id)
		return err
	})
	return attempts, err
}

// patiently looks at the database. It waits for one that is away, unless it never answered.
func (f *follower) patiently(look func() error) error {
	backoff := pace{shortest: tailShortest, longest: tailLongest}
	backoff.quicken()
	for {
		err := look()
		f.known = f.known || err == nil
		if !f.known || !errors.Is(err, ErrUnavailable) || f.ctx.Err() != nil {
			return err
		}
		sleep(f.ctx, backoff.next())
	}
}
