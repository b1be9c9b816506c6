package wire

import (
	"encoding/binary"
	"math"

	"github.com/slipway-build/slipway/queue"
)

// A log frame is binary: kind, flags, build, epoch, offset, and log bytes up to the end of the frame. Numbers are big endian.
const (
	// LogHeader is how many bytes of a log frame come before the log bytes.
	LogHeader = 1 + 1 + 16 + 4 + 8
	// MaxLogFrame is the largest log frame, in bytes.
	MaxLogFrame = LogHeader + MaxLogData

	kindLog = 1
)

// A LogFrame is a piece of the log of an attempt, the only thing that binary frames hold.
//
// A log is a stream of bytes. What was stored already is dropped; a frame that begins behind what is stored is answered with
// [LogNack], and everything else, in time, with [LogAck].
type LogFrame struct {
	Ref
	// Offset is where in the log Data begins.
	Offset int64
	// Data is from 1 to [MaxLogData] bytes.
	Data []byte
}

// EncodeLog appends the bytes of one binary frame to dst and returns the extended slice. It allocates only if dst is too
// short. It returns a [*FormatError], and dst as it was, if f breaks a documented rule.
func EncodeLog(dst []byte, f LogFrame) ([]byte, error) {
	if err := f.check(); err != nil {
		return dst, err
	}
	dst = append(dst, kindLog, 0)
	dst = append(dst, f.Build[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.Epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Offset))
	return append(dst, f.Data...), nil
}

// DecodeLog reads the bytes of one binary frame. Data of the result is a part of frame, not a copy. All errors are [*FormatError];
// one that wraps [ErrUnsupported] is about a kind of frame, or a flag, that this version does not know.
func DecodeLog(frame []byte) (LogFrame, error) {
	switch {
	case len(frame) < 2:
		return LogFrame{}, &FormatError{Type: typeLog, Reason: "must not be shorter than its header", Err: ErrMalformed}
	case frame[0] != kindLog:
		return LogFrame{}, &FormatError{Type: typeLog, Field: "kind", Reason: "is not known", Err: ErrUnsupported}
	case frame[1] != 0:
		return LogFrame{}, &FormatError{Type: typeLog, Field: "flags", Reason: "are not known", Err: ErrUnsupported}
	case len(frame) < LogHeader:
		return LogFrame{}, &FormatError{Type: typeLog, Reason: "must not be shorter than its header", Err: ErrMalformed}
	}
	offset := binary.BigEndian.Uint64(frame[22:])
	if offset > math.MaxInt64 {
		return LogFrame{}, &FormatError{Type: typeLog, Field: "offset", Reason: "must be less than 2^63", Err: ErrMalformed}
	}
	f := LogFrame{
		Ref:    Ref{Build: queue.ID(frame[2:18]), Epoch: int64(binary.BigEndian.Uint32(frame[18:]))},
		Offset: int64(offset),
		Data:   frame[LogHeader:len(frame):len(frame)],
	}
	if err := f.check(); err != nil {
		return LogFrame{}, err
	}
	return f, nil
}

// typeLog names log frames in errors. No message has this type.
const typeLog Type = "log frame"

func (f *LogFrame) check() error {
	if len(f.Data) > MaxLogData {
		return &FormatError{Type: typeLog, Field: "data", Reason: "must be at most 64 KiB", Err: ErrTooLarge}
	}
	var c checker
	f.Ref.check(&c)
	if len(f.Data) == 0 {
		c.fail("data", "must not be empty")
	}
	c.between("offset", f.Offset, 0, math.MaxInt64-MaxLogData)
	if c.err != nil {
		c.err.Type = typeLog
		return c.err
	}
	return nil
}

// LogAck says that the log is stored up to an offset. It is sent after the database has committed.
type LogAck struct {
	Ref
	// Offset is how many bytes are stored.
	Offset int64 `json:"offset"`
	// Window is how many bytes after Offset the worker may send. Zero: none until another log_ack.
	Window int64 `json:"window"`
}

// Type implements [Message].
func (*LogAck) Type() Type { return TypeLogAck }

func (m *LogAck) check(c *checker) {
	m.Ref.check(c)
	c.size("offset", m.Offset)
	c.size("window", m.Window)
}

// LogNack says that a log frame began behind what is stored: the worker goes back to Expected and sends from there.
type LogNack struct {
	Ref
	// Expected is how many bytes are stored.
	Expected int64 `json:"expected"`
}

// Type implements [Message].
func (*LogNack) Type() Type { return TypeLogNack }

func (m *LogNack) check(c *checker) {
	m.Ref.check(c)
	c.size("expected", m.Expected)
}

// LogLimit says that the log has reached what is stored of it. The worker sends no more of it; its length and sum in
// [Finished] cover the first Cap bytes.
type LogLimit struct {
	Ref
	// Cap is how many bytes are stored.
	Cap int64 `json:"cap"`
}

// Type implements [Message].
func (*LogLimit) Type() Type { return TypeLogLimit }

func (m *LogLimit) check(c *checker) {
	m.Ref.check(c)
	c.size("cap", m.Cap)
}
