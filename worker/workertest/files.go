package workertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// maxArtifact bounds what a test's artifact may have, in bytes.
const maxArtifact = 16 << 20

// An announced is an artifact before its bytes have come.
type announced struct {
	Name   string       `json:"name"`
	Size   int64        `json:"size"`
	SHA256 queue.Digest `json:"sha256"`
}

// authorized returns the attempt of a request that carries its build token.
func (c *Controller) authorized(w http.ResponseWriter, r *http.Request) (wire.Ref, *served) {
	build, err := queue.ParseID(r.PathValue("build"))
	epoch, notNumber := strconv.ParseInt(r.PathValue("epoch"), 10, 64)
	presented, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	of, ofEpoch, hash, malformed := token.Parse(presented)
	ref := wire.Ref{Build: build, Epoch: epoch}
	c.mu.Lock()
	kept := c.attempts[ref]
	good := kept != nil && token.Match(kept.hash, hash)
	c.mu.Unlock()
	if err != nil || notNumber != nil || !ok || malformed != nil || !good || queue.ID(of) != build || ofEpoch != epoch {
		refuse(w, http.StatusUnauthorized)
		return ref, nil
	}
	return ref, kept
}

func (c *Controller) serveSource(w http.ResponseWriter, r *http.Request) {
	_, kept := c.authorized(w, r)
	if kept == nil {
		return
	}
	w.Header().Set("Etag", `"`+queue.Digest(sha256.Sum256(kept.source)).String()+`"`)
	w.Header().Set("Repr-Digest", reprDigest(kept.source))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(kept.source))
}

func (c *Controller) announceArtifact(w http.ResponseWriter, r *http.Request) {
	ref, kept := c.authorized(w, r)
	if kept == nil {
		return
	}
	var a announced
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MinSessionMessage))
	d.DisallowUnknownFields()
	if d.Decode(&a) != nil || queue.CheckArtifactName(a.Name) != nil || a.Size < 0 || a.Size > maxArtifact {
		refuse(w, http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	kept.announced[a.Name] = a
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{ // who has gone needs no answer
		"present": false, "upload": artifactsPath(&Attempt{Offer: &wire.Offer{Ref: ref}}) + "/" + a.Name,
	})
}

func (c *Controller) putArtifact(w http.ResponseWriter, r *http.Request) {
	_, kept := c.authorized(w, r)
	if kept == nil {
		return
	}
	name := r.PathValue("name")
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxArtifact))
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := kept.announced[name]
	switch {
	case err != nil || !known || r.ContentLength != a.Size || r.Header.Get("Repr-Digest") != reprDigest(content):
		refuse(w, http.StatusBadRequest)
	case sha256.Sum256(content) != a.SHA256:
		refuse(w, http.StatusUnprocessableEntity)
	default:
		kept.artifacts[name] = content
		w.WriteHeader(http.StatusNoContent)
	}
}
