package token_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/internal/token"
)

var build = [16]byte{0x01, 0x98, 0xc2, 0xf0, 0x7d, 0x4e, 0x7c, 0xc3, 0x98, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f}

// fixed is a valid build token whose text and hash never change: it pins the format.
const fixed = "slw_build_0198c2f07d4e7cc398c4dc0c0c07398f_7_003AuLtjc7TJLctqJ2Unu3mfAGcxg9lrkrCWgKbidLF4Butjv"

func TestBuildTokenRoundTrip(t *testing.T) {
	for _, epoch := range []int64{0, 1, 42, math.MaxInt64} {
		tok := token.New(build, epoch)
		gotBuild, gotEpoch, hash, err := token.Parse(tok.Reveal())
		if err != nil {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
		if gotBuild != build || gotEpoch != epoch || !token.Match(hash, tok.Hash()) {
			t.Errorf("epoch %d: got build %x, epoch %d, matching hash %t", epoch, gotBuild, gotEpoch, token.Match(hash, tok.Hash()))
		}
	}
}

func TestTokensOfOneAttemptDiffer(t *testing.T) {
	a, b := token.New(build, 1), token.New(build, 1)
	if a.Reveal() == b.Reveal() || token.Match(a.Hash(), b.Hash()) {
		t.Error("two tokens of one attempt are the same")
	}
}

func TestParseRefuses(t *testing.T) {
	valid := token.New(build, 7).Reveal()
	issue := func(fields ...string) string {
		text, _ := token.Issue(fields...)
		return text
	}
	hex32 := strings.Repeat("0a", 16)
	tests := map[string]string{
		"empty":             "",
		"prefix only":       "slw",
		"no secret":         "slw_build_" + hex32 + "_7",
		"other prefix":      "xyz" + valid[3:],
		"typing error":      swap(valid, 60),
		"wrong checksum":    swap(valid, len(valid)-2),
		"epoch changed":     strings.Replace(valid, "_7_", "_8_", 1),
		"cut":               valid[:len(valid)-1],
		"longer":            valid + "0",
		"space around":      " " + valid,
		"newline":           valid + "\n",
		"other kind":        issue("api", hex32, "7"),
		"fields missing":    issue("build", hex32),
		"too many fields":   issue("build", hex32, "7", "7"),
		"empty field":       issue("build", hex32, ""),
		"short build":       issue("build", hex32[2:], "7"),
		"build not hex":     issue("build", strings.Repeat("zz", 16), "7"),
		"upper case":        issue("build", strings.ToUpper(hex32), "7"),
		"negative epoch":    token.New(build, -1).Reveal(),
		"epoch with zeros":  issue("build", hex32, "07"),
		"epoch not decimal": issue("build", hex32, "x"),
		"epoch too large":   issue("build", hex32, "9223372036854775808"),
		"secret too large":  "slw_build_" + hex32 + "_7_" + strings.Repeat("Z", 49),
		"over the limit":    issue(strings.Repeat("a", token.MaxLen)),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := token.Parse(text)
			if !errors.Is(err, token.ErrMalformed) {
				t.Fatalf("Parse = %v, want ErrMalformed", err)
			}
			if len(text) > 3 && strings.Contains(err.Error(), text) {
				t.Error("the error shows the text")
			}
		})
	}
}

func swap(s string, i int) string {
	c := byte('0')
	if s[i] == c {
		c = '1'
	}
	return s[:i] + string(c) + s[i+1:]
}

func TestFormatIsStable(t *testing.T) {
	_, epoch, hash, err := token.Parse(fixed)
	if err != nil || epoch != 7 {
		t.Fatalf("Parse = epoch %d, %v", epoch, err)
	}
	// SHA-256 of the bytes 0, 1, 2, … 31.
	const want = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
	if got := fmt.Sprintf("%x", hash); got != want {
		t.Errorf("hash = %s, want %s", got, want)
	}
}

func TestTokenIsNeverPrinted(t *testing.T) {
	tok := token.New(build, 7)
	canary := tok.Reveal()
	secret := canary[len(canary)-49:]
	type holder struct {
		Public  token.Token
		private token.Token
	}
	h := holder{tok, tok}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", tok, &tok, h, []token.Token{tok})
	}
	logger := slog.New(slog.NewTextHandler(&out, nil))
	logger.Info("made", "token", tok, "holder", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("made", "token", tok, "holder", h)
	if err := json.NewEncoder(&out).Encode(map[string]any{"token": tok, "holder": h}); err != nil {
		t.Fatal(err)
	}
	out.WriteString(tok.String())
	for _, leak := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret))} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(leak)) {
			t.Errorf("a token was printed:\n%s", out.String())
		}
	}
	if got := (token.Token{}).Reveal(); got != "" {
		t.Errorf("Reveal of the zero Token = %q, want nothing", got)
	}
}

func FuzzOpen(f *testing.F) {
	text, _ := token.Issue("worker", "06c2k9r4q1v8e7h3m5t0a2bd")
	for _, seed := range []string{"", "slw", "slw__", text, fixed, text + "_", strings.Repeat("_", 300), "slw_a_" + strings.Repeat("0", 49)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields, _, err := token.Open(text)
		if err != nil {
			if !errors.Is(err, token.ErrMalformed) {
				t.Errorf("error is %v, want ErrMalformed", err)
			}
			return
		}
		// What opens has one spelling: its public part is rebuilt from its fields.
		want := "slw_" + strings.Join(fields, "_") + "_"
		if !strings.HasPrefix(text, want) || len(text) != len(want)+49 {
			t.Errorf("fields %q do not rebuild the text", fields)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", fixed, token.New(build, 0).Reveal(), token.New(build, math.MaxInt64).Reveal(), "slw_build_0_0_0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, epoch, _, err := token.Parse(text)
		if err != nil {
			return
		}
		if want := fmt.Sprintf("slw_build_%x_%d_", id, epoch); !strings.HasPrefix(text, want) {
			t.Errorf("parsed a second spelling of %s", want)
		}
	})
}

func Example() {
	tok := token.New(build, 3)
	fmt.Println(tok)

	id, epoch, hash, err := token.Parse(tok.Reveal())
	fmt.Printf("%x %d %t %v\n", id, epoch, token.Match(hash, tok.Hash()), err)
	// Output:
	// [redacted]
	// 0198c2f07d4e7cc398c4dc0c0c07398f 3 true <nil>
}

func TestMove(t *testing.T) {
	text, hash := token.Issue("draft")
	moved, err := token.Move(text, "worker", "7")
	if err != nil {
		t.Fatal(err)
	}
	fields, got, err := token.Open(moved)
	if err != nil || strings.Join(fields, " ") != "worker 7" || !token.Match(got, hash) {
		t.Errorf("moved to %v, %v, with the same secret: %t", fields, err, token.Match(got, hash))
	}
	for _, bad := range []string{"", "slw", text[1:], text + "0", swap(text, len(text)-1)} {
		if moved, err := token.Move(bad, "worker"); !errors.Is(err, token.ErrMalformed) || moved != "" {
			t.Errorf("Move of a damaged text: %q, %v", moved, err)
		}
	}
}
