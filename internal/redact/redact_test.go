package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plainly is what a Redactor does, done without cleverness on a whole text.
func plainly(secrets []string, text string) string {
	hidden := make([]bool, len(text))
	for _, form := range forms(secrets) {
		for i := range text {
			if strings.HasPrefix(text[i:], form) {
				for j := range form {
					hidden[i+j] = true
				}
			}
		}
	}
	var out strings.Builder
	for i := range len(text) {
		switch {
		case !hidden[i]:
			out.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			out.WriteString(Marker)
		}
	}
	return out.String()
}

// inPieces runs a text through a Redactor in the pieces that cuts say.
func inPieces(t interface{ Errorf(string, ...any) }, secrets []string, text string, cuts []int) string {
	var out bytes.Buffer
	r := New(secrets, func(p []byte) {
		if len(p) == 0 {
			t.Errorf("an empty piece was passed on")
		}
		out.Write(p)
	})
	longest := 1
	for _, form := range forms(secrets) {
		longest = max(longest, len(form))
	}
	room := cap(r.buf)
	rest := text
	for _, n := range append(cuts, len(text)) {
		n = min(n, len(rest))
		if written, err := r.Write([]byte(rest[:n])); written != n || err != nil {
			t.Errorf("Write of %d bytes: %d, %v", n, written, err)
		}
		rest = rest[n:]
		if len(r.buf) >= longest || cap(r.buf) != room {
			t.Errorf("%d bytes are kept back of forms of at most %d, in a buffer of %d, then %d", len(r.buf), longest, room, cap(r.buf))
		}
	}
	r.Flush()
	return out.String()
}

// TestAgainstPlain cuts texts that are made of secrets, parts of them and a little else into random pieces.
func TestAgainstPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.RuneFrom([]rune("ab\n ")), 0, 24, -1)
		secrets := rapid.SliceOfN(letters, 0, 5).Draw(t, "secrets")
		var text strings.Builder
		for range rapid.IntRange(0, 12).Draw(t, "parts") {
			if found := forms(secrets); len(found) > 0 && rapid.Bool().Draw(t, "secret") {
				form := rapid.SampledFrom(found).Draw(t, "form")
				from := rapid.IntRange(0, len(form)).Draw(t, "from")
				text.WriteString(form[from:rapid.IntRange(from, len(form)).Draw(t, "to")])
			} else {
				text.WriteString(letters.Draw(t, "other"))
			}
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, 9), 0, 60).Draw(t, "cuts")
		if got, want := inPieces(t, secrets, text.String(), cuts), plainly(secrets, text.String()); got != want {
			t.Errorf("without %q, in pieces %v:\n%q is\n%q, want\n%q", secrets, cuts, text.String(), got, want)
		}
	})
}

func FuzzRedactor(f *testing.F) {
	f.Add("slw_build_x", "other-secret", "a slw_build_x b", []byte{5, 1, 3})
	f.Add("aabaab", "aabaabaab", "aaaabaabaabaab aabaa", []byte{1, 1, 1, 1, 1, 1, 1, 1})
	f.Add("ababab", "bababa", "ababababababa", []byte{3, 2})
	f.Add("abcdef", "defghi", "abcdefghi abcdefdefghi", []byte{})
	f.Add("secret", "", "no end: secre", []byte{200})
	f.Add("one line\nsecond line\r\n", "x", "second line one line", []byte{3, 3, 3, 3})
	f.Add("secret-a", "secret-b", strings.Repeat("secret-secret-a", 2*piece/15), []byte{255, 0, 7})
	f.Fuzz(func(t *testing.T, one, two, text string, sizes []byte) {
		if len(one)+len(two) > 1000 || len(text) > 100_000 {
			return
		}
		cuts := make([]int, len(sizes))
		for i, n := range sizes {
			cuts[i] = int(n)
		}
		secrets := []string{one, two}
		if got, want := inPieces(t, secrets, text, cuts), plainly(secrets, text); got != want {
			t.Errorf("%q without %q is %q, want %q", text, secrets, got, want)
		}
	})
}

func TestTable(t *testing.T) {
	key := "-----BEGIN KEY-----\nc2VjcmV0LWtleQ\nbW9yZS1vZi1pdA\n-----END KEY-----\n"
	basic := "pa55: w\"o<r>d/ä+"
	encoded, _ := json.Marshal(basic)
	tests := map[string]struct {
		secrets []string
		text    string
		want    string
	}{
		"nothing to hide":         {nil, "text", "text"},
		"empty":                   {[]string{""}, "text", "text"},
		"too short":               {[]string{"12345"}, "12345", "12345"},
		"shortest":                {[]string{"123456"}, "0123456 12345", "0[redacted] 12345"},
		"the longer one":          {[]string{"secret", "secret-2"}, "secret-2 secret-1", "[redacted] [redacted]-1"},
		"the longer one, cut":     {[]string{"secret", "secret-2"}, "secret-", "[redacted]-"},
		"overlapping":             {[]string{"abcdef", "defghi"}, "_abcdefghi_", "_[redacted]_"},
		"overlapping itself":      {[]string{"abcabc"}, "abcabcabcab", "[redacted]ab"},
		"one within another":      {[]string{"abcdefghij", "cdefgh"}, "abcdefghi", "ab[redacted]i"},
		"touching":                {[]string{"abcdef"}, "abcdefabcdef", "[redacted]"},
		"lines":                   {[]string{key}, "- c2VjcmV0LWtleQ\r\n- bW9yZS1vZi1pdA", "- [redacted]\r\n- [redacted]"},
		"all lines":               {[]string{key}, "(" + key + ")", "([redacted])"},
		"without white space":     {[]string{" secret\n"}, "\"secret\"", "\"[redacted]\""},
		"in a query":              {[]string{basic}, "?q=" + url.QueryEscape(basic) + "&", "?q=[redacted]&"},
		"in a query, lower case":  {[]string{basic}, "pa55%3a+w%22o%3cr%3ed%2f%c3%a4%2b", "[redacted]"},
		"in a path":               {[]string{basic}, "/a/" + url.PathEscape(basic) + "/b", "/a/[redacted]/b"},
		"in JSON":                 {[]string{basic}, string(encoded), "\"[redacted]\""},
		"in JSON, without HTML":   {[]string{basic}, `"pa55: w\"o<r>d/ä+"`, "\"[redacted]\""},
		"in base64":               {[]string{basic}, base64.StdEncoding.EncodeToString([]byte(basic)), "[redacted]="},
		"invalid UTF-8":           {[]string{"\xff\xfe\xfd\xfc\xfb\xfa"}, "\xff\xff\xfe\xfd\xfc\xfb\xfa\xfa", "\xff[redacted]\xfa"},
		"nothing that looks like": {[]string{"secret-1"}, "secret-2 secret- secret", "secret-2 secret- secret"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= len(test.text); size++ {
				cuts := make([]int, len(test.text)/size)
				for i := range cuts {
					cuts[i] = size
				}
				if got := inPieces(t, test.secrets, test.text, cuts); got != test.want {
					t.Fatalf("in pieces of %d bytes: %q, want %q", size, got, test.want)
				}
			}
		})
	}
}

// TestWithinBase64 has a secret encoded together with what is around it: of its bits four at most show at either end.
func TestWithinBase64(t *testing.T) {
	const secret = "correct horse/battery?staple"
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
		for before := range 7 {
			for after := range 7 {
				text := encoding.EncodeToString([]byte("before:"[:before] + secret + ";after."[:after]))
				got := inPieces(t, []string{secret}, text, []int{7, 7, 7})
				shown := len(strings.ReplaceAll(got, Marker, ""))
				whole := (before+len(secret))*8/6 - (before*8+5)/6 // characters that stand for the secret alone
				if !strings.Contains(got, Marker) || shown > len(text)-whole {
					t.Errorf("%d before, %d after: %q is shown of %q", before, after, got, text)
				}
			}
		}
	}
}

// TestNothingIsKeptBack of what cannot be a secret: a reader sees each line when it is written.
func TestNothingIsKeptBack(t *testing.T) {
	var out bytes.Buffer
	r := New([]string{"slw_build_secret", "another secret"}, func(p []byte) { out.Write(p) })
	for i := range 100 {
		line := fmt.Sprintf("line %d\n", i)
		_, _ = r.Write([]byte(line))
		if !strings.HasSuffix(out.String(), line) {
			t.Fatalf("%q is kept back", line)
		}
	}
}

// TestAnotherStream: what was flushed has no part in what is written later.
func TestAnotherStream(t *testing.T) {
	var out bytes.Buffer
	r := New([]string{"secret"}, func(p []byte) { out.Write(p) })
	for _, p := range []string{"secret", "sec", "ret secret"} {
		_, _ = r.Write([]byte(p))
		r.Flush()
		out.WriteString("|")
	}
	if got, want := out.String(), "[redacted]|sec|ret [redacted]|"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func benchmarkText() []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var text bytes.Buffer
	for text.Len() < 4<<20 {
		fmt.Fprintf(&text, "[%05d] compiling internal/pkg%d/file_%x.go: -O2 -g; warning: unused variable 'x%d'\n",
			text.Len()%100_000, random.IntN(1000), random.Uint64(), random.IntN(100))
	}
	return text.Bytes()
}

func benchmarkSecrets() []string {
	secrets := make([]string, 10)
	for i := range secrets {
		secrets[i] = fmt.Sprintf("slw_%d_%x", i, rand.New(rand.NewPCG(3, uint64(i))).Uint64())
	}
	return secrets
}

func BenchmarkRedactor(b *testing.B) {
	text := benchmarkText()
	for _, bench := range []struct {
		name    string
		secrets []string
	}{{"secrets=0", nil}, {"secrets=1", benchmarkSecrets()[:1]}, {"secrets=10", benchmarkSecrets()}, {"short=10", []string{
		"123456", "abc123", "qwerty", "letmein", "dragon", "iloveyou", "monkey", "shadow", "master", "sunshine",
	}}} {
		b.Run(bench.name, func(b *testing.B) {
			r := New(bench.secrets, func([]byte) {})
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Write(text)
			}
		})
	}
}

// BenchmarkIndex is one search for one secret, to compare with.
func BenchmarkIndex(b *testing.B) {
	text, secret := benchmarkText(), []byte(benchmarkSecrets()[0])
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if bytes.Contains(text, secret) {
			b.Fatal("found")
		}
	}
}
