package auth

import (
	"errors"
	"net/http"
	"strings"
)

// Middleware lets requests with a valid key through to next, with the
// [Principal] in their context, and has [Options.Unauthorized] answer the others.
// What the caller may do is for next to ask.
func (k *Keys) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := k.AuthenticateRequest(r)
		if err != nil {
			k.unauthorized(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), p)))
	})
}

// AuthenticateRequest is [Keys.Authenticate] on the key that the request carries,
// see [Bearer].
func (k *Keys) AuthenticateRequest(r *http.Request) (Principal, error) {
	presented, err := Bearer(r)
	if err != nil {
		return Principal{}, wrap("authenticate", "", err)
	}
	return k.Authenticate(r.Context(), presented.Reveal())
}

// Bearer returns the key or token that the request carries as
// "Authorization: Bearer <key>". It looks nowhere else, least of all in the URL, which
// ends up in logs. The error is [ErrUnauthenticated] for a request with none, or with
// two such headers.
func Bearer(r *http.Request) (Secret, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return Secret{}, ErrUnauthenticated
	}
	scheme, presented, _ := strings.Cut(headers[0], " ")
	presented = strings.Trim(presented, " ")
	if !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return Secret{}, ErrUnauthenticated
	}
	return NewSecret(presented), nil
}

// unauthorized is the default of [Options.Unauthorized].
func unauthorized(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, ErrUnauthenticated) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		status = http.StatusUnauthorized
	}
	http.Error(w, http.StatusText(status), status)
}
