package examples_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is where the programs are that the scripts run.
var bin string

func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "slipway-script-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./controller", "./agent", "./slipway")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// TestScripts runs the programs as their users do: each script in testdata/script has a directory, and a controller, of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			e.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			return os.Mkdir(e.Getenv("HOME"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"controller": startController,
			"agent":      startAgent,
			"corrupt":    startCorrupt,
			"refuses":    refuses,
			"capture":    capture,
			"await":      await,
			"mode":       mode,
			"unixmode":   unixMode,
		},
	})
}

// until waits for a condition, and ends the script if it is not met.
func until(ts *testscript.TestScript, what string, met func() bool) {
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		if time.Now().After(deadline) {
			ts.Fatalf("not seen in time: %s", what)
		}
		<-tick.C
	}
}

// launch starts a program that runs until the script has ended.
func launch(ts *testscript.TestScript, name string, env []string, args ...string) {
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	defer log.Close()
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, args[0]), args[1:]...)
	cmd.Env = append([]string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME")}, env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.Getenv("WORK"), log, log
	ts.Check(cmd.Start())
	ts.Defer(func() {
		kill()
		_ = cmd.Wait()
	})
}

// startController starts a controller and tells the script's commands where it is: controller [FLAG …]
func startController(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: controller [FLAG …]")
	}
	key := rand.Text() + rand.Text()
	address := ts.MkAbs("address")
	launch(ts, "controller", []string{"SLIPWAY_ADMIN_KEY=" + key}, append([]string{
		"controller", "-listen", "127.0.0.1:0",
		"-addr-file", address, "-data", ts.MkAbs("data"), "-cancel-grace", "1s", "-poll", "50ms", "-cancel-poll", "50ms",
	}, args...)...)
	var url string
	until(ts, "a controller that is ready", func() bool {
		text, err := os.ReadFile(address)
		if err != nil {
			return false
		}
		url = "http://" + strings.TrimSpace(string(text))
		return ready(url)
	})
	ts.Setenv("SLIPWAY_URL", url)
	ts.Setenv("SLIPWAY_KEY", key)
}

func ready(url string) bool {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+"/readyz", nil)
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

// startAgent starts an agent with a key of its own: agent NAME [FLAG …]
func startAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: agent NAME [FLAG …]")
	}
	name, key := args[0], ts.MkAbs(args[0]+".key")
	ts.Check(ts.Exec("slipway", "keys", "create", "worker", "--worker", name, "-o", key))
	launch(ts, name, []string{"SLIPWAY_URL=" + ts.Getenv("SLIPWAY_URL")},
		append([]string{"agent", "-name", name, "-key-file", key, "-dir", ts.MkAbs("work-" + name)}, args[1:]...)...)
}

// startCorrupt starts what answers like a controller that has a build with one artifact, "file", of five bytes, and sends other bytes
// under that name: corrupt [NAME]. NAME is what the artifact is called instead.
func startCorrupt(ts *testscript.TestScript, neg bool, args []string) {
	name := "file"
	if len(args) > 0 {
		name = args[0]
	}
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of hello
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/builds/{id}/artifacts", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"artifacts": [{"name": %q, "size": 5, "sha256": %q, "epoch": 1}]}`, name, sum)
	})
	mux.HandleFunc("GET /v1/builds/{id}/artifacts/{name...}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "jello") })
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("SLIPWAY_URL", server.URL)
	ts.Setenv("SLIPWAY_KEY", "any")
}

// refuses runs a command that must end with an exit code and one line on standard error, which a regular expression must match, and
// print nothing else: refuses CODE REGEXP COMMAND [ARGUMENT …]
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refuses CODE REGEXP COMMAND [ARGUMENT …]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[2], args[3:]...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != want {
		ts.Fatalf("ended with %v, want exit status %d", err, want)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("printed %q", out)
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, args[2]+": ") || !regexp.MustCompile("(?m)"+args[1]).MatchString(said) {
		ts.Fatalf("said %q, want one line that matches %s", said, args[1])
	}
}

// capture puts what the last command printed into a variable: capture NAME
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// await waits until what a command prints matches a regular expression: await REGEXP COMMAND [ARGUMENT …]
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND [ARGUMENT …]")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	until(ts, args[0], func() bool {
		err := ts.Exec(args[1], args[2:]...)
		return err == nil && re.MatchString(ts.ReadFile("stdout"))
	})
}

// mode changes the permissions of a file: mode OCTAL FILE
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	perm, err := strconv.ParseUint(args[0], 8, 9)
	ts.Check(err)
	ts.Check(os.Chmod(ts.MkAbs(args[1]), os.FileMode(perm)))
}

// unixMode looks at the permissions of a file: unixmode OCTAL FILE
func unixMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: unixmode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has permissions %s, want %s", args[1], got, args[0])
	}
}
