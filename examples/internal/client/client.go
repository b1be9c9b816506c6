package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

const (
	// answerTimeout is how long a request that moves few bytes may take, besides what it was told to wait.
	answerTimeout = 30 * time.Second
	// stallTimeout ends a transfer that makes no progress.
	stallTimeout = time.Minute
	// maxAnswer is the largest JSON answer, in bytes: a full page of builds is far below.
	maxAnswer = 64 << 20

	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// Options are the settings of a [Client].
type Options struct {
	// Project is the project that requests are about. Default: that of the key, or "default" for an admin.
	Project string
	// Attempts is how often a request is sent before it fails. Negative means until its context ends. Default: 4, which is about
	// 1.5 s.
	Attempts int
	// OnOutage is called by a patient client with the error when the first sending of a request has failed, and with nil when that
	// request has been answered after all. Default: nothing is called.
	OnOutage func(error)
	// Transport sends the requests. Default: one of its own with timeouts, and with the proxies of the environment.
	Transport http.RoundTripper
}

// A Client sends requests to one controller, or to several behind one address. It is safe for concurrent use.
type Client struct {
	base *url.URL
	key  string
	opts Options
	http *http.Client
}

// New returns a client of the controller at baseURL ("https://builds.example.com") that presents key. It does not connect yet.
// Nil options are the defaults.
func New(baseURL, key string, o *Options) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("the controller's address %q is not a URL such as http://127.0.0.1:8080", baseURL)
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("the controller's address has a user, query or fragment: leave %q", base.Scheme+"://"+base.Host+base.Path)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the key holds spaces or characters that no key has")
	}
	c := &Client{base: base, key: key}
	if o != nil {
		c.opts = *o
	}
	if c.opts.Attempts == 0 {
		c.opts.Attempts = 4
	}
	if c.opts.Transport == nil {
		c.opts.Transport = newTransport()
	}
	c.http = &http.Client{
		Transport:     c.opts.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: 2 * time.Second,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}
}

// Patient returns a client that repeats requests until their context ends.
func (c *Client) Patient() *Client {
	patient := *c
	patient.opts.Attempts = -1
	return &patient
}

// A request is what is sent, possibly more than once.
type request struct {
	op     string
	method string
	path   string // escaped, below the base URL
	query  url.Values
	header http.Header
	global bool // it is about no project
	single bool // it is not sent again: a second one might do it twice
	// body opens what is sent; nil if nothing is. It is opened anew for each attempt.
	body func() (io.ReadCloser, error)
	size int64 // of the body
}

// once sends r one time. Every error is an *Error. A response has a status below 300; the caller closes its body.
func (c *Client) once(ctx context.Context, r request) (*http.Response, error) {
	target := c.base.JoinPath(r.path)
	query := maps.Clone(r.query)
	if c.opts.Project != "" && !r.global {
		if query == nil {
			query = url.Values{}
		}
		query.Set("project", c.opts.Project)
	}
	target.RawQuery = query.Encode()
	var body io.ReadCloser
	if r.body != nil {
		var err error
		if body, err = r.body(); err != nil {
			return nil, &Error{Op: r.op, Err: err}
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), nil)
	if err != nil {
		return nil, &Error{Op: r.op, Err: err}
	}
	if body != nil {
		req.Body = body // a nil io.ReadCloser in an io.Reader would not be nil
	}
	maps.Copy(req.Header, r.header)
	req.ContentLength = r.size
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &Error{Op: r.op, Err: c.unanswered(ctx, err)}
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		defer resp.Body.Close()
		return nil, &Error{Op: r.op, Err: problemOf(resp), after: retryAfter(resp.Header)}
	}
	return resp, nil
}

// problemOf reads a problem. The answer to HEAD has no body, so what can be meant is told by its status.
func problemOf(resp *http.Response) *worker.Problem {
	read := worker.ReadProblem(resp)
	if resp.Request.Method != http.MethodHead {
		return read
	}
	for _, sentinel := range []error{worker.ErrUnauthorized, worker.ErrForbidden, queue.ErrNotFound, worker.ErrUnavailable} {
		if p := worker.ProblemFor(sentinel); p.Status == read.Status {
			p.RequestID = resp.Header.Get("X-Request-Id")
			return p
		}
	}
	return read
}

// unanswered says why there is no answer, without the request's URL.
func (c *Client) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow) {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%w from %s: %w", ErrUnreachable, c.base, err)
}

// errSlow is the cause of contexts that end because an answer takes too long.
var errSlow = errors.New("it takes too long")

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// retry calls attempt until it succeeds, fails for good, or has been tried often enough.
func (c *Client) retry(ctx context.Context, attempt func() error) error {
	tell := c.opts.OnOutage
	if tell == nil || c.opts.Attempts > 0 {
		tell = func(error) {}
	}
	for try := 1; ; try++ {
		err := attempt()
		if err == nil {
			if try > 1 {
				tell(nil)
			}
			return nil
		}
		if ctx.Err() != nil || !temporary(err) || try == c.opts.Attempts {
			return err
		}
		if try == 1 {
			tell(err)
		}
		pause := min(minPause<<min(try-1, 10), maxPause)
		pause = pause/2 + rand.N(pause)
		if e, ok := errors.AsType[*Error](err); ok {
			pause = max(pause, e.after)
		}
		if !wait(ctx, pause) {
			return err
		}
	}
}

// wait returns true after d, and false when ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// exchange sends r with in as its JSON body, unless in is nil, and reads the answer into out, unless that is nil.
func (c *Client) exchange(ctx context.Context, r request, in, out any) error {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return &Error{Op: r.op, Err: err}
		}
		r.size = int64(len(body))
		r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.header = http.Header{"Content-Type": {"application/json"}}
	}
	attempt := func() error { return c.exchangeOnce(ctx, r, out) }
	if r.single {
		return attempt()
	}
	return c.retry(ctx, attempt)
}

func (c *Client) exchangeOnce(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errSlow)
	defer cancel()
	resp, err := c.once(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &Error{Op: r.op, Err: c.unanswered(ctx, err)}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &Error{Op: r.op, Err: fmt.Errorf("%s does not answer like a Slipway controller: %w", c.base, err)}
	}
	return nil
}
