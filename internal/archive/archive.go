package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/klauspost/compress/zstd"
)

// ErrInvalid says that the archive itself is at fault: it is damaged, of no supported format, or breaks a rule or a limit. Unpacked
// again it would fail again.
var ErrInvalid = errors.New("bad archive")

// errTooMuch says which rule it is that a bomb breaks.
var errTooMuch = fmt.Errorf("%w: it unpacks to too much", ErrInvalid)

const (
	// supported names the formats, for those who sent another.
	supported = "zip, tar, tar.gz and tar.zst are supported"
	// ratioFloor is the size up to which an archive may unpack whatever its compression.
	ratioFloor = 64 << 20
	// maxWindow is how far back a Zstandard stream may refer, in bytes: that much memory decoding takes.
	maxWindow = 128 << 20
	// bufferSize is how much is read and written at once.
	bufferSize = 64 << 10
)

// Limits bound what an archive may unpack to. All must be positive.
type Limits struct {
	// Bytes is the size of all files.
	Bytes int64
	// Entries is how many entries there may be, and directories that no entry stands for.
	Entries int
	// Ratio is how many bytes may come of one of the archive. Up to 64 MiB may come of any archive.
	Ratio int64
	// Depth is how many parts a name may have.
	Depth int
}

// bytes returns how much may come of an archive of that size, as far as its compression is concerned.
func (l *Limits) bytes(size int64) int64 {
	if size >= math.MaxInt64/l.Ratio {
		return math.MaxInt64
	}
	return max(ratioFloor, size*l.Ratio)
}

// stream returns how long the tar stream of an archive of that size may be, headers included.
func (l *Limits) stream(size int64) int64 {
	// A header takes 512 bytes and a file's last block as many at most; long names take more.
	headers := int64(l.Entries) * 2048
	if l.Bytes > math.MaxInt64-headers {
		return l.bytes(size)
	}
	return min(l.bytes(size), l.Bytes+headers)
}

// Extract unpacks the first size bytes of src, an archive, below root, which must be empty and which nobody else writes to.
// An empty src unpacks to nothing. When ctx ends, Extract returns the cause.
//
// An archive that is at fault is an error that wraps [ErrInvalid]; other errors are those of src and of the file system of root.
// Part of the archive has been written then, nothing of it outside root.
func Extract(ctx context.Context, root *os.Root, src io.ReaderAt, size int64, limits Limits) error {
	in := &input{ctx: ctx, src: src, size: size}
	t := &tree{
		root: root, limits: limits, left: min(limits.Bytes, limits.bytes(size)), explain: in.explain, buf: make([]byte, bufferSize),
	}
	magic := make([]byte, min(size, magicSize))
	if n, err := in.ReadAt(magic, 0); n < len(magic) {
		return in.explain(noEOF(err))
	}
	if err := extract(t, in, magic); err != nil {
		return err
	}
	return t.finish()
}

// extract unpacks an archive that begins with magic.
func extract(t *tree, in *input, magic []byte) error {
	packed := bufio.NewReaderSize(in.section(0, in.size), bufferSize)
	stream := &boundedReader{in: in, r: packed, left: t.limits.stream(in.size)}
	switch detect(magic) {
	case formatZip:
		return unzip(t, in)
	case formatGzip:
		unpacked, err := gzip.NewReader(packed)
		if err != nil {
			return in.explain(err)
		}
		stream.r = unpacked
	case formatZstd:
		unpacked, err := zstd.NewReader(packed,
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return in.explain(err)
		}
		defer unpacked.Close()
		stream.r = unpacked
	case formatTar:
	case formatOther:
		return fmt.Errorf("%w: its format is not supported: %s", ErrInvalid, supported)
	}
	return untar(t, stream)
}

// A format is what an archive's first bytes say it is.
type format int

const (
	formatTar format = iota // or something that is unknown
	formatGzip
	formatZstd
	formatZip
	formatOther
)

// magicSize is how many bytes tell a format.
const magicSize = 10

// detect tells a format. A tar begins with a name, so what is no other format may be one.
func detect(magic []byte) format {
	begins := func(with string) bool { return bytes.HasPrefix(magic, []byte(with)) }
	switch {
	case begins("PK\x03\x04"), begins("PK\x05\x06"): // the second is a zip without entries
		return formatZip
	case begins("\x1f\x8b"):
		return formatGzip
	case begins("\x28\xb5\x2f\xfd"), len(magic) > 3 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18":
		return formatZstd // the second is a frame to skip, with which pzstd begins
	case begins("BZh") && len(magic) == magicSize && string(magic[4:]) == "1AY&SY", begins("\xfd7zXZ\x00"), begins("7z\xbc\xaf\x27\x1c"),
		begins("Rar!\x1a\x07"), begins("\x04\x22\x4d\x18"), begins("LZIP\x01"), begins("\x1f\x9d"):
		return formatOther // bzip2, xz, 7z, rar, lz4, lzip and compress
	}
	return formatTar
}
