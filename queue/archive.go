package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A LogArchive keeps the logs of attempts that have ended, each as one object: a gzip file that gunzip turns into the log, with an index
// in its first header by which any part of it is read. Package storelogs makes one of any backend of package storage. It is safe for concurrent use.
//
// The ctx of every call ends, at the latest, a minute after the call began; that of a Put lasts a second longer for each MiB of the object.
// What is under way has to end with it, however the storage behaves: nothing may become of a Put afterwards.
type LogArchive interface {
	// Put stores an object of size bytes, wholly or not at all. If there is one already it replaces that, or keeps it if both unpack into the
	// same log. They may not: after its database was set back a queue may give the number of an attempt again.
	Put(ctx context.Context, project string, id AttemptID, object io.Reader, size int64) error

	// Open returns length bytes of an object from offset on; fewer if it ends before. An error for which
	// errors.Is(err, fs.ErrNotExist) says that there is none. What it returns may be read until ctx ends.
	Open(ctx context.Context, project string, id AttemptID, offset, length int64) (io.ReadCloser, error)

	// Delete removes an object. It is no error if there is none.
	Delete(ctx context.Context, project string, id AttemptID) error
}

// How logs go to the archive, and away from it.
const (
	archiveBatch = 16
	archiveEvery = 5 * time.Second
	// archiveHold is how long a process has to itself the logs it took on, before another takes them over.
	archiveHold = 5 * time.Minute
	// archiveTime bounds a call of the archive, without the time for an object's bytes.
	archiveTime = time.Minute
)

// archive is what Run does about the archive. What fails stays as it is, and is tried again by whoever takes it on next.
func (q *Queue) archive(ctx context.Context) (bool, error) {
	removed, removeErr := q.removeLogs(ctx)
	archived, archiveErr := q.archiveLogs(ctx)
	return removed == archiveBatch || archived == archiveBatch, errors.Join(removeErr, archiveErr)
}

// holding returns the time for what is taken on now. It ends well before others take it over, so that nothing that was begun here happens
// after that.
func holding(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, archiveHold-archiveTime)
}

var errOverdue = errors.New("it took so long, or the machine stood still, that another process may have taken over")

// overdue returns errOverdue if what was taken on since then may be another's by now. The time of a ctx does not tell: it stands still while the
// machine is suspended.
func overdue(since time.Time) error {
	if elapsed(since) >= archiveHold-archiveTime {
		return errOverdue
	}
	return nil
}

// archiveLogs brings some of the logs that have ended to the archive, and returns how many.
func (q *Queue) archiveLogs(ctx context.Context) (int, error) {
	since := time.Now()
	ctx, cancel := holding(ctx)
	defer cancel()
	logs, err := q.backend.ClosedLogs(ctx, archiveBatch, archiveHold, time.Time{})
	if err != nil {
		return 0, err
	}
	var done int
	var failed []error
	for _, log := range logs {
		err := q.archiveLog(ctx, log, since)
		if err == nil {
			done++
			continue
		}
		failed = append(failed, fmt.Errorf("archive log of build %v, epoch %d: %w", log.Build, log.Epoch, err))
		if errors.Is(err, errOverdue) {
			break
		}
	}
	return done, errors.Join(failed...)
}

// archiveLog has the bytes in the archive before the backend drops them. If it ends in between, it is repeated, or the object is removed
// after its build. An object that is there too late is nothing to go by: another process may have put another since, or removed it.
func (q *Queue) archiveLog(ctx context.Context, log ClosedLog, since time.Time) error {
	object, err := packLog(&logReader{ctx: ctx, backend: q.backend, log: log}, log.Length)
	if err == nil {
		err = overdue(since)
	}
	if err != nil {
		return err
	}
	putting, cancel := context.WithTimeout(ctx, archiveTime+time.Duration(len(object)>>20)*time.Second)
	defer cancel()
	if err := q.opts.Archive.Put(putting, log.Project, log.AttemptID, bytes.NewReader(object), int64(len(object))); err != nil {
		return err
	}
	if err := overdue(since); err != nil {
		return err
	}
	return q.backend.ArchiveLog(ctx, log.AttemptID)
}

// removeLogs removes some logs of deleted builds from the archive, and returns how many.
func (q *Queue) removeLogs(ctx context.Context) (int, error) {
	since := time.Now()
	removing, cancel := holding(ctx)
	defer cancel()
	logs, err := q.backend.DroppedLogs(ctx, archiveBatch, archiveHold, time.Time{})
	if err != nil {
		return 0, err
	}
	var gone []AttemptID
	var failed []error
	for _, log := range logs {
		err := q.removeLog(removing, log, since)
		if err == nil {
			gone = append(gone, log.AttemptID)
			continue
		}
		failed = append(failed, fmt.Errorf("remove the archived log of build %v, epoch %d: %w", log.Build, log.Epoch, err))
		if errors.Is(err, errOverdue) {
			break
		}
	}
	if len(gone) > 0 {
		failed = append(failed, q.backend.ForgetLogs(ctx, gone))
	}
	return len(gone), errors.Join(failed...)
}

func (q *Queue) removeLog(ctx context.Context, log DroppedLog, since time.Time) error {
	if err := overdue(since); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer cancel()
	return q.opts.Archive.Delete(ctx, log.Project, log.AttemptID)
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
	err = q.readObject(ctx, project, page.AttemptID, part.at, part.packed, func(r io.Reader) (err error) {
		page.Data, err = part.unpack(r, page.Offset, int64(max))
		return err
	})
	if err != nil {
		return LogPage{}, err
	}
	return page, nil
}

func (q *Queue) archivedIndex(ctx context.Context, project string, id AttemptID) (index logIndex, err error) {
	err = q.readObject(ctx, project, id, 0, maxIndex, func(r io.Reader) error {
		head, err := io.ReadAll(io.LimitReader(r, maxIndex))
		if err != nil {
			return err
		}
		index, err = parseIndex(head)
		return err
	})
	return index, err
}

// readObject has read read a part of an object in the archive.
func (q *Queue) readObject(ctx context.Context, project string, id AttemptID, offset, length int64, read func(io.Reader) error) error {
	if q.opts.Archive == nil {
		return errNoArchive
	}
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer cancel()
	r, err := q.opts.Archive.Open(ctx, project, id, offset, length)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := read(r); err != nil {
		return cmp.Or(ctx.Err(), err) // what was cut off is not damaged
	}
	return nil
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
