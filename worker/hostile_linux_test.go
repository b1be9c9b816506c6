package worker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

// hostile is a build that looks for credentials, leaves a daemon behind, hinders whoever removes its files, and prints what it could read of
// the agent's: its arguments are the agent's directory and the file with its credential.
const hostile = `
	echo "daemon $(setsid sh -c 'setsid sh -c "echo \$\$; exec sleep 1000 > /dev/null 2>&1" &')"
	echo x > "$HOME/x" && echo x > "$TMPDIR/x" || echo "DENIED"
	mkdir -p sealed/inner; : > sealed/inner/file; chmod 0 sealed
	echo "environment $(tr '\0' '\n' < /proc/self/environ | grep -c .)"; tr '\0' '\n' < /proc/self/environ
	exec 2> /dev/null
	echo "the agent's:"
	ls "$1" && echo "DONE: list"
	cat "$2" && echo "DONE: credential"
	cat "$1"/*/*/log ../../log && echo "DONE: log"
	tr '\0' '\n' < /proc/$PPID/environ && echo "DONE: guardian"
	tr '\0' '\n' < "/proc/$3/environ" && echo "DONE: agent"
	touch "$1/x" ../../x ../x && echo "DONE: write"
	kill -0 "$3" && echo "DONE: signal"
	echo end`

// TestHostileBuild runs a hostile build on an agent whose builds have a user of their own, which takes root, and on one whose builds have not.
func TestHostileBuild(t *testing.T) {
	canary := "canary-" + rand.Text()
	t.Setenv("SLIPWAY_WORKER_KEY", canary)
	for name, user := range map[string]string{"the agent's user": "", "another user": "nobody"} {
		t.Run(name, func(t *testing.T) {
			executor, err := procexec.New(&procexec.Options{User: user})
			if user != "" && os.Geteuid() != 0 {
				if err == nil {
					t.Error("builds of another user without being root")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			top := t.TempDir()
			for _, dir := range []string{top, filepath.Dir(top)} { // which only the test's own user could enter
				if err := os.Chmod(dir, 0o711); err != nil {
					t.Fatal(err)
				}
			}
			dir, key := filepath.Join(top, "made", "too", "agent"), filepath.Join(top, "key")
			writeFile(t, key, []byte(canary))
			w := newWorld(t)
			c := w.controller(nil)
			looked := lookingExecutor{executor, func() { wantPrivate(t, filepath.Join(top, "made"), user != "") }}
			w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor, o.Dir = looked, dir }, c.server.URL)
			spec, err := procexec.Spec{Command: []string{"sh", "-c", hostile, "sh", dir, key, strconv.Itoa(os.Getpid())}}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			id := w.submit(func(p *queue.Params) { p.Spec = spec })
			if b := w.end(id); b.State != queue.Succeeded {
				t.Errorf("the build ended as %+v", b)
			}
			log := string(w.readLog(id))
			environ, agents, ok := strings.Cut(log, "the agent's:\n")
			if !ok || strings.Contains(environ, "DENIED") || strings.Contains(environ, canary) || strings.Contains(environ, secret) || strings.Contains(environ, "SLIPWAY_WORKER") {
				t.Errorf("the build's environment is\n%s", environ)
			}
			if user != "" && agents != "end\n" {
				t.Errorf("the build has got at the agent's:\n%s", agents)
			}
			var daemon int
			if _, err := fmt.Sscanf(log, "daemon %d\n", &daemon); err != nil || syscall.Kill(daemon, 0) == nil {
				t.Errorf("daemon %d is alive, %v", daemon, err)
			}
			eventually(t, "the workspace is gone", func() bool {
				_, err := os.Stat(filepath.Join(dir, id.String()))
				return os.IsNotExist(err)
			})
		})
	}
}

// A lookingExecutor does something before each build.
type lookingExecutor struct {
	*procexec.Executor
	look func()
}

func (e lookingExecutor) Run(ctx context.Context, job worker.Job) (worker.Result, error) {
	e.look()
	return e.Executor.Run(ctx, job)
}

// wantPrivate fails if there is anything in an agent's directory that others, or the group that passes through it, can read.
func wantPrivate(t *testing.T, dir string, passed bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		most := fs.FileMode(0o700)
		if passed && d.IsDir() {
			most = 0o710
		}
		if info.Mode().Perm()&^most != 0 {
			t.Errorf("%s has permissions %v", name, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
