package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/slipway-build/slipway/auth"
)

// maxJSON is the largest JSON body, in bytes. It holds the largest spec in base64.
const maxJSON = 1 << 20

// security is the name of the one way to log in, in the description of the API.
const security = "key"

func newAPI(s *Server) huma.API {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	return huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Slipway controller", Version: s.opts.Version},
			Components: &huma.Components{
				Schemas:         registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{security: {Type: "http", Scheme: "bearer"}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}, adapter{s})
}

// An adapter registers huma's operations as routes.
type adapter struct{ *Server }

const may = "may" // the key of a permission in the metadata of an operation

// Handle implements [huma.Adapter].
func (a adapter) Handle(op *huma.Operation, handle func(huma.Context)) {
	permission, ok := op.Metadata[may].(auth.Permission)
	if !ok {
		panic("server: an operation without a permission: " + op.Path)
	}
	a.add(Route{op.Method + " " + op.Path, permission}, nil, func(w http.ResponseWriter, r *http.Request) error {
		handle(humago.NewContext(op, r, w))
		return nil
	})
}

// add puts a route in the table. Parameters are those that the guard checks; nil leaves them to huma.
func (s *Server) add(route Route, query []parameter, handle func(http.ResponseWriter, *http.Request) error) {
	s.routes = append(s.routes, route)
	s.mux.Handle(route.Pattern, &endpoint{server: s, route: route, query: query, handle: handle})
}

// operation registers a JSON route.
func operation[I, O any](s *Server, pattern string, permission auth.Permission, handle func(context.Context, *I) (*O, error), op huma.Operation) {
	op.Method, op.Path, _ = strings.Cut(pattern, " ")
	op.Metadata = map[string]any{may: permission}
	op.Security = []map[string][]string{{security: {}}}
	op.MaxBodyBytes = maxJSON + 1 // huma takes a body of exactly this size for one that is too large
	op.BodyReadTimeout = s.opts.BodyTimeout
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.failed(ctx, err)
		}
		return out, nil
	})
}

// stream registers a route of bytes and describes it next to the operations.
func stream(s *Server, pattern string, permission auth.Permission, handle func(http.ResponseWriter, *http.Request) error,
	query []parameter, op huma.Operation,
) {
	op.Method, op.Path, _ = strings.Cut(pattern, " ")
	op.Path = strings.ReplaceAll(op.Path, "...}", "}")
	op.Security = []map[string][]string{{security: {}}}
	op.Parameters = describePath(op.Path)
	query = append(slices.Clip(query), projectParameter)
	for _, p := range query {
		op.Parameters = append(op.Parameters, p.describe())
	}
	bytes := map[string]*huma.MediaType{"application/octet-stream": {}}
	success := &huma.Response{Description: "Success"}
	if op.Method == http.MethodPut {
		op.RequestBody = &huma.RequestBody{Required: true, Content: bytes}
	} else if op.Method == http.MethodGet {
		success.Content = bytes
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{"2XX": success, "default": {Description: "Error"}}
	}
	s.api.OpenAPI().AddOperation(&op)
	s.add(Route{pattern, permission}, query, handle)
}

// hidden registers a route that the description leaves out.
func hidden(s *Server, pattern string, permission auth.Permission, handle func(http.ResponseWriter, *http.Request) error) {
	s.add(Route{pattern, permission}, []parameter{}, handle)
}

// describePath returns the parameters of a path.
func describePath(path string) []*huma.Param {
	var params []*huma.Param
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			params = append(params, &huma.Param{
				Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
			})
		}
	}
	return params
}

// describe serves the description of the API. It holds no data, so it needs no login.
func (s *Server) describe(w http.ResponseWriter, _ *http.Request) error {
	spec, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(spec) // a client that has gone needs no answer
	return nil
}

// Errors of a body that is not one JSON value. They are shown to clients.
var (
	errJSON      = errors.New("must be one JSON value of the documented form")
	errDuplicate = errors.New("must not have a field twice in one object")
	errDepth     = errors.New("is nested too deeply")
)

// unmarshal is [json.Unmarshal] without its leniency: a name that comes twice in an object is an error, and no error repeats the input.
func unmarshal(data []byte, v any) error {
	if _, first := v.(*any); first { // huma decodes twice: to look at the value, and to have it
		if err := checkJSON(data); err != nil {
			return err
		}
	}
	if json.Unmarshal(data, v) != nil {
		return errJSON
	}
	return nil
}

func checkJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errJSON
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	const deepest = 16
	token, err := d.Token()
	if err != nil {
		return errJSON
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == deepest {
		return errDepth
	}
	names := make(map[string]bool)
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			if err != nil {
				return errJSON
			}
			if names[name.(string)] {
				return errDuplicate
			}
			names[name.(string)] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}
