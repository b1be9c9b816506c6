package auth

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-build/slipway/internal/token"
)

// A Kind is the second word of a key's text. It tells a reader, human or
// scanner, what has been found.
type Kind string

// The kinds.
const (
	KindAPI    Kind = "api"    // of an admin, submitter or viewer
	KindWorker Kind = "worker" // of a worker
	KindEnrol  Kind = "enrol"  // of an enroller: an enrolment token
)

// Limits of what describes a key.
const (
	// MaxName is the largest length of a project, pool or worker name, in bytes.
	MaxName = 63
	// MaxTitle is the largest length of a key's name, in bytes.
	MaxTitle = 200
	// MaxPools is the largest number of pools of a key.
	MaxPools = 64
	// MaxUses is the largest number of workers that an enroller may enrol.
	MaxUses = 10_000
)

// A Key describes an issued key. It holds no secret.
type Key struct {
	// ID is the public part of the text: 24 characters of 0-9 and a-v. Keys made
	// later have larger ids, to the millisecond.
	ID   string
	Kind Kind
	// Name says what the key is for, to people.
	Name string
	Role Role
	// Project, Pools and Worker are those of [Principal].
	Project string
	Pools   []string
	Worker  string
	// Uses is how many workers an enroller may enrol; zero for other keys. Its Worker
	// is a pattern, and its Pools are those of the workers.
	Uses int
	// EnrolledBy is the id of the enroller that made a worker's key, if one has.
	EnrolledBy string

	// Times are in UTC, to the microsecond; zero means never.
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt time.Time
	// LastUsedAt is up to a minute behind.
	LastUsedAt time.Time
}

func (k Key) principal() Principal {
	return Principal{KeyID: k.ID, Role: k.Role, Project: k.Project, Pools: slices.Clone(k.Pools), Worker: k.Worker}
}

// A NewKey says what key to create.
type NewKey struct {
	// Name says what the key is for, to people: up to [MaxTitle] bytes of printable
	// text. Required.
	Name string
	// Role is required.
	Role Role
	// Project is required for a submitter and a viewer, and empty for others. It
	// consists of 1 to [MaxName] bytes of a-z, 0-9, '.', '_' and '-', begins with a
	// letter or digit and has no "..". Pools and Worker follow the same rule.
	Project string
	// Pools are the pools a submitter may submit to, where none means all that its
	// host grants, or those a worker, or one that is enrolled, serves, at least one.
	// Empty for others.
	Pools []string
	// Worker is the name of the worker, or, for an enroller, of the workers that it
	// may enrol: one name, or what their names begin with followed by "*". Required
	// for these roles and empty for others.
	Worker string
	// Uses is how many workers an enroller may enrol, at most [MaxUses]. Zero means
	// one. Zero for others.
	Uses int
	// Lifetime is how long the key is valid. Zero means until it is revoked, but
	// [DefaultEnrolment] for an enroller.
	Lifetime time.Duration
}

// DefaultEnrolment is how long an enroller is good for if its maker does not say.
const DefaultEnrolment = time.Hour

// check returns an error that wraps [ErrInvalid] unless a key may be made of n.
func (n NewKey) check() error {
	if !n.Role.Valid() {
		return invalid("role", roles)
	}
	if n.Name == "" || len(n.Name) > MaxTitle || !utf8.ValidString(n.Name) || strings.ContainsFunc(n.Name, unprintable) {
		return invalid("name", "must be 1 to %d bytes of printable text", MaxTitle)
	}
	if n.Lifetime < 0 {
		return invalid("lifetime", "must not be negative")
	}
	if err := n.checkScope(); err != nil {
		return err
	}
	if most := n.mostUses(); n.Uses < 0 || n.Uses > most {
		return invalid("uses", "must be 0 to %d for role %s", most, n.Role)
	}
	if len(n.Pools) > MaxPools {
		return invalid("pools", "must be at most %d", MaxPools)
	}
	for i, pool := range n.Pools {
		if err := checkName("pool", pool); err != nil {
			return err
		}
		if slices.Contains(n.Pools[:i], pool) {
			return invalid("pools", "must not name a pool twice")
		}
	}
	return nil
}

func (n NewKey) mostUses() int {
	if n.Role == Enroller {
		return MaxUses
	}
	return 0
}

// checkScope compares project, pools and worker with what the role needs.
func (n NewKey) checkScope() error {
	inProject := n.Role == Submitter || n.Role == Viewer
	isWorker := n.Role == Worker || n.Role == Enroller
	switch {
	case !inProject && n.Project != "":
		return invalid("project", "must be empty for role %s", n.Role)
	case !isWorker && n.Worker != "":
		return invalid("worker", "must be empty for role %s", n.Role)
	case isWorker && len(n.Pools) == 0:
		return invalid("pools", "must name at least one pool for role %s", n.Role)
	case !isWorker && n.Role != Submitter && len(n.Pools) > 0:
		return invalid("pools", "must be empty for role %s", n.Role)
	case inProject:
		return checkName("project", n.Project)
	case n.Role == Enroller:
		return checkPattern(n.Worker)
	case isWorker:
		return checkName("worker", n.Worker)
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func checkName(what, name string) error {
	const first = "abcdefghijklmnopqrstuvwxyz0123456789"
	if name == "" || len(name) > MaxName || !strings.Contains(first, name[:1]) ||
		strings.Trim(name, first+"._-") != "" || strings.Contains(name, "..") {
		return invalid(what, `must be 1 to %d bytes of a-z, 0-9, ".", "_" and "-", begin with a letter or digit, and not contain ".."`, MaxName)
	}
	return nil
}

// checkPattern holds the names that an enroller is for against their rule.
func checkPattern(pattern string) error {
	begin, open := strings.CutSuffix(pattern, "*")
	if !open {
		return checkName("worker", pattern)
	}
	if begin != "" && checkName("worker", begin) != nil || len(pattern) > MaxName {
		return invalid("worker", `must be a name, or the beginning of one, followed by "*", of at most %d bytes`, MaxName)
	}
	return nil
}

// matches reports whether a worker's name is one that an enroller is for.
func matches(pattern, worker string) bool {
	begin, open := strings.CutSuffix(pattern, "*")
	return worker == pattern || open && strings.HasPrefix(worker, begin)
}

// idEncoding keeps the order of the bytes it encodes.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

const idLen = 24

// newID returns the milliseconds of now in 48 bits and 72 random ones.
func newID(now time.Time) string {
	var b [15]byte
	rand.Read(b[6:])
	binary.BigEndian.PutUint16(b[0:], uint16(now.UnixMilli()>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(now.UnixMilli()))
	return idEncoding.EncodeToString(b[:])
}

func validID(id string) bool {
	return len(id) == idLen && strings.Trim(id, "0123456789abcdefghijklmnopqrstuv") == ""
}

// parseKey takes a presented text apart. It fails for whatever [Keys.Create]
// cannot have made.
func parseKey(text string) (kind Kind, id string, hash [32]byte, ok bool) {
	fields, hash, err := token.Open(text)
	if err != nil || len(fields) != 2 || !validID(fields[1]) {
		return "", "", [32]byte{}, false
	}
	kind = Kind(fields[0])
	if kind != KindAPI && kind != KindWorker && kind != KindEnrol {
		return "", "", [32]byte{}, false
	}
	return kind, fields[1], hash, true
}
