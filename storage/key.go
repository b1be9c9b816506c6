package storage

import (
	"fmt"
	"strings"
)

const maxProjectLen = 63

// Key names a blob within a project. Only NewKey and ParseKey make a valid one,
// so whoever holds a Key other than the zero Key may use its parts as names of
// files or objects. Keys are comparable with ==.
//
// A project name has 1 to 63 bytes of a-z, 0-9, '.', '_' and '-', begins with
// a letter or digit, and holds no "..".
type Key struct {
	project string
	digest  Digest
}

// NewKey returns the key of digest d in project, or ErrInvalid if project is
// not a valid name.
func NewKey(project string, d Digest) (Key, error) {
	if err := checkProject(project); err != nil {
		return Key{}, err
	}
	return Key{project: project, digest: d}, nil
}

// ParseKey reads the form of Key.String. Any other input is ErrInvalid.
func ParseKey(s string) (Key, error) {
	project, rest, _ := strings.Cut(s, "/")
	shard, name, _ := strings.Cut(rest, "/")
	d, err := ParseDigest(name)
	if err != nil {
		return Key{}, err
	}
	if shard != name[:2] {
		return Key{}, fmt.Errorf("%w: key %.160q: the middle part must repeat the first two digits of the digest", ErrInvalid, s)
	}
	return NewKey(project, d)
}

// Project returns the name of the project.
func (k Key) Project() string { return k.project }

// Digest returns the digest.
func (k Key) Digest() Digest { return k.digest }

// String returns the slash path "<project>/<2 hex>/<64 hex>", where the two
// digits are the first of the digest. The zero Key is the empty string.
func (k Key) String() string {
	if k.project == "" {
		return ""
	}
	name := k.digest.String()
	return k.project + "/" + name[:2] + "/" + name
}

// Compare orders keys by the bytes of their strings: negative if k comes before
// other. The zero Key comes before all others.
func (k Key) Compare(other Key) int { return strings.Compare(k.String(), other.String()) }

func checkProject(name string) error {
	valid := len(name) > 0 && len(name) <= maxProjectLen && !strings.Contains(name, "..")
	for i := 0; valid && i < len(name); i++ {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '.', c == '_', c == '-':
			valid = i > 0
		default:
			valid = false
		}
	}
	if !valid {
		return fmt.Errorf("%w: project name %.80q: want 1 to %d of a-z 0-9 . _ - beginning with a letter or digit, without two dots in a row",
			ErrInvalid, name, maxProjectLen)
	}
	return nil
}
