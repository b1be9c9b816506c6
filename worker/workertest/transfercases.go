package workertest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
)

// transferCases are about files over HTTP.
var transferCases = []controllerTest{
	{
		"Source",
		"The source is read with the build token, as declared, as a whole and from any byte on.",
		func(c *controllerCase) {
			w := c.worker()
			c.Submit(c.T, []byte("spec"), []byte("what to build"))
			a := w.Take()
			if a.Source == nil || a.Source.Size != 13 || a.Source.SHA256 != sha256.Sum256([]byte("what to build")) {
				c.Fatalf("the source of the offer is %+v", a.Source)
			}
			whole, content := w.Do(http.MethodGet, a.Source.URL, a.Token, nil, "")
			etag := whole.Header.Get("Etag")
			if whole.StatusCode != http.StatusOK || string(content) != "what to build" || etag != `"`+a.Source.SHA256.String()+`"` ||
				whole.Header.Get("Repr-Digest") != reprDigest(content) {
				c.Errorf("the answer is %s, %q, %v", whole.Status, content, whole.Header)
			}
			rest, content := w.Do(http.MethodGet, a.Source.URL, a.Token, http.Header{"Range": {"bytes=5-"}, "If-Range": {etag}}, "")
			if rest.StatusCode != http.StatusPartialContent || string(content) != "to build" {
				c.Errorf("the answer to a range is %s, %q", rest.Status, content)
			}
		},
	},
	{
		"Token",
		"A request is refused with 401 unless it has the token of a running attempt; the worker's credential is none.",
		func(c *controllerCase) {
			w := c.worker()
			c.Submit(c.T, []byte("spec"), []byte("what to build"))
			a := w.Offered()
			refused := func(when, token string) {
				c.Helper()
				for method, path := range map[string]string{http.MethodGet: a.Source.URL, http.MethodPost: artifactsPath(a)} {
					if answer, _ := w.Do(method, path, token, nil, announce("a", "x")); answer.StatusCode != http.StatusUnauthorized {
						c.Errorf("%s: %s is answered with %s", when, method, answer.Status)
					}
				}
			}
			refused("before accept", a.Token)
			w.Accept(a)
			refused("the credential", c.Credential)
			refused("no token", "")
			refused("another token of the attempt", token.New(a.Build, a.Epoch).Reveal())
			refused("another epoch's token", token.New(a.Build, a.Epoch+1).Reveal())
			last := a.Token[len(a.Token)-1:]
			refused("a mistyped token", a.Token[:len(a.Token)-1]+map[bool]string{true: "1", false: "0"}[last == "0"])
			w.Finish(a.Ref, "")
			refused("after the end", a.Token)
		},
	},
	{
		"Artifact",
		"An artifact is announced, uploaded and stored; what is there already need not be sent.",
		func(c *controllerCase) {
			w, a := c.running()
			answer, body := w.Do(http.MethodPost, artifactsPath(a), a.Token, jsonHeader(), announce("out/a b.txt", "content"))
			path := c.uploadPath(answer, body)
			if stored, body := w.Do(http.MethodPut, path, a.Token, digestHeader("content"), "content"); stored.StatusCode != http.StatusNoContent {
				c.Errorf("the upload is answered with %s, %s", stored.Status, body)
			}
			if again, body := w.Do(http.MethodPut, path, a.Token, digestHeader("content"), "content"); again.StatusCode != http.StatusNoContent {
				c.Errorf("the same upload is answered with %s, %s", again.Status, body)
			}
			answer, body = w.Do(http.MethodPost, artifactsPath(a), a.Token, jsonHeader(), announce("copy", "content"))
			if answer.StatusCode != http.StatusOK || !json.Valid(body) {
				c.Errorf("what is there already is answered with %s, %s", answer.Status, body)
			}
		},
	},
	{
		"ArtifactRefused",
		"An artifact whose bytes do not have its digest is refused with 422, another one of its name with 409, an unusable name with 400.",
		func(c *controllerCase) {
			w, a := c.running()
			answer, body := w.Do(http.MethodPost, artifactsPath(a), a.Token, jsonHeader(), announce("a", "content"))
			path := c.uploadPath(answer, body)
			if answer, _ = w.Do(http.MethodPut, path, a.Token, digestHeader("content"), "contend"); answer.StatusCode != http.StatusUnprocessableEntity {
				c.Errorf("bytes of another digest are answered with %s", answer.Status)
			}
			if answer, _ = w.Do(http.MethodPut, path, a.Token, digestHeader("content"), "content"); answer.StatusCode != http.StatusNoContent {
				c.Errorf("the right bytes are answered with %s", answer.Status)
			}
			if answer, _ = w.Do(http.MethodPost, artifactsPath(a), a.Token, jsonHeader(), announce("a", "other")); answer.StatusCode != http.StatusConflict {
				c.Errorf("another artifact of the name is answered with %s", answer.Status)
			}
			answer, _ = w.Do(http.MethodPost, artifactsPath(a), a.Token, jsonHeader(), announce("../a", "content"))
			if answer.StatusCode != http.StatusBadRequest {
				c.Errorf("an unusable name is answered with %s", answer.Status)
			}
		},
	},
}

// uploadPath returns where an announced artifact is to be put.
func (c *controllerCase) uploadPath(answer *http.Response, body []byte) string {
	c.Helper()
	var created struct {
		Present bool   `json:"present"`
		Upload  string `json:"upload"`
	}
	if err := json.Unmarshal(body, &created); err != nil || answer.StatusCode != http.StatusCreated || created.Present || created.Upload == "" {
		c.Fatalf("the announcement is answered with %s, %s", answer.Status, body)
	}
	return created.Upload
}

func artifactsPath(a *Attempt) string {
	return fmt.Sprintf("/v1/worker/builds/%s/%d/artifacts", a.Build, a.Epoch)
}

func announce(name, content string) string {
	body, _ := json.Marshal(map[string]any{"name": name, "size": len(content), "sha256": queue.Digest(sha256.Sum256([]byte(content)))})
	return string(body)
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

func digestHeader(content string) http.Header {
	return http.Header{"Repr-Digest": {reprDigest([]byte(content))}}
}

func reprDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}
