package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

const (
	buildsPath = "/v1/builds"
	keysPath   = "/v1/keys"
)

func buildPath(id queue.ID) string { return buildsPath + "/" + id.String() }

// Submit adds a build and returns it. A build without an id gets one; so if the answer to the first sending is lost, the second finds the
// build, and there is one.
//
// Errors: [queue.ErrInvalid], and [worker.ErrForbidden] for a pool that the key may not use.
func (c *Client) Submit(ctx context.Context, b api.NewBuild) (api.Build, error) {
	if b.ID == "" {
		b.ID = queue.NewID().String()
	}
	id, err := queue.ParseID(b.ID)
	if err != nil {
		return api.Build{}, &Error{Op: "submit", Err: err}
	}
	var build api.Build
	err = c.exchange(ctx, request{op: "submit", method: http.MethodPost, path: buildsPath}, b, &build)
	if errors.Is(err, queue.ErrConflict) {
		stored, getErr := c.Build(ctx, id)
		if errors.Is(getErr, queue.ErrNotFound) {
			return api.Build{}, err // the id is taken in another project
		}
		return stored, getErr
	}
	return build, err
}

// Build returns a build with its attempts. Errors: [queue.ErrNotFound].
func (c *Client) Build(ctx context.Context, id queue.ID) (api.Build, error) {
	var build api.Build
	err := c.exchange(ctx, request{op: "get build", method: http.MethodGet, path: buildPath(id)}, nil, &build)
	return build, err
}

// A Filter says which builds to list.
type Filter struct {
	States []string // default: all
	Pool   string   // default: all
	Worker string   // default: all
	Limit  int      // of the page; default: the controller's
	Cursor string   // of the page that came before; default: the first page
}

// Builds returns a page of builds, newest first.
func (c *Client) Builds(ctx context.Context, f Filter) (api.BuildPage, error) {
	query := url.Values{}
	if len(f.States) > 0 {
		query["state"] = f.States
	}
	if f.Pool != "" {
		query.Set("pool", f.Pool)
	}
	if f.Worker != "" {
		query.Set("worker", f.Worker)
	}
	setPage(query, f.Limit, f.Cursor)
	var page api.BuildPage
	err := c.exchange(ctx, request{op: "list builds", method: http.MethodGet, path: buildsPath, query: query}, nil, &page)
	return page, err
}

// Cancel ends a build and returns the state it has now: a running build is cancelling until its worker has ended it.
// Errors: [queue.ErrNotFound]; [queue.ErrFinished].
func (c *Client) Cancel(ctx context.Context, id queue.ID, reason string) (string, error) {
	var canceled api.Canceled
	r := request{op: "cancel", method: http.MethodPost, path: buildPath(id) + "/cancel"}
	err := c.exchange(ctx, r, api.Cancel{Reason: reason}, &canceled)
	return canceled.State, err
}

// Retry submits a new build like one that has ended, and returns it. It is not repeated: if no answer came, a list tells whether there is
// one. Errors: [queue.ErrNotFound]; a problem with the code not_ended.
func (c *Client) Retry(ctx context.Context, id queue.ID) (api.Build, error) {
	var build api.Build
	r := request{op: "retry", method: http.MethodPost, path: buildPath(id) + "/retry", single: true}
	err := c.exchange(ctx, r, nil, &build)
	return build, err
}

// Explain tells why a build is pending. Errors: [queue.ErrNotFound].
func (c *Client) Explain(ctx context.Context, id queue.ID) (api.Explanation, error) {
	var found api.Explanation
	err := c.exchange(ctx, request{op: "explain", method: http.MethodGet, path: buildPath(id) + "/explain"}, nil, &found)
	return found, err
}

// Stats returns the numbers of a project for some days up to today.
func (c *Client) Stats(ctx context.Context, days int) (api.Stats, error) {
	var found api.Stats
	query := url.Values{"days": {strconv.Itoa(days)}}
	err := c.exchange(ctx, request{op: "stats", method: http.MethodGet, path: "/v1/stats", query: query}, nil, &found)
	return found, err
}

// CreateKey makes a credential. It is not repeated: if no answer came, look at [Client.Keys] before trying again.
func (c *Client) CreateKey(ctx context.Context, k api.NewKey) (api.CreatedKey, error) {
	var created api.CreatedKey
	err := c.exchange(ctx, request{op: "create key", method: http.MethodPost, path: keysPath, global: true, single: true}, k, &created)
	return created, err
}

// Enrol exchanges the client's key, which is an enrolment token, for the key of a worker: the one whose secret has that SHA-256.
func (c *Client) Enrol(ctx context.Context, e api.Enrolment) (api.Key, error) {
	var key api.Key
	err := c.exchange(ctx, request{op: "enrol", method: http.MethodPost, path: "/v1/enrolments", global: true}, e, &key)
	return key, err
}

// Keys returns a page of credentials, newest first.
func (c *Client) Keys(ctx context.Context, limit int, cursor string) (api.KeyPage, error) {
	query := url.Values{}
	setPage(query, limit, cursor)
	var page api.KeyPage
	err := c.exchange(ctx, request{op: "list keys", method: http.MethodGet, path: keysPath, query: query, global: true}, nil, &page)
	return page, err
}

// RevokeKey makes a credential invalid. Errors: [queue.ErrNotFound].
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	path := keysPath + "/" + url.PathEscape(id)
	return c.exchange(ctx, request{op: "revoke key", method: http.MethodDelete, path: path, global: true}, nil, nil)
}

func setPage(query url.Values, limit int, cursor string) {
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
}
