package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/slipway-build/slipway/internal/token"
)

// errStalled says that a transfer made no progress for too long.
var errStalled = errors.New("no progress")

// newClient returns the client for transfers. It follows no redirects, so that build tokens go nowhere else, and knows of no proxy.
func newClient(o *AgentOptions) *http.Client {
	var config *tls.Config
	if o.TLS != nil {
		config = o.TLS.Clone()
		config.NextProtos = nil // one that is shared with another client may offer h2, which this transport does not speak
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: o.DialTimeout}).DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   o.DialTimeout,
			ResponseHeaderTimeout: o.StallTimeout,
			ExpectContinueTimeout: 2 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   o.Slots,
			DisableCompression:    true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A courier moves the bytes of one attempt between the worker and whichever controller it is connected to.
type courier struct {
	client   *http.Client
	base     func() *url.URL // of the controller
	token    token.Token
	stall    time.Duration // how long a transfer may make no progress
	patience time.Duration // how long to try again without any
}

// retry calls try until it succeeds or fails for good, which is what a controller's refusal is, or until there was no progress for too
// long. try reports whether it made some.
func (c *courier) retry(ctx context.Context, try func() (progress bool, err error)) error {
	const least, most = 200 * time.Millisecond, 10 * time.Second
	wait, since := least, time.Now()
	for {
		progress, err := try()
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if progress {
			wait, since = least, time.Now()
		} else if time.Since(since) > c.patience {
			return err
		}
		if !sleep(ctx, pause(wait, nil)) {
			return context.Cause(ctx)
		}
		wait = min(2*wait, most)
	}
}

// A permanentError is one that trying again does not help against.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// final reports whether trying again is of no use.
func final(err error) bool {
	if _, ok := errors.AsType[permanentError](err); ok {
		return true
	}
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		return false
	}
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusInsufficientStorage:
		return true
	default:
		return p.Status < http.StatusInternalServerError
	}
}

// request sends a request that carries the build token, and returns the answer if its status is among those wanted. The path is that of
// the controller, escaped, and may have a query. Whatever edit makes the body of must call touch when it makes progress.
func (c *courier) request(
	ctx context.Context, method, path string, edit func(r *http.Request, touch func()), want ...int,
) (*http.Response, error) {
	target, err := resolve(c.base(), path)
	if err != nil {
		return nil, permanentError{err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	guard := time.AfterFunc(c.stall, func() { cancel(errStalled) })
	touch := func() { guard.Reset(c.stall) }
	end := func() { guard.Stop(); cancel(nil) }
	r, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		end()
		return nil, permanentError{err}
	}
	r.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	edit(r, touch)
	response, err := c.client.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		end()
		return nil, err
	}
	response.Body = &guardedBody{ReadCloser: response.Body, touch: touch, end: end, ctx: ctx}
	if slices.Contains(want, response.StatusCode) {
		return response, nil
	}
	defer response.Body.Close()
	return nil, ReadProblem(response)
}

// guardedBody is a body that is cut off when it makes no progress.
type guardedBody struct {
	io.ReadCloser
	touch, end func()
	ctx        context.Context
}

func (b *guardedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.touch()
	}
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *guardedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// resolve puts an absolute path, which may have a query, below a controller's URL. It never leads to another host.
func resolve(base *url.URL, path string) (*url.URL, error) {
	ref, err := url.Parse(path)
	if err != nil || ref.Scheme != "" || ref.Host != "" || ref.User != nil || ref.Opaque != "" || len(path) == 0 || path[0] != '/' {
		return nil, fmt.Errorf("the controller sent a path that is none: %.100q", path)
	}
	target := base.JoinPath(ref.EscapedPath())
	target.RawQuery = ref.RawQuery
	return target, nil
}
