package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
)

// TestSecretsAreNeverShown drives every operation with canary secrets and looks
// for them in all that comes out.
func TestSecretsAreNeverShown(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	show := func(values ...any) {
		for _, v := range values {
			fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
			fmt.Fprintf(&out, "%v %+v %#v\n", []any{v}, struct{ V any }{v}, map[string]any{"v": v})
			logger.Info("shown", "value", v)
			if err := json.NewEncoder(&out).Encode(map[string]any{"v": v}); err != nil {
				fmt.Fprintln(&out, err)
			}
			if err, ok := v.(error); ok {
				fmt.Fprintln(&out, err.Error())
			}
		}
	}
	ctx := t.Context()
	opts := auth.Options{AdminKey: auth.NewSecret(adminKey), Logger: logger}
	b := &touches{Backend: memauth.New(), err: errors.New("read-only")}
	keys := newKeys(t, b, &opts)
	key, secret, err := keys.Create(ctx, submitter)
	if err != nil {
		t.Fatal(err)
	}
	text := secret.Reveal()
	draft := auth.NewDraft()
	_, token := create(t, keys, rack)
	enrolled, enrolErr := keys.Enrol(ctx, token, auth.Enrolment{Worker: "rack-7", Hash: draft.Hash()})
	credential, keyErr := draft.Key(enrolled.ID)
	show(draft, &draft, draft.Text(), enrolled, enrolErr, credential, keyErr)
	for _, presented := range []string{token, token + "x", token[:len(token)-1], draft.Text().Reveal(), credential.Reveal()} {
		_, err := keys.Enrol(ctx, presented, auth.Enrolment{Worker: "rack-7"})
		_, nameErr := keys.Enrol(ctx, token, auth.Enrolment{Worker: presented})
		_, otherErr := keys.Enrol(ctx, token, auth.Enrolment{Worker: "tower"})
		_, downErr := newKeys(t, oneRecord{b, auth.Record{}, errors.New("down")}, &opts).Enrol(ctx, presented, auth.Enrolment{Worker: "rack-7"})
		_, draftErr := auth.ParseDraft(presented + "x")
		_, idErr := draft.Key(presented)
		show(err, nameErr, otherErr, downErr, draftErr, idErr)
	}
	type holder struct{ hidden auth.Secret }
	show(opts, &opts, opts.AdminKey, key, secret, &secret, holder{secret}, []auth.Secret{secret}, map[string]auth.Secret{"k": secret})

	p, err := keys.Authenticate(ctx, text)
	show(p, err)
	down := newKeys(t, oneRecord{b, auth.Record{}, errors.New("down")}, &opts)
	for _, presented := range []string{text + "x", text[:len(text)-1], "slw_worker" + text[7:], adminKey + "x", adminKey[1:]} {
		_, err := keys.Authenticate(ctx, presented)
		show(err, keys.Revoke(ctx, presented))
		_, err = down.Authenticate(ctx, presented)
		_, listErr := keys.List(ctx, auth.Filter{Before: presented, Project: presented})
		show(err, listErr, auth.CheckStrength(presented[:20]))
		_, _, createErr := keys.Create(ctx, auth.NewKey{Name: presented + "\n", Role: auth.Role(presented)})
		show(createErr)
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+presented)
		w := httptest.NewRecorder()
		keys.Middleware(whoami).ServeHTTP(w, r)
		fmt.Fprintln(&out, w.Header(), w.Body)
	}
	if !strings.Contains(out.String(), "last use of a key was not noted") {
		t.Error("the log was not among what was looked through")
	}
	for _, canary := range []string{
		adminKey[1:20], text[len(text)-49 : len(text)-20], token[len(token)-49 : len(token)-20], credential.Reveal()[len(credential.Reveal())-49:][:29],
	} {
		for _, leak := range []string{canary, fmt.Sprintf("%x", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")} {
			if i := strings.Index(out.String(), leak); i >= 0 {
				t.Errorf("a secret was shown: …%s…", out.String()[max(0, i-200):i])
			}
		}
	}
}

// sensitive matches names of things that must only be compared in constant time.
var sensitive = regexp.MustCompile(`(?i)hash|secret|adminkey|presented|digest`)

// leakyComparisons returns the comparisons in a file that stop at the first
// difference and touch something sensitive.
func leakyComparisons(fset *token.FileSet, file *ast.File) []string {
	var found []string
	report := func(n ast.Node) { found = append(found, fset.Position(n.Pos()).String()) }
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && !harmless(n.X) && !harmless(n.Y) && (mentions(n.X) || mentions(n.Y)) {
				report(n)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && mentions(n.Tag) {
				report(n)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && comparesEarly(f) && slices.ContainsFunc(n.Args, mentions) {
				report(n)
			}
		}
		return true
	})
	return found
}

// comparesEarly reports whether f is a function such as bytes.Equal.
func comparesEarly(f *ast.SelectorExpr) bool {
	pkg, ok := f.X.(*ast.Ident)
	return ok && regexp.MustCompile(`^(bytes|strings|slices|reflect|maps|cmp)$`).MatchString(pkg.Name) &&
		regexp.MustCompile(`Equal|Compare|Contains|Index|HasPrefix|HasSuffix`).MatchString(f.Sel.Name)
}

// harmless reports whether an expression tells a length, a literal or nil.
func harmless(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return e.Name == "nil"
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.Ident)
		return ok && f.Name == "len"
	}
	return false
}

func mentions(e ast.Expr) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && sensitive.MatchString(id.Name) {
			found = true
		}
		return !found
	})
	return found
}

func TestHashesAreComparedInConstantTime(t *testing.T) {
	files := 0
	for _, root := range []string{".", "../internal/token"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for _, pos := range parseAndCheck(t, path, string(source)) {
				t.Errorf("%s: compare with token.Match, which takes the same time for every difference", pos)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 10 {
		t.Errorf("only %d files were looked at", files)
	}
}

func TestLeakyComparisonsAreFound(t *testing.T) {
	for _, statement := range []string{
		"_ = hash == r.Hash", "_ = r.Hash != hash", "_ = bytes.Equal(a, hash[:])", "_ = slices.Equal(r.Hash[:], b)", "_ = reflect.DeepEqual(a, k.adminHash)",
		"switch presented { case a: }", "_ = secret.Reveal() == a", "_ = strings.EqualFold(a, presented)", "_ = strings.HasPrefix(presented, a)",
	} {
		if len(parseAndCheck(t, "planted.go", "package p\nfunc _() { "+statement+" }")) != 1 {
			t.Errorf("not found: %s", statement)
		}
	}
	for _, statement := range []string{`_ = presented == ""`, "_ = len(hash) == n", "_ = role == other", "_ = hash == nil"} {
		if len(parseAndCheck(t, "planted.go", "package p\nfunc _() { "+statement+" }")) != 0 {
			t.Errorf("a false alarm: %s", statement)
		}
	}
}

func parseAndCheck(t *testing.T, name, source string) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return leakyComparisons(fset, file)
}
