package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/slipway-build/slipway/storage"
)

var listCases = []testCase{
	{"ListOrder", "List returns the blobs of a page in the order of Key.Compare", listOrder},
	{"ListPages", "a result shorter than the limit is the last; every blob is in a listing exactly once", listPages},
	{"ListWhileDeleting", "blobs that are neither put nor deleted while a listing goes on are in it exactly once", listWhileDeleting},
	{"ListEmpty", "a listing of nothing is empty, and no error", listEmpty},
	{"ListLong", "a Store lists any number of blobs", listLong},
}

var otherCases = []testCase{
	{"Absent", "an absent blob is ErrNotFound", absent},
	{"Delete", "Delete removes a blob; that it was not there is no error", deletes},
	{"Ping", "Ping returns nil if reading and writing would work", pings},
}

// Some of these sort differently with and without the slash of the key.
var projectNames = []string{"a", "a-b", "a.b", "a0", "ab", "0", "z_9", "x23456789012345678901234567890123456789012345678901234567890123"}

func (s subject) fill(t *testing.T) []storage.Key {
	t.Helper()
	var keys []storage.Key
	for _, name := range projectNames {
		for i := range 7 {
			keys = append(keys, s.put(t, name, content(i, 10)))
		}
	}
	slices.SortFunc(keys, storage.Key.Compare)
	return keys
}

// pages lists by pages of limit and checks their lengths.
func (s subject) pages(t *testing.T, project string, limit int) []storage.Key {
	t.Helper()
	var all []storage.Key
	page := storage.Page{Project: project, Limit: limit}
	for range 1000 {
		infos, err := s.List(t.Context(), page)
		if err != nil {
			t.Fatalf("List(%+v): %v", page, err)
		}
		if len(infos) > limit {
			t.Fatalf("List(%+v) returned %d blobs", page, len(infos))
		}
		all = append(all, keysOf(infos)...)
		if len(infos) < limit {
			return all
		}
		page.After = all[len(all)-1]
	}
	t.Fatalf("a listing of few blobs by pages of %d does not end", limit)
	return nil
}

func listOrder(t *testing.T, s subject) {
	keys := s.fill(t)
	infos, err := s.List(t.Context(), storage.Page{Limit: 1000})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	if got := keysOf(infos); !slices.Equal(got, keys) {
		t.Errorf("List = %v\nwant %v", got, keys)
	}
	for i, info := range infos {
		if stat, err := s.Stat(t.Context(), info.Key); err != nil || stat.Size != info.Size {
			t.Errorf("blob %d is listed with %d bytes, Stat = %d, %v", i, info.Size, stat.Size, err)
		}
	}
}

func listPages(t *testing.T, s subject) {
	keys := s.fill(t)
	for _, limit := range []int{1, 2, 7, 8, len(keys) - 1, len(keys), len(keys) + 1} {
		if got := s.pages(t, "", limit); !slices.Equal(got, keys) {
			t.Errorf("all projects by pages of %d: %v\nwant %v", limit, got, keys)
		}
		for _, name := range projectNames {
			want := slices.Clone(keys)
			want = slices.DeleteFunc(want, func(k storage.Key) bool { return k.Project() != name })
			if got := s.pages(t, name, limit); !slices.Equal(got, want) {
				t.Errorf("project %s by pages of %d: %v\nwant %v", name, limit, got, want)
			}
		}
	}
}

func listWhileDeleting(t *testing.T, s subject) {
	keys := s.fill(t)
	page := storage.Page{Limit: 3}
	var seen []storage.Key
	for len(seen) < len(keys) {
		infos, err := s.List(t.Context(), page)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if len(infos) == 0 {
			break
		}
		for _, key := range keysOf(infos) {
			seen = append(seen, key)
			page.After = key
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatalf("Delete: %v", err)
			}
		}
	}
	if !slices.Equal(seen, keys) {
		t.Errorf("listed while deleting: %v\nwant %v", seen, keys)
	}
	if rest := s.pages(t, "", 10); len(rest) > 0 {
		t.Errorf("left after deleting all: %v", rest)
	}
}

func listEmpty(t *testing.T, s subject) {
	for _, name := range []string{"", "nobody"} {
		if got := s.pages(t, name, 10); len(got) > 0 {
			t.Errorf("List of %q = %v, want nothing", name, got)
		}
	}
	key := s.put(t, "somebody", content(1, 1))
	if got := s.pages(t, "nobody", 10); len(got) > 0 {
		t.Errorf("List = %v, want nothing", got)
	}
	infos, err := s.List(t.Context(), storage.Page{Project: "somebody", After: key, Limit: 10})
	if err != nil || len(infos) > 0 {
		t.Errorf("List after the last key = %v, %v; want nothing", infos, err)
	}
}

func listLong(t *testing.T, s subject) {
	const n = 1003 // more than a Store asks for at once
	for i := range n {
		s.put(t, project, fmt.Appendf(nil, "%d", i))
	}
	got := make(map[storage.Key]int)
	for info, err := range s.store.List(t.Context(), project) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		got[info.Key]++
	}
	if len(got) != n {
		t.Errorf("listed %d blobs, want %d", len(got), n)
	}
	for key, times := range got {
		if times != 1 {
			t.Errorf("%v listed %d times", key, times)
		}
	}
}

func absent(t *testing.T, s subject) {
	s.absent(t, mustKey(t, project, describe(nil).Digest))
	s.put(t, project, content(1, 10))
	s.absent(t, mustKey(t, project, describe(nil).Digest))
	_, err := s.store.Open(t.Context(), project, describe(nil).Digest, 0, -1)
	if !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Open through a Store: %v, want ErrNotFound", err)
	}
}

func deletes(t *testing.T, s subject) {
	data := content(1, 1000)
	for range 3 {
		key := s.put(t, project, data)
		s.present(t, key, data)
		for range 2 {
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatalf("Delete: %v", err)
			}
			s.absent(t, key)
		}
	}
}

func pings(t *testing.T, s subject) {
	if err := s.store.Ping(t.Context()); err != nil {
		t.Errorf("Ping of an empty backend: %v", err)
	}
	key := s.put(t, project, content(1, 10))
	if err := s.store.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	s.present(t, key, content(1, 10))
}
