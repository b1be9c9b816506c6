// Package api is the form of the controller's HTTP API: what its server and its client say to each other. The paths are in
// routes.go of package server; the controller serves the whole of it as OpenAPI at /openapi.json.
package api
