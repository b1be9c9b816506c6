package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/worker"
)

// An office takes enrolment tokens as a controller does. After the exchange it may lose the answer.
type office struct {
	*testing.T
	keys  *auth.Keys
	url   string
	lose  atomic.Int64 // how many answers
	asked atomic.Int64
	dir   string
}

func newOffice(t *testing.T) *office {
	keys, err := auth.New(memauth.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, keys: keys, dir: t.TempDir()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/enrolments", o.enrol)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

func (o *office) enrol(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	var asked api.Enrolment
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		o.Error(err)
	}
	e := auth.Enrolment{Worker: asked.Worker}
	if _, err := hex.Decode(e.Hash[:], []byte(asked.SHA256)); err != nil {
		o.Error(err)
	}
	token, err := auth.Bearer(r)
	if err != nil {
		o.Error(err)
	}
	key, err := o.keys.Enrol(r.Context(), token.Reveal(), e)
	if o.lose.Add(-1) >= 0 {
		panic(http.ErrAbortHandler)
	}
	switch {
	case errors.Is(err, auth.ErrTaken):
		refuse(http.StatusConflict, worker.Problem{Code: "name_taken"})(w, r)
	case errors.Is(err, auth.ErrForbidden):
		refuse(http.StatusForbidden, worker.Problem{Code: "name_not_allowed", Detail: "the token is for others"})(w, r)
	case err != nil:
		refuse(http.StatusUnauthorized, worker.Problem{Code: "unauthorized"})(w, r)
	default:
		w.WriteHeader(http.StatusCreated)
		if err := json.NewEncoder(w).Encode(api.Key{ID: key.ID, Worker: key.Worker}); err != nil {
			o.Error(err)
		}
	}
}

// token returns a file with a token, and the token.
func (o *office) token(uses int) (file, text string) {
	o.Helper()
	_, secret, err := o.keys.Create(o.Context(), auth.NewKey{Name: "racks", Role: auth.Enroller, Worker: "rack-*", Pools: []string{"linux"}, Uses: uses})
	if err != nil {
		o.Fatal(err)
	}
	file = filepath.Join(o.dir, fmt.Sprintf("token-%d", o.count("token-")))
	if err := os.WriteFile(file, []byte(secret.Reveal()+"\n"), 0o600); err != nil {
		o.Fatal(err)
	}
	return file, secret.Reveal()
}

// count tells how many files there are whose names begin so.
func (o *office) count(begin string) int {
	o.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, begin+"*"))
	if err != nil {
		o.Fatal(err)
	}
	return len(files)
}

func (o *office) keyFile() string { return filepath.Join(o.dir, "key") }

// register runs the command, and returns its exit code and all that it has printed.
func (o *office) register(env func(string) string, args ...string) (int, string) {
	o.Helper()
	var out bytes.Buffer
	code := run(nil, append([]string{"register", "-url", o.url, "-key-file", o.keyFile(), "-dir", o.dir}, args...), env, &out, &out)
	return code, out.String()
}

// credential checks that the key file has the one credential of a worker, that only its owner can read it, and that nothing else is left.
func (o *office) credential(name string) string {
	o.Helper()
	info, err := os.Stat(o.keyFile())
	if err != nil {
		o.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		o.Errorf("the key file has mode %v", info.Mode())
	}
	text, err := os.ReadFile(o.keyFile())
	if err != nil {
		o.Fatal(err)
	}
	p, err := o.keys.Authenticate(o.Context(), strings.TrimSpace(string(text)))
	if err != nil || p.Worker != name || !p.UsesPool("linux") {
		o.Errorf("the credential is that of %+v, %v", p, err)
	}
	if n := o.count("key") + o.count("."); n != 1 {
		o.Errorf("%d files, want the key alone", n)
	}
	return string(text)
}

// workers tells how many keys of workers there are.
func (o *office) workers() int {
	o.Helper()
	keys, err := o.keys.List(o.Context(), auth.Filter{Role: auth.Worker})
	if err != nil {
		o.Fatal(err)
	}
	return len(keys)
}

func TestRegister(t *testing.T) {
	o := newOffice(t)
	file, text := o.token(9)
	code, said := o.register(noEnv(), "-name", "rack-1", "-token-file", file)
	if code != exitOK || !strings.Contains(said, "agent run -name rack-1 -key-file "+o.keyFile()) {
		t.Fatalf("exit code %d: %s", code, said)
	}
	first := o.credential("rack-1")
	if code, said := o.register(noEnv(tokenVariable, text), "-name", "rack-2"); code != exitConfig || !strings.Contains(said, "-force replaces it") {
		t.Errorf("over a key: exit code %d: %s", code, said)
	}
	if o.credential("rack-1") != first || o.workers() != 1 {
		t.Error("a key was replaced without -force")
	}
	if code, said := o.register(noEnv(tokenVariable, text), "-name", "rack-2", "-force"); code != exitOK {
		t.Errorf("with -force: exit code %d: %s", code, said)
	}
	o.credential("rack-2")
}

func TestRegisterRefused(t *testing.T) {
	o := newOffice(t)
	good, text := o.token(9)
	used, _ := o.token(1)
	if code, said := o.register(noEnv(), "-name", "rack-1", "-token-file", used); code != exitOK {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if err := os.Remove(o.keyFile()); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(o.dir, "open")
	if err := os.WriteFile(open, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		env  func(string) string
		args []string
		code int
		says string
	}{
		"no token":        {noEnv(), []string{"-name", "rack-2"}, exitConfig, "slipway keys create enroller --worker rack-2"},
		"no file":         {noEnv(), []string{"-name", "rack-2", "-token-file", open + "2"}, exitConfig, "cannot read the token"},
		"open file":       {noEnv(), []string{"-name", "rack-2", "-token-file", open}, exitConfig, "chmod 600 " + open},
		"no such token":   {noEnv(tokenVariable, "slw_worker_x"), []string{"-name", "rack-2"}, exitConfig, tokenVariable + ": that is no enrolment token"},
		"two tokens":      {noEnv(tokenVariable, text+" "+text), []string{"-name", "rack-2"}, exitConfig, "that is no enrolment token"},
		"wrong token":     {noEnv(tokenVariable, text+"x"), []string{"-name", "rack-2"}, exitUnauthorized, "unknown, expired, used up or revoked"},
		"used up":         {noEnv(), []string{"-name", "rack-2", "-token-file", used}, exitUnauthorized, "slipway keys create enroller --worker rack-2 makes another"},
		"another name":    {noEnv(), []string{"-name", "tower", "-token-file", good}, exitConfig, "-name: tower is not a name that this token can be used for: enrol: the token is for others"},
		"name taken":      {noEnv(), []string{"-name", "rack-1", "-token-file", good}, exitConfig, "worker rack-1 has a key already: find it with slipway keys list"},
		"no name":         {noEnv(), []string{"-name", "A/B", "-token-file", good}, exitUsage, "-name must consist of"},
		"no controller":   {noEnv(), []string{"-name", "rack-2", "-token-file", good, "-url", o.url + "/not"}, exitOK, ""}, // the first is one
		"token as a flag": {noEnv(), []string{"-token", text}, exitUsage, "not defined: -token"},
	} {
		t.Run(name, func(t *testing.T) {
			code, said := o.register(tt.env, tt.args...)
			if code != tt.code || !strings.Contains(said, tt.says) {
				t.Errorf("exit code %d, %q; want %d, %q", code, said, tt.code, tt.says)
			}
			if secret := text[strings.LastIndex(text, "_")+1:][:40]; strings.Contains(said, secret) {
				t.Error("the token was printed")
			}
			if code == exitOK {
				o.credential("rack-2")
				if err := os.Remove(o.keyFile()); err != nil {
					t.Fatal(err)
				}
			}
			if n := o.count("key") + o.count("."); n != 0 {
				t.Errorf("%d files are left of what was refused", n)
			}
		})
	}
	if code, said := o.register(noEnv(), "-key-file", filepath.Join(o.dir, "no", "key"), "-name", "rack-3", "-token-file", good); code != exitConfig {
		t.Errorf("no directory: exit code %d: %s", code, said)
	}
}

// TestRegisterAfterALostAnswer: the controller has made the key, and the machine does not know. The token is used up, and the same
// command gets the key after all.
func TestRegisterAfterALostAnswer(t *testing.T) {
	o := newOffice(t)
	file, _ := o.token(1)
	o.lose.Store(2)
	if code, said := o.register(noEnv(), "-name", "rack-1", "-token-file", file); code != exitOK {
		t.Fatalf("with two answers lost: exit code %d: %s", code, said)
	}
	o.credential("rack-1")
	if err := os.Remove(o.keyFile()); err != nil {
		t.Fatal(err)
	}

	file, _ = o.token(1)
	o.lose.Store(1000)
	code, said := o.register(noEnv(), "-name", "rack-2", "-token-file", file)
	if code != exitFailure || !strings.Contains(said, "the same command can be repeated") {
		t.Fatalf("with every answer lost: exit code %d: %s", code, said)
	}
	if o.workers() != 2 {
		t.Fatalf("%d workers, want those of both tokens", o.workers())
	}
	// Somebody takes another token, or name, for the right one. That costs nothing.
	o.lose.Store(0)
	other, _ := o.token(1)
	if code, said := o.register(noEnv(), "-name", "rack-2", "-token-file", other); code != exitConfig || !strings.Contains(said, "has a key already") {
		t.Errorf("with another token: exit code %d: %s", code, said)
	}
	if code, said := o.register(noEnv(), "-name", "rack-3", "-token-file", file); code != exitUnauthorized {
		t.Errorf("with another name: exit code %d: %s", code, said)
	}
	if code, said := o.register(noEnv(), "-name", "rack-2", "-token-file", file); code != exitOK {
		t.Fatalf("again: exit code %d: %s", code, said)
	}
	o.credential("rack-2")
	if o.workers() != 2 {
		t.Errorf("%d workers", o.workers())
	}
}

// TestRegisterGoesOn is stopped where a process can end between two writes, and run again.
func TestRegisterGoesOn(t *testing.T) {
	for name, leave := range map[string]func(o *office, draft auth.Draft, credential string){
		"before it asks": func(o *office, draft auth.Draft, _ string) {
			o.write("key.rack-1.draft", draft.Text().Reveal())
		},
		"with the key": func(o *office, _ auth.Draft, credential string) {
			o.write("key.rack-1.draft", credential)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			file, text := o.token(1)
			draft := auth.NewDraft()
			key, err := o.keys.Enrol(t.Context(), text, auth.Enrolment{Worker: "rack-1", Hash: draft.Hash()})
			if err != nil {
				t.Fatal(err)
			}
			credential, err := draft.Key(key.ID)
			if err != nil {
				t.Fatal(err)
			}
			leave(o, draft, credential.Reveal())
			if code, said := o.register(noEnv(), "-name", "rack-1", "-token-file", file); code != exitOK {
				t.Fatalf("exit code %d: %s", code, said)
			}
			if strings.TrimSpace(o.credential("rack-1")) != credential.Reveal() {
				t.Error("it is another key")
			}
		})
	}
	// The key is in place, and its other name is left. A later key must not be that one.
	o := newOffice(t)
	file, _ := o.token(2)
	if code, said := o.register(noEnv(), "-name", "rack-1", "-token-file", file); code != exitOK {
		t.Fatalf("exit code %d: %s", code, said)
	}
	first := o.credential("rack-1")
	if err := os.Link(o.keyFile(), o.keyFile()+".rack-2.draft"); err != nil {
		t.Fatal(err)
	}
	if code, said := o.register(noEnv(), "-name", "rack-2", "-token-file", file, "-force"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if o.credential("rack-2") == first {
		t.Error("it is the same key")
	}
}

func (o *office) write(name, text string) {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text+"\n"), 0o600); err != nil {
		o.Fatal(err)
	}
}

// TestRegisterAtOnce has somebody type the command in several windows.
func TestRegisterAtOnce(t *testing.T) {
	o := newOffice(t)
	file, _ := o.token(9)
	codes := make([]int, 6)
	var typing sync.WaitGroup
	for i := range codes {
		typing.Go(func() { codes[i], _ = o.register(noEnv(), "-name", "rack-1", "-token-file", file) })
	}
	typing.Wait()
	won := 0
	for _, code := range codes {
		if code == exitOK {
			won++
		}
	}
	if won == 0 {
		t.Errorf("exit codes %v", codes)
	}
	o.credential("rack-1")
	if o.workers() != 1 {
		t.Errorf("%d workers, want one", o.workers())
	}
}

// TestRegisterAsksTheNext has a first controller that does not answer.
func TestRegisterAsksTheNext(t *testing.T) {
	o := newOffice(t)
	file, _ := o.token(1)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	var out bytes.Buffer
	code := run(nil, []string{
		"register", "-url", gone.URL + "," + o.url, "-key-file", o.keyFile(), "-dir", o.dir, "-name", "rack-1", "-token-file", file,
	}, noEnv(), &out, &out)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	o.credential("rack-1")
}

func TestExposed(t *testing.T) {
	for address, want := range map[string]bool{
		"http://builds.example.com": true, "http://192.0.2.1:8080": true, "http://[2001:db8::1]": true, "http://localhost.example.com": true,
		"https://builds.example.com": false, "http://127.0.0.1:8080": false, "http://[::1]:8080": false, "http://localhost:8080": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if exposed(u) != want {
			t.Errorf("exposed(%s) = %t", address, !want)
		}
	}
}
