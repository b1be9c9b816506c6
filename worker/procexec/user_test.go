//go:build linux || darwin

package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-build/slipway/worker"
)

// stranger is the user that builds run as, and what there is on every system.
const stranger = "nobody"

// newStranger returns an executor of builds of another user, and whether there is one: nobody but root can have it.
func newStranger(t *testing.T) (*Executor, bool) {
	t.Helper()
	e, err := New(&Options{User: stranger})
	if os.Geteuid() == 0 {
		if err != nil {
			t.Fatal(err)
		}
		return e, true
	}
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "only root can run builds as another user") {
		t.Errorf("not as root: %v", err)
	}
	return nil, false
}

// newStrangersJob is newJob in a directory that the stranger can reach. Two above it, which the agent has to itself, are files of the
// agent's and of another attempt.
func newStrangersJob(t *testing.T, spec Spec) (worker.Job, *growing) {
	t.Helper()
	job, log := newJob(t, spec)
	top := t.TempDir()
	if err := os.Chmod(filepath.Dir(top), 0o711); err != nil { // which only the test's own user could enter
		t.Fatal(err)
	}
	agent := filepath.Join(top, "agent")
	plant(t, agent, map[string]string{"key": "canary", "1/log": "canary", "2/job/source/file": "canary", "1/job/source/file": "plain"})
	for name, mode := range map[string]os.FileMode{
		".": 0o755, "agent": 0o711, "agent/key": 0o600, "agent/1": 0o711, "agent/1/log": 0o600, "agent/2": 0o711,
		"agent/2/job": 0o700, "agent/1/job": 0o700, "agent/1/job/source": 0o700, "agent/1/job/source/file": 0o600,
	} {
		if err := os.Chmod(filepath.Join(top, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	job.Dir = filepath.Join(agent, "1", "job")
	job.Source = filepath.Join(job.Dir, "source")
	return job, log
}

// TestUser has a hostile build of another user try what one of the agent's own could do.
func TestUser(t *testing.T) {
	e, ok := newStranger(t)
	if !ok {
		return
	}
	t.Setenv("SLIPWAY_WORKER_KEY", "canary")
	spec := shell(`
		id -un
		cat file && echo more >> file && echo x > new && echo y > "$HOME/a" && echo z > "$TMPDIR/b" && echo its own directories
		echo one > /dev/stdout; echo two > /dev/stderr
		exec 2> /dev/null
		try() { if "$@" > out; then echo "DONE: $*"; cat out; fi; }
		try cat ../../../key; try cat ../../log; try ls ..; try ls ../..; try ls ../../../2/job; try cat ../../../2/job/source/file
		try rm -f ../guardian.lock; try mv ../home ../away; try touch ../x; try touch ../../x
		try kill -0 $PPID; try kill -9 $PPID; try kill -0 "$1"; try cat /proc/$PPID/environ; try cat "/proc/$1/environ"; try ls "/proc/$1/fd"
		try chown 0 file; try chmod 777 ..
		ln -s ../../log link; ln ../../log hard; echo tried
		exit 4`, fmt.Sprint(os.Getpid()))
	spec.Artifacts = []string{"new", "link", "hard"}
	job, log := newStrangersJob(t, spec)
	result, err := e.Run(t.Context(), job)
	if err != nil || result.ExitCode != 4 {
		t.Errorf("ended with %+v, %v; want exit code 4", result, err)
	}
	if !strings.HasPrefix(log.String(), "nobody\nplain"+"its own directories\none\ntwo\ntried\n") || strings.Contains(log.String(), "canary") {
		t.Errorf("the build says\n%s", log)
	}
	if len(result.Artifacts) != 1 || result.Artifacts[0].Name != "new" {
		t.Errorf("artifacts %+v", result.Artifacts)
	}
	if err := os.RemoveAll(job.Dir); err != nil {
		t.Errorf("the workspace cannot be removed: %v", err)
	}
}

// TestUsersProcessesAreKilled: a guardian is root, and kills what the build's user has left behind.
func TestUsersProcessesAreKilled(t *testing.T) {
	e, ok := newStranger(t)
	if !ok {
		return
	}
	job, log := newStrangersJob(t, shell(`
		sh -c 'trap "" TERM HUP; echo $$; sleep 1000; :' &
		sh -c 'sh -c "echo \$\$; exec sleep 1000" & :' &
		while [ ! -e go ]; do sleep 0.01; done; exit 3`))
	r := begin(t, e, job, log)
	pids := log.pids(t, 2)
	if err := os.WriteFile(filepath.Join(job.Source, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if result, err := r.wait(t); err != nil || result.ExitCode != 3 {
		t.Errorf("result %+v, %v; want exit code 3", result, err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives on after Run", pid)
		}
	}
}

// TestUsersArtifacts: what lies in the source and is not the build user's is not uploaded by an agent that is root. Where the system lets
// anybody make hard links, a build can make one to a file that it cannot read.
func TestUsersArtifacts(t *testing.T) {
	e, ok := newStranger(t)
	if !ok {
		return
	}
	source := t.TempDir()
	plant(t, source, map[string]string{"own": "", "of-root": "canary"})
	if err := os.Chown(filepath.Join(source, "own"), int(e.user.UID), int(e.user.GID)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if got := names(collect(source, e.user, []string{"*"}, &buildLog{w: &log}, nil)); len(got) != 1 || got[0] != "own" {
		t.Errorf("collected %q", got)
	}
	if want := "slipway: artifact \"of-root\" is left out: it does not belong to the build's user\n"; log.String() != want {
		t.Errorf("log %q, want %q", &log, want)
	}
}

// TestUserOwnsNoMore: links that the source has lead the change of owners nowhere.
func TestUserOwnsNoMore(t *testing.T) {
	e, ok := newStranger(t)
	if !ok {
		return
	}
	job, _ := newStrangersJob(t, Spec{Command: []string{"true"}})
	outside := filepath.Join(job.Dir, "..", "..", "outside")
	plant(t, outside, map[string]string{"dir/file": ""})
	plant(t, job.Source, map[string]string{"file-link": "->" + filepath.Join(outside, "dir", "file"), "dir-link": "->" + outside, "up": "->../.."})
	if _, err := e.Run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	for name, uid := range map[string]uint32{
		outside: 0, outside + "/dir": 0, outside + "/dir/file": 0, job.Dir: 0, job.Dir + "/" + lockName: 0, filepath.Dir(job.Dir): 0,
		job.Source: e.user.UID, job.Source + "/file": e.user.UID, job.Source + "/up": e.user.UID, job.Dir + "/" + homeDir: e.user.UID,
	} {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != uid {
			t.Errorf("%s belongs to %d, want %d", name, got, uid)
		}
	}
}

func TestUserRefused(t *testing.T) {
	for name, text := range map[string]string{"root": "is root", "no-such-user-here": "unknown user"} {
		if _, err := New(&Options{User: name}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want an error that says %q", name, err, text)
		}
	}
	newStranger(t)
}

// TestMakeDir: what is made is passed through and not looked into; what was there stays as it is, but for the directory that is asked for.
func TestMakeDir(t *testing.T) {
	modes := func(e *Executor, top string, want map[string]os.FileMode) {
		t.Helper()
		for _, dir := range []string{"old/new/dir", "old", "old/public", "old/new/dir"} {
			if err := e.MakeDir(filepath.Join(top, dir)); err != nil {
				t.Fatal(err)
			}
		}
		for name, mode := range want {
			info, err := os.Stat(filepath.Join(top, name))
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s has permissions %v, %v; want %v", name, info.Mode(), err, mode)
			}
			if gid := info.Sys().(*syscall.Stat_t).Gid; e.user != nil && (gid == e.user.GID) != (mode == 0o710) {
				t.Errorf("%s is of group %d", name, gid)
			}
		}
	}
	prepare := func() string {
		top := filepath.Join(t.TempDir(), "top")
		for name, mode := range map[string]os.FileMode{"": 0o700, "/old": 0o700, "/old/public": 0o755} {
			if err := errors.Join(os.MkdirAll(top+name, 0o700), os.Chmod(top+name, mode)); err != nil {
				t.Fatal(err)
			}
		}
		return top
	}
	modes(newExecutor(t, nil), prepare(), map[string]os.FileMode{"": 0o700, "old": 0o700, "old/new": 0o700, "old/new/dir": 0o700, "old/public": 0o755})
	if e, ok := newStranger(t); ok {
		modes(e, prepare(), map[string]os.FileMode{"": 0o700, "old": 0o710, "old/new": 0o710, "old/new/dir": 0o710, "old/public": 0o755})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newExecutor(t, nil).MakeDir(filepath.Join(file, "dir")); err == nil || !strings.HasPrefix(err.Error(), "procexec: ") {
		t.Errorf("below a file: %v", err)
	}
}

func TestCheckReach(t *testing.T) {
	if err := newExecutor(t, nil).CheckReach("/root/x"); err != nil {
		t.Errorf("the agent's own user: %v", err)
	}
	e, ok := newStranger(t)
	if !ok {
		return
	}
	job, _ := newStrangersJob(t, Spec{Command: []string{"true"}})
	attempt := filepath.Dir(job.Dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(attempt, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{attempt, attempt + "/not/there", link} {
		if err := e.CheckReach(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := os.Chmod(attempt, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := e.CheckReach(job.Source); err == nil || !strings.Contains(err.Error(), "cannot pass through "+attempt+":") {
		t.Errorf("where others may not go: %v", err)
	}
	if err := os.Chown(attempt, -1, int(e.user.GID)); err != nil {
		t.Fatal(err)
	}
	if err := e.CheckReach(attempt); err != nil {
		t.Errorf("where its group may go: %v", err)
	}
}
