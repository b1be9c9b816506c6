package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A LogArchive keeps the logs of attempts that have ended, each as one object: a gzip file that gunzip turns into the log, with an index
// in its first header by which any part of it is read. A few lines make one of a storage. It is safe for concurrent use.
type LogArchive interface {
	// Put stores an object of size bytes, wholly or not at all, in place of one that may be there.
	Put(ctx context.Context, project string, id AttemptID, object io.Reader, size int64) error

	// Open returns length bytes of an object from offset on; fewer if it ends before. An error for which
	// errors.Is(err, fs.ErrNotExist) says that there is none.
	Open(ctx context.Context, project string, id AttemptID, offset, length int64) (io.ReadCloser, error)

	// Delete removes an object. It is no error if there is none.
	Delete(ctx context.Context, project string, id AttemptID) error
}

// How logs go to the archive.
const (
	archiveBatch = 16
	archiveEvery = 5 * time.Second
	// archiveHold is how long a process has to archive the logs it took on, before another takes them over.
	archiveHold = 5 * time.Minute
)

// archiveLogs brings some of the logs that have ended to the archive, and returns how many. What fails stays where it is, and is tried
// again when its time to be archived has run out.
func (q *Queue) archiveLogs(ctx context.Context) (int, error) {
	logs, err := q.backend.ClosedLogs(ctx, archiveBatch, archiveHold, time.Time{})
	if err != nil {
		return 0, err
	}
	var done int
	var failed []error
	for _, log := range logs {
		if err := q.archiveLog(ctx, log); err != nil {
			failed = append(failed, fmt.Errorf("archive log of build %v, epoch %d: %w", log.Build, log.Epoch, err))
			continue
		}
		done++
	}
	return done, errors.Join(failed...)
}

// archiveLog has the bytes in the archive before the backend drops them. If it ends in between, it is repeated, and the object replaced
// by the same.
func (q *Queue) archiveLog(ctx context.Context, log ClosedLog) error {
	object, err := packLog(&logReader{ctx: ctx, backend: q.backend, log: log}, log.Length)
	if err != nil {
		return err
	}
	if err := q.opts.Archive.Put(ctx, log.Project, log.AttemptID, bytes.NewReader(object), int64(len(object))); err != nil {
		return err
	}
	return q.backend.ArchiveLog(ctx, log.AttemptID)
}

// A logReader reads a log from a backend.
type logReader struct {
	ctx     context.Context
	backend Backend
	log     ClosedLog
	offset  int64
	page    []byte
}

// Read implements [io.Reader].
func (r *logReader) Read(p []byte) (int, error) {
	if len(r.page) == 0 {
		page, err := r.backend.ReadLog(r.ctx, r.log.Project, r.log.AttemptID, r.offset, MaxLogRead)
		if err != nil {
			return 0, err
		}
		if len(page.Data) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		r.page = page.Data
	}
	n := copy(p, r.page)
	r.page = r.page[n:]
	r.offset += int64(n)
	return n, nil
}

// Drops are archived logs of builds that were deleted, until they are removed too.
type drops struct {
	mu   sync.Mutex
	logs []ClosedLog
}

func (d *drops) add(logs []ClosedLog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs = append(d.logs, logs...)
}

// take returns at most max of them, which are the caller's now.
func (d *drops) take(max int) []ClosedLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(max, len(d.logs))
	taken := d.logs[:n:n]
	d.logs = d.logs[n:]
	return taken
}

// archive is what Run does about the archive. What cannot be removed is tried again for as long as the process lives.
func (q *Queue) archive(ctx context.Context) (bool, error) {
	removed := q.drops.take(archiveBatch)
	var failed error
	for i, log := range removed {
		if err := q.opts.Archive.Delete(ctx, log.Project, log.AttemptID); err != nil {
			q.drops.add(removed[i:])
			failed = fmt.Errorf("remove the log of build %v, epoch %d: %w", log.Build, log.Epoch, err)
			break
		}
	}
	done, err := q.archiveLogs(ctx)
	return failed == nil && len(removed) == archiveBatch || done == archiveBatch, errors.Join(failed, err)
}

var errNoArchive = errors.New("the log is in an archive, and this process was given none (Options.Archive)")

// readArchived completes a page with bytes from the archive.
func (q *Queue) readArchived(ctx context.Context, project string, page LogPage, max int) (LogPage, error) {
	if page.Offset >= page.Length {
		return page, nil
	}
	index, err := q.archivedIndex(ctx, project, page.AttemptID)
	if err != nil {
		return LogPage{}, err
	}
	part := index.part(page.Offset, int64(max))
	r, err := q.opts.Archive.Open(ctx, project, page.AttemptID, part.at, part.packed)
	if err != nil {
		return LogPage{}, err
	}
	defer r.Close()
	page.Data, err = part.unpack(r, page.Offset, int64(max))
	return page, err
}

func (q *Queue) archivedIndex(ctx context.Context, project string, id AttemptID) (logIndex, error) {
	if q.opts.Archive == nil {
		return logIndex{}, errNoArchive
	}
	r, err := q.opts.Archive.Open(ctx, project, id, 0, maxIndex)
	if err != nil {
		return logIndex{}, err
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, maxIndex))
	if err != nil {
		return logIndex{}, err
	}
	return parseIndex(head)
}

// FindLine returns the offset in an attempt's log at which a line begins, the first being 1: for a view that opens in the middle. Of a
// line that is not there (yet) it is the stored length. It reads the log up to there, or, once that is in the archive, a block of it. An
// epoch of zero stands for the newest attempt.
//
// Errors: [ErrInvalid]; [ErrNotFound].
func (q *Queue) FindLine(ctx context.Context, project string, id AttemptID, line int64) (int64, error) {
	if line < 1 {
		return 0, wrap("find line", id.Build, invalid("line", "must be at least 1"))
	}
	page, err := q.ReadLog(ctx, project, id, 0, 1)
	if err != nil || line == 1 {
		return 0, err
	}
	id = page.AttemptID
	offset, skip := int64(0), line-1
	if page.Archived {
		index, err := q.archivedIndex(ctx, project, id)
		if err != nil {
			return 0, wrap("find line", id.Build, err)
		}
		for _, b := range index.blocks {
			if b.lines >= skip {
				break
			}
			offset, skip = offset+b.length, skip-b.lines
		}
	}
	for {
		page, err := q.ReadLog(ctx, project, id, offset, MaxLogRead)
		if err != nil || len(page.Data) == 0 {
			return offset, err
		}
		for data := page.Data; ; skip-- {
			if skip == 0 {
				return offset, nil
			}
			n := bytes.IndexByte(data, '\n') + 1
			if n == 0 {
				offset += int64(len(data))
				break
			}
			offset, data = offset+int64(n), data[n:]
		}
	}
}
