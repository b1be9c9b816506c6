package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
)

func (f *fixture) createKey(k api.NewKey) api.CreatedKey {
	f.Helper()
	var created api.CreatedKey
	f.want(f.call(admin, "POST", "/v1/keys", k), http.StatusCreated, &created)
	f.secrets[created.Name] = created.Secret
	return created
}

func TestKeys(t *testing.T) {
	f := newFixture(t, nil)
	created := f.createKey(api.NewKey{Kind: "api", Role: "submitter", Name: "CI of web", Project: "web", Pools: []string{"linux"}, ExpiresInMS: 60_000})
	if created.ID == "" || created.Kind != "api" || created.Role != "submitter" || created.Project != "web" || created.Pools[0] != "linux" ||
		!strings.HasPrefix(created.Secret, "slw_api_"+created.ID) || created.ExpiresAt.Sub(created.CreatedAt) != time.Minute || created.LastUsedAt != nil {
		t.Errorf("created %+v", created.Key)
	}
	f.want(f.call("CI of web", "POST", "/v1/builds", api.NewBuild{Spec: []byte("x"), Pool: "linux"}), http.StatusCreated, nil)
	f.wantProblem(f.call("CI of web", "POST", "/v1/builds", api.NewBuild{Spec: []byte("x")}), http.StatusForbidden, "forbidden")

	r := f.call(admin, "GET", "/v1/keys", nil)
	var page api.KeyPage
	f.want(r, http.StatusOK, &page)
	if len(page.Keys) != 6 || page.Keys[0].ID != created.ID || page.Keys[0].Name != "CI of web" || page.Keys[0].LastUsedAt == nil {
		t.Errorf("got %+v", page.Keys)
	}
	for who, secret := range f.secrets { // the part behind the id is what is secret
		if len(secret) > 40 && strings.Contains(string(r.body), secret[40:]) {
			t.Errorf("the list shows the key of %s", who)
		}
	}
	if strings.Contains(string(r.body), `"key"`) || strings.Contains(string(r.body), "hash") {
		t.Errorf("the list shows more than keys without secrets: %s", r.body)
	}
	f.want(f.call(admin, "GET", "/v1/keys?project=app", nil), http.StatusOK, &page)
	if len(page.Keys) != 2 {
		t.Errorf("of project app: %+v", page.Keys)
	}
}

func TestKeyPages(t *testing.T) {
	f := newFixture(t, nil)
	seen := make(map[string]bool)
	target := "/v1/keys?limit=2"
	for target != "" {
		var page api.KeyPage
		f.want(f.call(admin, "GET", target, nil), http.StatusOK, &page)
		for _, k := range page.Keys {
			if seen[k.ID] {
				t.Errorf("twice: %v", k)
			}
			seen[k.ID] = true
		}
		target = ""
		if page.NextCursor != "" {
			target = "/v1/keys?limit=2&cursor=" + page.NextCursor
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d keys, want 5", len(seen))
	}
}

func TestRevokeKey(t *testing.T) {
	f := newFixture(t, nil)
	reader := f.createKey(api.NewKey{Kind: "api", Role: "viewer", Name: "reader", Project: "web"})
	rack := f.createKey(api.NewKey{Kind: "worker", Name: "rack", Worker: "rack-9", Pools: []string{"default"}})
	if rack.Kind != "worker" || rack.Role != "worker" || rack.Worker != "rack-9" || !strings.HasPrefix(rack.Secret, "slw_worker_") {
		t.Errorf("created %+v", rack.Key)
	}
	connect := func() *reply { return f.call("rack", "GET", "/v1/worker/connect", nil) }
	f.want(f.call("reader", "GET", "/v1/builds", nil), http.StatusOK, nil)
	if r := connect(); r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a good worker that does not ask for WebSocket gets %s %s", r.Status, r.body)
	}
	for _, id := range []string{reader.ID, rack.ID, rack.ID} {
		r := f.call(admin, "DELETE", "/v1/keys/"+id, nil)
		f.want(r, http.StatusNoContent, nil)
		if len(r.body) != 0 {
			t.Errorf("body %q", r.body)
		}
	}
	f.wantProblem(f.call("reader", "GET", "/v1/builds", nil), http.StatusUnauthorized, "unauthorized")
	f.wantProblem(connect(), http.StatusUnauthorized, "unauthorized")
	f.wantProblem(f.call(admin, "DELETE", "/v1/keys/"+someKeyID, nil), http.StatusNotFound, "not_found")
	var page api.KeyPage
	f.want(f.call(admin, "GET", "/v1/keys?limit=2", nil), http.StatusOK, &page)
	for _, k := range page.Keys {
		if k.RevokedAt == nil {
			t.Errorf("not shown as revoked: %+v", k)
		}
	}
}

// TestWorkerConnect: workers connect with the keys of workers only.
func TestWorkerConnect(t *testing.T) {
	f := newFixture(t, nil)
	for who, status := range map[string]int{
		anonymous: http.StatusUnauthorized, admin: http.StatusForbidden, submitter: http.StatusForbidden, viewer: http.StatusForbidden,
		agent: http.StatusUpgradeRequired,
	} {
		if r := f.call(who, "GET", "/v1/worker/connect", nil); r.StatusCode != status {
			t.Errorf("%s: %s %s", who, r.Status, r.body)
		}
	}
}
