package sqlauth_test

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
)

// TestUsedAtOnce looks up many keys at once, some of which there are not, and notes their uses, from two processes: each is found as itself,
// and none is forgotten.
func TestUsedAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, s subject) {
		migrate(t, s.Backend)
		const keys, missing = 100, 20
		created, used := time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_700_000_777, 0).UTC()
		records := make([]auth.Record, keys)
		for i := range records {
			records[i] = auth.Record{Key: auth.Key{
				ID: fmt.Sprintf("%024d", i), Kind: auth.KindWorker, Name: fmt.Sprint("key ", i), Role: auth.Worker,
				Worker: fmt.Sprint("worker-", i), Pools: []string{fmt.Sprint("pool-", i)}, CreatedAt: created,
			}, Hash: [32]byte{byte(i), 1}}
			if err := s.Insert(t.Context(), records[i]); err != nil {
				t.Fatal(err)
			}
		}
		other := s.open()
		for _, change := range []func(i int) error{
			func(i int) error {
				b := s.Backend
				if i%2 == 1 {
					b = other
				}
				found, err := b.Lookup(t.Context(), fmt.Sprintf("%024d", i))
				if i >= keys {
					if !errors.Is(err, auth.ErrNotFound) {
						return fmt.Errorf("key %d, which there is not, is found: %w", i, err)
					}
					return nil
				}
				if err != nil || !reflect.DeepEqual(found, records[i]) {
					return fmt.Errorf("key %d is found as %+v: %w", i, found, err)
				}
				return nil
			},
			func(i int) error { return s.Touch(t.Context(), fmt.Sprintf("%024d", i), used) },
			func(i int) error {
				if found, err := other.Lookup(t.Context(), fmt.Sprintf("%024d", i)); i < keys && (err != nil || !found.LastUsedAt.Equal(used)) {
					return fmt.Errorf("key %d was last used at %v: %w", i, found.LastUsedAt, err)
				}
				return nil
			},
		} {
			var all sync.WaitGroup
			errs := make([]error, keys+missing)
			for i := range errs {
				all.Go(func() { errs[i] = change(i) })
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
	})
}
