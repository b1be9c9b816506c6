package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
)

// bin holds the programs that the tests run.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "slipway-controller-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	for _, args := range [][]string{
		{"build", "-buildvcs=false", "-o", filepath.Join(dir, "controller"), "."},
		{"build", "-C", "../..", "-buildvcs=false", "-o", filepath.Join(dir, "pgtemp"), "./internal/testenv/pgtemp"},
	} {
		if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	}
	return m.Run(), nil
}

const goodKey = "q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYe"

// A program is a controller that was started.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout buffer
	stderr buffer
	ended  chan struct{}
	url    string
	key    string
}

// launch starts a controller with that environment and no other.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, ended: make(chan struct{}), key: goodKey}
	p.cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "controller"), args...)
	p.cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_ = p.cmd.Wait() // the state has it
		close(p.ended)
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		waiting.Wait()
	})
	return p
}

// start is launch with a good key and a free port, and returns when the controller is ready.
func start(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := launch(t, append([]string{adminKeyVariable + "=" + goodKey}, env...), append([]string{"-listen", "127.0.0.1:0", "-probe-every", "10ms"}, args...)...)
	p.awaitReady()
	return p
}

func (p *program) awaitReady() {
	p.t.Helper()
	p.eventually("the address", func() bool {
		for line := range strings.Lines(p.stdout.String()) {
			if url, ok := strings.CutPrefix(line, "SLIPWAY_URL="); ok && strings.HasSuffix(line, "\n") {
				p.url = strings.TrimSpace(url)
			}
		}
		return p.url != ""
	})
	p.eventually("ready", func() bool { return p.status("/readyz") == http.StatusOK })
}

// eventually waits until a condition holds, while the controller runs.
func (p *program) eventually(what string, holds func() bool) {
	p.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-p.ended:
			if !holds() {
				p.t.Fatalf("ended before: %s\n%s", what, p.stderr.String())
			}
		case <-deadline:
			p.t.Fatalf("never: %s\n%s", what, p.stderr.String())
		}
	}
}

// wait waits for the controller's end and returns its exit code, -1 after a signal.
func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		p.t.Fatalf("it goes on\n%s", p.stderr.String())
		return 0
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// request sends a request with the admin key.
func (p *program) request(method, path, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(req)
}

// status asks for a path and returns the status of the answer, 0 if there is none.
func (p *program) status(path string) int {
	resp, err := p.request("GET", path, "")
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// submit submits a build and returns it.
func (p *program) submit() api.Build {
	p.t.Helper()
	resp, err := p.request("POST", "/v1/builds", `{"spec":"eA=="}`)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b api.Build
	if err := json.NewDecoder(resp.Body).Decode(&b); err != nil || resp.StatusCode != http.StatusCreated {
		p.t.Fatal(resp.Status, err)
	}
	return b
}

// A buffer takes what a program writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// wantRefusal checks that a controller has ended with that code, one line that names what is wrong, and without a trace.
func (p *program) wantRefusal(code int, names string) {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Errorf("exit code %d, want %d", got, code)
	}
	text := p.stderr.String()
	if !strings.HasPrefix(text, "controller: ") || strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") || !strings.Contains(text, names) {
		p.t.Errorf("stderr %q: want one line that names %s", text, names)
	}
	if out := p.stdout.String(); out != "" {
		p.t.Errorf("stdout %q", out)
	}
	left, err := os.ReadDir(p.cmd.Dir)
	if err != nil || len(left) > 0 && code != 1 {
		p.t.Errorf("it left behind %v (%v)", left, err)
	}
}

// wantSecret checks that nothing of a secret is in what the controller wrote.
func (p *program) wantSecret(secret string) {
	p.t.Helper()
	const part = 8
	output := p.stdout.String() + p.stderr.String()
	for i := 0; i+part <= len(secret); i++ {
		if strings.Contains(output, secret[i:i+part]) {
			p.t.Errorf("the output holds %q of the secret:\n%s", secret[i:i+part], output)
			return
		}
	}
}

func TestAdminKeyPolicy(t *testing.T) {
	for name, key := range map[string]string{
		"empty":           "",
		"31 characters":   "q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lY",
		"spaces":          strings.Repeat(" ", 40),
		"one character":   strings.Repeat("a", 64),
		"repeated":        strings.Repeat("q7Zp0vR2", 4),
		"sequential":      "abcdefghijklmnopqrstuvwxyz012345",
		"digits":          "01234567890123456789012345678901",
		"keyboard":        "qwertyuiopasdfghjklzxcvbnm123456",
		"default":         "changeme-changeme-please-changeme",
		"placeholder":     "replace_this_with_a_long_secret_value",
		"documented":      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"hash of nothing": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"too long":        strings.Repeat("q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYe", 8) + "x",
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, []string{adminKeyVariable + "=" + key})
			p.wantRefusal(3, adminKeyVariable)
			if !strings.Contains(p.stderr.String(), "openssl rand -hex 32") {
				t.Error("it does not say how to make a key")
			}
			p.wantSecret(key)

			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			p = launch(t, nil, "-admin-key-file", file)
			p.wantRefusal(3, "-admin-key-file")
			p.wantSecret(key)
			if key != "" {
				p = launch(t, []string{adminKeyVariable + "=" + key}, "-dev")
				p.wantRefusal(3, adminKeyVariable)
				p.wantSecret(key)
			}
		})
	}
	t.Run("unset", func(t *testing.T) { launch(t, nil).wantRefusal(3, adminKeyVariable) })
	t.Run("no file", func(t *testing.T) { launch(t, nil, "-admin-key-file", "nothing").wantRefusal(3, "-admin-key-file") })
	t.Run("large file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, bytes.Repeat([]byte(goodKey), 1<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		launch(t, nil, "-admin-key-file", file).wantRefusal(3, "too long for a key")
	})
	t.Run("open file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(goodKey), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, 0o604); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		p := launch(t, nil, "-admin-key-file", file)
		p.wantRefusal(3, "run chmod 600 "+file)
		p.wantSecret(goodKey)
	})
	t.Run("both", func(t *testing.T) {
		p := launch(t, []string{adminKeyVariable + "=" + goodKey}, "-admin-key-file", "x")
		p.wantRefusal(3, "-admin-key-file")
		p.wantSecret(goodKey)
	})
}

func TestAdminKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(goodKey+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, []string{"SLIPWAY_LISTEN=127.0.0.1:0"}, "-admin-key-file", file, "-log-level", "debug")
	p.awaitReady()
	if got := p.status("/v1/keys"); got != http.StatusOK {
		t.Errorf("status %d", got)
	}
	p.key = goodKey + "x"
	if got := p.status("/v1/keys"); got != http.StatusUnauthorized {
		t.Errorf("with another key: status %d", got)
	}
	p.wantSecret(goodKey)
}

// devKey returns the key that a controller has printed, and checks that it did so once.
func (p *program) devKey() string {
	p.t.Helper()
	_, key, _ := strings.Cut(p.stdout.String(), "\n"+adminKeyVariable+"=")
	key, _, ended := strings.Cut(key, "\n")
	if !ended || len(key) < 32 || strings.Count(p.stdout.String()+p.stderr.String(), key) != 1 {
		p.t.Errorf("no key, or more than one:\n%s\n%s", p.stdout.String(), p.stderr.String())
	}
	return key
}

func TestDev(t *testing.T) {
	var keys [2]string
	for i := range keys {
		p := launch(t, nil, "-dev", "-listen", "localhost:0", "-log-level", "debug")
		p.awaitReady()
		keys[i] = p.devKey()
		p.key = keys[i]
		if got := p.status("/v1/keys"); got != http.StatusOK {
			t.Errorf("status %d with the key that was printed", got)
		}
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		p.devKey()
	}
	if keys[0] == keys[1] {
		t.Error("the key is the same each time")
	}
	for _, listen := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "controller.example:0"} {
		launch(t, nil, "-dev", "-listen", listen).wantRefusal(3, "-listen")
	}
	p := start(t, nil, "-dev") // a key that is set is used, and not printed
	p.wantSecret(goodKey)
}

func TestUsage(t *testing.T) {
	env := []string{adminKeyVariable + "=" + goodKey}
	for name, tt := range map[string]struct {
		env   []string
		args  []string
		names string
	}{
		"unknown flag":      {nil, []string{"-liste", "x"}, "-liste"},
		"argument":          {nil, []string{"serve"}, `"serve"`},
		"argument after":    {nil, []string{"-dev", "--", "x"}, `"x"`},
		"key in arguments":  {nil, []string{"-admin-key", "x"}, "-admin-key"},
		"no value":          {nil, []string{"-data"}, "-data"},
		"empty data":        {nil, []string{"-data", ""}, "-data"},
		"duration":          {nil, []string{"-lease", "soon"}, "-lease"},
		"duration unitless": {nil, []string{"-lease", "30"}, "-lease"},
		"negative duration": {nil, []string{"-lease=-1s"}, "-lease"},
		"zero duration":     {nil, []string{"-poll", "0"}, "-poll"},
		"size":              {nil, []string{"-max-source", "big"}, "-max-source"},
		"zero size":         {nil, []string{"-max-source", "0"}, "-max-source"},
		"large size":        {nil, []string{"-max-artifact", "9999999999GiB"}, "-max-artifact"},
		"count":             {nil, []string{"-max-attempts", "0"}, "-max-attempts"},
		"bool":              {nil, []string{"-migrate=perhaps"}, "-migrate"},
		"listen":            {nil, []string{"-listen", "8080"}, "-listen"},
		"log format":        {nil, []string{"-log-format", "xml"}, "-log-format"},
		"log level":         {nil, []string{"-log-level", "loud"}, "-log-level"},
		"certificate alone": {nil, []string{"-tls-cert", "x"}, "-tls-key"},
		"variable":          {[]string{"SLIPWAY_LEASE=canary7f3a"}, nil, "SLIPWAY_LEASE"},
		"variable of size":  {[]string{"SLIPWAY_MAX_SOURCE=-1"}, nil, "SLIPWAY_MAX_SOURCE"},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, append(tt.env, env...), tt.args...)
			p.wantRefusal(2, tt.names)
			p.wantSecret(goodKey)
			p.wantSecret("canary7f3a")
		})
	}
	for name, tt := range map[string]struct {
		args  []string
		names string
	}{
		"grace":          {[]string{"-grace", "20s"}, "Grace"},
		"lease":          {[]string{"-lease", "5s"}, "Lease"},
		"cancel timeout": {[]string{"-cancel-timeout", "10s"}, "CancelTimeout"},
		"certificate":    {[]string{"-tls-cert", "x", "-tls-key", "y"}, "-tls-cert"},
		"schema":         {[]string{"-database", "postgres:///x", "-schema", "No; DROP"}, "-schema"},
		"database":       {[]string{"-database", "postgres://u:canary7f3a@[:x/"}, "SLIPWAY_DATABASE_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, env, tt.args...)
			if code := p.wait(); code != 3 {
				t.Errorf("exit code %d, want 3", code)
			}
			if text := p.stderr.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, tt.names) {
				t.Errorf("stderr %q: want one line that names %s", text, tt.names)
			}
			p.wantSecret("canary7f3a")
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		p := launch(t, nil, flag)
		if code := p.wait(); code != 0 || p.stderr.String() != "" {
			t.Errorf("exit code %d, stderr %q", code, p.stderr.String())
		}
		help := p.stdout.String()
		f := newFlags()
		new(settings).define(f)
		listed := 0
		for _, g := range f.groups {
			listed += len(g.names)
			if !strings.Contains(help, "\n"+g.title+"\n") {
				t.Errorf("no group %s", g.title)
			}
			for _, name := range g.names {
				if !strings.Contains(help, "\n  -"+name+" ") {
					t.Errorf("-%s is not explained", name)
				}
			}
		}
		if !strings.Contains(help, "warn or error (default info)\n") {
			t.Error("-log-level has no default in lower case")
		}
		if listed < 40 || !strings.Contains(help, adminKeyVariable) || !strings.Contains(help, "SLIPWAY_DATABASE_URL") {
			t.Errorf("help:\n%s", help)
		}
	}
	p := launch(t, nil, "--version")
	if code := p.wait(); code != 0 || !strings.HasPrefix(p.stdout.String(), "slipway-controller ") {
		t.Errorf("exit code %d, stdout %q", code, p.stdout.String())
	}
}

// TestPrecedence: a flag wins over its variable, which wins over the default.
func TestPrecedence(t *testing.T) {
	getenv := func(name string) string {
		return map[string]string{"SLIPWAY_LEASE": "40s", "SLIPWAY_MAX_SOURCE": "3MiB", "SLIPWAY_DATA": "", "SLIPWAY_MIGRATE": "false", "SLIPWAY_VERSION": "true"}[name]
	}
	s, err := readSettings([]string{"--lease=50s", "-grace", "2m"}, getenv)
	if err != nil {
		t.Fatal(err)
	}
	if s.hub.Lease != 50*time.Second || s.queue.Grace != 2*time.Minute || s.server.MaxSource != 3<<20 || s.data != "./slipway-data" || s.migrate || s.version {
		t.Errorf("got %+v", s)
	}
	if s, err = readSettings(nil, getenv); err != nil || s.hub.Lease != 40*time.Second {
		t.Errorf("got %v, %v", s.hub.Lease, err)
	}
	if _, err = readSettings([]string{"-lease", "x"}, func(string) string { return "" }); exitCode(err) != 2 {
		t.Errorf("got %v", err)
	}
	if exitCode(errors.Join(errors.New("x"), configError{errors.New("y")})) != 3 || exitCode(errors.New("x")) != 1 || exitCode(nil) != 0 {
		t.Error("exit codes")
	}
}
