package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

const (
	// longPoll is how long the controller is asked to wait for new bytes.
	longPoll = 20 * time.Second
	// maxPiece is how much of a log is asked for at once, in bytes.
	maxPiece = 1 << 20
	// buildPoll is how often a build is looked at while there is no log to wait for.
	buildPoll = 500 * time.Millisecond
)

// LogOptions say what of a build's log to read.
type LogOptions struct {
	// Epoch names the attempt. Zero is the newest, and those that come after it if Follow is set.
	Epoch int64
	// Follow goes on until the attempt, or with a zero Epoch the build, has ended.
	Follow bool
}

// A LogPiece is a part of an attempt's log.
type LogPiece struct {
	Epoch  int64
	Offset int64 // of Data in the attempt's log
	Data   []byte
	// Cut says that the log was longer than it may be, and ends here. Such a piece has no data, and is the last of its attempt.
	Cut bool
}

// Log yields the log of a build from its beginning, in order and without gaps. When a build that is followed is attempted again,
// the pieces of the new attempt begin at offset zero under a higher epoch. An error ends the sequence and is its last pair.
//
// The log of an attempt that was stored whole is compared with the length and SHA-256 that its worker reported: [ErrDamaged]. Other
// errors: [queue.ErrNotFound] for a build or an attempt that does not exist. A build that has not been attempted has an empty log.
func (c *Client) Log(ctx context.Context, id queue.ID, o LogOptions) iter.Seq2[LogPiece, error] {
	return func(yield func(LogPiece, error) bool) {
		r := logReader{client: c, id: id, epoch: o.Epoch, opts: o, sum: sha256.New()}
		for {
			piece, err := r.next(ctx)
			switch {
			case err == io.EOF:
				return
			case err != nil:
				yield(LogPiece{}, err)
				return
			case !yield(piece, nil):
				return
			}
		}
	}
}

// A logReader is a place in a build's log.
type logReader struct {
	client *Client
	id     queue.ID
	opts   LogOptions
	epoch  int64 // zero until it is known
	offset int64
	sum    hash.Hash // of what is before offset
	cut    bool      // it was told that the log is cut
}

// A page is one answer to a request for a part of a log.
type page struct {
	epoch, offset, length int64
	closed, cut           bool
	data                  []byte
}

// next returns the next piece, or io.EOF after the last.
func (r *logReader) next(ctx context.Context) (LogPiece, error) {
	for {
		p, err := r.read(ctx)
		if errors.Is(err, queue.ErrNotFound) && r.opts.Follow && r.offset == 0 {
			if err = r.awaitAttempt(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return LogPiece{}, err
		}
		if p.epoch == 0 { // not attempted yet
			if !r.opts.Follow {
				return LogPiece{}, io.EOF
			}
			if err := r.awaitAttempt(ctx); err != nil {
				return LogPiece{}, err
			}
			continue
		}
		r.epoch = p.epoch
		if len(p.data) > 0 {
			piece := LogPiece{Epoch: p.epoch, Offset: r.offset, Data: p.data}
			r.offset += int64(len(p.data))
			r.sum.Write(p.data)
			return piece, nil
		}
		if p.closed && p.cut && !r.cut {
			r.cut = true
			return LogPiece{Epoch: p.epoch, Offset: r.offset, Cut: true}, nil
		}
		if err := r.atEnd(ctx, p); err != nil {
			return LogPiece{}, err
		}
	}
}

// atEnd decides what comes after the last byte there is at the moment: nil means to read on.
func (r *logReader) atEnd(ctx context.Context, p page) error {
	if !p.closed {
		if r.opts.Follow {
			return nil // the request for more will wait
		}
		return io.EOF
	}
	build, err := r.client.Build(ctx, r.id)
	if err != nil {
		return err
	}
	if err := r.verify(build); err != nil {
		return err
	}
	if r.opts.Epoch != 0 || !r.opts.Follow {
		return io.EOF
	}
	return r.awaitAttempt(ctx)
}

// verify holds what was read against what the worker reported of it.
func (r *logReader) verify(build api.Build) error {
	for _, a := range build.Attempts {
		if a.Epoch != r.epoch || !a.LogComplete {
			continue
		}
		if a.LogLength != r.offset {
			err := fmt.Errorf("log of %s, epoch %d: %w: got %d of %d bytes", r.id, r.epoch, ErrDamaged, r.offset, a.LogLength)
			return &Error{Op: "read log", Err: err}
		}
		if got := hex.EncodeToString(r.sum.Sum(nil)); got != a.LogSHA256 {
			err := fmt.Errorf("log of %s, epoch %d: %w: the sum is %s, not %s", r.id, r.epoch, ErrDamaged, got, a.LogSHA256)
			return &Error{Op: "read log", Err: err}
		}
	}
	return nil
}

// awaitAttempt waits until there is an attempt that is newer than what was read, and turns to it. It returns io.EOF when the build
// has ended instead.
func (r *logReader) awaitAttempt(ctx context.Context) error {
	for {
		build, err := r.client.Build(ctx, r.id)
		if err != nil {
			return err
		}
		for _, a := range build.Attempts {
			if r.opts.Epoch == 0 && a.Epoch > r.epoch || r.opts.Epoch != 0 && a.Epoch == r.opts.Epoch {
				r.epoch, r.offset, r.cut = a.Epoch, 0, false
				r.sum.Reset()
				return nil
			}
		}
		if ended(build) && r.opts.Epoch != 0 {
			return &Error{Op: "read log", Err: fmt.Errorf("epoch %d of %s: %w", r.opts.Epoch, r.id, queue.ErrNotFound)}
		}
		if ended(build) {
			return io.EOF
		}
		if !wait(ctx, buildPoll) {
			return &Error{Op: "read log", Err: context.Cause(ctx)}
		}
	}
}

func ended(b api.Build) bool {
	state, err := queue.ParseState(b.State)
	return err == nil && state.Terminal()
}

// Wait returns a build once it has ended.
func (c *Client) Wait(ctx context.Context, id queue.ID) (api.Build, error) {
	for {
		build, err := c.Build(ctx, id)
		if err != nil || ended(build) {
			return build, err
		}
		if !wait(ctx, buildPoll) {
			return api.Build{}, &Error{Op: "wait", Err: context.Cause(ctx)}
		}
	}
}

// read asks for what follows at the reader's place.
func (r *logReader) read(ctx context.Context) (p page, err error) {
	query := url.Values{
		"offset": {strconv.FormatInt(r.offset, 10)},
		"limit":  {strconv.Itoa(maxPiece)},
	}
	if r.epoch != 0 {
		query.Set("epoch", strconv.FormatInt(r.epoch, 10))
	}
	timeout := answerTimeout
	if r.opts.Follow {
		query.Set("wait_ms", strconv.FormatInt(longPoll.Milliseconds(), 10))
		timeout += longPoll
	}
	req := request{op: "read log", method: http.MethodGet, path: buildPath(r.id) + "/log", query: query}
	err = r.client.retry(ctx, func() (err error) {
		p, err = r.client.readPage(ctx, req, timeout)
		return err
	})
	if err == nil && p.epoch != 0 && p.offset != r.offset {
		return page{}, &Error{Op: req.op, Err: fmt.Errorf("%w: asked for offset %d, got %d", ErrDamaged, r.offset, p.offset)}
	}
	return p, err
}

func (c *Client) readPage(ctx context.Context, r request, timeout time.Duration) (page, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	resp, err := c.once(ctx, r)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	p := page{closed: resp.Header.Get(api.LogClosed) == "true", cut: resp.Header.Get(api.LogCut) == "true"}
	for name, field := range map[string]*int64{api.LogEpoch: &p.epoch, api.LogOffset: &p.offset, api.LogLength: &p.length} {
		if *field, err = strconv.ParseInt(resp.Header.Get(name), 10, 64); err != nil {
			return page{}, &Error{Op: r.op, Err: fmt.Errorf("%s does not answer like a Slipway controller: header %s: %w", c.base, name, err)}
		}
	}
	p.data, err = io.ReadAll(io.LimitReader(resp.Body, 2*maxPiece))
	if err != nil {
		return page{}, &Error{Op: r.op, Err: c.unanswered(ctx, err)}
	}
	return p, nil
}
