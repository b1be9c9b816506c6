package server

import (
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"time"
)

// A pacedWriter ends a download that makes no progress, without limiting how long it may take as a whole.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

func (s *Server) pacedWriter(w http.ResponseWriter) *pacedWriter {
	return &pacedWriter{ResponseWriter: w, control: http.NewResponseController(w), stall: s.opts.StallTimeout}
}

// Unwrap lets [http.ResponseController] find the connection.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write implements [http.ResponseWriter].
func (p *pacedWriter) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

// ReadFrom implements [io.ReaderFrom]: it copies in pieces, so that the deadline moves and the kernel can still do the copying, for
// which a piece has to be an [io.LimitedReader] of a file and nothing else.
func (p *pacedWriter) ReadFrom(r io.Reader) (int64, error) {
	const piece = 4 << 20
	rest, ok := r.(*io.LimitedReader)
	if !ok {
		rest = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	var total int64
	for rest.N > 0 {
		p.extend()
		next := &io.LimitedReader{R: rest.R, N: min(rest.N, piece)}
		n, err := io.Copy(p.ResponseWriter, next)
		total += n
		rest.N -= n
		if err != nil || next.N > 0 { // the end came early
			return total, err
		}
	}
	return total, nil
}

func (p *pacedWriter) extend() {
	// A connection without deadlines is one of a proxy or a test, which keeps its own.
	_ = p.control.SetWriteDeadline(time.Now().Add(p.stall))
}

// finish gives the connection back for its next request.
func (p *pacedWriter) finish() { _ = p.control.SetWriteDeadline(time.Time{}) }

// A pacedReader does the same for an upload, and makes answers of the ways in which an upload breaks off.
type pacedReader struct {
	r       io.Reader
	control *http.ResponseController
	stall   time.Duration
}

func (s *Server) pacedReader(w http.ResponseWriter, r *http.Request) *pacedReader {
	return &pacedReader{r: r.Body, control: http.NewResponseController(w), stall: s.opts.StallTimeout}
}

// Read implements [io.Reader].
func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.stall))
	n, err := p.r.Read(b)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: // from here on net/http reads, to see whether the client goes away
		_ = p.control.SetReadDeadline(time.Time{})
		return n, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errSlow
	default:
		return n, errCut
	}
}

// errCut says that the client has ended its upload too early.
var errCut = invalid("the content is shorter than its Content-Length")
