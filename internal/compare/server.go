package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
)

// serverSettings are those in which the throw-away server differs from a fresh installation, besides what durable writes need. Its
// checkpoints are so rare that they come when a measurement asks for them, not in the middle of one side's turn.
var serverSettings = map[string]string{
	"shared_buffers":     "512MB",
	"max_wal_size":       "16GB",
	"checkpoint_timeout": "1h",
	"max_connections":    "200",
}

// A server is the one PostgreSQL of a run.
type server struct {
	cluster *testenv.Cluster
	admin   *pgxpool.Pool
}

// startServer starts a server that writes durably, with further settings.
func startServer(ctx context.Context, further map[string]string) (*server, error) {
	settings := maps.Clone(serverSettings)
	maps.Copy(settings, further)
	cluster, err := testenv.StartPostgres(ctx, &testenv.Options{Fsync: true, Settings: settings})
	if err != nil {
		return nil, err
	}
	admin, err := pgxpool.New(ctx, cluster.URL())
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w (%w)", err, cluster.Stop())
	}
	return &server{cluster: cluster, admin: admin}, nil
}

func (s *server) stop() error {
	s.admin.Close()
	return s.cluster.Stop()
}

// A database belongs to one side for one measurement.
type database struct {
	name string
	url  string
	pool *pgxpool.Pool
}

// database makes a new database, in the place of an older one of that name.
func (s *server) database(ctx context.Context, name string, conns int) (*database, error) {
	if err := s.drop(ctx, name); err != nil {
		return nil, err
	}
	if _, err := s.admin.Exec(ctx, fmt.Sprintf("CREATE DATABASE %q", name)); err != nil {
		return nil, err
	}
	address, err := databaseURL(s.cluster.URL(), name)
	if err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, address, conns)
	if err != nil {
		return nil, err
	}
	return &database{name: name, url: address, pool: pool}, nil
}

func (s *server) drop(ctx context.Context, name string) error {
	_, err := s.admin.Exec(ctx, fmt.Sprintf("DROP DATABASE IF EXISTS %q WITH (FORCE)", name))
	return err
}

// databaseURL is the address of another database of the same server.
func databaseURL(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

func openPool(ctx context.Context, address string, conns int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(conns)
	config.MinConns = int32(conns)
	return pgxpool.NewWithConfig(ctx, config)
}

// settle has the server do what it would otherwise do later, at somebody else's cost.
func (d *database) settle(ctx context.Context) error {
	for _, sql := range []string{"VACUUM (ANALYZE)", "CHECKPOINT"} {
		if _, err := d.pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// leave closes the pool and waits until the server has seen the last of its connections, and added up what they did.
func (s *server) leave(ctx context.Context, d *database) error {
	d.pool.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		err := s.admin.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, d.name).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
