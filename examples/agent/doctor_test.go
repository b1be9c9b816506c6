package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

func TestMain(m *testing.M) {
	procexec.Guardian()
	os.Exit(m.Run())
}

// noEnv is an environment with nothing but what is given, as pairs of name and value.
func noEnv(pairs ...string) func(string) string {
	env := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return env[name] }
}

// examine runs doctor with -json, and returns what it found by the first word of its name, and its exit code.
func examine(t *testing.T, env func(string) string, args ...string) (map[string]finding, int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(nil, append([]string{"doctor", "-json"}, args...), env, &stdout, &stderr)
	var list []finding
	if err := json.Unmarshal(stdout.Bytes(), &list); err != nil {
		t.Fatalf("%v: %s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	if strings.Contains(stdout.String()+stderr.String(), "the-credential") {
		t.Errorf("the credential is printed: %s%s", stdout.Bytes(), stderr.Bytes())
	}
	found := map[string]finding{}
	for _, f := range list {
		first, _, _ := strings.Cut(f.Name, " ")
		found[first] = f
		if f.Status != statusOK && f.Fix == "" {
			t.Errorf("%s has no fix: %s", f.Name, f.Detail)
		}
		if strings.Contains(f.Name, ":") { // it is about a controller
			found["at "+first] = f
		}
	}
	return found, code
}

func refuse(status int, p worker.Problem) http.HandlerFunc {
	p.Type, p.Title, p.Status = "about:blank", "No.", status
	return func(w http.ResponseWriter, _ *http.Request) { p.Write(w) }
}

func TestDoctorAtAController(t *testing.T) {
	live := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"live"}`) }
	good := refuse(http.StatusUpgradeRequired, worker.Problem{Code: "unsupported_version", Supported: []string{"slipway.worker.v1"}})
	for name, tt := range map[string]struct {
		live, connect http.HandlerFunc
		check         string
		status        string
		detail        string
		code          int
	}{
		"good":    {live, good, "at protocol", statusOK, "slipway.worker.v1", exitOK},
		"no page": {http.NotFound, good, "live", statusWarn, "404", exitOK},
		"clock behind": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		}, good, "clock", statusWarn, "ahead of", exitOK},
		"key refused":     {live, refuse(http.StatusUnauthorized, worker.Problem{Code: "unauthorized"}), "at credential", statusFail, "No.", exitPreflight},
		"key for another": {live, refuse(http.StatusForbidden, worker.Problem{Code: "forbidden"}), "at credential", statusFail, "No.", exitPreflight},
		"name of another": {
			live, refuse(http.StatusUpgradeRequired, worker.Problem{Code: "unsupported_version", Supported: []string{"slipway.worker.v1"}, Worker: "b"}),
			"at credential", statusFail, "it was made for worker b, and -name is a", exitPreflight,
		},
		"name of its own": {
			live, refuse(http.StatusUpgradeRequired, worker.Problem{Code: "unsupported_version", Supported: []string{"slipway.worker.v1"}, Worker: "a"}),
			"at credential", statusOK, "accepted", exitOK,
		},
		"other version": {
			live, refuse(http.StatusUpgradeRequired, worker.Problem{Code: "unsupported_version", Supported: []string{"slipway.worker.v9"}}),
			"protocol", statusFail, "v9", exitPreflight,
		},
		"proxy": {
			live, refuse(http.StatusUpgradeRequired, worker.Problem{Code: "handshake", Supported: []string{"slipway.worker.v1"}}),
			"protocol", statusFail, "does not arrive", exitPreflight,
		},
		"not ready":       {live, refuse(http.StatusServiceUnavailable, worker.Problem{Code: "unavailable"}), "at credential", statusWarn, "not ready", exitOK},
		"another service": {live, http.NotFound, "at credential", statusFail, "no controller", exitPreflight},
		"a page":          {live, live, "at credential", statusFail, "no controller", exitPreflight},
		"elsewhere":       {live, http.RedirectHandler("/login", http.StatusFound).ServeHTTP, "at credential", statusFail, "no controller", exitPreflight},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("GET /livez", tt.live)
			mux.HandleFunc("GET /v1/worker/connect", func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer the-credential" {
					t.Errorf("Authorization is %q", got)
				}
				tt.connect(w, r)
			})
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			found, code := examine(t, noEnv("SLIPWAY_WORKER_KEY", "the-credential"), "-name", "a", "-dir", t.TempDir(), "-url", server.URL)
			if f := found[tt.check]; f.Status != tt.status || !strings.Contains(f.Detail, tt.detail) {
				t.Errorf("%s: %+v, want %s with %q", tt.check, f, tt.status, tt.detail)
			}
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %v", code, tt.code, found)
			}
		})
	}
}

func TestDoctorOnTheWay(t *testing.T) {
	gone, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it says that its certificate is refused
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, tt := range map[string]struct{ url, check, fix string }{
		"no name":         {"http://nowhere.invalid", "dns", "getent hosts nowhere.invalid"},
		"nobody there":    {"http://" + gone.Addr().String(), "tcp", "nc -vz 127.0.0.1"},
		"own certificate": {secure.URL, "tls", "openssl s_client -connect 127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			found, code := examine(t, noEnv("SLIPWAY_WORKER_KEY", "the-credential"), "-name", "a", "-dir", t.TempDir(), "-url", tt.url)
			if f := found[tt.check]; f.Status != statusFail || !strings.HasPrefix(f.Fix, tt.fix) || code != exitPreflight {
				t.Errorf("%s: %+v, exit code %d", tt.check, f, code)
			}
		})
	}
}

func TestDoctorOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	key, open := filepath.Join(dir, "key"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{key: 0o600, open: 0o604} {
		if err := os.WriteFile(path, []byte("the-credential\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		args               []string
		check, status, fix string
	}{
		"good key":     {[]string{"-key-file", key}, "credential", statusOK, ""},
		"open key":     {[]string{"-key-file", open}, "credential", statusFail, "chmod 600 " + open},
		"no key":       {nil, "credential", statusFail, "slipway keys create worker --worker a -o agent.key"},
		"missing key":  {[]string{"-key-file", key + "2"}, "credential", statusFail, "slipway keys create worker --worker a -o " + key + "2"},
		"guardian":     {nil, "guardian", statusOK, ""},
		"slots":        {[]string{"-slots", "0"}, "settings", statusFail, "correct it; agent -help says what can be set"},
		"no address":   {[]string{"-url", "there"}, "url", statusFail, "agent doctor -url https://HOST"},
		"dir":          {nil, "directory", statusOK, ""},
		"dir to make":  {[]string{"-dir", filepath.Join(dir, "x", "y")}, "directory", statusOK, ""},
		"dir is file":  {[]string{"-dir", key}, "directory", statusFail, "chown " + userName() + " " + key},
		"a tool":       {[]string{"-tools", "go"}, "tool", statusOK, ""},
		"missing tool": {[]string{"-tools", "no-such-tool"}, "tool", statusFail, "PATH=/where/no-such-tool/is:$PATH agent doctor -tools no-such-tool"},
	} {
		t.Run(name, func(t *testing.T) {
			found, _ := examine(t, noEnv(), append([]string{"-name", "a", "-dir", dir, "-url", "http://127.0.0.1:1"}, tt.args...)...)
			if f := found[tt.check]; f.Status != tt.status || f.Fix != tt.fix {
				t.Errorf("%s: %+v, want %s, fix %q", tt.check, f, tt.status, tt.fix)
			}
		})
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// TestDoctorBuildUser: that builds run as the agent's user is a risk to be told; as whom else they may run depends on who runs the agent.
func TestDoctorBuildUser(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{top, filepath.Dir(top)} { // which only the test's own user could enter
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(top, "key")
	look := func(perm os.FileMode, dir string, args ...string) (settings, user, guardian finding) {
		t.Helper()
		if err := os.WriteFile(key, []byte("the-credential"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, perm); err != nil {
			t.Fatal(err)
		}
		found, _ := examine(t, noEnv(), append([]string{"-name", "a", "-key-file", key, "-dir", dir, "-url", "http://nowhere.invalid"}, args...)...)
		return found["settings"], found["user"], found["guardian"]
	}
	want := func(what string, f finding, status, detail string) {
		t.Helper()
		if f.Status != status || !strings.Contains(f.Detail, detail) {
			t.Errorf("%s: %+v, want %s with %q", what, f, status, detail)
		}
	}
	public := filepath.Join(top, "agent")
	settings, user, guardian := look(0o600, public)
	want("settings", settings, statusOK, "worker a")
	want("the agent's user", user, statusWarn, "a hostile build can read its credential")
	want("guardian", guardian, statusOK, "was run")

	settings, user, guardian = look(0o600, public, "-build-user", "nobody")
	if os.Geteuid() != 0 {
		want("settings", settings, statusFail, "only root can run builds as another user")
		want("guardian", guardian, statusFail, "only root can run builds as another user")
		return
	}
	want("settings", settings, statusOK, "worker a")
	want("another user", user, statusOK, "builds run as nobody, the agent as root")
	want("guardian", guardian, statusOK, "was run")
	if err := os.Mkdir(filepath.Join(top, "sealed"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, user, _ = look(0o600, filepath.Join(top, "sealed", "agent"), "-build-user", "nobody")
	want("a way that is closed", user, statusFail, "builds of nobody cannot pass through "+top+"/sealed:")
	settings, _, _ = look(0o640, public, "-build-user", "nobody")
	want("a credential of a group's", settings, statusFail, "others than root can read the credential in "+key)
	if err := os.Chown(key, 65534, -1); err != nil {
		t.Fatal(err)
	}
	settings, _, _ = look(0o600, public, "-build-user", "nobody")
	want("a credential of another's", settings, statusFail, "others than root can read the credential in "+key)
	settings, _, _ = look(0o600, public, "-build-user", "root")
	want("root again", settings, statusFail, "root is root, or of root's group")
}
