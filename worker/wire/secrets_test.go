package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/internal/redact"
	"github.com/slipway-build/slipway/worker/wire"
)

func TestSecretsRules(t *testing.T) {
	const canary = "canary-9b21"
	many := make(wire.Secrets)
	for i := range wire.MaxSecrets + 1 {
		many[fmt.Sprintf("S%d", i)] = canary
	}
	for name, tt := range map[string]struct {
		secrets wire.Secrets
		text    string // a part of the error; empty: there is none
	}{
		"none":             {nil, ""},
		"as names are":     {wire.Secrets{"A": canary, "_b9": canary, strings.Repeat("x", wire.MaxToken): canary}, ""},
		"any text":         {wire.Secrets{"A": " é\n\x01\x1b\u2028<&> "}, ""},
		"as large as can":  {wire.Secrets{"A": strings.Repeat("\x01", wire.MaxSecretBytes-1)}, ""},
		"too large":        {wire.Secrets{"A": strings.Repeat("\x01", wire.MaxSecretBytes)}, "at most 65536 bytes"},
		"too large a name": {wire.Secrets{strings.Repeat("x", wire.MaxToken+1): canary}, "a name must be"},
		"no name":          {wire.Secrets{"": canary}, "a name must be"},
		"a digit first":    {wire.Secrets{"9A": canary}, "a name must be"},
		"a value as name":  {wire.Secrets{canary: "another"}, "a name must be"},
		"equals sign":      {wire.Secrets{"A=B": canary}, "a name must be"},
		"not ASCII":        {wire.Secrets{"É": canary}, "a name must be"},
		"Slipway's own":    {wire.Secrets{"SLIPWAY_TOKEN": canary}, "a name must be"},
		"nearly its own":   {wire.Secrets{"Slipway_Token": canary}, "a name must be"},
		"the same folded":  {wire.Secrets{"Key": canary, "KEY": canary}, "upper and lower case"},
		"NUL":              {wire.Secrets{"A": canary + "\x00"}, "value of A must be UTF-8 without NUL"},
		"not UTF-8":        {wire.Secrets{"A": canary + "\xff"}, "value of A must be UTF-8"},
		"short":            {wire.Secrets{"A": "12345"}, "value of A must have at least 6 bytes"},
		"short but padded": {wire.Secrets{"A": "  12345\n"}, "value of A must have at least 6 bytes"},
		"too many":         {many, "at most 64"},
	} {
		t.Run(name, func(t *testing.T) {
			want := &wire.Start{Ref: ref, Lease: 1, Secrets: tt.secrets}
			data, err := wire.Encode(want)
			if checked := tt.secrets.Check(); (checked == nil) != (err == nil) {
				t.Errorf("Encode says %v, Check %v", err, checked)
			}
			if tt.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				if m, err := wire.Decode(data); err != nil || len(m.(*wire.Start).Secrets) != len(tt.secrets) {
					t.Errorf("Decode = %v, %v", m, err)
				}
				return
			}
			if !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v does not say %q", err, tt.text)
			}
			if strings.Contains(fmt.Sprint(err), canary) {
				t.Errorf("error %q has a value in it", err)
			}
		})
	}
}

// TestSecretsAreNotPrinted prints a message that has some, in every way.
func TestSecretsAreNotPrinted(t *testing.T) {
	m := &wire.Start{Ref: ref, Lease: 1, Secrets: wire.Secrets{"A": "canary-9b21"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, text := range []string{fmt.Sprintf(verb, m), fmt.Sprintf(verb, *m), fmt.Sprintf(verb, m.Secrets)} {
			if strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") || !strings.Contains(text, "[1 secrets]") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	}
}

// TestMinSecret holds the limit against what a log is searched for.
func TestMinSecret(t *testing.T) {
	if wire.MinSecret != redact.MinLength {
		t.Errorf("MinSecret is %d, redact looks for %d bytes and more", wire.MinSecret, redact.MinLength)
	}
}
