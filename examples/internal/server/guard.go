package server

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/queue"
)

// DefaultProject is the project that an admin's request is about if it names none.
const DefaultProject = "default"

// An endpoint is a route behind its guard.
type endpoint struct {
	server *Server
	route  Route
	query  []parameter // nil if huma checks the query
	handle func(http.ResponseWriter, *http.Request) error
}

// ServeHTTP implements [http.Handler].
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	admitted, err := e.admit(w, r)
	if err == nil {
		err = e.handle(w, admitted)
	}
	if err != nil {
		e.server.answer(w, r, err)
	}
}

// A caller is who makes a request, and what it is about.
type caller struct {
	auth.Principal
	project string           // empty on routes that are about no project
	token   auth.Secret      // on the route that takes enrolment tokens
	from    netip.Prefix     // on that route: whom a throttle takes the caller for
	query   map[string]int64 // the numbers among the parameters of a stream
}

type callerKey struct{}

// callerOf returns the caller that a guard has let in.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// admit checks who calls, what he may, and that the request has no more than the route takes.
func (e *endpoint) admit(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	if e.route.May == auth.Connect {
		return r, nil // the hub knows workers by their keys and by the tokens of builds
	}
	var c caller
	switch e.route.May {
	case Anybody:
	case auth.Enrol:
		var err error
		if c.token, err = auth.Bearer(r); err != nil {
			return nil, err
		}
		c.from = neighborhood(r.RemoteAddr)
	default:
		p, err := e.server.Keys.AuthenticateRequest(r)
		if err != nil {
			return nil, err
		}
		if !p.Role.Can(e.route.May) {
			return nil, auth.ErrForbidden
		}
		c.Principal = p
	}
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	if err := checkBody(w, r); err != nil {
		return nil, err
	}
	if e.query != nil {
		if c.query, err = numbers(query, e.query); err != nil {
			return nil, err
		}
	}
	if c.Role != "" && e.route.May != auth.Manage {
		if c.project, err = projectOf(c.Principal, e.route.May, query); err != nil {
			return nil, err
		}
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c)), nil
}

// projectOf returns the project that a request is about. One that is not the caller's does not exist.
func projectOf(p auth.Principal, may auth.Permission, query url.Values) (string, error) {
	project := p.Project
	if p.Role == auth.Admin {
		project = DefaultProject
	}
	if named := query["project"]; len(named) == 1 {
		project = named[0]
		if err := queue.CheckName("project", project); err != nil {
			return "", err
		}
	}
	return project, p.Authorize(may, project)
}

// parseQuery reads the query strictly: every parameter once and with a value, but for states, which may repeat.
func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query must be pairs of the form name=value")
	}
	for name, values := range query {
		if len(values) > 1 && name != "state" {
			return nil, invalid(fmt.Sprintf("query.%.100q: must not be given twice", name))
		}
		if slices.Contains(values, "") {
			return nil, invalid(fmt.Sprintf("query.%.100q: must not be empty", name))
		}
	}
	return query, nil
}

// checkBody refuses a body where none is taken.
func checkBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 || r.Method == http.MethodPost || r.Method == http.MethodPut {
		return nil
	}
	w.Header().Set("Connection", "close")
	return invalid("the request must not have a body")
}

// A parameter is a number in the query of a stream.
type parameter struct {
	name        string
	doc         string
	least, most int64
	value       int64 // if it is not given
	text        bool  // it is no number, and somebody else checks it
}

var projectParameter = parameter{name: "project", doc: "Project, if the caller is an admin. Default: default.", text: true}

// describe returns the parameter as the description of the API has it.
func (p parameter) describe() *huma.Param {
	d := &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: &huma.Schema{Type: huma.TypeString}}
	if !p.text {
		d.Schema = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(float64(p.least)), Default: p.value}
		if p.most < math.MaxInt64 {
			d.Schema.Maximum = new(float64(p.most))
		}
	}
	return d
}

// numbers reads the parameters that a stream knows. Others are refused.
func numbers(query url.Values, known []parameter) (map[string]int64, error) {
	for name := range query {
		if !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }) {
			return nil, invalid(fmt.Sprintf("query.%.100s: unknown query parameter", name))
		}
	}
	found := make(map[string]int64, len(known))
	for _, p := range known {
		text, given := query[p.name]
		switch {
		case p.text:
			continue
		case !given:
			found[p.name] = p.value
			continue
		}
		n, err := strconv.ParseInt(text[0], 10, 64)
		if err != nil || n < p.least || n > p.most {
			return nil, invalid(fmt.Sprintf("query.%s: must be a number between %d and %d", p.name, p.least, p.most))
		}
		found[p.name] = n
	}
	return found, nil
}
