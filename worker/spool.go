package worker

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/slipway-build/slipway/internal/redact"
	"github.com/slipway-build/slipway/queue"
)

// A spool is the log of an attempt on the worker's disk. Whoever writes to it never waits for the network, and never sees an error: a
// build shall not fail because its log cannot be kept.
type spool struct {
	file   *os.File
	max    int64  // bytes, with the line that says where the log was cut
	marker []byte // that line
	grown  func() // called after each write

	mu     sync.Mutex
	hidden *redact.Redactor // takes out what no reader may see; nil if there is nothing of the kind
	length int64
	sum    hash.Hash
	cut    string // why bytes are missing; empty if none are
	closed bool
}

// newSpool creates the file, which must not exist.
func newSpool(path string, most int64, grown func()) (*spool, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return spoolOf(file, most, grown), nil
}

// openSpool opens the file of an earlier process, to add to it.
func openSpool(path string, most int64, grown func()) (*spool, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := spoolOf(file, most, grown)
	if s.length, err = io.Copy(s.sum, file); err != nil { // which leads to its end
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

func spoolOf(file *os.File, most int64, grown func()) *spool {
	marker := fmt.Appendf(nil, "\n[slipway] the log is cut here: it is longer than %d bytes\n", most)
	return &spool{file: file, max: most, marker: marker, grown: grown, sum: sha256.New()}
}

// cutReason returns why bytes are missing. It is empty if none are.
func (s *spool) cutReason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// hide has secrets replaced wherever they are written, in the place of those of the call before. It is called before the first write.
func (s *spool) hide(secrets ...string) { s.hidden = redact.New(secrets, s.write) }

// Write implements [io.Writer]. It always takes all of p.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed || s.cut != "" { // a build that writes without end shall not keep the machine busy
		s.mu.Unlock()
		return len(p), nil
	}
	if s.hidden != nil {
		_, _ = s.hidden.Write(p)
	} else {
		s.write(p)
	}
	s.mu.Unlock()
	s.grown()
	return len(p), nil
}

// notice adds a line of the agent's own.
func (s *spool) notice(format string, args ...any) {
	_, _ = fmt.Fprintf(s, "[slipway] "+format+"\n", args...)
}

func (s *spool) write(p []byte) {
	if s.closed || s.cut != "" { // one Write may become several of these
		return
	}
	if room := max(0, s.max-int64(len(s.marker))-s.length); int64(len(p)) > room {
		s.add(p[:room])
		s.add(s.marker[:min(int64(len(s.marker)), s.max-s.length)])
		if s.cut == "" {
			s.cut = fmt.Sprintf("the log is longer than %d bytes", s.max)
		}
		return
	}
	s.add(p)
}

// add writes what there is room for on the disk.
func (s *spool) add(p []byte) {
	n, err := s.file.Write(p)
	s.sum.Write(p[:n])
	s.length += int64(n)
	if err != nil {
		s.cut = "the log could not be written to the worker's disk"
	}
}

// close ends the log. What is written from now on is dropped.
func (s *spool) close() {
	s.mu.Lock()
	if s.hidden != nil {
		s.hidden.Flush()
	}
	s.closed = true
	s.mu.Unlock()
	s.grown()
}

// size returns the length so far, and whether it is final.
func (s *spool) size() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.length, s.closed
}

// A logEnd is what is reported of a log.
type logEnd struct {
	length int64
	sum    queue.Digest
	cut    string // why bytes are missing; empty if none are
}

// end returns the length and the sum of a closed log, or of its beginning if the controller takes only limit bytes.
func (s *spool) end(limit int64) (logEnd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit >= s.length {
		return logEnd{length: s.length, sum: queue.Digest(s.sum.Sum(nil)), cut: s.cut}, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(s.file, 0, limit)); err != nil {
		return logEnd{}, err
	}
	return logEnd{
		length: limit, sum: queue.Digest(sum.Sum(nil)), cut: fmt.Sprintf("the controller takes %d bytes of log", limit),
	}, nil
}

// read fills p with bytes of the log from an offset on, all of which have been written.
func (s *spool) read(p []byte, offset int64) error {
	n, err := s.file.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
