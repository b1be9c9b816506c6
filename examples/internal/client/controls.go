package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/slipway-build/slipway/examples/internal/api"
)

// Pools returns the pools for which something is set. It is for admins, as all of this file is.
func (c *Client) Pools(ctx context.Context) (api.Pools, error) {
	var pools api.Pools
	err := c.exchange(ctx, request{op: "list pools", method: http.MethodGet, path: "/v1/pools", global: true}, nil, &pools)
	return pools, err
}

// ChangePool sets what is given of a pool.
func (c *Client) ChangePool(ctx context.Context, name string, change api.Pool) error {
	path := "/v1/pools/" + url.PathEscape(name)
	return c.exchange(ctx, request{op: "change pool", method: http.MethodPut, path: path, global: true}, change, nil)
}

// ChangeProject sets what is given of a project.
func (c *Client) ChangeProject(ctx context.Context, name string, change api.Project) error {
	path := "/v1/projects/" + url.PathEscape(name)
	return c.exchange(ctx, request{op: "change project", method: http.MethodPut, path: path, global: true}, change, nil)
}

// Limits returns a page of the limits of a project's concurrency keys.
func (c *Client) Limits(ctx context.Context, project string, limit int, cursor string) (api.LimitPage, error) {
	query := url.Values{}
	setPage(query, limit, cursor)
	var page api.LimitPage
	r := request{op: "list limits", method: http.MethodGet, path: limitsPath(project), query: query, global: true}
	err := c.exchange(ctx, r, nil, &page)
	return page, err
}

// SetLimit limits how many builds of a concurrency key run at a time; zero takes the limit away.
func (c *Client) SetLimit(ctx context.Context, project, key string, max int) error {
	r := request{op: "set limit", method: http.MethodPut, path: limitsPath(project), global: true}
	return c.exchange(ctx, r, api.Limit{Key: key, Max: max}, nil)
}

func limitsPath(project string) string { return "/v1/projects/" + url.PathEscape(project) + "/limits" }
