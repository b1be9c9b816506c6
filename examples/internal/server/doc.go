// Package server is the HTTP API of the controller: builds, logs, artifacts, sources and keys below /v1, the workers' hub among
// them, and what probes ask.
//
// routes.go lists every route with who may use it. JSON routes are operations of huma, which checks their parameters and bodies
// and makes the description at /openapi.json of them; uploads, downloads and logs stream through plain handlers. A handler returns an
// error, and one table in problem.go, which leads into the one of package worker, makes a problem document of it that holds
// nothing internal.
package server
