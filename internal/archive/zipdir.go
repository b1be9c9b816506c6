package archive

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
)

// errZip says that a zip is not what the format asks for.
var errZip = fmt.Errorf("%w: bad zip", ErrInvalid)

// Signatures of the parts of a zip that are looked at.
const (
	sigLocal     = 0x04034b50
	sigHeader    = 0x02014b50
	sigEnd       = 0x06054b50
	sigEnd64     = 0x06064b50
	sigLocator64 = 0x07064b50
)

// Ways to compress an entry.
const (
	methodStore   = 0
	methodDeflate = 8
)

// fields are the numbers at the beginning of a record. Each is taken off; there must be as many bytes.
type fields []byte

func (f *fields) u16() uint16 {
	v := binary.LittleEndian.Uint16(*f)
	*f = (*f)[2:]
	return v
}

func (f *fields) u32() uint32 {
	v := binary.LittleEndian.Uint32(*f)
	*f = (*f)[4:]
	return v
}

func (f *fields) u64() uint64 {
	v := binary.LittleEndian.Uint64(*f)
	*f = (*f)[8:]
	return v
}

// A zipDirectory says where the directory of a zip is.
type zipDirectory struct {
	start, size int64
	entries     uint64
}

// findDirectory reads the record at the end of a zip. Nothing may follow it but its comment, and nothing be between it and the
// directory.
func findDirectory(in *input) (zipDirectory, error) {
	const fixed = 22
	tail := make([]byte, min(in.size, fixed+math.MaxUint16))
	tailStart := in.size - int64(len(tail))
	if n, err := in.ReadAt(tail, tailStart); n < len(tail) {
		return zipDirectory{}, noEOF(err)
	}
	for i := len(tail) - fixed; i >= 0; i-- {
		comment := int(binary.LittleEndian.Uint16(tail[i+fixed-2:]))
		if binary.LittleEndian.Uint32(tail[i:]) == sigEnd && comment == len(tail)-i-fixed {
			return readEnd(in, tail[i+4:], tailStart+int64(i))
		}
	}
	return zipDirectory{}, fmt.Errorf("%w: it has no directory: it was cut off, or something was appended", errZip)
}

// readEnd reads the end record, which is at that place, or the longer one before it to which it refers.
func readEnd(in *input, f fields, at int64) (zipDirectory, error) {
	disk, dirDisk, onDisk, entries := f.u16(), f.u16(), uint64(f.u16()), uint64(f.u16())
	size, start := uint64(f.u32()), uint64(f.u32())
	split := disk != dirDisk || onDisk != entries || disk != 0 && disk != math.MaxUint16
	if entries == math.MaxUint16 || size == math.MaxUint32 || start == math.MaxUint32 {
		long, longAt, err := findEnd64(in, at)
		if err != nil {
			return zipDirectory{}, err
		}
		if long != nil {
			at = longAt
			split = split || long.u32() != 0 || long.u32() != 0
			onDisk, entries, size, start = long.u64(), long.u64(), long.u64(), long.u64()
			split = split || onDisk != entries
		}
	}
	if split {
		return zipDirectory{}, fmt.Errorf("%w: it is one of several parts", errZip)
	}
	if start > uint64(at) || size != uint64(at)-start {
		return zipDirectory{}, fmt.Errorf("%w: its directory is not where it says", errZip)
	}
	return zipDirectory{start: int64(start), size: int64(size), entries: entries}, nil
}

// findEnd64 returns the numbers of the end record for large zips, and where it is; none if there is none before the short one.
func findEnd64(in *input, end int64) (fields, int64, error) {
	const locatorSize, fixed = 20, 56
	locator := make(fields, locatorSize)
	if end < locatorSize+fixed {
		return nil, 0, nil
	}
	if n, err := in.ReadAt(locator, end-locatorSize); n < len(locator) {
		return nil, 0, noEOF(err)
	}
	if locator.u32() != sigLocator64 {
		return nil, 0, nil
	}
	locator.u32() // the part it is in
	at := locator.u64()
	if at > uint64(end-locatorSize-fixed) {
		return nil, 0, fmt.Errorf("%w: its directory is not where it says", errZip)
	}
	record := make(fields, fixed)
	if n, err := in.ReadAt(record, int64(at)); n < len(record) {
		return nil, 0, noEOF(err)
	}
	if record.u32() != sigEnd64 {
		return nil, 0, fmt.Errorf("%w: its directory is not where it says", errZip)
	}
	return record[12:], int64(at), nil // without its own size and the versions of the programs
}

// A zipHeader is what the directory says of an entry.
type zipHeader struct {
	name         string
	kind, perm   fs.FileMode
	method       uint16
	sum          uint32
	packed, size uint64
	offset       uint64
}

// readZipHeader reads the next header of a directory.
func readZipHeader(in *bufio.Reader) (*zipHeader, error) {
	var fixed [46]byte
	if _, err := io.ReadFull(in, fixed[:]); err != nil {
		return nil, noEOF(err)
	}
	f := fields(fixed[:])
	if f.u32() != sigHeader {
		return nil, fmt.Errorf("%w: its directory is damaged", errZip)
	}
	creator, _, flags := f.u16()>>8, f.u16(), f.u16()
	h := &zipHeader{method: f.u16()}
	f.u32() // time and date
	h.sum, h.packed, h.size = f.u32(), uint64(f.u32()), uint64(f.u32())
	nameSize, extraSize, commentSize := f.u16(), f.u16(), f.u16()
	f.u32() // the part it is in, which is the only one, and attributes that are no one's
	attributes := f.u32()
	h.offset = uint64(f.u32())
	rest := make([]byte, int(nameSize)+int(extraSize))
	if _, err := io.ReadFull(in, rest); err != nil {
		return nil, noEOF(err)
	}
	if _, err := in.Discard(int(commentSize)); err != nil {
		return nil, noEOF(err)
	}
	h.name = string(rest[:nameSize])
	const encrypted = 1<<0 | 1<<6 | 1<<13
	if flags&encrypted != 0 {
		return nil, fmt.Errorf("%w: %.200q is encrypted", errZip, h.name)
	}
	h.mode(creator, attributes)
	h.large(rest[nameSize:])
	return h, nil
}

// mode takes the type and the permissions of an entry from its attributes, whose meaning depends on the system that made it.
func (h *zipHeader) mode(creator uint16, attributes uint32) {
	const (
		unix, darwin       = 3, 19
		typeMask           = 0o170000
		typeDir, typeFile  = 0o040000, 0o100000
		typeLink           = 0o120000
		attributeDirectory = 0x10
	)
	h.perm = 0o644
	mode := attributes >> 16
	if creator != unix && creator != darwin {
		mode = 0
	}
	switch mode & typeMask {
	case 0, typeFile:
	case typeDir:
		h.kind = fs.ModeDir
	case typeLink:
		h.kind = fs.ModeSymlink
	default:
		h.kind = fs.ModeIrregular
	}
	if h.kind == 0 && (strings.HasSuffix(h.name, "/") || attributes&attributeDirectory != 0) {
		h.kind = fs.ModeDir
	}
	if h.kind == fs.ModeDir {
		h.perm = 0o755
	}
	if mode != 0 {
		h.perm = fs.FileMode(mode) & fs.ModePerm
	}
}

// large takes the numbers that had no room in the header from the extra fields after its name.
func (h *zipHeader) large(extra fields) {
	const id = 1
	for len(extra) >= 4 {
		kind, size := extra.u16(), int(extra.u16())
		if size > len(extra) {
			break // some programs leave garbage there
		}
		field := extra[:size]
		extra = extra[size:]
		if kind != id {
			continue
		}
		for _, number := range []*uint64{&h.size, &h.packed, &h.offset} {
			if *number == math.MaxUint32 && len(field) >= 8 {
				*number = field.u64()
			}
		}
		return
	}
}
