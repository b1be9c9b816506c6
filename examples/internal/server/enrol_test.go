package server_test

import (
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
)

// token makes an enrolment token, which calls know by that name.
func (f *fixture) token(name, pattern string, uses int) api.CreatedKey {
	f.Helper()
	return f.createKey(api.NewKey{Kind: "enrol", Name: name, Worker: pattern, Pools: []string{"linux"}, Uses: uses})
}

// enrol asks with a token for the key of a draft.
func (f *fixture) enrol(who, worker string, draft auth.Draft) *reply {
	f.Helper()
	hash := draft.Hash()
	return f.call(who, "POST", "/v1/enrolments", api.Enrolment{Worker: worker, SHA256: hex.EncodeToString(hash[:])})
}

func TestEnrol(t *testing.T) {
	f := newFixture(t, nil)
	token := f.token("racks", "rack-*", 0)
	if token.Kind != "enrol" || token.Role != "enroller" || token.Worker != "rack-*" || token.Uses != 1 ||
		token.ExpiresAt.Sub(token.CreatedAt) != time.Hour || !strings.HasPrefix(token.Secret, "slw_enrol_"+token.ID) {
		t.Errorf("the token is %+v", token.Key)
	}
	draft := auth.NewDraft()
	var key, again api.Key
	r := f.enrol("racks", "rack-1", draft)
	f.want(r, http.StatusCreated, &key)
	if key.Worker != "rack-1" || key.Role != "worker" || key.EnrolledBy != token.ID || len(key.Pools) != 1 || key.Pools[0] != "linux" {
		t.Errorf("enrolled %+v", key)
	}
	f.want(f.enrol("racks", "rack-1", draft), http.StatusCreated, &again)
	if again.ID != key.ID {
		t.Errorf("the same exchange comes to %s and then %s", key.ID, again.ID)
	}
	f.secrets["rack-1"] = must(draft.Key(key.ID)).Reveal()
	f.want(f.call("rack-1", "GET", "/v1/worker/connect", nil), http.StatusUpgradeRequired, nil)

	// A token is nothing but that.
	for _, path := range []string{"/v1/builds", "/v1/keys", "/v1/worker/connect"} {
		f.wantProblem(f.call("racks", "GET", path, nil), http.StatusUnauthorized, "unauthorized")
	}
	var page api.KeyPage
	f.want(f.call(admin, "GET", "/v1/keys?limit=2", nil), http.StatusOK, &page)
	for _, k := range page.Keys { // made within a millisecond, in any order
		if k.ID == token.ID && k.Uses != 1 || k.ID == key.ID && k.EnrolledBy != token.ID || k.ID != token.ID && k.ID != key.ID {
			t.Errorf("listed as %+v", page.Keys)
		}
	}
	log := f.log.String()
	for _, want := range []string{"worker enrolled", "key_id=" + key.ID, "by=" + token.ID} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not tell %q", want)
		}
	}
}

// TestEnrolRefusals: whatever is wrong with a token, the answer is the same to the byte; what is wrong with a name, the holder of a good
// token is told.
func TestEnrolRefusals(t *testing.T) {
	f := newFixture(t, nil)
	f.token("good", "rack-*", 9)
	f.token("used", "rack-*", 1)
	f.want(f.enrol("used", "rack-1", auth.NewDraft()), http.StatusCreated, nil)
	expired := f.createKey(api.NewKey{Kind: "enrol", Name: "expired", Worker: "*", Pools: []string{"linux"}, ExpiresInMS: 1})
	f.eventually("the token has expired", func() bool { return time.Now().After(*expired.ExpiresAt) })
	revoked := f.token("revoked", "rack-*", 1)
	f.want(f.call(admin, "DELETE", "/v1/keys/"+revoked.ID, nil), http.StatusNoContent, nil)
	foreign := newFixture(t, nil).token("foreign", "rack-*", 1)
	f.secrets["unknown"] = foreign.Secret
	f.secrets["mistyped"] = f.secrets["good"][:30] + "x" + f.secrets["good"][31:]

	var first string
	for _, who := range []string{"unknown", "expired", "used", "revoked", "mistyped"} {
		r := f.enrol(who, "rack-2", auth.NewDraft())
		f.wantProblem(r, http.StatusUnauthorized, "unauthorized")
		if r.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: a 401 without WWW-Authenticate", who)
		}
		shape := strings.ReplaceAll(string(r.body), r.problem.RequestID, "ID")
		if first == "" {
			first = shape
		}
		if shape != first || len(r.Header) != 7 {
			t.Errorf("%s: %s %v, want %s", who, shape, r.Header, first)
		}
	}
	if detail := f.wantProblem(f.enrol("good", "tower-1", auth.NewDraft()), http.StatusForbidden, "name_not_allowed"); !strings.Contains(detail, "rack-*") {
		t.Errorf("the detail is %q", detail)
	}
	f.wantProblem(f.enrol("good", "rack-1", auth.NewDraft()), http.StatusConflict, "name_taken")
	f.wantProblem(f.enrol("good", "rack-*", auth.NewDraft()), http.StatusBadRequest, "invalid")
	for _, body := range []string{
		`{}`, `{"worker": "rack-3"}`, `{"worker": "rack-3", "sha256": "ab"}`, `{"worker": "rack-3", "sha256": "` + strings.ToUpper(someDigest) + `"}`,
		`{"worker": "rack-3", "sha256": "` + someDigest + `", "pools": ["root"]}`,
	} {
		f.wantProblem(f.call("good", "POST", "/v1/enrolments", body), http.StatusBadRequest, "invalid")
	}
	f.authBackend.set(io.ErrUnexpectedEOF)
	f.wantProblem(f.enrol("good", "rack-3", auth.NewDraft()), http.StatusServiceUnavailable, "unavailable")
	f.authBackend.set(errors.New("the password of the database is canary"))
	f.wantProblem(f.enrol("good", "rack-3", auth.NewDraft()), http.StatusInternalServerError, "internal")
}

// TestEnrolAtOnce has many machines ask with one token.
func TestEnrolAtOnce(t *testing.T) {
	f := newFixture(t, nil)
	f.token("racks", "*", 3)
	const machines = 8 // fewer than may be refused at once
	statuses := make([]int, machines)
	var asking sync.WaitGroup
	for i := range machines {
		asking.Go(func() { statuses[i] = f.enrol("racks", "tower-"+strconv.Itoa(i), auth.NewDraft()).StatusCode })
	}
	asking.Wait()
	count := map[int]int{}
	for _, status := range statuses {
		count[status]++
	}
	if count[http.StatusCreated] != 3 || count[http.StatusUnauthorized] != machines-3 {
		t.Errorf("answers: %v", count)
	}
}

// TestEnrolIsThrottled: after some wrong tokens an address has to wait, whatever it shows; other routes serve it as before, and what was no
// refusal does not count.
func TestEnrolIsThrottled(t *testing.T) {
	f := newFixture(t, nil)
	f.token("good", "*", 100)
	f.secrets["wrong"] = newFixture(t, nil).token("foreign", "*", 1).Secret
	for i := range 30 {
		name := "tower-" + strconv.Itoa(i%20)
		want := http.StatusCreated
		if i >= 20 {
			want = http.StatusConflict
		}
		if r := f.enrol("good", name, auth.NewDraft()); r.StatusCode != want {
			t.Fatalf("the good token for %s, number %d: %s %s", name, i, r.Status, r.body)
		}
	}
	refused := 0
	for refused < 100 && f.enrol("wrong", "rack-1", auth.NewDraft()).StatusCode == http.StatusUnauthorized {
		refused++
	}
	if refused < 5 || refused > 12 {
		t.Errorf("%d wrong tokens were looked at", refused)
	}
	for _, who := range []string{"wrong", "good"} {
		r := f.enrol(who, "rack-50", auth.NewDraft())
		f.wantProblem(r, http.StatusTooManyRequests, "rate_limited")
		if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
			t.Errorf("Retry-After: %s", r.Header.Get("Retry-After"))
		}
	}
	f.want(f.call(admin, "GET", "/v1/keys", nil), http.StatusOK, nil)
}

// TestEnrolShowsNoSecret looks for tokens, drafts and keys in all that the server answers and logs.
func TestEnrolShowsNoSecret(t *testing.T) {
	f := newFixture(t, nil)
	f.token("good", "rack-*", 2)
	draft := auth.NewDraft()
	var out strings.Builder
	for _, worker := range []string{"rack-1", "rack-1", "tower", "a/b", f.secrets["good"], draft.Text().Reveal()} {
		r := f.enrol("good", worker, draft)
		out.Write(r.body)
	}
	out.Write(f.enrol("good", "rack-1", auth.NewDraft()).body)
	f.secrets["bad"] = f.secrets["good"] + "x"
	out.Write(f.enrol("bad", "rack-2", draft).body)
	out.Write(f.call("good", "POST", "/v1/enrolments", `{"worker": "`+f.secrets["good"]+`", "sha256": "`+draft.Text().Reveal()+`"}`).body)
	out.Write(f.call(admin, "GET", "/v1/keys", nil).body)
	said := out.String() + f.log.String()
	if !strings.Contains(said, "worker not enrolled") {
		t.Error("the log is not among what was looked through")
	}
	for what, text := range map[string]string{"token": f.secrets["good"], "draft": draft.Text().Reveal()} {
		if secret := text[strings.LastIndex(text, "_")+1:][:40]; strings.Contains(said, secret) {
			i := strings.Index(said, secret)
			t.Errorf("the %s was shown: %s…", what, said[max(0, i-200):i])
		}
	}
}
