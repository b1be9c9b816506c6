package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// cancels measures how long a cancel takes from the request, to a controller that the worker is not connected to, until the process of
// the build is told. Half of them come after the worker's controller was killed and started again.
func cancels(ctx context.Context, out io.Writer, n int) error {
	site, err := newSite(ctx, false)
	if err != nil {
		return err
	}
	defer site.close()
	c := &cell{site: site, name: "cancels", grace: 8 * time.Second}
	defer c.close(context.WithoutCancel(ctx), false)
	if err := c.open(ctx); err != nil {
		return err
	}
	if err := c.startController(ctx, 1); err != nil {
		return err
	}
	var took []time.Duration
	for i := range n {
		if i == n/2 {
			if _, err := killControllerOf(ctx, c, 0); err != nil {
				return err
			}
		}
		d, err := c.cancel(ctx, i)
		if err != nil {
			return fmt.Errorf("cancel %d: %w", i+1, err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	_, err = fmt.Fprintf(out, "faults: %d cancels by another controller: p50 %v, p99 %v, longest %v\n", n,
		took[n/2].Round(time.Millisecond), took[n*99/100].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
	return err
}

// cancel runs a build, cancels it, and returns when its process was told.
func (c *cell) cancel(ctx context.Context, i int) (time.Duration, error) {
	dir := c.path("cancel" + strconv.Itoa(i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	var err error
	if c.build, err = c.submit(ctx, dir); err != nil {
		return 0, err
	}
	if err := c.see(ctx, "the build runs", func() bool {
		_, err := os.Stat(filepath.Join(dir, "1"+wroteName))
		return err == nil
	}); err != nil {
		return 0, err
	}
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.addresses[1]+"/v1/builds/"+c.build.String()+"/cancel?project="+project, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode >= http.StatusMultipleChoices {
		return 0, fmt.Errorf("the controller answers %s, %w", resp.Status, err)
	}
	var told int64
	if err := c.see(ctx, "the process is told", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "1"+toldName))
		if err == nil {
			told, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		}
		return err == nil
	}); err != nil {
		return 0, err
	}
	return time.Unix(0, told).Sub(begun), c.await(ctx, soon, queue.Canceled)
}
