package worker

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/internal/token"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestDocumentProblems holds the errors over HTTP in docs/protocol.md against the code.
func TestDocumentProblems(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "### Errors over HTTP")
	var have, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d{3}) \\| `([a-z_]+)` \\|").FindAllStringSubmatch(part, -1) {
		have = append(have, row[1]+" "+row[2])
	}
	for _, known := range problems {
		want = append(want, fmt.Sprintf("%d %s", known.status, known.code))
	}
	for _, p := range []*Problem{errIncomplete, ProblemFor(os.ErrInvalid), errNoLength} {
		want = append(want, fmt.Sprintf("%d %s", p.Status, p.Code))
	}
	want = append(want, fmt.Sprintf("%d %s", http.StatusUpgradeRequired, codeVersion), fmt.Sprintf("%d %s", http.StatusUpgradeRequired, codeHandshake))
	slices.Sort(have)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(have, want) {
		t.Errorf("docs/protocol.md has %q\nthe code has       %q", have, want)
	}
}

// TestDocumentToken opens the build token of docs/protocol.md.
func TestDocumentToken(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```token\n(.*?)\n```").FindSubmatch(text)
	if example == nil {
		t.Fatal("docs/protocol.md has no token")
	}
	build, epoch, hash, err := token.Parse(string(example[1]))
	if err != nil || queue.ID(build).String() != "0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f" || epoch != 3 {
		t.Errorf("it opens as %x, %d, %v", build, epoch, err)
	}
	var secret [32]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	accept := regexp.MustCompile(`\{"t":"accept".*`).Find(text)
	m, err := wire.Decode(accept)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*wire.Accept).TokenHash; hash != sha256.Sum256(secret[:]) || got != queue.Digest(hash) {
		t.Errorf("its hash is %x, that of accept %v", hash, got)
	}
}

// TestDocumentPaths finds the paths of docs/protocol.md among what a hub serves.
func TestDocumentPaths(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	mux := (&Hub{}).newRoutes()
	served := make(map[string]bool)
	for _, request := range regexp.MustCompile(`(?m)^(GET|POST|PUT) (/\S+) HTTP/1.1$`).FindAllStringSubmatch(string(text), -1) {
		r, err := http.NewRequestWithContext(t.Context(), request[1], request[2], nil)
		if err != nil {
			t.Fatal(err)
		}
		_, pattern := mux.Handler(r)
		served[pattern] = true
	}
	if len(served) != 4 || served["/"] {
		t.Errorf("the requests are served as %v", served)
	}
}
