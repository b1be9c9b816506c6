package queue

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names and labels.
const (
	// MaxName is the largest length of a project, pool or worker name, in bytes.
	MaxName = 63
	// MaxLabels is the largest number of labels of a build or a worker.
	MaxLabels = 32
	// MaxLabelKey and MaxLabelValue are the largest lengths of a label's two parts, in bytes.
	MaxLabelKey   = 63
	MaxLabelValue = 63
	// MaxLabelText is the largest length of [Labels.String], in bytes. Backends keep it in an index.
	MaxLabelText = 2000
)

// CheckName returns an error that wraps [ErrInvalid] unless name may name a project, a pool or a worker: 1 to [MaxName] bytes
// of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, without "..". The error calls the name by what.
func CheckName(what, name string) error {
	if name == "" {
		return invalid(what, "must not be empty")
	}
	if len(name) > MaxName {
		return invalid(what, "must be at most %d bytes long", MaxName)
	}
	if !alphanumeric(name[0]) || !all(name, nameByte) || strings.Contains(name, "..") {
		return invalid(what, `must consist of a-z, 0-9, ".", "_" and "-", begin with a letter or digit, and not contain ".."`)
	}
	return nil
}

// Labels are facts about a worker, or what a build requires of one, as key=value pairs.
// A worker fits a build if every label of the build is among its own.
type Labels map[string]string

// ParseLabels reads "key=value" pairs. A key that comes twice is an error, as is whatever [Labels.Check] refuses.
func ParseLabels(pairs ...string) (Labels, error) {
	labels := make(Labels, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, invalid("label", "must have the form key=value")
		}
		if _, twice := labels[key]; twice {
			return nil, invalid("label", "%q is given twice", clip(key))
		}
		labels[key] = value
	}
	if err := labels.Check(); err != nil {
		return nil, err
	}
	return labels, nil
}

// Check returns an error that wraps [ErrInvalid] unless l has at most [MaxLabels] labels, [MaxLabelText] bytes in all, with keys like names that may contain '/',
// and values of at most [MaxLabelValue] letters, digits, '.', '_' and '-'.
func (l Labels) Check() error {
	if len(l) > MaxLabels {
		return invalid("labels", "must be at most %d", MaxLabels)
	}
	for key, value := range l {
		if key == "" || len(key) > MaxLabelKey || !alphanumeric(key[0]) || !all(key, keyByte) {
			return invalid("label key", `must be 1 to %d bytes of a-z, 0-9, ".", "_", "-" and "/", and begin with a letter or digit`, MaxLabelKey)
		}
		if len(value) > MaxLabelValue || !all(value, valueByte) {
			return invalid("label value", `of %q must be at most %d letters, digits, ".", "_" and "-"`, clip(key), MaxLabelValue)
		}
	}
	if len(l.String()) > MaxLabelText {
		return invalid("labels", "must be at most %d bytes in all", MaxLabelText)
	}
	return nil
}

// Satisfies reports whether a worker with labels l fits a build that requires the labels in required.
func (l Labels) Satisfies(required Labels) bool {
	for key, value := range required {
		if have, ok := l[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// String returns the pairs sorted by key, separated by commas: "arch=arm64,os=linux". It is equal for equal labels
// and can be read back with [ParseLabels] after splitting at the commas.
func (l Labels) String() string {
	if len(l) == 0 {
		return "" // which is all that most builds require, and takes longer to find out by sorting than the rest of their checks
	}
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(l)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(key + "=" + l[key])
	}
	return b.String()
}

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func nameByte(c byte) bool     { return alphanumeric(c) || c == '.' || c == '_' || c == '-' }
func keyByte(c byte) bool      { return nameByte(c) || c == '/' }
func visibleByte(c byte) bool  { return '!' <= c && c <= '~' }
func valueByte(c byte) bool    { return nameByte(c) || 'A' <= c && c <= 'Z' }

// clip bounds what an error message repeats of its input.
func clip(s string) string {
	if len(s) > MaxName {
		return s[:MaxName] + "…"
	}
	return s
}

// checkText checks a short text that a user chose and that people read: empty, or at most 200 bytes of printable characters.
func checkText(what, s string) error {
	if len(s) > maxText {
		return invalid(what, "must be at most %d bytes", maxText)
	}
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return invalid(what, "must be printable text")
		}
	}
	return nil
}

// checkMetadata checks that a build's metadata is bounded text that every database can keep.
func checkMetadata(m map[string]string) error {
	var size int
	for key, value := range m {
		if key == "" || !utf8.ValidString(key) || !utf8.ValidString(value) || strings.ContainsRune(key+value, 0) {
			return invalid("metadata", "must have keys, and be UTF-8 without NUL")
		}
		size += len(key) + len(value)
	}
	if size > MaxMetadata {
		return invalid("metadata", "must be at most %d bytes", MaxMetadata)
	}
	return nil
}
