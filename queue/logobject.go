package queue

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A log in the archive is a gzip file, which gunzip unpacks into the log. It consists of members: one without content, whose extra
// field has the index, and then one for each block of the log. So any part of a log is had by reading the blocks that it lies in.

// minBlock is the size of a block, in bytes of the log; that of a log that would have more than maxBlocks is greater.
const (
	minBlock  = 256 << 10
	maxBlocks = 1024
)

// A logBlock is what the index has of a block.
type logBlock struct {
	packed int64 // bytes in the object
	length int64 // bytes of the log
	lines  int64 // newlines among them
}

// A logIndex says where the blocks of a log are.
type logIndex struct {
	size   int64 // bytes of the index's own member
	blocks []logBlock
}

var errBadObject = errors.New("the archived log is damaged")

// packLog makes an object of the length bytes that r has. It holds the packed blocks in memory.
func packLog(r io.Reader, length int64) ([]byte, error) {
	buffer := make([]byte, max(minBlock, (length+maxBlocks-1)/maxBlocks))
	var body bytes.Buffer
	var blocks []logBlock
	for left := length; left > 0; {
		part := buffer[:min(left, int64(len(buffer)))]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		before := body.Len()
		if err := packMember(&body, part, nil); err != nil {
			return nil, err
		}
		blocks = append(blocks, logBlock{
			packed: int64(body.Len() - before), length: int64(len(part)), lines: int64(bytes.Count(part, []byte{'\n'})),
		})
		left -= int64(len(part))
	}
	var object bytes.Buffer
	if err := packMember(&object, nil, appendIndex(nil, blocks)); err != nil {
		return nil, err
	}
	object.Write(body.Bytes())
	return object.Bytes(), nil
}

func packMember(w io.Writer, content, extra []byte) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.Extra = extra
	if _, err := z.Write(content); err != nil {
		return err
	}
	return z.Close()
}

// The index lies in a subfield of the extra field, as RFC 1952 has it: two letters, a length of two bytes, and the data: a version,
// and three numbers for each block. At most maxBlocks of 30 bytes fit.
const (
	indexID      = "SL"
	indexVersion = 1
	// maxIndex bounds the first member: its header, the extra field, and an empty body.
	maxIndex = 64<<10 + 64
)

func appendIndex(b []byte, blocks []logBlock) []byte {
	data := []byte{indexVersion}
	for _, block := range blocks {
		data = binary.AppendUvarint(data, uint64(block.packed))
		data = binary.AppendUvarint(data, uint64(block.length))
		data = binary.AppendUvarint(data, uint64(block.lines))
	}
	b = append(b, indexID...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// parseIndex reads the index at the begin of an object, of which it is given the first maxIndex bytes, or all.
func parseIndex(object []byte) (logIndex, error) {
	r := bytes.NewReader(object)
	z, err := gzip.NewReader(r)
	if err != nil {
		return logIndex{}, fmt.Errorf("%w: %w", errBadObject, err)
	}
	z.Multistream(false)
	if n, err := z.Read(make([]byte, 1)); err != io.EOF || n != 0 {
		return logIndex{}, errBadObject // the first member has no content
	}
	blocks, ok := parseBlocks(z.Extra)
	if !ok {
		return logIndex{}, errBadObject
	}
	return logIndex{size: int64(len(object) - r.Len()), blocks: blocks}, nil
}

func parseBlocks(extra []byte) ([]logBlock, bool) {
	if len(extra) < 5 || string(extra[:2]) != indexID || int(binary.LittleEndian.Uint16(extra[2:])) != len(extra)-4 || extra[4] != indexVersion {
		return nil, false
	}
	var blocks []logBlock
	for data := extra[5:]; len(data) > 0; {
		var numbers [3]int64
		for i := range numbers {
			n, size := binary.Uvarint(data)
			if size <= 0 || n > 1<<48 {
				return nil, false
			}
			numbers[i], data = int64(n), data[size:]
		}
		block := logBlock{packed: numbers[0], length: numbers[1], lines: numbers[2]}
		if block.packed == 0 || block.length == 0 || block.lines > block.length || len(blocks) == maxBlocks {
			return nil, false
		}
		blocks = append(blocks, block)
	}
	return blocks, true
}

// A logPart is some blocks of an object that lie next to each other.
type logPart struct {
	at     int64 // where they begin in the object
	packed int64 // their size there
	start  int64 // where they begin in the log
	length int64 // their size there
}

// part returns the blocks in which the bytes of the log from offset on lie, at most max of them.
func (x *logIndex) part(offset, max int64) logPart {
	p := logPart{at: x.size}
	for _, b := range x.blocks {
		switch {
		case p.length == 0 && p.start+b.length <= offset:
			p.at += b.packed
			p.start += b.length
		case p.length == 0 || p.start+p.length < offset+max:
			p.packed += b.packed
			p.length += b.length
		default:
			return p
		}
	}
	return p
}

// unpack reads blocks and returns the bytes of the log from offset on, at most max of them.
func (p *logPart) unpack(r io.Reader, offset, max int64) ([]byte, error) {
	max = min(max, p.start+p.length-offset)
	if max <= 0 {
		return nil, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadObject, err)
	}
	if _, err := io.CopyN(io.Discard, z, offset-p.start); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadObject, err)
	}
	data := make([]byte, max)
	if _, err := io.ReadFull(z, data); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadObject, err)
	}
	return data, nil
}
