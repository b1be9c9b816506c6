package procexec

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

func equalSpecs(a, b Spec) bool {
	return slices.Equal(a.Command, b.Command) && maps.Equal(a.Env, b.Env) && slices.Equal(a.Artifacts, b.Artifacts)
}

func TestParseSpec(t *testing.T) {
	got, err := ParseSpec([]byte(` {"artifacts":["dist/**"], "command":["sh","-c",""], "env":{"A":"1","b_2":""}} `))
	want := Spec{
		Command: []string{"sh", "-c", ""}, Env: map[string]string{"A": "1", "b_2": ""}, Artifacts: []string{"dist/**"},
	}
	if err != nil || !equalSpecs(got, want) {
		t.Errorf("parsed %+v, %v; want %+v", got, err, want)
	}
}

func TestParseSpecRefuses(t *testing.T) {
	tests := []struct{ name, spec, says string }{
		{"nothing", ``, `write it as {"command"`},
		{"no JSON", `make`, `write it as {"command"`},
		{"cut", `{"command":["a"]`, "unexpected EOF"},
		{"null", `null`, "a JSON object is expected"},
		{"a list", `["make"]`, "a JSON object is expected"},
		{"something behind", `{"command":["a"]} {}`, "something follows"},
		{"garbage behind", `{"command":["a"]} x`, `write it as {"command"`},
		{"unknown field", `{"command":["a"],"shell":"x"}`, `field "shell" is not known: use command, env and artifacts`},
		{"other case", `{"Command":["a"]}`, `field "Command" is not known`},
		{"repeated field", `{"command":["a"],"command":["b"]}`, `"command" is given twice: keep one`},
		{"repeated variable", `{"command":["a"],"env":{"A":"1","A":"2"}}`, `"A" is given twice`},
		{"no command", `{}`, "a command is required"},
		{"empty command", `{"command":[]}`, "a command is required"},
		{"empty program", `{"command":[""]}`, "a command is required"},
		{"command as text", `{"command":"make test"}`, "a list of strings is expected"},
		{"command with null", `{"command":["a",null]}`, "a list of strings is expected"},
		{"nested command", `{"command":[["a"]]}`, "a list of strings is expected"},
		{"NUL", `{"command":["a\u0000"]}`, "command[0] holds a NUL byte: remove it"},
		{"long argument", `{"command":["a","` + strings.Repeat("x", MaxString+1) + `"]}`, "command[1] has 131072 bytes: 131071 are allowed"},
		{"number as variable", `{"command":["a"],"env":{"A":1}}`, `env "A" is not a string`},
		{"empty name", `{"command":["a"],"env":{"":"1"}}`, "is not a variable name"},
		{"name with =", `{"command":["a"],"env":{"A=B":"1"}}`, "is not a variable name"},
		{"name with digit", `{"command":["a"],"env":{"1A":"1"}}`, "is not a variable name"},
		{"reserved name", `{"command":["a"],"env":{"SLIPWAY_BUILD_TOKEN":"x"}}`, "env SLIPWAY_BUILD_TOKEN is Slipway's own: choose"},
		{"absolute glob", `{"command":["a"],"artifacts":["/etc/*"]}`, `artifact "/etc/*" is absolute`},
		{"climbing glob", `{"command":["a"],"artifacts":["a/../../b"]}`, "segment: write it as a plain relative path"},
		{"bad glob", `{"command":["a"],"artifacts":["a["]}`, "has an unclosed ["},
		{"many globs", `{"command":["a"],"artifacts":["a"` + strings.Repeat(`,"a"`, MaxArtifacts) + `]}`, "257 artifact globs: 256 are allowed"},
		{"invalid UTF-8", "{\"command\":[\"\xff\"]}", "not valid UTF-8"},
		{"huge", strings.Repeat(" ", queue.MaxSpec+1), "262145 bytes: 262144 are allowed"},
		{"deep", `{"command":` + strings.Repeat("[", 100_000), "a list of strings is expected"},
		{"huge number", `{"command":[1e999999]}`, `write it as {"command"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec, err := ParseSpec([]byte(test.spec))
			if !errors.Is(err, worker.ErrBadSpec) {
				t.Fatalf("parsed %+v, %v; want ErrBadSpec", spec, err)
			}
			if text := err.Error(); !strings.Contains(text, test.says) || strings.Contains(text, "\n") || len(text) > 400 {
				t.Errorf("error %q, want one line with %q", text, test.says)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	many := Spec{Command: slices.Repeat([]string{strings.Repeat("x", 1000)}, 300)}
	for _, spec := range []Spec{{}, many, {Command: []string{"\xff"}}, {Command: []string{"a"}, Env: map[string]string{"SLIPWAY_": ""}}} {
		if b, err := spec.Encode(); !errors.Is(err, worker.ErrBadSpec) {
			t.Errorf("encoded %.100q, %v; want ErrBadSpec", b, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"command":["sh","-c","make"],"env":{"A":"1"},"artifacts":["dist/**","*.log"]}`))
	f.Add([]byte(`{"command":["a"],"env":null}`))
	f.Add([]byte(`{"command":["\ud800"],"env":{"A":"\u0000"}}`))
	f.Add([]byte(`{"command":["<&>\u2028"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, err := ParseSpec(b)
		if err != nil {
			if !errors.Is(err, worker.ErrBadSpec) {
				t.Fatalf("error %v does not wrap ErrBadSpec", err)
			}
			return
		}
		encoded, err := spec.Encode()
		if err != nil {
			if len(b) < queue.MaxSpec/6 { // escapes make it longer
				t.Fatalf("%+v was parsed and is not encoded: %v", spec, err)
			}
			return
		}
		again, err := ParseSpec(encoded)
		if err != nil || !equalSpecs(spec, again) {
			t.Fatalf("%+v came back as %+v, %v", spec, again, err)
		}
	})
}
