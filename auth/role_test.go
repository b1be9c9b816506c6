package auth_test

import (
	"errors"
	"testing"

	"github.com/slipway-build/slipway/auth"
)

func TestRoles(t *testing.T) {
	permissions := []auth.Permission{auth.Read, auth.Submit, auth.Cancel, auth.Manage, auth.Connect, auth.Enrol, "", "other"}
	want := map[auth.Role]string{
		auth.Admin:     "yyyynn",
		auth.Submitter: "yyynnn",
		auth.Viewer:    "ynnnnn",
		auth.Worker:    "nnnnyn",
		auth.Enroller:  "nnnnny",
		"":             "nnnnnn",
		"root":         "nnnnnn",
	}
	for role, answers := range want {
		for i, p := range permissions {
			allowed := i < len(answers) && answers[i] == 'y'
			if got := role.Can(p); got != allowed {
				t.Errorf("Role(%q).Can(%q) = %t, want %t", role, p, got, allowed)
			}
		}
		if got := role.Valid(); got != (answers != "nnnnnn") {
			t.Errorf("Role(%q).Valid() = %t", role, got)
		}
	}
}

func TestPrincipalScope(t *testing.T) {
	tests := map[string]struct {
		p        auth.Principal
		own      bool // in project web
		foreign  bool // in project app
		linux    bool // uses pool linux
		mac      bool // uses pool mac
		readOwn  error
		readApp  error
		manageIt error
	}{
		"nobody":           {p: auth.Principal{}, readOwn: auth.ErrForbidden, readApp: auth.ErrForbidden, manageIt: auth.ErrForbidden},
		"unknown role":     {p: auth.Principal{Role: "root", Project: "web", Pools: []string{"linux"}}, readOwn: auth.ErrForbidden, readApp: auth.ErrForbidden, manageIt: auth.ErrForbidden},
		"admin":            {p: auth.Principal{Role: auth.Admin}, own: true, foreign: true, linux: true, mac: true},
		"submitter":        {p: auth.Principal{Role: auth.Submitter, Project: "web"}, own: true, linux: true, mac: true, readApp: auth.ErrNotFound, manageIt: auth.ErrForbidden},
		"submitter, pools": {p: auth.Principal{Role: auth.Submitter, Project: "web", Pools: []string{"linux"}}, own: true, linux: true, readApp: auth.ErrNotFound, manageIt: auth.ErrForbidden},
		"submitter of none": {
			p: auth.Principal{Role: auth.Submitter}, linux: true, mac: true,
			readOwn: auth.ErrNotFound, readApp: auth.ErrNotFound, manageIt: auth.ErrForbidden,
		},
		"viewer":          {p: auth.Principal{Role: auth.Viewer, Project: "web"}, own: true, readApp: auth.ErrNotFound, manageIt: auth.ErrForbidden},
		"worker":          {p: auth.Principal{Role: auth.Worker, Worker: "w", Pools: []string{"linux"}}, linux: true, readOwn: auth.ErrForbidden, readApp: auth.ErrForbidden, manageIt: auth.ErrForbidden},
		"worker, no pool": {p: auth.Principal{Role: auth.Worker, Worker: "w"}, readOwn: auth.ErrForbidden, readApp: auth.ErrForbidden, manageIt: auth.ErrForbidden},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				what      string
				got, want bool
			}{
				{`InProject("web")`, tt.p.InProject("web"), tt.own},
				{`InProject("app")`, tt.p.InProject("app"), tt.foreign},
				{`InProject("")`, tt.p.InProject(""), false},
				{`UsesPool("linux")`, tt.p.UsesPool("linux"), tt.linux},
				{`UsesPool("mac")`, tt.p.UsesPool("mac"), tt.mac},
				{`UsesPool("")`, tt.p.UsesPool(""), false},
			} {
				if c.got != c.want {
					t.Errorf("%s = %t, want %t", c.what, c.got, c.want)
				}
			}
			for _, c := range []struct {
				what      string
				got, want error
			}{
				{"read web", tt.p.Authorize(auth.Read, "web"), tt.readOwn},
				{"read app", tt.p.Authorize(auth.Read, "app"), tt.readApp},
				{"manage web", tt.p.Authorize(auth.Manage, "web"), tt.manageIt},
			} {
				if !errors.Is(c.got, c.want) {
					t.Errorf("Authorize: %s = %v, want %v", c.what, c.got, c.want)
				}
			}
		})
	}
}
