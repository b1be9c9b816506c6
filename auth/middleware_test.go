package auth_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
)

// whoami answers with the role of the caller.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	p, ok := auth.FromContext(r.Context())
	if !ok {
		http.Error(w, "nobody", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, string(p.Role))
})

func TestMiddleware(t *testing.T) {
	keys := newKeys(t, memauth.New(), &auth.Options{AdminKey: auth.NewSecret(adminKey)})
	_, text := create(t, keys, submitter)
	none := newKeys(t, memauth.New(), nil)
	tests := map[string]struct {
		keys   *auth.Keys
		header []string
		target string
		want   string // role, or empty for 401
	}{
		"key":                     {keys, []string{"Bearer " + text}, "/", "submitter"},
		"admin key":               {keys, []string{"Bearer " + adminKey}, "/", "admin"},
		"scheme in lower case":    {keys, []string{"bearer " + text}, "/", "submitter"},
		"spaces":                  {keys, []string{"Bearer   " + text + " "}, "/", "submitter"},
		"no header":               {keys, nil, "/", ""},
		"empty header":            {keys, []string{""}, "/", ""},
		"no key":                  {keys, []string{"Bearer"}, "/", ""},
		"empty key":               {keys, []string{"Bearer "}, "/", ""},
		"empty key, no admin":     {none, []string{"Bearer "}, "/", ""},
		"no header, no admin":     {none, nil, "/", ""},
		"other scheme":            {keys, []string{"Basic " + text}, "/", ""},
		"scheme missing":          {keys, []string{text}, "/", ""},
		"tab for a space":         {keys, []string{"Bearer\t" + text}, "/", ""},
		"two headers":             {keys, []string{"Bearer " + text, "Bearer " + text}, "/", ""},
		"two keys":                {keys, []string{"Bearer " + text + ", Bearer " + text}, "/", ""},
		"in the URL":              {keys, nil, "/?access_token=" + text + "&key=" + text, ""},
		"in the URL and a header": {keys, []string{"Bearer x"}, "/?access_token=" + text, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, tt.target, nil)
			for _, h := range tt.header {
				r.Header.Add("Authorization", h)
			}
			w := httptest.NewRecorder()
			tt.keys.Middleware(whoami).ServeHTTP(w, r)
			if tt.want != "" {
				if w.Code != http.StatusOK || w.Body.String() != tt.want {
					t.Errorf("answer = %d %q, want 200 %q", w.Code, w.Body, tt.want)
				}
				return
			}
			if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("answer = %d, WWW-Authenticate %q; want 401, Bearer", w.Code, w.Header().Get("WWW-Authenticate"))
			}
			if body := strings.TrimSpace(w.Body.String()); body != "Unauthorized" {
				t.Errorf("body = %q, want no more than Unauthorized", body)
			}
		})
	}
}

func TestMiddlewareWhenTheStoreFails(t *testing.T) {
	b := memauth.New()
	_, text := create(t, newKeys(t, b, nil), submitter)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	w := httptest.NewRecorder()
	newKeys(t, oneRecord{b, auth.Record{}, errors.New("dial tcp 10.0.0.7: refused")}, nil).Middleware(whoami).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "10.0.0.7") {
		t.Errorf("answer = %d %q, want 503 without internals", w.Code, w.Body)
	}
}

func TestMiddlewareUnauthorizedOption(t *testing.T) {
	var got error
	keys := newKeys(t, memauth.New(), &auth.Options{Unauthorized: func(w http.ResponseWriter, _ *http.Request, err error) {
		got = err
		w.WriteHeader(http.StatusTeapot)
	}})
	w := httptest.NewRecorder()
	keys.Middleware(whoami).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusTeapot || !errors.Is(got, auth.ErrUnauthenticated) {
		t.Errorf("answer = %d with error %v, want the option's answer and ErrUnauthenticated", w.Code, got)
	}
}
