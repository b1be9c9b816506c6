package sqlqueue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/queue"
)

// A Reader answers what both dialects answer alike. It holds nothing but its database and is safe for concurrent use if that is.
// Its methods are those of the same names of [queue.Records], [queue.Artifacts] and [queue.Logs]; deadlines are the caller's.
//
// Where a method asks twice, the first answer is about the build's present and the second about what is never taken back, so that
// a change in between cannot be seen by half.
type Reader struct {
	db    bun.IDB
	names Names
}

// NewReader returns a reader of the tables of those names in db.
func NewReader(db bun.IDB, names Names) *Reader { return &Reader{db: db, names: names} }

// Get returns a build, or queue.ErrNotFound.
func (r *Reader) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	var row buildRow
	err := r.db.NewSelect().Model(&row).ModelTableExpr("? AS b", r.names.Table("build")).
		Where("b.id = ?", ID(r.db, id)).Where("b.project = ?", project).Scan(ctx)
	if err != nil {
		return queue.Build{}, notFound(err)
	}
	return row.build()
}

// Specs returns the specs of those of the builds that exist.
func (r *Reader) Specs(ctx context.Context, ids []queue.ID) (map[queue.ID][]byte, error) {
	specs := make(map[queue.ID][]byte, len(ids))
	if len(ids) == 0 {
		return specs, nil
	}
	var rows []buildRow
	err := r.db.NewSelect().Model(&rows).ModelTableExpr("? AS b", r.names.Table("build")).Column("id", "spec").
		Where("b.id IN (?)", bun.List(IDs(r.db, ids))).Scan(ctx)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		specs[queue.ID(row.ID)] = row.Spec
	}
	return specs, nil
}

// Attempts returns the accepted attempts of a build, oldest first, or queue.ErrNotFound. The one that lasts is not in the table of
// attempts yet: it is the build's own row.
func (r *Reader) Attempts(ctx context.Context, project string, id queue.ID) ([]queue.Attempt, error) {
	b, err := r.Get(ctx, project, id)
	if err != nil {
		return nil, err
	}
	var rows []attemptRow
	err = r.db.NewSelect().Model(&rows).ModelTableExpr("? AS a", r.names.Table("attempt")).
		ColumnExpr("?TableColumns, COALESCE(h.length, 0) AS log_length, COALESCE(h.cut, FALSE) AS log_cut").
		Join("LEFT JOIN ? AS h ON h.build_id = a.build_id AND h.epoch = a.epoch", r.names.Table("log_head")).
		Where("a.build_id = ?", ID(r.db, id)).OrderExpr("a.epoch").Scan(ctx)
	if err != nil {
		return nil, err
	}
	attempts := make([]queue.Attempt, 0, len(rows)+1)
	for i := range rows {
		attempts = append(attempts, rows[i].attempt())
	}
	if !b.State.Leased() || len(rows) > 0 && rows[len(rows)-1].Epoch >= b.Epoch {
		return attempts, nil
	}
	current := queue.Attempt{
		AttemptID: queue.AttemptID{Build: id, Epoch: b.Epoch}, Worker: b.Worker, StartedAt: b.StartedAt,
	}
	if current.LogLength, current.LogCut, err = r.head(ctx, current.AttemptID); err != nil {
		return nil, err
	}
	return append(attempts, current), nil
}

// ListArtifacts returns an attempt's committed artifacts in order of name, or queue.ErrNotFound.
func (r *Reader) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	id, _, err := r.resolve(ctx, project, id)
	if err != nil {
		return nil, err
	}
	var rows []artifactRow
	err = r.db.NewSelect().Model(&rows).ModelTableExpr("? AS a", r.names.Table("artifact")).
		Where("a.build_id = ?", ID(r.db, id.Build)).Where("a.epoch = ?", id.Epoch).Where("a.committed").
		OrderExpr("a.name").Scan(ctx)
	if err != nil {
		return nil, err
	}
	artifacts := make([]queue.Artifact, len(rows))
	for i := range rows {
		artifacts[i] = rows[i].artifact()
	}
	return artifacts, nil
}

// Classes returns at most limit classes with ids above after, in order of id.
func (r *Reader) Classes(ctx context.Context, after queue.ClassID, limit int) ([]queue.Class, error) {
	var rows []classRow
	err := r.db.NewSelect().Model(&rows).ModelTableExpr("? AS c", r.names.Table("class")).
		Where("c.id > ?", after).OrderExpr("c.id").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, err
	}
	classes := make([]queue.Class, len(rows))
	for i := range rows {
		if classes[i], err = rows[i].class(); err != nil {
			return nil, err
		}
	}
	return classes, nil
}

// resolve finds an accepted attempt of a build of the project, the newest if id's epoch is zero, and tells whether it lasts.
func (r *Reader) resolve(ctx context.Context, project string, id queue.AttemptID) (_ queue.AttemptID, lasts bool, _ error) {
	query := r.db.NewRaw(`
SELECT e.epoch, e.lasts FROM (
	SELECT b.epoch, 1 AS lasts FROM ?0 AS b WHERE b.id = ?2 AND b.project = ?3 AND b.state IN (?4, ?5)
	UNION ALL
	SELECT a.epoch, 0 FROM ?1 AS a JOIN ?0 AS b ON b.id = a.build_id WHERE a.build_id = ?2 AND b.project = ?3
) AS e WHERE ?6 IN (0, e.epoch) ORDER BY e.epoch DESC LIMIT 1`,
		r.names.Table("build"), r.names.Table("attempt"), ID(r.db, id.Build), project, Running, Cancelling, id.Epoch)
	var last int
	if err := query.Scan(ctx, &id.Epoch, &last); err != nil {
		return queue.AttemptID{}, false, notFound(err)
	}
	return id, last == 1, nil
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return queue.ErrNotFound
	}
	return err
}
