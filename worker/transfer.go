package worker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// source sends an attempt's source to the worker that holds the lease.
func (h *Hub) source(w http.ResponseWriter, r *http.Request) error {
	lease, err := h.authorize(r)
	if err != nil {
		return err
	}
	if lease.Source == nil {
		return queue.ErrNotFound
	}
	content, err := h.blobs.Open(r.Context(), lease.Project, lease.Source.Digest)
	if err != nil {
		return fmt.Errorf("open source of %s: %w", lease.Build, err)
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("ETag", `"`+lease.Source.Digest.String()+`"`)
	w.Header().Set("Repr-Digest", reprDigest(lease.Source.Digest))
	http.ServeContent(&paced{ResponseWriter: w, stall: h.opts.StallTimeout}, r, "", time.Time{}, content)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // for the next request of this connection
	return nil
}

// A newArtifact is the body of a request to create an artifact.
type newArtifact struct {
	Name   string       `json:"name"`
	Size   int64        `json:"size"`
	SHA256 queue.Digest `json:"sha256"`
}

// A createdArtifact is the answer to it.
type createdArtifact struct {
	// Present says that the bytes are in the storage already: there is nothing to upload.
	Present bool `json:"present"`
	// Upload is the path to put the bytes to.
	Upload string `json:"upload,omitempty"`
}

// createArtifact refuses an artifact, or makes room for it, before any of its bytes is sent.
func (h *Hub) createArtifact(w http.ResponseWriter, r *http.Request) error {
	lease, err := h.authorize(r)
	if err != nil {
		return err
	}
	var a newArtifact
	if err := decodeStrictly(w, r, &a); err != nil {
		return err
	}
	if a.Size > h.opts.MaxArtifact {
		return ErrBlobTooLarge
	}
	present, err := h.reserve(r, lease, a)
	if err != nil {
		return err
	}
	answer := createdArtifact{Present: present}
	status := http.StatusOK
	if !present {
		answer.Upload, status = artifactPath(lease.AttemptID, a.Name), http.StatusCreated
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return errGone
	}
	return nil
}

// reserve notes an artifact, and commits it at once if its bytes are in the storage already.
func (h *Hub) reserve(r *http.Request, lease queue.Lease, a newArtifact) (present bool, err error) {
	row, err := h.queue.ReserveArtifact(r.Context(), queue.NewArtifact{
		AttemptID: lease.AttemptID, Name: a.Name, Digest: a.SHA256, Size: a.Size,
	})
	if err != nil || row.Committed {
		return row.Committed, err
	}
	size, err := h.blobs.Stat(r.Context(), lease.Project, a.SHA256)
	switch {
	case errors.Is(err, ErrBlobNotFound):
		return false, nil
	case err != nil:
		return false, err
	case size != a.Size:
		return false, ErrBlobMismatch
	}
	_, err = h.queue.CommitArtifact(r.Context(), lease.AttemptID, a.Name)
	return err == nil, err
}

// putArtifact takes the bytes of an artifact. Blob first, row second: a row never shows bytes that are not there.
func (h *Hub) putArtifact(w http.ResponseWriter, r *http.Request) error {
	lease, err := h.authorize(r)
	if err != nil {
		return err
	}
	digest, err := parseReprDigest(r.Header.Get("Repr-Digest"))
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		return errNoLength
	}
	if r.ContentLength > h.opts.MaxArtifact {
		return ErrBlobTooLarge
	}
	a := newArtifact{Name: r.PathValue("name"), Size: r.ContentLength, SHA256: digest}
	present, err := h.reserve(r, lease, a)
	if err != nil {
		return err
	}
	if !present {
		body := &pacedReader{r: r.Body, control: http.NewResponseController(w), stall: h.opts.StallTimeout}
		if err := h.blobs.Put(r.Context(), lease.Project, digest, a.Size, body); body.broken {
			return errIncomplete
		} else if err != nil {
			// The project has its room back; who sends the artifact again reserves it again.
			_ = h.queue.ReleaseArtifact(r.Context(), lease.AttemptID, a.Name)
			return fmt.Errorf("store artifact of %s: %w", lease.Build, err)
		}
		// The lease may have ended while the bytes came: the row is fenced, and the token is asked for again.
		if _, err := h.authorize(r); err != nil {
			return err
		}
		if _, err := h.queue.CommitArtifact(r.Context(), lease.AttemptID, a.Name); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// errNoLength answers an upload of unknown length.
var errNoLength = &Problem{
	Type: "about:blank", Title: "The length of the content must be declared.", Status: http.StatusLengthRequired,
	Code: "length_required", Detail: "Send a Content-Length.",
}

// maxJSON is the largest JSON body of a request, in bytes.
const maxJSON = 16 << 10

// decodeStrictly reads a JSON body that has nothing but the fields of v.
func decodeStrictly(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.Decode(new(json.RawMessage)) != io.EOF {
		err = errors.New("more than one value")
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return ErrBlobTooLarge
	}
	if err != nil {
		return fmt.Errorf("%w: the body must be one JSON object with the documented fields", queue.ErrInvalid)
	}
	return nil
}

// reprDigest and parseReprDigest write and read the header of RFC 9530.
func reprDigest(d queue.Digest) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(d[:]) + ":"
}

func parseReprDigest(header string) (queue.Digest, error) {
	text, ok := strings.CutPrefix(header, "sha-256=:")
	text, closed := strings.CutSuffix(text, ":")
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || !closed || err != nil || len(b) != len(queue.Digest{}) {
		return queue.Digest{}, fmt.Errorf("%w: the header Repr-Digest must have the form sha-256=:<base64>: of RFC 9530", queue.ErrInvalid)
	}
	return queue.Digest(b), nil
}

// paced ends a download that makes no progress, without limiting how long it may take as a whole.
type paced struct {
	http.ResponseWriter
	stall time.Duration
}

// Unwrap lets [http.ResponseController] find the connection.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *paced) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

// ReadFrom copies in pieces, so that the deadline moves. Each piece is a limited reader of what r itself limits: for that, and for
// no deeper nesting, the kernel copies from a file.
func (p *paced) ReadFrom(r io.Reader) (int64, error) {
	const piece = 256 << 10
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	var total int64
	for limited.N > 0 {
		p.extend()
		n, err := io.CopyN(p.ResponseWriter, limited.R, min(limited.N, piece))
		total += n
		limited.N -= n
		if err == io.EOF {
			break
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (p *paced) extend() {
	// A connection that has no deadlines is one of a test or of a proxy that keeps its own.
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(p.stall))
}

// pacedReader does the same for an upload, and tells the client's troubles from those of the storage.
type pacedReader struct {
	r       io.Reader
	control *http.ResponseController
	stall   time.Duration
	broken  bool
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.stall))
	n, err := p.r.Read(b)
	p.broken = p.broken || err != nil && err != io.EOF
	return n, err
}

// errIncomplete answers an upload that stalled or broke off, if anybody still reads the answer.
var errIncomplete = &Problem{
	Type: "about:blank", Title: "The content did not arrive whole.", Status: http.StatusRequestTimeout, Code: "incomplete",
}
