package procexec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// Limits of a [Spec]. The whole of it, encoded, is at most [queue.MaxSpec] bytes.
const (
	// MaxString is the longest argument or variable ("NAME=value"), in bytes. Linux takes no longer ones.
	MaxString = 128<<10 - 1
	// MaxArtifacts is the largest number of artifact globs.
	MaxArtifacts = 256
	// MaxGlob is the longest artifact glob, in bytes.
	MaxGlob = 1024
)

// reservedPrefix begins the names of the variables that only Slipway itself gives to a build.
const reservedPrefix = "SLIPWAY_"

// A Spec says what a build runs. Its encoded form is a JSON object with the fields "command", "env" and "artifacts":
//
//	{"command": ["make", "dist"], "env": {"CGO_ENABLED": "0"}, "artifacts": ["dist/**"]}
type Spec struct {
	// Command is the program and its arguments. It is required and given to no shell: who wants one says
	// "sh", "-c", "...". A program without a slash is looked for in the build's PATH, one with a slash is relative
	// to the source directory.
	Command []string
	// Env are variables of the build's environment. A name is made of letters, digits and underscores, does not begin
	// with a digit, nor with SLIPWAY_. They take precedence over what the agent passes on and over the build's own
	// HOME and TMPDIR.
	Env map[string]string
	// Artifacts are globs of the files to keep, relative to the source directory. A glob is read segment by segment:
	// *, ?, [a-z] and \ have the meaning of [path.Match], and a segment ** stands for any number of directories, so
	// "dist/**" is every file below dist. A leading dot in a name is nothing special.
	Artifacts []string
}

// ParseSpec reads the encoded form of a Spec, strictly: an unknown, repeated or misspelled field, anything after the object and
// whatever [Spec.Encode] would refuse is an error. It wraps [worker.ErrBadSpec] and says what to change.
func ParseSpec(b []byte) (Spec, error) {
	if len(b) > queue.MaxSpec {
		return Spec{}, badSpec("it has %d bytes: %d are allowed; put large inputs into the source", len(b), queue.MaxSpec)
	}
	if !utf8.Valid(b) {
		return Spec{}, badSpec("it is not valid UTF-8: encode it as UTF-8 JSON")
	}
	var s Spec
	d := json.NewDecoder(bytes.NewReader(b))
	err := decodeObject(d, func(field string) error {
		switch field {
		case "command":
			return decodeStrings(d, &s.Command)
		case "env":
			return s.decodeEnv(d)
		case "artifacts":
			return decodeStrings(d, &s.Artifacts)
		}
		return badSpec("field %.64q is not known: use command, env and artifacts", field)
	})
	if err == nil {
		_, err = d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return s, s.check()
		case err == nil:
			err = badSpec("something follows the JSON object: remove it")
		}
	}
	if errors.Is(err, worker.ErrBadSpec) {
		return Spec{}, err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return Spec{}, badSpec(`write it as {"command": ["program", "argument"]}: %v`, err)
}

// Encode returns the encoded form of s, which [ParseSpec] reads back. Equal specs have equal encodings.
// A Spec that ParseSpec would refuse is an error that wraps [worker.ErrBadSpec].
func (s Spec) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(struct {
		Command   []string          `json:"command"`
		Env       map[string]string `json:"env,omitempty"`
		Artifacts []string          `json:"artifacts,omitempty"`
	}{s.Command, s.Env, s.Artifacts})
	if err != nil {
		return nil, badSpec("%v", err)
	}
	if len(b) > queue.MaxSpec {
		return nil, badSpec("it has %d bytes: %d are allowed; put large inputs into the source", len(b), queue.MaxSpec)
	}
	return b, nil
}

func (s *Spec) decodeEnv(d *json.Decoder) error {
	s.Env = map[string]string{}
	return decodeObject(d, func(name string) error {
		token, err := d.Token()
		if err != nil {
			return err
		}
		value, ok := token.(string)
		if !ok {
			return badSpec("env %.64q is not a string: put its value in quotes", name)
		}
		s.Env[name] = value
		return nil
	})
}

// check reports the first thing that is wrong with s.
func (s Spec) check() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return badSpec(`a command is required: give the program and its arguments, such as ["make", "test"]`)
	}
	for i, arg := range s.Command {
		if err := checkString(arg, len(arg)); err != nil {
			return badSpec("command[%d] %v", i, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if !validName(name) {
			return badSpec("env %.64q is not a variable name: use letters, digits and _, not beginning with a digit", name)
		}
		if strings.HasPrefix(name, reservedPrefix) {
			return badSpec("env %.64s is Slipway's own: choose a name that does not begin with %s", name, reservedPrefix)
		}
		if err := checkString(s.Env[name], len(name)+1+len(s.Env[name])); err != nil {
			return badSpec("env %.64s %v", name, err)
		}
	}
	if len(s.Artifacts) > MaxArtifacts {
		return badSpec("it has %d artifact globs: %d are allowed; use wider ones", len(s.Artifacts), MaxArtifacts)
	}
	for _, pattern := range s.Artifacts {
		if _, err := parseGlob(pattern); err != nil {
			return badSpec("artifact %.64q %v", pattern, err)
		}
	}
	return nil
}

// checkString reports why a process cannot be given s, which takes size bytes of its memory.
func checkString(s string, size int) error {
	switch {
	case size > MaxString:
		return fmt.Errorf("has %d bytes: %d are allowed; put it into a file of the source", size, MaxString)
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("holds a NUL byte: remove it")
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8: put it into a file of the source")
	}
	return nil
}

// validName reports whether name can name a variable in a POSIX shell.
func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// decodeStrings reads a JSON array of nothing but strings from d.
func decodeStrings(d *json.Decoder, list *[]string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('[') {
		return errors.New("a list of strings is expected")
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		s, ok := token.(string)
		if !ok {
			return errors.New("a list of strings is expected")
		}
		*list = append(*list, s)
	}
	_, err = d.Token()
	return err
}

// decodeObject reads a JSON object from d and calls field for each name, which must read the value.
// Unlike Decode it tells names apart by case and refuses repeated ones, and it follows no nesting by itself.
func decodeObject(d *json.Decoder, field func(name string) error) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return errors.New("a JSON object is expected")
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return badSpec("%.64q is given twice: keep one", name)
		}
		seen[name] = true
		if err := field(name); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func badSpec(format string, args ...any) error {
	return fmt.Errorf("%w: %s", worker.ErrBadSpec, fmt.Sprintf(format, args...))
}
