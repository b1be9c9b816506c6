package storage_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
)

func ExampleStore() {
	ctx := context.Background()
	store := storage.New(memstore.New(), nil)

	const text = "hello, blob"
	blob := storage.Blob{Digest: sha256.Sum256([]byte(text)), Size: int64(len(text))}
	if err := store.Put(ctx, "web", blob, strings.NewReader(text)); err != nil {
		fmt.Println(err)
		return
	}
	r, err := store.Open(ctx, "web", blob.Digest, 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	fmt.Printf("%s %v\n", data, err)
	// Output: hello, blob <nil>
}

// What arrives is not what was declared, so nothing is stored.
func ExampleStore_Put() {
	ctx := context.Background()
	store := storage.New(memstore.New(), &storage.Options{MaxBlobBytes: 1 << 20})

	blob := storage.Blob{Digest: sha256.Sum256([]byte("expected")), Size: 8}
	err := store.Put(ctx, "web", blob, strings.NewReader("tampered"))
	fmt.Println(errors.Is(err, storage.ErrDigest))

	_, err = store.Stat(ctx, "web", blob.Digest)
	fmt.Println(errors.Is(err, storage.ErrNotFound))

	blob.Size = 1<<20 + 1
	err = store.Put(ctx, "web", blob, nil)
	fmt.Println(errors.Is(err, storage.ErrTooLarge))
	// Output:
	// true
	// true
	// true
}

func ExampleStore_Open_range() {
	ctx := context.Background()
	store := storage.New(memstore.New(), nil)
	blob := put(store, "web", "0123456789")

	// A range that reaches beyond the end is cut there.
	r, err := store.Open(ctx, "web", blob.Digest, 6, 100)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	fmt.Printf("%s %v\n", data, err)
	// Output: 6789 <nil>
}

// A download with ranges, conditions and, from a filestore, without copying.
func ExampleStore_OpenSeeker() {
	store := storage.New(memstore.New(), nil)
	blob := put(store, "web", "0123456789")

	download := func(w http.ResponseWriter, r *http.Request) {
		content, err := store.OpenSeeker(r.Context(), "web", blob.Digest)
		if err != nil {
			http.Error(w, "no such artifact", http.StatusNotFound)
			return
		}
		defer content.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"`+blob.Digest.String()+`"`)
		http.ServeContent(w, r, "", time.Time{}, content)
	}

	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("Range", "bytes=-3")
	response := httptest.NewRecorder()
	download(response, request)
	fmt.Println(response.Code, response.Header().Get("Content-Range"), response.Body)
	// Output: 206 bytes 7-9/10 789
}

func ExampleStore_Stat() {
	store := storage.New(memstore.New(), nil)
	blob := put(store, "web", "some bytes")

	info, err := store.Stat(context.Background(), "web", blob.Digest)
	fmt.Println(info.Key, info.Size, err)
	// Output: web/0d/0d22cdcc10e6d049dbe1af5123d50873fdfc1a4f58306e58cb6241be9472014d 10 <nil>
}

func ExampleStore_Delete() {
	ctx := context.Background()
	store := storage.New(memstore.New(), nil)
	blob := put(store, "web", "some bytes")

	fmt.Println(store.Delete(ctx, "web", blob.Digest))
	fmt.Println(store.Delete(ctx, "web", blob.Digest))
	// Output:
	// <nil>
	// <nil>
}

func ExampleStore_List() {
	store := storage.New(memstore.New(), nil)
	put(store, "web", "one")
	put(store, "web", "three")
	put(store, "api", "two")

	var blobs, bytes int64
	for info, err := range store.List(context.Background(), "web") {
		if err != nil {
			fmt.Println(err)
			return
		}
		blobs++
		bytes += info.Size
	}
	fmt.Println(blobs, "blobs,", bytes, "bytes")
	// Output: 2 blobs, 8 bytes
}

func ExampleStore_All() {
	store := storage.New(memstore.New(), nil)
	put(store, "web", "one")
	put(store, "api", "one")

	for info, err := range store.All(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(info.Key.Project(), info.Size)
	}
	// Output:
	// api 3
	// web 3
}

func ExampleStore_Ping() {
	store := storage.New(memstore.New(), nil)
	readyz := func(w http.ResponseWriter, r *http.Request) {
		if err := store.Ping(r.Context()); err != nil {
			http.Error(w, "storage is not available", http.StatusServiceUnavailable)
		}
	}
	response := httptest.NewRecorder()
	readyz(response, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	fmt.Println(response.Code)
	// Output: 200
}

func ExampleError() {
	store := storage.New(memstore.New(), nil)
	_, err := store.Stat(context.Background(), "web", storage.Digest{})
	if e, ok := errors.AsType[*storage.Error](err); ok {
		fmt.Println(e.Op, e.Key[:7], e.Err)
	}
	// Output: stat web/00/ blob not found
}

func ExampleParseDigest() {
	_, err := storage.ParseDigest("../../etc/passwd")
	fmt.Println(errors.Is(err, storage.ErrInvalid))
	// Output: true
}

func ExampleNewKey() {
	key, err := storage.NewKey("web", sha256.Sum256([]byte("hello")))
	fmt.Println(key, err)
	_, err = storage.NewKey("../web", storage.Digest{})
	fmt.Println(errors.Is(err, storage.ErrInvalid))
	// Output:
	// web/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 <nil>
	// true
}

func put(store *storage.Store, project, text string) storage.Blob {
	blob := storage.Blob{Digest: sha256.Sum256([]byte(text)), Size: int64(len(text))}
	if err := store.Put(context.Background(), project, blob, strings.NewReader(text)); err != nil {
		fmt.Println(err)
	}
	return blob
}
