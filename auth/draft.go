package auth

import "github.com/slipway-build/slipway/internal/token"

// kindDraft is the first field of a draft's text.
const kindDraft = "draft"

// A Draft is a key in the making: its owner has made the secret, and the service
// that is going to accept it, see [Keys.Enrol], is told only the hash and has yet to
// say which id the key has. So the secret never leaves the machine of its owner.
//
// Keep a draft, as secretly as a key, until the answer has come and the key is kept.
type Draft struct {
	text Secret
	hash [32]byte
}

// NewDraft makes a draft.
func NewDraft() Draft {
	text, hash := token.Issue(kindDraft)
	return Draft{text: NewSecret(text), hash: hash}
}

// ParseDraft returns the draft that has that text. The error is [ErrInvalid] and does
// not hold it.
func ParseDraft(text string) (Draft, error) {
	fields, hash, err := token.Open(text)
	if err != nil || len(fields) != 1 || fields[0] != kindDraft {
		return Draft{}, invalid("draft", "is malformed or mistyped")
	}
	return Draft{text: NewSecret(text), hash: hash}, nil
}

// Text returns the draft's text, which is good for [ParseDraft] and nothing else.
func (d Draft) Text() Secret { return d.text }

// Hash returns the SHA-256 of the secret.
func (d Draft) Hash() [32]byte { return d.hash }

// Key returns the text of the worker's key that has the secret and that id. Errors:
// [ErrInvalid], also for the zero Draft.
func (d Draft) Key(id string) (Secret, error) {
	if !validID(id) {
		return Secret{}, invalid("id", "must be the id of a key")
	}
	text, err := token.Move(d.text.Reveal(), string(KindWorker), id)
	if err != nil {
		return Secret{}, invalid("draft", "is malformed or mistyped")
	}
	return NewSecret(text), nil
}
