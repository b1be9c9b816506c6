package server

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway-build/slipway/auth"
)

// Anybody is the permission of routes that need no credential.
const Anybody auth.Permission = ""

// A Route is what a client can ask for, and who may.
type Route struct {
	// Pattern is that of [http.ServeMux]: a method and a path. The hub's has no method.
	Pattern string
	// May is the permission that the caller's role must have, or [Anybody]. The hub checks by itself who may [auth.Connect].
	May auth.Permission
}

// Routes returns every route that the server has.
func (s *Server) Routes() []Route { return append([]Route(nil), s.routes...) }

// register lists the routes. Those that read, submit or cancel are about one project: the caller's own, or, for an admin, the one
// named by the parameter "project".
func (s *Server) register() {
	operation(s, "POST /v1/builds", auth.Submit, s.submit, huma.Operation{
		OperationID: "submitBuild", Summary: "Submit a build", DefaultStatus: http.StatusCreated,
	})
	operation(s, "GET /v1/builds", auth.Read, s.listBuilds, huma.Operation{
		OperationID: "listBuilds", Summary: "List builds, newest first",
	})
	operation(s, "GET /v1/builds/{id}", auth.Read, s.getBuild, huma.Operation{
		OperationID: "getBuild", Summary: "Get a build with its attempts",
	})
	operation(s, "POST /v1/builds/{id}/cancel", auth.Cancel, s.cancelBuild, huma.Operation{
		OperationID: "cancelBuild", Summary: "Cancel a build",
		Description: "200 if the build is canceled; 202 if its worker has still to stop it.",
	})
	operation(s, "POST /v1/builds/{id}/retry", auth.Submit, s.retryBuild, huma.Operation{
		OperationID: "retryBuild", Summary: "Submit a new build like one that has ended", DefaultStatus: http.StatusCreated,
	})
	operation(s, "GET /v1/builds/{id}/explain", auth.Read, s.explainBuild, huma.Operation{
		OperationID: "explainBuild", Summary: "Tell why a build is pending",
	})
	stream(s, "GET /v1/builds/{id}/log", auth.Read, s.readLog, logQuery, huma.Operation{
		OperationID: "readLog", Summary: "Read a piece of a build's log",
		Description: "The headers Slipway-Log-Epoch, -Offset, -Length, -Cut and -Closed tell what the piece is of.",
	})
	stream(s, "GET /v1/builds/{id}/log/events", auth.Read, s.streamLog, eventQuery, huma.Operation{
		OperationID: "streamLog", Summary: "Follow a build's log as server-sent events",
		Description: "An event \"log\" has a piece of the log as JSON (epoch, offset, data in base64; cut at the end of a log that is not whole), " +
			"the event \"end\" the state of the build. The id of an event is the byte offset of what follows, with @ and the epoch if the request " +
			"names none. A stream that broke goes on where the header Last-Event-ID says, on any controller.",
		Responses: eventResponses,
	})
	operation(s, "GET /v1/builds/{id}/artifacts", auth.Read, s.listArtifacts, huma.Operation{
		OperationID: "listArtifacts", Summary: "List the artifacts of an attempt",
	})
	stream(s, "GET /v1/builds/{id}/artifacts/{name...}", auth.Read, s.download, artifactQuery, huma.Operation{
		OperationID: "downloadArtifact", Summary: "Download an artifact", Description: "Ranges and conditions are answered.",
	})
	stream(s, "HEAD /v1/sources/{sha256}", auth.Submit, s.statSource, nil, huma.Operation{
		OperationID: "statSource", Summary: "Ask whether a source is in the storage",
	})
	stream(s, "PUT /v1/sources/{sha256}", auth.Submit, s.putSource, nil, huma.Operation{
		OperationID: "putSource", Summary: "Upload a source",
		Description: "201 if it was stored; 200 if it was there already.",
	})
	operation(s, "GET /v1/stats", auth.Read, s.stats, huma.Operation{
		OperationID: "getStats", Summary: "Get the numbers of a project, by day",
	})
	s.registerControls()
	s.registerKeys()
	s.registerHidden()
}

// registerControls lists the routes by which admins steer the queue.
func (s *Server) registerControls() {
	operation(s, "GET /v1/pools", auth.Manage, s.listPools, huma.Operation{
		OperationID: "listPools", Summary: "List the pools for which something is set",
	})
	operation(s, "PUT /v1/pools/{name}", auth.Manage, s.changePool, huma.Operation{
		OperationID: "changePool", Summary: "Pause or resume a pool, or share it among projects",
	})
	operation(s, "GET /v1/projects", auth.Manage, s.listProjects, huma.Operation{
		OperationID: "listProjects", Summary: "List the projects for which something is set, or that have artifacts",
	})
	operation(s, "PUT /v1/projects/{name}", auth.Manage, s.changeProject, huma.Operation{
		OperationID: "changeProject", Summary: "Pause or resume a project, or set its quota",
	})
	operation(s, "GET /v1/projects/{name}/limits", auth.Manage, s.listLimits, huma.Operation{
		OperationID: "listLimits", Summary: "List the limits of a project's concurrency keys",
	})
	operation(s, "PUT /v1/projects/{name}/limits", auth.Manage, s.setLimit, huma.Operation{
		OperationID: "setLimit", Summary: "Limit how many builds of a concurrency key run at a time",
	})
}

// registerKeys lists the routes about keys, and the one that takes an enrolment token.
func (s *Server) registerKeys() {
	operation(s, "POST /v1/keys", auth.Manage, s.createKey, huma.Operation{
		OperationID: "createKey", Summary: "Create a key", DefaultStatus: http.StatusCreated,
		Description: "The answer holds the key, which is shown this once.",
	})
	operation(s, "GET /v1/keys", auth.Manage, s.listKeys, huma.Operation{
		OperationID: "listKeys", Summary: "List keys, newest first",
	})
	operation(s, "DELETE /v1/keys/{id}", auth.Manage, s.revokeKey, huma.Operation{
		OperationID: "revokeKey", Summary: "Revoke a key",
	})
	operation(s, "POST /v1/enrolments", auth.Enrol, s.enrol, huma.Operation{
		OperationID: "enrolWorker", Summary: "Exchange an enrolment token for the key of a worker", DefaultStatus: http.StatusCreated,
		Description: "The token is what is authorized with. The key's text is slw_worker_, its id, which the answer has, _, and the secret with a " +
			"checksum; only the worker knows it. The same token, worker and SHA-256 are answered with the same key, also later. Addresses whose " +
			"tokens keep being refused have to wait (429).",
	})
}

// registerHidden lists the routes that the description leaves out.
func (s *Server) registerHidden() {
	hidden(s, "/v1/worker/", auth.Connect, s.worker)
	hidden(s, "GET /livez", Anybody, s.livez)
	hidden(s, "GET /readyz", Anybody, s.readyz)
	hidden(s, "GET /openapi.json", Anybody, s.describe)
}
