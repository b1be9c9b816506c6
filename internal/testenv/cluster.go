package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "slipway" // owns every throw-away cluster; trusted without a password

	// maxSocketPath is the shortest limit of the systems we test on, less a margin:
	// sun_path holds 104 bytes on macOS and 108 on Linux.
	maxSocketPath = 100

	startTimeout = 60 * time.Second // of initdb, and of the server until it answers
	stopTimeout  = 15 * time.Second // of a fast shutdown before it becomes an immediate one
	pollInterval = 20 * time.Millisecond
)

// ErrStopped is returned by operations on a [Cluster] after [Cluster.Stop].
var ErrStopped = errors.New("testenv: the cluster was stopped")

// Options are the settings of [StartPostgres]. The zero value is a fast cluster
// that a crash of the machine may corrupt.
type Options struct {
	// Fsync makes the server write as durably as one in production does: fsync,
	// synchronous_commit and full_page_writes are on. Default false.
	Fsync bool

	// Settings are further server settings, by name, such as "max_connections".
	// They win over the ones testenv chooses. Default none.
	Settings map[string]string
}

// Cluster is a PostgreSQL server with a data directory of its own. Its methods
// may be called by several goroutines.
type Cluster struct {
	dir     string // socket, log and data; removed by the janitor
	bin     string
	args    []string
	cred    *syscall.Credential
	janitor *janitor

	mu      sync.Mutex
	server  *process // nil until the first start
	stopped bool
}

// StartPostgres creates a cluster, starts it and waits until it answers; ctx
// bounds that work, not the life of the cluster. The caller ends it by
// [Cluster.Stop]; should the process end before, the cluster ends with it.
// A nil o means the defaults.
func StartPostgres(ctx context.Context, o *Options) (*Cluster, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, fmt.Errorf("testenv: %w", err)
	}
	err = c.initdb(ctx)
	if err == nil {
		err = c.Restart(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("testenv: start PostgreSQL: %w", err), c.Stop())
	}
	return c, nil
}

func newCluster(o *Options) (*Cluster, error) {
	if o == nil {
		o = new(Options)
	}
	bin, err := binaryDir()
	if err != nil {
		return nil, err
	}
	cred, err := serverCredential()
	if err != nil {
		return nil, err
	}
	dir, err := clusterDir(cred)
	if err != nil {
		return nil, err
	}
	j, err := startJanitor(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Cluster{dir: dir, bin: bin, args: serverArgs(dir, o), cred: cred, janitor: j}, nil
}

// clusterDir makes a directory that the server can write to, that every user of
// the host can reach a socket in, and whose name leaves room for the socket's.
func clusterDir(cred *syscall.Credential) (string, error) {
	parent := os.TempDir()
	if cred != nil || len(parent)+len("/slipway-pg-4294967295/.s.PGSQL.5432") > maxSocketPath {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "slipway-pg-")
	if err != nil {
		return "", fmt.Errorf("make a directory for PostgreSQL: %w", err)
	}
	err = os.Chmod(dir, 0o755)
	if err == nil && cred != nil {
		err = os.Chown(dir, int(cred.Uid), int(cred.Gid))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("make a directory for PostgreSQL: %w", err), os.RemoveAll(dir))
	}
	return dir, nil
}

func serverArgs(dir string, o *Options) []string {
	durable := "off"
	if o.Fsync {
		durable = "on"
	}
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    "5432",
		"unix_socket_directories": dir,
		"unix_socket_permissions": "0777",
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"fsync":                   durable,
		"synchronous_commit":      durable,
		"full_page_writes":        durable,
		"log_min_messages":        "warning",
	}
	maps.Copy(settings, o.Settings)
	args := []string{"-D", filepath.Join(dir, "data")}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

func (c *Cluster) initdb(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), "-D", filepath.Join(c.dir, "data"),
		"--username="+superuser, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = c.dir
	cmd.Env = serverEnv()
	cmd.SysProcAttr = serverAttr(c.cred)
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := startTied(cmd)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	<-p.exited
	if p.err != nil {
		return fmt.Errorf("initdb: %w\n%s", p.err, out.Bytes())
	}
	return nil
}

// serverEnv keeps the caller's PG… variables away from the server.
func serverEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

// URL returns the address of the cluster's database postgres as its superuser.
// Every process and user on this host may connect to it.
func (c *Cluster) URL() string {
	q := url.Values{"host": {c.dir}, "port": {"5432"}, "user": {superuser}, "sslmode": {"disable"}}
	return "postgres:///postgres?" + q.Encode()
}

// Restart starts the server, after an immediate shutdown when it is running, and
// waits until it accepts connections, recovery included.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopped
	}
	if err := c.end(syscall.SIGQUIT); err != nil {
		return err
	}
	if err := c.launch(); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// Kill ends the server as a crash does: connections are cut, nothing is
// checkpointed and the next start has to recover. It returns when every process
// of the server is gone. A server that is not running is left so.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end(syscall.SIGQUIT)
}

// Stop ends the server and removes its files. Later calls do nothing.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	return errors.Join(c.end(syscall.SIGINT), c.janitor.finish())
}

func (c *Cluster) launch() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), c.args...) //nolint:noctx // it ends by Stop or with this process
	cmd.Dir = c.dir
	cmd.Env = serverEnv()
	cmd.SysProcAttr = serverAttr(c.cred)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := startTied(cmd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	c.server = p
	return c.janitor.watch(p.pid)
}

func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ping(ctx, c.URL())
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.server.exited:
			return fmt.Errorf("postgres ended at once: %w\n%s", errors.Join(c.server.err), c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w\n%s", err, c.logTail())
		}
	}
}

func ping(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// end signals the server and waits until it is gone, by force when it takes too long.
func (c *Cluster) end(sig syscall.Signal) error {
	if c.server == nil || !c.server.running() {
		return nil
	}
	patience := time.NewTimer(stopTimeout)
	defer patience.Stop()
	for _, s := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		c.server.signal(s)
		patience.Reset(stopTimeout)
		select {
		case <-c.server.exited:
			return c.janitor.watch(0)
		case <-patience.C:
		}
	}
	return fmt.Errorf("testenv: postgres (pid %d) does not end", c.server.pid)
}

func (c *Cluster) logTail() []byte {
	log, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	const most = 4 << 10
	return log[max(0, len(log)-most):]
}
