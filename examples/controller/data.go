package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/sqlauth"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
	"github.com/slipway-build/slipway/queue/storelogs"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

// errLocked says that a data directory has a controller already.
var errLocked = errors.New("another controller works in it")

// data is what the controller keeps, opened.
type data struct {
	queue queue.Backend
	auth  auth.Backend
	store *storage.Store
	logs  queue.LogArchive // nil: they stay in the database
	close []func() error   // in the order of opening
}

// openData opens the storage and the database, and brings the tables up to date. On an error nothing stays open.
func openData(ctx context.Context, s *settings) (_ *data, err error) {
	d := &data{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.lock(s.data); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", s.data, err)
	}
	if err := d.openStorage(s); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	if s.database != "" {
		err = d.openPostgres(ctx, s)
	} else {
		err = d.openSQLite(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return d, nil
}

// Close closes what is open, the last first.
func (d *data) Close() error {
	var errs []error
	for len(d.close) > 0 {
		last := len(d.close) - 1
		errs = append(errs, d.close[last]())
		d.close = d.close[:last]
	}
	return errors.Join(errs...)
}

func (d *data) lock(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	d.close = append(d.close, f.Close)
	return lock(f)
}

func (d *data) openStorage(s *settings) error {
	dir := s.storage
	if dir == "" {
		dir = filepath.Join(s.data, "blobs")
	}
	files, err := d.openFiles(s, dir)
	if err != nil {
		return err
	}
	d.store = storage.New(files, &storage.Options{MaxBlobBytes: max(s.server.MaxSource, s.hub.MaxArtifact)})
	if !s.archiveLogs {
		return nil
	}
	logs, err := d.openFiles(s, filepath.Join(dir, "logs"))
	if err != nil {
		return err
	}
	d.logs = storelogs.New(logs)
	return nil
}

func (d *data) openFiles(s *settings, dir string) (*filestore.Backend, error) {
	files, err := filestore.New(dir, &filestore.Options{MinFreeBytes: s.minFree})
	if err == nil {
		d.close = append(d.close, files.Close)
	}
	return files, err
}

// openSQLite keeps the queue and the keys in two files, so that neither waits for the other's writes.
func (d *data) openSQLite(ctx context.Context, s *settings) error {
	o := &sqlitequeue.Options{Timeout: s.databaseTimeout}
	builds, err := sqlitequeue.Open(filepath.Join(s.data, "queue.db"), o)
	if err != nil {
		return err
	}
	d.close = append(d.close, builds.Close)
	keys, err := sqlitequeue.Open(filepath.Join(s.data, "auth.db"), o)
	if err != nil {
		return err
	}
	d.close = append(d.close, keys.Close)
	q, err := sqlitequeue.New(builds, o)
	if err != nil {
		return err
	}
	a, err := sqlauth.NewSQLite(keys, &sqlauth.Options{Timeout: s.databaseTimeout})
	if err != nil {
		return err
	}
	d.queue, d.auth = q, a
	return prepare(ctx, s, q, a)
}

func (d *data) openPostgres(ctx context.Context, s *settings) error {
	config, err := pgxpool.ParseConfig(s.database)
	if err != nil {
		// The cause may repeat the URL, and with it a password.
		return configf("-database or SLIPWAY_DATABASE_URL must be a URL such as postgres://user@host:5432/name")
	}
	config.MaxConns = int32(s.databaseConns)
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = s.databaseTimeout
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	d.close = append(d.close, func() error { pool.Close(); return nil })
	q, err := pgqueue.New(pool, &pgqueue.Options{Schema: s.schema, Timeout: s.databaseTimeout})
	if err != nil {
		return configf("-schema: %w", err)
	}
	a, err := sqlauth.NewPostgres(pool, &sqlauth.Options{Schema: s.schema, Timeout: s.databaseTimeout})
	if err != nil {
		return configf("-schema: %w", err)
	}
	d.queue, d.auth = q, a
	return prepare(ctx, s, q, a)
}

// A migrator brings its tables up to date.
type migrator interface {
	Migrate(ctx context.Context) error
}

// prepare migrates, if it may, and makes sure that the tables are there.
func prepare(ctx context.Context, s *settings, q interface {
	migrator
	queue.Records
}, a migrator,
) error {
	if s.migrate {
		for _, m := range []migrator{q, a} {
			if err := m.Migrate(ctx); err != nil {
				return err
			}
		}
	}
	return q.Ping(ctx)
}
