package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// scan refuses what encoding/json would let pass: text that is not UTF-8, a field that comes twice (also when only the case of
// its letters differs, for encoding/json takes both for the same field), deep nesting, and collections whose elements
// would take far more memory than their text. It looks at unknown fields too.
func scan(data []byte) error {
	if !utf8.Valid(data) {
		return &FormatError{Reason: "must be UTF-8", Err: ErrMalformed}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	first, err := d.Token()
	if err != nil || first != json.Delim('{') {
		return &FormatError{Reason: "must be a JSON object", Err: ErrMalformed}
	}
	if err := scanObject(d, 1); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return &FormatError{Reason: "must be a single JSON object", Err: ErrMalformed}
	}
	return nil
}

func errSyntax() error { return &FormatError{Reason: "must be valid JSON", Err: ErrMalformed} }

// scanValue reads one value.
func scanValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return errSyntax()
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth >= MaxDepth {
		return &FormatError{Reason: "must not nest more than 16 deep", Err: ErrTooLarge}
	}
	if delim == '{' {
		return scanObject(d, depth+1)
	}
	return scanList(d, depth+1)
}

// scanObject reads the rest of an object whose brace was read.
func scanObject(d *json.Decoder, depth int) error {
	seen := make(map[string]struct{})
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return errSyntax()
		}
		name, ok := token.(string)
		if !ok {
			return errSyntax()
		}
		name = fold(name)
		if _, twice := seen[name]; twice {
			return &FormatError{Reason: "must not have a field twice in one object", Err: ErrMalformed}
		}
		if seen[name] = struct{}{}; len(seen) > MaxList {
			return &FormatError{Reason: "must not have more than 1024 fields in one object", Err: ErrTooLarge}
		}
		if err := scanValue(d, depth); err != nil {
			return err
		}
	}
	return scanEnd(d)
}

// scanList reads the rest of a list whose bracket was read.
func scanList(d *json.Decoder, depth int) error {
	for n := 1; d.More(); n++ {
		if n > MaxList {
			return &FormatError{Reason: "must not have more than 1024 elements in one list", Err: ErrTooLarge}
		}
		if err := scanValue(d, depth); err != nil {
			return err
		}
	}
	return scanEnd(d)
}

func scanEnd(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errSyntax()
	}
	return nil
}

// fold maps names to the same string if encoding/json takes them for the same field.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}
