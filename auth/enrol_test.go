package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
)

var rack = auth.NewKey{Name: "a rack", Role: auth.Enroller, Worker: "rack-*", Pools: []string{"linux", "mac"}, Uses: 2}

func TestEnrol(t *testing.T) {
	ctx := t.Context()
	keys := newKeys(t, memauth.New(), nil)
	token, text := create(t, keys, rack)
	if !strings.HasPrefix(text, "slw_enrol_"+token.ID+"_") || token.Kind != auth.KindEnrol || token.Uses != 2 ||
		token.ExpiresAt.Sub(token.CreatedAt) != auth.DefaultEnrolment {
		t.Errorf("the token is %+v", token)
	}
	draft := auth.NewDraft()
	key, err := keys.Enrol(ctx, text, auth.Enrolment{Worker: "rack-7", Hash: draft.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	if key.Kind != auth.KindWorker || key.Name != "worker rack-7" || key.EnrolledBy != token.ID || !key.ExpiresAt.IsZero() {
		t.Errorf("enrolled %+v", key)
	}
	credential, err := draft.Key(key.ID)
	if err != nil {
		t.Fatal(err)
	}
	p, err := keys.Authenticate(ctx, credential.Reveal())
	if err != nil || p.Worker != "rack-7" || p.Role != auth.Worker || !p.UsesPool("mac") || p.UsesPool("default") {
		t.Errorf("the worker is %+v, %v", p, err)
	}

	// The answer was lost, and the process with it: what was kept of the draft comes to the same key.
	kept, err := auth.ParseDraft(draft.Text().Reveal())
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.Enrol(ctx, text, auth.Enrolment{Worker: "rack-7", Hash: kept.Hash()})
	if err != nil || again.ID != key.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	if same, err := kept.Key(again.ID); err != nil || same.Reveal() != credential.Reveal() {
		t.Errorf("the draft that was kept is another: %v", err)
	}
	tokens, err := keys.List(ctx, auth.Filter{Role: auth.Enroller})
	if err != nil || len(tokens) != 1 || tokens[0].LastUsedAt.IsZero() {
		t.Errorf("the tokens are %+v, %v", tokens, err)
	}
}

func TestEnrolRefuses(t *testing.T) {
	ctx := t.Context()
	b := memauth.New()
	keys := newKeys(t, b, &auth.Options{AdminKey: auth.NewSecret(adminKey)})
	token := func(change func(*auth.NewKey)) (auth.Key, string) {
		n := rack
		if change != nil {
			change(&n)
		}
		return create(t, keys, n)
	}
	enrol := func(text, worker string) error {
		_, err := keys.Enrol(ctx, text, auth.Enrolment{Worker: worker, Hash: auth.NewDraft().Hash()})
		return err
	}
	_, good := token(nil)
	_, used := token(func(n *auth.NewKey) { n.Uses = 0 }) // which means one
	if err := enrol(used, "rack-1"); err != nil {
		t.Fatal(err)
	}
	_, expired := token(func(n *auth.NewKey) { n.Lifetime = time.Microsecond })
	gone, revoked := token(nil)
	if err := keys.Revoke(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	_, exact := token(func(n *auth.NewKey) { n.Worker = "rack-9" })
	_, any := token(func(n *auth.NewKey) { n.Worker = "*" })
	_, foreign := create(t, newKeys(t, memauth.New(), nil), rack)
	_, workers := create(t, keys, worker)
	_, submitters := create(t, keys, submitter)
	for name, tt := range map[string]struct {
		text, worker string
		want         error
	}{
		"nothing":             {"", "rack-2", auth.ErrUnauthenticated},
		"the admin key":       {adminKey, "rack-2", auth.ErrUnauthenticated},
		"a worker's key":      {workers, "rack-2", auth.ErrUnauthenticated},
		"a submitter's key":   {submitters, "rack-2", auth.ErrUnauthenticated},
		"a key in disguise":   {strings.Replace(workers, "slw_worker", "slw_enrol", 1), "rack-2", auth.ErrUnauthenticated},
		"unknown":             {foreign, "rack-2", auth.ErrUnauthenticated},
		"mistyped":            {good[:len(good)-1] + "!", "rack-2", auth.ErrUnauthenticated},
		"secret of another":   {good[:strings.LastIndex(good, "_")] + used[strings.LastIndex(used, "_"):], "rack-2", auth.ErrUnauthenticated},
		"expired":             {expired, "rack-2", auth.ErrUnauthenticated},
		"used up":             {used, "rack-2", auth.ErrUnauthenticated},
		"revoked":             {revoked, "rack-2", auth.ErrUnauthenticated},
		"no name":             {good, "", auth.ErrInvalid},
		"a pattern as a name": {good, "rack-*", auth.ErrInvalid},
		"another name":        {good, "tower-2", auth.ErrForbidden},
		"more than the name":  {exact, "rack-99", auth.ErrForbidden},
		"less than the name":  {exact, "rack", auth.ErrForbidden},
		"a name that is had":  {good, "rack-7", auth.ErrTaken},
		"a name of its own":   {exact, "rack-9", nil},
		"any name":            {any, "tower-2", nil},
		"a name of many":      {good, "rack-", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := enrol(tt.text, tt.worker); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
	for _, text := range []string{good, used} {
		if p, err := keys.Authenticate(ctx, text); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("a token is taken for the key of %+v, %v", p, err)
		}
	}
	down := newKeys(t, oneRecord{b, auth.Record{}, errors.New("down")}, nil)
	if _, err := down.Enrol(ctx, good, auth.Enrolment{Worker: "rack-3"}); err == nil || errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("a store that is down: error = %v", err)
	}
}

func TestCreateRefusesEnroller(t *testing.T) {
	keys := newKeys(t, memauth.New(), nil)
	for name, spoil := range map[string]func(*auth.NewKey){
		"no pattern":        func(n *auth.NewKey) { n.Worker = "" },
		"a bad name":        func(n *auth.NewKey) { n.Worker = "a/b" },
		"a bad beginning":   func(n *auth.NewKey) { n.Worker = "../*" },
		"two stars":         func(n *auth.NewKey) { n.Worker = "a**" },
		"a star within":     func(n *auth.NewKey) { n.Worker = "a*b" },
		"a long pattern":    func(n *auth.NewKey) { n.Worker = strings.Repeat("a", auth.MaxName) + "*" },
		"no pools":          func(n *auth.NewKey) { n.Pools = nil },
		"a project":         func(n *auth.NewKey) { n.Project = "web" },
		"too many uses":     func(n *auth.NewKey) { n.Uses = auth.MaxUses + 1 },
		"negative uses":     func(n *auth.NewKey) { n.Uses = -1 },
		"uses of a worker":  func(n *auth.NewKey) { n.Role, n.Worker = auth.Worker, "rack-7" },
		"pattern of worker": func(n *auth.NewKey) { n.Role, n.Uses = auth.Worker, 0 },
	} {
		n := rack
		spoil(&n)
		if _, _, err := keys.Create(t.Context(), n); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%s: error = %v, want ErrInvalid", name, err)
		}
	}
}

func TestDraft(t *testing.T) {
	draft, other := auth.NewDraft(), auth.NewDraft()
	if draft.Hash() == other.Hash() {
		t.Error("two drafts have one secret")
	}
	text := draft.Text().Reveal()
	_, api := create(t, newKeys(t, memauth.New(), nil), submitter)
	for _, bad := range []string{"", "slw", text[1:], text + "0", strings.Replace(text, "draft", "other", 1), api} {
		if _, err := auth.ParseDraft(bad); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("ParseDraft of another text: error = %v, want ErrInvalid", err)
		}
	}
	const id = "0123456789abcdefghijklmn"
	for _, bad := range []string{"", id + "o", strings.ToUpper(id), "../" + id[3:]} {
		if _, err := draft.Key(bad); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("Key(%q): error = %v, want ErrInvalid", bad, err)
		}
	}
	if _, err := (auth.Draft{}).Key(id); !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("Key of the zero Draft: error = %v, want ErrInvalid", err)
	}
	if key, err := draft.Key(id); err != nil || !strings.HasPrefix(key.Reveal(), "slw_worker_"+id+"_") {
		t.Errorf("Key(%q): %v", id, err)
	}
}
