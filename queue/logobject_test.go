package queue

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// sampleLog returns a log of a size whose lines are of many lengths.
func sampleLog(size int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	var b bytes.Buffer
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintf(&b, "%d %x\n", n, make([]byte, r.IntN(120)))
	}
	return b.Bytes()[:size]
}

func TestLogObjectIsGzip(t *testing.T) {
	log := sampleLog(3*minBlock + 17)
	object, err := packLog(bytes.NewReader(log), int64(len(log)))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, log) {
		t.Errorf("gunzip: %d bytes, error %v; want the log's %d", len(got), err, len(log))
	}
}

func TestLogObjectRanges(t *testing.T) {
	for _, size := range []int{1, minBlock - 1, minBlock, minBlock + 1, 5*minBlock + 321} {
		log := sampleLog(size)
		object, err := packLog(bytes.NewReader(log), int64(size))
		if err != nil {
			t.Fatal(err)
		}
		index, err := parseIndex(object[:min(len(object), maxIndex)])
		if err != nil {
			t.Fatal(err)
		}
		for _, offset := range []int{0, 1, size / 2, minBlock - 1, minBlock, 2*minBlock - 1, size - 1, size, size + 1} {
			for _, max := range []int{1, 100, minBlock, 3 * minBlock} {
				want := log[min(offset, size):min(offset+max, size)]
				part := index.part(int64(offset), int64(max))
				if whole := int64(minBlock * (2 + (max+minBlock-1)/minBlock)); part.length > whole {
					t.Errorf("%d bytes from %d: reads %d bytes of the log", max, offset, part.length)
				}
				got, err := part.unpack(bytes.NewReader(object[part.at:part.at+part.packed]), int64(offset), int64(max))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("log of %d: %d bytes from %d: got %d bytes and %v, want %d", size, max, offset, len(got), err, len(want))
				}
			}
		}
	}
}

// TestLogObjectIndexFits packs as many blocks as there may be: the index must fit into a gzip header.
func TestLogObjectIndexFits(t *testing.T) {
	blocks := make([]logBlock, maxBlocks)
	for i := range blocks {
		blocks[i] = logBlock{packed: 1 << 48, length: 1 << 48, lines: 1 << 48}
	}
	extra := appendIndex(nil, blocks)
	var object bytes.Buffer
	if err := packMember(&object, nil, extra); err != nil {
		t.Fatal(err)
	}
	index, err := parseIndex(object.Bytes())
	if err != nil || len(index.blocks) != maxBlocks || index.size != int64(object.Len()) || index.size > maxIndex {
		t.Errorf("%d blocks of %d, index of %d bytes, error %v", len(index.blocks), maxBlocks, index.size, err)
	}
}

func TestLogObjectShortLog(t *testing.T) {
	if _, err := packLog(bytes.NewReader([]byte("abc")), 4); err == nil {
		t.Error("a log that ends too early was packed")
	}
}

func FuzzParseIndex(f *testing.F) {
	object, err := packLog(bytes.NewReader(sampleLog(2*minBlock)), 2*minBlock)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object[:100])
	f.Add([]byte{})
	f.Add([]byte("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, object []byte) {
		index, err := parseIndex(object)
		if err != nil {
			if !errors.Is(err, errBadObject) {
				t.Errorf("another error than errBadObject: %v", err)
			}
			return
		}
		if len(index.blocks) > maxBlocks || index.size > int64(len(object)) {
			t.Errorf("%d blocks, index of %d bytes in %d", len(index.blocks), index.size, len(object))
		}
		part := index.part(3, 10)
		if part.at <= int64(len(object)) {
			_, _ = part.unpack(bytes.NewReader(object[part.at:]), 3, 10)
		}
	})
}
