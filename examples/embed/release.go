package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
	"github.com/slipway-build/slipway/worker/procexec"
)

// project is where this service's builds are: it has but one.
const project = "releases"

// Errors of releases.
var (
	errReleased = errors.New("there is a release of that tag already")
	errNoTag    = errors.New("there is no release of that tag")
)

// releases are rows of the service's table, each with a build.
type releases struct {
	db    *sql.DB
	queue *queue.Queue
}

// migrate makes the table.
func (r *releases) migrate(ctx context.Context) error {
	_, err := r.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS release (tag TEXT PRIMARY KEY, build TEXT NOT NULL)`)
	return err
}

// A release is a row, and how its build stands.
type release struct {
	Tag    string   `json:"tag"`
	Build  queue.ID `json:"build"`
	State  string   `json:"state"`
	Reason string   `json:"reason,omitempty"`
}

// add stores a release and submits its build, both or neither.
func (r *releases) add(ctx context.Context, tag string) (queue.ID, error) {
	spec, err := procexec.Spec{
		Command:   []string{"sh", "-c", `echo "building $TAG" && echo "Release $TAG" >notes.txt`},
		Env:       map[string]string{"TAG": tag},
		Artifacts: []string{"notes.txt"},
	}.Encode()
	if err != nil {
		return queue.ID{}, err
	}
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return queue.ID{}, err
	}
	defer tx.Rollback() // does nothing after the commit
	ids, err := sqlitequeue.Submit(ctx, r.queue, tx, queue.Params{Project: project, Spec: spec})
	if err != nil {
		return queue.ID{}, err
	}
	done, err := tx.ExecContext(ctx, `INSERT INTO release (tag, build) VALUES (?, ?) ON CONFLICT DO NOTHING`, tag, ids[0].String())
	if err != nil {
		return queue.ID{}, err
	}
	if n, err := done.RowsAffected(); err != nil {
		return queue.ID{}, err
	} else if n == 0 {
		return queue.ID{}, errReleased // and the build was never submitted
	}
	if err := tx.Commit(); err != nil {
		return queue.ID{}, err
	}
	r.queue.Wake() // saves the wait for the next poll
	return ids[0], nil
}

// get returns a release.
func (r *releases) get(ctx context.Context, tag string) (release, error) {
	var text string
	err := r.db.QueryRowContext(ctx, `SELECT build FROM release WHERE tag = ?`, tag).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return release{}, errNoTag
	}
	if err != nil {
		return release{}, err
	}
	id, err := queue.ParseID(text)
	if err != nil {
		return release{}, fmt.Errorf("release %s: %w", tag, err)
	}
	build, err := r.queue.Get(ctx, project, id)
	if err != nil {
		return release{}, err
	}
	return release{Tag: tag, Build: id, State: build.State.String(), Reason: build.Reason}, nil
}

// writeLog writes what there is of the log of a release's build.
func (r *releases) writeLog(ctx context.Context, tag string, w io.Writer) error {
	found, err := r.get(ctx, tag)
	if err != nil {
		return err
	}
	for at := (queue.LogPage{AttemptID: queue.AttemptID{Build: found.Build}}); ; {
		page, err := r.queue.ReadLog(ctx, project, at.AttemptID, at.Offset, queue.MaxLogRead)
		switch {
		case errors.Is(err, queue.ErrNotFound): // not started
			return nil
		case err != nil:
			return err
		case len(page.Data) == 0 && page.Cut:
			_, err = io.WriteString(w, queue.CutMark)
			return err
		case len(page.Data) == 0: // at the end
			return nil
		}
		if _, err := w.Write(page.Data); err != nil {
			return err
		}
		at.AttemptID, at.Offset = page.AttemptID, page.Offset+int64(len(page.Data))
	}
}
