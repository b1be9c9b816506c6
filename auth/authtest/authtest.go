package authtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
)

// deadline bounds each case: a backend that waits for itself fails instead of hanging.
const deadline = 30 * time.Second

// Run checks every sentence of the contract of [auth.Backend], each in a subtest
// on a fresh, empty backend that open returns.
func Run(t *testing.T, open func(t *testing.T) auth.Backend) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			s := &suite{T: t, ctx: ctx, b: open(t)}
			defer func() {
				if t.Failed() {
					t.Logf("the contract: %s", c.contract)
				}
			}()
			c.check(s)
		})
	}
}

var cases = []struct {
	name     string
	contract string
	check    func(*suite)
}{
	{"RoundTrip", "what was inserted is looked up and listed as it was, every field of it", roundTrip},
	{"Unknown", "Lookup and Revoke of an unknown id return ErrNotFound, Touch does nothing, List is empty", unknown},
	{"Conflict", "Insert of a taken id returns ErrConflict and changes nothing", conflict},
	{"ConcurrentInsert", "of several inserts of one id at once exactly one succeeds", concurrentInsert},
	{"Touch", "Touch raises LastUsedAt, and never lowers it", touch},
	{"Revoke", "Revoke sets RevokedAt once: the first revocation stays", revoke},
	{"ConcurrentChanges", "concurrent calls do not undo each other", concurrentChanges},
	{"ListOrder", "List returns keys in descending order of id, Before excluded, at most Limit", listOrder},
	{"ListFilter", "List returns only keys of the project and role asked for, revoked and expired ones included", listFilter},
	{"Ownership", "what a backend was given and returns belongs to the caller", ownership},
	{"Now", "Now returns the store's time, which goes on", now},
	{"Enrol", "Enrol stores a worker's key with the enroller's pools and the store's time, and returns it", enrol},
	{"EnrolAgain", "a key that the enroller has stored for that worker and hash, and that is not revoked, is returned and nothing stored", enrolAgain},
	{"EnrolRefused", "Enrol returns ErrNotFound if the enroller is unknown, expired, revoked or used up", enrolRefused},
	{"EnrolTaken", "Enrol returns ErrTaken if the worker has a good key, or the hash was enrolled for another, and ErrConflict for a taken id", enrolTaken},
	{"ConcurrentEnrol", "of the calls at once for one enroller no more succeed than it has uses", concurrentEnrol},
	{"ConcurrentEnrolAgain", "calls at once for one worker and hash come to one key", concurrentEnrolAgain},
	{"ConcurrentEnrolTaken", "calls at once for one worker, by several enrollers, come to one key", concurrentEnrolTaken},
	{"FrontEnd", "a key that was created through auth.Keys is authenticated until it is revoked", frontEnd},
}

// suite is what a case works with.
type suite struct {
	*testing.T
	ctx context.Context
	b   auth.Backend
}

// epoch is when the records of the suite were made; the microseconds must survive.
var epoch = time.Date(2026, 3, 29, 1, 59, 59, 123_456_000, time.UTC)

// id returns the n-th of a row of ascending ids.
func id(n int) string { return fmt.Sprintf("0%023d", n) }

func submitter(n int, project string) auth.Record {
	r := auth.Record{Key: auth.Key{ID: id(n), Kind: auth.KindAPI, Name: "ci", Role: auth.Submitter, Project: project, CreatedAt: epoch}}
	r.Hash[0], r.Hash[31] = byte(n), 0xff
	return r
}

func (s *suite) insert(records ...auth.Record) {
	s.Helper()
	for _, r := range records {
		r.Pools = slices.Clone(r.Pools)
		if err := s.b.Insert(s.ctx, r); err != nil {
			s.Fatalf("Insert(%s) = %v", r.ID, err)
		}
	}
}

func (s *suite) lookup(id string) auth.Record {
	s.Helper()
	r, err := s.b.Lookup(s.ctx, id)
	if err != nil {
		s.Fatalf("Lookup(%s) = %v", id, err)
	}
	return r
}

func (s *suite) list(f auth.Filter) []auth.Key {
	s.Helper()
	keys, err := s.b.List(s.ctx, f)
	if err != nil {
		s.Fatalf("List(%+v) = %v", f, err)
	}
	return keys
}

func (s *suite) ids(f auth.Filter) []string {
	s.Helper()
	var ids []string
	for _, k := range s.list(f) {
		ids = append(ids, k.ID)
	}
	return ids
}

func (s *suite) want(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func (s *suite) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: error = %v, want %v", what, err, want)
	}
}

func roundTrip(s *suite) {
	worker := auth.Record{Key: auth.Key{
		ID: id(1), Kind: auth.KindWorker, Name: `it's "ünïcode", \ {} ? %s ☂`, Role: auth.Worker,
		Pools: []string{"linux", "a.b_c-1", "mac"}, Worker: "rack-7", CreatedAt: epoch, ExpiresAt: epoch.Add(time.Microsecond),
		RevokedAt: epoch.Add(2 * time.Second), LastUsedAt: epoch.Add(time.Hour),
	}}
	for i := range worker.Hash {
		worker.Hash[i] = byte(255 - i)
	}
	pooled := submitter(2, "web")
	pooled.Pools = []string{"linux"}
	viewer := submitter(3, "web")
	viewer.Role = auth.Viewer
	admin := submitter(4, "")
	admin.Role = auth.Admin
	enroller := enroller(5, 3, epoch.Add(time.Hour))
	records := []auth.Record{worker, pooled, viewer, admin, enroller}
	s.insert(records...)
	for _, want := range records {
		s.want("Lookup", s.lookup(want.ID), want)
	}
	s.want("List", s.list(auth.Filter{Limit: 10}), []auth.Key{enroller.Key, admin.Key, viewer.Key, pooled.Key, worker.Key})
}

func unknown(s *suite) {
	_, err := s.b.Lookup(s.ctx, id(1))
	s.wantErr("Lookup", err, auth.ErrNotFound)
	s.wantErr("Revoke", s.b.Revoke(s.ctx, id(1), epoch), auth.ErrNotFound)
	s.wantErr("Touch", s.b.Touch(s.ctx, id(1), epoch), nil)
	_, err = s.b.Lookup(s.ctx, id(1))
	s.wantErr("Lookup after Touch", err, auth.ErrNotFound)
	s.want("List", len(s.list(auth.Filter{Limit: 10})), 0)
}

func conflict(s *suite) {
	first := submitter(1, "web")
	s.insert(first)
	s.wantErr("second Insert", s.b.Insert(s.ctx, submitter(1, "other")), auth.ErrConflict)
	s.want("record", s.lookup(first.ID), first)
}

func concurrentInsert(s *suite) {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = s.b.Insert(s.ctx, submitter(1, fmt.Sprint("project-", i))) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			s.wantErr("Insert", err, auth.ErrConflict)
		}
	}
	s.want("successful inserts", won, 1)
}

func touch(s *suite) {
	r := submitter(1, "web")
	s.insert(r, submitter(2, "web"))
	for _, step := range []struct{ at, want time.Duration }{{time.Minute, time.Minute}, {time.Second, time.Minute}, {time.Hour, time.Hour}, {time.Hour, time.Hour}} {
		s.wantErr("Touch", s.b.Touch(s.ctx, r.ID, epoch.Add(step.at)), nil)
		s.want("LastUsedAt", s.lookup(r.ID).LastUsedAt, epoch.Add(step.want))
	}
	s.want("another key", s.lookup(id(2)).LastUsedAt, time.Time{})
}

func revoke(s *suite) {
	r := submitter(1, "web")
	s.insert(r, submitter(2, "web"))
	for _, at := range []time.Duration{time.Minute, time.Hour, time.Second} {
		s.wantErr("Revoke", s.b.Revoke(s.ctx, r.ID, epoch.Add(at)), nil)
	}
	r.RevokedAt = epoch.Add(time.Minute)
	s.want("record", s.lookup(r.ID), r)
	s.want("another key", s.lookup(id(2)).RevokedAt, time.Time{})
}

func concurrentChanges(s *suite) {
	want := submitter(1, "web")
	s.insert(want)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := s.b.Touch(s.ctx, want.ID, epoch.Add(time.Duration(i)*time.Second)); err != nil {
				s.Errorf("Touch = %v", err)
			}
			if err := s.b.Revoke(s.ctx, want.ID, epoch); err != nil {
				s.Errorf("Revoke = %v", err)
			}
		})
	}
	wg.Wait()
	want.LastUsedAt, want.RevokedAt = epoch.Add(7*time.Second), epoch
	s.want("record", s.lookup(want.ID), want)
}

func listOrder(s *suite) {
	for _, n := range []int{3, 1, 5, 2, 4} {
		s.insert(submitter(n, "web"))
	}
	s.want("all", s.ids(auth.Filter{Limit: 10}), []string{id(5), id(4), id(3), id(2), id(1)})
	s.want("first page", s.ids(auth.Filter{Limit: 2}), []string{id(5), id(4)})
	s.want("second page", s.ids(auth.Filter{Limit: 2, Before: id(4)}), []string{id(3), id(2)})
	s.want("last page", s.ids(auth.Filter{Limit: 2, Before: id(2)}), []string{id(1)})
	s.want("after the end", len(s.ids(auth.Filter{Limit: 2, Before: id(1)})), 0)
}

func listFilter(s *suite) {
	viewer := submitter(2, "web")
	viewer.Role = auth.Viewer
	revoked := submitter(3, "web")
	revoked.RevokedAt, revoked.ExpiresAt = epoch, epoch
	admin := submitter(5, "")
	admin.Role = auth.Admin
	s.insert(submitter(1, "app"), viewer, revoked, submitter(4, "app"), admin)
	s.want("project", s.ids(auth.Filter{Limit: 10, Project: "web"}), []string{id(3), id(2)})
	s.want("role", s.ids(auth.Filter{Limit: 10, Role: auth.Submitter}), []string{id(4), id(3), id(1)})
	s.want("both", s.ids(auth.Filter{Limit: 10, Project: "app", Role: auth.Submitter, Before: id(4)}), []string{id(1)})
	s.want("neither", len(s.ids(auth.Filter{Limit: 10, Project: "nobody"})), 0)
}

func ownership(s *suite) {
	r := submitter(1, "web")
	r.Pools = []string{"linux"}
	if err := s.b.Insert(s.ctx, r); err != nil {
		s.Fatal(err)
	}
	r.Pools[0] = "changed by the caller of Insert"
	got := s.lookup(r.ID)
	s.want("pools", got.Pools, []string{"linux"})
	got.Pools[0] = "changed by the caller of Lookup"
	listed := s.list(auth.Filter{Limit: 1})
	s.want("pools", listed[0].Pools, []string{"linux"})
	listed[0].Pools[0] = "changed by the caller of List"
	s.want("pools", s.lookup(r.ID).Pools, []string{"linux"})
}

func frontEnd(s *suite) {
	keys, err := auth.New(s.b, nil)
	if err != nil {
		s.Fatal(err)
	}
	key, secret, err := keys.Create(s.ctx, auth.NewKey{Name: "rack", Role: auth.Worker, Worker: "rack-7", Pools: []string{"linux"}, Lifetime: time.Hour})
	if err != nil {
		s.Fatal(err)
	}
	p, err := keys.Authenticate(s.ctx, secret.Reveal())
	if err != nil {
		s.Fatal(err)
	}
	s.want("principal", p, auth.Principal{KeyID: key.ID, Role: auth.Worker, Worker: "rack-7", Pools: []string{"linux"}})
	if s.lookup(key.ID).LastUsedAt.IsZero() {
		s.Error("the use was not noted")
	}
	if err := keys.Revoke(s.ctx, key.ID); err != nil {
		s.Fatal(err)
	}
	_, err = keys.Authenticate(s.ctx, secret.Reveal())
	s.wantErr("Authenticate after Revoke", err, auth.ErrUnauthenticated)
}
