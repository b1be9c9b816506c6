package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// The states of an attempt, by the names that hello has for them.
const (
	accepted   = "accepted"
	running    = "running"
	cancelling = "cancelling"
	finished   = "finished"
)

type offer struct {
	id
	Spec   []byte `json:"spec"`
	Source *struct {
		URL    string `json:"url"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	} `json:"source"`
	Limits struct {
		LogCap     int64 `json:"log_cap"`
		RunTimeout int64 `json:"run_timeout"`
	} `json:"limits"`
}

// A spec says what a build does: it prints a text, or that many lines and the source's sum, or leaves a file.
type spec struct {
	Print string `json:"print"`
	Lines int    `json:"lines"`
	Wait  bool   `json:"wait"`
	File  string `json:"file"`
	Text  string `json:"text"`
}

// An attempt is a build that this worker has taken. It outlives connections.
type attempt struct {
	id
	offer     *offer
	spec      spec
	token     string
	tokenHash string
	secrets   map[string]string
	state     string
	accepted  time.Time     // when the accept was sent that start answers
	renewed   time.Time     // from when the lease counts
	length    time.Duration // of the lease
	begun     time.Time     // when it began to run
	sent      time.Time     // when log bytes were last sent
	said      time.Time     // when accept or finished was last sent; zero: not over this connection

	log         []byte
	acked, next int64
	window      int64
	limit       int64
	outcome     string
	reason      string
	artifacts   int
}

func newAttempt(o *offer, window int64, lease time.Duration) *attempt {
	text, secret := makeToken(o.id)
	sum := sha256.Sum256(secret[:])
	return &attempt{
		id: o.id, offer: o, token: text, tokenHash: hex.EncodeToString(sum[:]), state: accepted, window: window, limit: o.Limits.LogCap, length: lease,
	}
}

func checksum(text string) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text)))
}

func (a *attempt) start(secrets map[string]string) {
	if a.state == accepted {
		a.state, a.begun, a.secrets = running, time.Now(), secrets
	}
}

// hide takes out of the log what a build may have printed of its secrets.
func (a *attempt) hide() {
	for _, secret := range a.secrets {
		a.log = bytes.ReplaceAll(a.log, []byte(secret), []byte("***"))
	}
}

func (a *attempt) cancel() {
	if a.state == accepted || a.state == running {
		a.state, a.outcome, a.said = cancelling, "canceled", time.Time{}
	}
}

// watch ends an attempt whose lease, or whose time to run, is over.
func (a *attempt) watch(now time.Time) {
	switch {
	case a.state != running && a.state != cancelling:
	case now.Sub(a.renewed) > a.length:
		a.state, a.outcome, a.reason = finished, "lost", "the lease was not renewed"
	case a.state == running && now.Sub(a.begun) > time.Duration(a.offer.Limits.RunTimeout)*time.Millisecond:
		a.state, a.outcome, a.said = finished, "timed_out", time.Time{}
	}
}

// due reports whether what must be answered is to be said, or said again.
func (a *attempt) due(again time.Duration) bool {
	if time.Since(a.said) < again {
		return false
	}
	a.said = time.Now()
	return true
}

// proceed does the next thing that the attempt needs.
func (c *connection) proceed(ctx context.Context) error {
	a := c.worker.attempt
	if a == nil {
		if c.worker.draining {
			return errors.Join(errDrained, c.conn.Close(websocket.StatusNormalClosure, "drained"))
		}
		return nil
	}
	ref := map[string]any{"build": a.Build, "epoch": a.Epoch}
	switch a.state {
	case accepted:
		if !a.due(c.worker.Repeat) {
			return nil
		}
		a.accepted = a.said
		ref["token_hash"] = a.tokenHash
		return c.send(ctx, "accept", ref)
	case running:
		if a.outcome == "" {
			c.build(ctx, a)
		}
		if a.outcome != "" {
			a.state, a.said = finished, time.Time{}
		}
	case cancelling:
		if err := c.send(ctx, "cancelling", ref); err != nil {
			return err
		}
		a.state = finished
	}
	if err := c.sendLog(ctx, a); err != nil || a.state != finished {
		return err
	}
	wanted := min(int64(len(a.log)), a.limit)
	if a.acked < wanted || !a.due(c.worker.Repeat) {
		return nil
	}
	sum := sha256.Sum256(a.log[:wanted])
	ref["outcome"], ref["reason"], ref["artifacts"] = a.outcome, a.reason, a.artifacts
	ref["log_len"], ref["log_sha256"] = wanted, hex.EncodeToString(sum[:])
	if a.outcome == "succeeded" {
		ref["exit_code"] = 0
	}
	return c.send(ctx, "finished", ref)
}

// build does what the spec says, once. With wait it is not over then.
func (c *connection) build(ctx context.Context, a *attempt) {
	if a.spec.Wait {
		return
	}
	if err := json.Unmarshal(a.offer.Spec, &a.spec); err != nil {
		a.outcome, a.reason = "failed", "the spec is no JSON"
		return
	}
	sum, err := c.worker.fetch(ctx, a)
	if err != nil {
		a.outcome, a.reason = "lost", err.Error()
		if errors.Is(err, errOtherSource) {
			a.outcome = "failed"
		}
		return
	}
	a.log = append(a.log, a.spec.Print...)
	for i := range a.spec.Lines {
		a.log = fmt.Appendf(a.log, "line %d\n", i)
	}
	if a.spec.Lines > 0 {
		a.log = append(a.log, sum...)
		a.spec.File, a.spec.Text = "out/sum.txt", sum
	}
	a.hide()
	if a.spec.Wait {
		return
	}
	if a.spec.File != "" {
		if err := c.worker.upload(ctx, a, a.spec.File, []byte(a.spec.Text)); err != nil {
			a.outcome, a.reason = "lost", err.Error()
			return
		}
		a.artifacts = 1
	}
	a.outcome = "succeeded"
}

// sendLog sends as much as the window lets through.
func (c *connection) sendLog(ctx context.Context, a *attempt) error {
	if a.next > a.acked && time.Since(a.sent) > c.worker.Repeat {
		a.next = a.acked
	}
	for {
		n := min(int64(c.frame), min(int64(len(a.log)), a.limit)-a.next, a.acked+a.window-a.next)
		if n <= 0 {
			return nil
		}
		if c.worker.Drop > 0 && c.sent > c.worker.Drop && c.worker.drops < 2 {
			c.worker.drops++
			return errors.New("the connection is dropped, to try how that goes")
		}
		build, err := hex.DecodeString(strings.ReplaceAll(a.Build, "-", ""))
		if err != nil {
			return err
		}
		frame := append([]byte{1, 0}, build...)
		frame = binary.BigEndian.AppendUint32(frame, a.Epoch)
		frame = binary.BigEndian.AppendUint64(frame, uint64(a.next))
		if err := c.write(ctx, websocket.MessageBinary, append(frame, a.log[a.next:a.next+n]...)); err != nil {
			return err
		}
		a.next += n
		a.sent = time.Now()
		c.sent += int(n)
	}
}

// request sends a request with the build token and returns the body of an answer with the wanted status.
func (w *Worker) request(ctx context.Context, a *attempt, method, path string, header http.Header, body []byte, want ...int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	response, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if slices.Contains(want, response.StatusCode) {
		return content, nil
	}
	return nil, fmt.Errorf("%s %s was answered with %s", method, path, response.Status)
}

var errOtherSource = errors.New("the source is not what was declared")

// fetch downloads the source and returns its sum as a line.
func (w *Worker) fetch(ctx context.Context, a *attempt) (string, error) {
	if a.offer.Source == nil {
		return "", nil
	}
	content, err := w.request(ctx, a, http.MethodGet, a.offer.Source.URL, nil, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	line := hex.EncodeToString(sum[:])
	if line != a.offer.Source.SHA256 || int64(len(content)) != a.offer.Source.Size {
		return "", errOtherSource
	}
	return line + "\n", nil
}

// upload stores an artifact.
func (w *Worker) upload(ctx context.Context, a *attempt, name string, content []byte) error {
	sum := sha256.Sum256(content)
	announcement, err := json.Marshal(map[string]any{"name": name, "size": len(content), "sha256": hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/v1/worker/builds/%s/%d/artifacts", a.Build, a.Epoch)
	answer, err := w.request(ctx, a, http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, announcement,
		http.StatusOK, http.StatusCreated)
	if err != nil {
		return err
	}
	var created struct {
		Present bool   `json:"present"`
		Upload  string `json:"upload"`
	}
	if err := json.Unmarshal(answer, &created); err != nil || created.Present {
		return err
	}
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	_, err = w.request(ctx, a, http.MethodPut, created.Upload, http.Header{"Repr-Digest": {digest}}, content, http.StatusNoContent)
	return err
}
