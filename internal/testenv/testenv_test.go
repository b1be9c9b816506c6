package testenv

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// helperEnv makes the test binary start a cluster, print its directory and wait.
const helperEnv = "SLIPWAY_TESTENV_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	c, err := StartPostgres(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(c.dir + "\n")
	if os.Getenv(helperEnv) == "wait" {
		select {}
	}
}

func TestPostgresGivesSchemaOfItsOwn(t *testing.T) {
	ctx := t.Context()
	a, b := Postgres(t), Postgres(t)
	if a.Schema == b.Schema {
		t.Fatalf("two calls gave the same schema %q", a.Schema)
	}
	for _, d := range []*Database{a, b} {
		if _, err := d.Pool.Exec(ctx, "CREATE TABLE "+d.Schema+".thing (id int PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
	}
	small := a.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	if got := small.Config().MaxConns; got != 1 {
		t.Errorf("MaxConns of the configured pool = %d, want 1", got)
	}
	if _, err := small.Exec(ctx, "INSERT INTO "+a.Schema+".thing VALUES (1)"); err != nil {
		t.Error(err)
	}
}

func TestPostgresDropsSchema(t *testing.T) {
	var schema string
	t.Run("owner", func(t *testing.T) { schema = Postgres(t).Schema })
	var found bool
	err := Postgres(t).Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&found)
	if err != nil {
		t.Fatal(err)
	}
	if found {
		t.Errorf("schema %s is still there after its test", schema)
	}
}

func TestClusterSurvivesKill(t *testing.T) {
	ctx := t.Context()
	c, err := StartPostgres(ctx, &Options{Fsync: true, Settings: map[string]string{"max_connections": "17"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	query(t, c, "CREATE TABLE kept (id int)")
	query(t, c, "INSERT INTO kept VALUES (7)")
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": "17"} {
		if got := query(t, c, "SHOW "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}

	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := ping(ctx, c.URL()); err == nil {
		t.Error("the server answers after Kill")
	}
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if got := query(t, c, "SELECT id::text FROM kept"); got != "7" {
		t.Errorf("row after a crash = %q, want 7", got)
	}

	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Stop: %v, want it removed", err)
	}
	if err := c.Restart(ctx); !errors.Is(err, ErrStopped) {
		t.Errorf("Restart after Stop = %v, want ErrStopped", err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestClusterDiesWithItsProcess(t *testing.T) {
	for _, how := range []string{"return", "wait"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"="+how)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("read the directory from the helper: %v", err)
			}
			dir := strings.TrimSpace(line)
			if how == "wait" {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait() // killed, or ended: either is how this case goes
			eventually(t, "the cluster's directory to be removed", func() bool {
				_, err := os.Stat(dir)
				return errors.Is(err, os.ErrNotExist)
			})
			if conn, err := pgx.Connect(t.Context(), (&Cluster{dir: dir}).URL()); err == nil {
				conn.Close(t.Context())
				t.Error("the server still answers")
			}
		})
	}
}

func TestFindBinaries(t *testing.T) {
	root := t.TempDir()
	onPath := filepath.Join(root, "path")
	for _, dir := range []string{filepath.Join(root, "9.6", "bin"), filepath.Join(root, "15", "bin"), filepath.Join(root, "17", "bin"), onPath} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct{ path, versions, want string }{
		"path first":     {onPath, root, onPath},
		"newest version": {"", root, filepath.Join(root, "17", "bin")},
		"relative path":  {"path", root, filepath.Join(root, "17", "bin")},
		"none":           {"", filepath.Join(root, "absent"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := findBinaries(tt.path, tt.versions)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want == "" && (!errors.Is(err, errNoBinaries) || !strings.Contains(err.Error(), "apt-get install postgresql")) {
				t.Errorf("error = %v, want one that says how to install PostgreSQL", err)
			}
		})
	}
}

func TestSQLite(t *testing.T) {
	a, b := SQLite(t), SQLite(t)
	if a == b {
		t.Errorf("two calls gave the same file %q", a)
	}
	if _, err := os.Stat(a); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file exists before its first use: %v", err)
	}
}

func query(t *testing.T, c *Cluster, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20s for %s", what)
		}
	}
}
