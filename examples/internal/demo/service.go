package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
)

// Short times, so that what takes a minute in earnest takes seconds here. The lease has to outlast the restart of a controller on a
// busy machine.
const (
	lease       = 8 * time.Second
	killTime    = 2 * time.Second
	grace       = 14 * time.Second
	cancelGrace = 3 * time.Second
)

// goVariables are what the go command needs to know to find caches and modules without a home directory.
var goVariables = []string{
	"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOTOOLCHAIN", "GOFLAGS",
	"CC", "CGO_ENABLED",
}

// passed are further variables of the demo's environment that builds may see: what the network and the compiler need.
var passed = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "SDKROOT", "DEVELOPER_DIR",
}

// buildPrograms compiles what is shown.
func (d *demo) buildPrograms(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/slipway-build/slipway").Output()
	if err != nil {
		return fmt.Errorf("go list, in the directory examples: %w", err)
	}
	d.root = strings.TrimSpace(string(root))
	out, err := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, goVariables...)...).Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	values := map[string]string{}
	if err := json.Unmarshal(out, &values); err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for _, name := range goVariables {
		if values[name] != "" {
			d.goEnv = append(d.goEnv, name+"="+values[name])
		}
	}
	cmd := d.command(ctx, nil, "go", "build", "-buildvcs=false", "-o", d.path("bin")+string(filepath.Separator), "./controller", "./agent", "./slipway")
	cmd.Dir = filepath.Join(d.root, "examples")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	d.say("controller, agent and slipway are in %s", d.path("bin"))
	return nil
}

// start starts a controller and an agent, with keys that did not exist before.
func (d *demo) start(ctx context.Context) error {
	database := "SQLite"
	if os.Getenv("SLIPWAY_TEST_DATABASE_URL") != "" {
		d.schema = "demo_" + strings.ToLower(strings.TrimPrefix(d.mark, "SLIPWAYDEMO="))
		database = "PostgreSQL, in a new schema"
	}
	if err := d.startController(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	d.say("the controller is at %s, with its queue in %s", d.url, database)
	d.submitKey = d.path("submit.key")
	if err := d.createKey(ctx, d.submitKey, string(auth.Submitter), "--project", "default"); err != nil {
		return err
	}
	agent, err := d.startAgent(ctx, "first")
	d.agent = agent
	return err
}

// startController starts the controller on an address and waits until it is ready.
func (d *demo) startController(ctx context.Context, address string) error {
	addrFile := d.path("address")
	if err := os.RemoveAll(addrFile); err != nil {
		return err
	}
	env := []string{"SLIPWAY_ADMIN_KEY=" + d.adminKey}
	args := []string{
		"-listen", address, "-addr-file", addrFile, "-data", d.path("data"),
		"-heartbeat", "1s", "-lease", lease.String(), "-kill-time", killTime.String(), "-margin", "2s", "-grace", grace.String(),
		"-cancel-grace", cancelGrace.String(), "-cancel-poll", "200ms", "-controller-ttl", "4s", "-retry-base", "200ms",
	}
	if d.schema != "" {
		env = append(env, "SLIPWAY_DATABASE_URL="+os.Getenv("SLIPWAY_TEST_DATABASE_URL"))
		args = append(args, "-schema", d.schema)
	}
	p, err := d.launch(fmt.Sprintf("controller-%d", len(d.processes)), d.command(ctx, env, d.path("bin", "controller"), args...))
	if err != nil {
		return err
	}
	d.controller = p
	return until(ctx, 30*time.Second, "a controller that is ready", func() bool {
		text, err := os.ReadFile(addrFile)
		if err != nil || len(text) == 0 {
			return false
		}
		d.url = "http://" + strings.TrimSpace(string(text))
		return ready(ctx, d.url)
	})
}

func ready(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// createKey has the admin make a key and write it into a file.
func (d *demo) createKey(ctx context.Context, file string, args ...string) error {
	env := []string{"SLIPWAY_URL=" + d.url, "SLIPWAY_KEY=" + d.adminKey}
	r, err := d.run(ctx, time.Minute, env, d.path("bin", "slipway"), append([]string{"keys", "create", "-o", file}, args...)...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("slipway keys create: %s", r.stderr)
	}
	return err
}

// startAgent starts an agent of that name, with a key of its own.
func (d *demo) startAgent(ctx context.Context, name string) (*process, error) {
	key := d.path(name + ".key")
	if err := d.createKey(ctx, key, string(auth.Worker), "--worker", name); err != nil {
		return nil, err
	}
	visible := slices.Concat(goVariables, passed, []string{"SLIPWAYDEMO"})
	p, err := d.launch("agent-"+name, d.command(ctx, d.goEnv, d.path("bin", "agent"),
		"-url", d.url, "-name", name, "-key-file", key, "-dir", d.path("work-"+name), "-reconnect-min", "50ms", "-reconnect-max", "500ms",
		"-pass-env", strings.Join(visible, ",")))
	if err == nil {
		d.say("agent %q is started", name)
	}
	return p, err
}

// dropSchema removes what was in PostgreSQL.
func (d *demo) dropSchema(ctx context.Context) error {
	if d.schema == "" {
		return nil
	}
	conn, err := pgx.Connect(ctx, os.Getenv("SLIPWAY_TEST_DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("remove schema %s: %w", d.schema, err)
	}
	_, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{d.schema}.Sanitize()+" CASCADE")
	return errors.Join(err, conn.Close(ctx))
}

// show returns a build as the controller has it.
func (d *demo) show(ctx context.Context, id string) (api.Build, error) {
	var build api.Build
	err := d.slipwayJSON(ctx, &build, "show", id)
	return build, err
}
