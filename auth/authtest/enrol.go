package authtest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/slipway-build/slipway/auth"
)

// enroller is good for so many workers until a time.
func enroller(n, uses int, expires time.Time) auth.Record {
	r := auth.Record{Key: auth.Key{
		ID: id(n), Kind: auth.KindEnrol, Name: "a rack", Role: auth.Enroller, Pools: []string{"linux", "mac"}, Worker: "rack-*",
		Uses: uses, CreatedAt: epoch, ExpiresAt: expires,
	}}
	r.Hash[0], r.Hash[1] = byte(n), 0xee
	return r
}

// enrolled is what is asked of the enroller with the id by: the key with the n-th id and hash.
func enrolled(n, by int, worker string) auth.Record {
	r := auth.Record{Key: auth.Key{ID: id(n), Kind: auth.KindWorker, Name: "worker " + worker, Role: auth.Worker, Worker: worker, EnrolledBy: id(by)}}
	r.Hash[0], r.Hash[31] = byte(n), 0xcc
	return r
}

func (s *suite) now() time.Time {
	s.Helper()
	t, err := s.b.Now(s.ctx)
	if err != nil {
		s.Fatalf("Now() = %v", err)
	}
	return t
}

func (s *suite) enrol(r auth.Record) auth.Key {
	s.Helper()
	key, err := s.b.Enrol(s.ctx, r)
	if err != nil {
		s.Fatalf("Enrol(%s) = %v", r.ID, err)
	}
	return key
}

func (s *suite) refused(what string, r auth.Record, want error) {
	s.Helper()
	key, err := s.b.Enrol(s.ctx, r)
	s.wantErr("Enrol: "+what, err, want)
	s.want("key of an error: "+what, key, auth.Key{})
}

func now(s *suite) {
	first := s.now()
	s.want("location", first.Location(), time.UTC)
	s.want("microseconds", first.Nanosecond()%1000, 0)
	for deadline := time.Now().Add(deadline); !s.now().After(first); {
		if time.Now().After(deadline) {
			s.Fatalf("the clock stands at %v", first)
		}
	}
}

func enrol(s *suite) {
	token := enroller(1, 2, s.now().Add(time.Hour))
	s.insert(token)
	before := s.now()
	asked := enrolled(2, 1, "rack-7")
	asked.Pools, asked.CreatedAt = []string{"other"}, epoch
	got := s.enrol(asked)
	if got.CreatedAt.Before(before.Truncate(time.Millisecond)) || got.CreatedAt.After(s.now()) {
		s.Errorf("CreatedAt is %v, and it was made after %v", got.CreatedAt, before)
	}
	want := asked
	want.Pools, want.CreatedAt = token.Pools, got.CreatedAt
	s.want("returned", got, want.Key)
	s.want("stored", s.lookup(want.ID), want)
	s.want("enroller", s.lookup(token.ID), token)
	s.enrol(enrolled(3, 1, "rack-8"))
	s.want("keys", s.ids(auth.Filter{Limit: 10}), []string{id(3), id(2), id(1)})
}

func enrolAgain(s *suite) {
	s.insert(enroller(1, 1, s.now().Add(time.Hour)))
	first := s.enrol(enrolled(2, 1, "rack-7"))
	again := enrolled(2, 1, "rack-7")
	again.ID = id(3)
	s.want("again", s.enrol(again), first)
	s.wantErr("Revoke of the enroller", s.b.Revoke(s.ctx, id(1), epoch), nil)
	s.want("after the enroller's end", s.enrol(again), first)
	s.want("keys", s.ids(auth.Filter{Limit: 10}), []string{id(2), id(1)})
	s.wantErr("Revoke", s.b.Revoke(s.ctx, id(2), epoch), nil)
	s.refused("after the key's revocation", again, auth.ErrNotFound)

	s.insert(enroller(4, 2, s.now().Add(time.Hour)))
	s.enrol(enrolled(5, 4, "rack-8"))
	s.wantErr("Revoke", s.b.Revoke(s.ctx, id(5), epoch), nil)
	again = enrolled(5, 4, "rack-8")
	again.ID = id(6)
	s.want("a new key, since the first was revoked", s.enrol(again).ID, id(6))
}

func enrolRefused(s *suite) {
	good := s.now().Add(time.Hour)
	revoked := enroller(3, 1, good)
	revoked.RevokedAt = epoch
	other := submitter(4, "web")
	s.insert(enroller(1, 1, s.now()), enroller(2, 1, good), revoked, other)
	s.enrol(enrolled(5, 2, "rack-1"))
	s.wantErr("Revoke", s.b.Revoke(s.ctx, id(5), epoch), nil)
	for what, by := range map[string]int{"expired": 1, "used up, though what it made is revoked": 2, "revoked": 3, "no enroller": 4, "a worker": 5, "unknown": 9} {
		s.refused(what, enrolled(6, by, "rack-7"), auth.ErrNotFound)
	}
	s.want("keys", s.ids(auth.Filter{Limit: 10}), []string{id(5), id(4), id(3), id(2), id(1)})
}

func enrolTaken(s *suite) {
	byHand := enrolled(1, 0, "rack-1")
	byHand.EnrolledBy, byHand.Pools, byHand.CreatedAt = "", []string{"linux"}, epoch
	expired := enrolled(2, 0, "rack-2")
	expired.EnrolledBy, expired.Pools, expired.CreatedAt, expired.ExpiresAt = "", []string{"linux"}, epoch, s.now()
	exact := enroller(5, 9, s.now().Add(time.Hour))
	exact.Worker = "rack-3" // which is the name of no worker yet
	s.insert(byHand, expired, enroller(3, 9, s.now().Add(time.Hour)), enroller(4, 9, s.now().Add(time.Hour)), exact)

	s.refused("a worker with a key", enrolled(10, 3, "rack-1"), auth.ErrTaken)
	s.enrol(enrolled(11, 3, "rack-2"))
	s.enrol(enrolled(12, 5, "rack-3"))
	s.refused("a worker that was enrolled", enrolled(13, 3, "rack-3"), auth.ErrTaken)
	s.refused("a worker that was enrolled by another", enrolled(13, 4, "rack-3"), auth.ErrTaken)
	reused := enrolled(11, 3, "rack-4")
	reused.ID = id(14)
	s.refused("a hash that was enrolled for another worker", reused, auth.ErrTaken)
	s.refused("an id that is taken", enrolled(12, 4, "rack-5"), auth.ErrConflict)
	s.wantErr("Revoke", s.b.Revoke(s.ctx, id(1), epoch), nil)
	s.enrol(enrolled(15, 4, "rack-1"))
	s.want("keys", s.ids(auth.Filter{Limit: 20}), []string{id(15), id(12), id(11), id(5), id(4), id(3), id(2), id(1)})
}

// rounds is how often rivals meet: not each time at the same moment.
const rounds = 8

// rivals enrols so many at once, by what ask returns, and returns the keys of those that succeed. The others must fail by want.
func (s *suite) rivals(n int, want error, ask func(i int) auth.Record) []auth.Key {
	s.Helper()
	keys, errs := make([]auth.Key, n), make([]error, n)
	var wg, ready sync.WaitGroup
	ready.Add(n)
	for i := range n {
		wg.Go(func() {
			_, errs[i] = s.b.Now(s.ctx) // which opens a connection, if one is needed
			ready.Done()
			ready.Wait()
			if errs[i] == nil {
				keys[i], errs[i] = s.b.Enrol(s.ctx, ask(i))
			}
		})
	}
	wg.Wait()
	var won []auth.Key
	for i, err := range errs {
		switch {
		case err == nil:
			won = append(won, keys[i])
		case !errors.Is(err, want):
			s.Errorf("rival %d: error = %v, want %v", i, err, want)
		}
	}
	return won
}

func concurrentEnrol(s *suite) {
	for round := range rounds {
		token, uses, first := 10+round, 1+2*(round%2), 100*(round+1)
		s.insert(enroller(token, uses, s.now().Add(time.Hour)))
		won := s.rivals(12, auth.ErrNotFound, func(i int) auth.Record { return enrolled(first+i, token, fmt.Sprint("rack-", first+i)) })
		s.want(fmt.Sprintf("keys of %d uses", uses), len(won), uses)
		stored := 0
		for _, k := range s.list(auth.Filter{Limit: 100, Role: auth.Worker}) {
			if k.EnrolledBy == id(token) {
				stored++
			}
		}
		s.want(fmt.Sprintf("stored for %d uses", uses), stored, uses)
	}
}

func concurrentEnrolAgain(s *suite) {
	for round := range rounds {
		s.insert(enroller(round, 2, s.now().Add(time.Hour)))
		won := s.rivals(12, nil, func(i int) auth.Record {
			r := enrolled(round, round, fmt.Sprint("rack-", round))
			r.ID = id(100*(round+1) + i)
			return r
		})
		for _, key := range won {
			s.want("key", key, won[0])
		}
		s.want("stored", len(s.ids(auth.Filter{Limit: 100, Role: auth.Worker})), round+1)
	}
}

func concurrentEnrolTaken(s *suite) {
	const rivals = 12
	for i := range rivals {
		s.insert(enroller(1+i, rounds+1, s.now().Add(time.Hour)))
	}
	for round := range rounds {
		first := 100 * (round + 1)
		won := s.rivals(rivals, auth.ErrTaken, func(i int) auth.Record { return enrolled(first+i, 1+i, fmt.Sprint("rack-", round)) })
		s.want("keys", len(won), 1)
		s.want("stored", len(s.ids(auth.Filter{Limit: 100, Role: auth.Worker})), round+1)
	}
}
