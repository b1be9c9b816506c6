package workertest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
)

// A Frame is a message, or a ping, pong or close, of a WebSocket on its way through a [Proxy], however many frames it is made of.
type Frame struct {
	Direction Direction
	// Type is that of the message, [TypeLog] for a log, and empty for what is no message: a ping, a pong, a close.
	Type wire.Type
	// Payload is the frame's content, unmasked. It must not be changed.
	Payload []byte
}

// pieceSize is how many bytes go through a proxy at once where there are no frames.
const pieceSize = 32 << 10

// maxHead is the longest head of a request or response that a proxy reads.
const maxHead = 64 << 10

// pump moves what comes in one direction until that ends. Then the other end is told in the same way.
func (p *Proxy) pump(c *pair, d Direction) {
	from := bufio.NewReaderSize(c.ends[d], maxHead)
	framed, err := p.head(c, d, from)
	switch {
	case err != nil:
	case framed:
		err = p.frames(c, d, from)
	default:
		err = p.pieces(c, d, from)
	}
	p.mu.Lock()
	dead := c.dead
	p.mu.Unlock()
	switch {
	case dead:
		n, _ := io.Copy(io.Discard, from) // until that end gives up, which the other is not told
		p.change(func() { p.counts.Swallowed += n })
	case errors.Is(err, io.EOF):
		c.closeWrite(d)
	default:
		c.cut()
	}
}

// head passes on the head of the first request, or response, and reports whether the frames of a WebSocket follow.
func (p *Proxy) head(c *pair, d Direction, from *bufio.Reader) (framed bool, err error) {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := from.ReadSlice('\n')
		head = append(head, line...)
		if err != nil {
			return false, err
		}
		if len(head) > maxHead {
			return false, errors.New("a head that is too long")
		}
	}
	if d == ToController {
		c.upgrade.Store(bytes.Contains(bytes.ToLower(head), []byte("\r\nupgrade: websocket\r\n")))
		return c.upgrade.Load(), p.pass(c, d, head)
	}
	return c.upgrade.Load() && bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")), p.pass(c, d, head)
}

// pieces passes on what is no WebSocket.
func (p *Proxy) pieces(c *pair, d Direction, from *bufio.Reader) error {
	buf := make([]byte, pieceSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			err = errors.Join(p.pass(c, d, buf[:n]), err)
		}
		if err != nil {
			return err
		}
	}
}

// frames passes on a WebSocket, frame by frame.
func (p *Proxy) frames(c *pair, d Direction, from *bufio.Reader) error {
	var behind []byte // a frame that shall come after the next
	for {
		raw, frame, err := readMessage(from)
		if err != nil {
			return errors.Join(p.pass(c, d, behind), err)
		}
		frame.Direction = d
		out := raw
		switch p.judged(frame) {
		case Lose:
			continue
		case Double:
			out = slices.Concat(raw, raw)
		case Swap:
			if behind == nil {
				behind = raw
				continue
			}
		case Pass:
		}
		if err := p.pass(c, d, slices.Concat(out, behind)); err != nil {
			return err
		}
		behind = nil
	}
}

// judged asks what is to become of a frame, and counts it.
func (p *Proxy) judged(f Frame) Verdict {
	p.mu.Lock()
	judge := p.judge
	p.mu.Unlock()
	verdict := Pass
	if judge != nil {
		verdict = judge(f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Frames++
	switch verdict {
	case Lose:
		p.counts.Lost++
	case Double:
		p.counts.Doubled++
	case Swap:
		p.counts.Swapped++
	case Pass:
	}
	return verdict
}

// readMessage reads a message, as it is and as it is meant. What control frames are between its parts go with it.
func readMessage(from *bufio.Reader) ([]byte, Frame, error) {
	const final, control = 0x80, 8
	var raw, payload []byte
	var kind byte
	for {
		part, content, err := readFrame(from)
		if err != nil {
			return nil, Frame{}, err
		}
		first, opcode := raw == nil, part[0]&0xf
		raw = append(raw, part...)
		switch {
		case first && opcode >= control:
			return raw, Frame{Payload: content}, nil
		case opcode >= control:
			continue
		case first:
			kind = opcode
		}
		payload = append(payload, content...)
		if part[0]&final != 0 {
			return raw, Frame{Type: typeOf(kind, payload), Payload: payload}, nil
		}
	}
}

// readFrame reads a frame, and what it carries.
func readFrame(from *bufio.Reader) (raw, payload []byte, err error) {
	const maxFrame = 64 << 20
	raw = make([]byte, 2, 14)
	if _, err := io.ReadFull(from, raw); err != nil {
		return nil, nil, err
	}
	more := func(n int) []byte {
		raw = append(raw, make([]byte, n)...)
		part := raw[len(raw)-n:]
		if err == nil {
			_, err = io.ReadFull(from, part)
		}
		return part
	}
	size, masked := uint64(raw[1]&0x7f), raw[1]&0x80 != 0
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(more(2)))
	case 127:
		size = binary.BigEndian.Uint64(more(8))
	}
	var mask []byte
	if masked {
		mask = slices.Clone(more(4))
	}
	if size > maxFrame {
		err = errors.New("a frame that is too large")
	}
	if err != nil {
		return nil, nil, err
	}
	payload = slices.Clone(more(int(size)))
	for i := range payload {
		if masked {
			payload[i] ^= mask[i%4]
		}
	}
	return raw, payload, err
}

// typeOf returns the type of the message in a frame.
func typeOf(opcode byte, payload []byte) wire.Type {
	const text, binaryData = 1, 2
	switch opcode {
	case binaryData:
		return TypeLog
	case text:
		var m struct {
			Type wire.Type `json:"t"`
		}
		_ = json.Unmarshal(payload, &m) // what cannot be read has no type
		return m.Type
	}
	return ""
}

// errGone says that the connection was broken while something was on its way.
var errGone = errors.New("the connection is gone")

// pass writes to the other end what may go there, when it may.
func (p *Proxy) pass(c *pair, d Direction, data []byte) error {
	wait, err := p.await(c, d, len(data))
	if err != nil {
		return err
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.gone:
			return errGone
		}
	}
	n, dead, cut := p.spend(c, len(data))
	if dead {
		return nil
	}
	_, err = c.ends[1-d].Write(data[:n])
	if cut {
		p.Cut()
		return errGone
	}
	return err
}

// await waits until so many bytes may go on, and returns how much longer they are to take.
func (p *Proxy) await(c *pair, d Direction, size int) (time.Duration, error) {
	for held := false; ; {
		p.mu.Lock()
		changed, wait := p.changed, p.delay
		if rate := p.rate[d]; rate > 0 {
			wait += time.Duration(size) * time.Second / time.Duration(rate)
		}
		hold := p.held[d] && !c.dead
		if hold && !held {
			held = true
			p.counts.Held++
		}
		p.mu.Unlock()
		if !hold {
			return wait, nil
		}
		select {
		case <-changed:
		case <-c.gone:
			return 0, errGone
		}
	}
}

// spend returns how many of so many bytes may go through, whether the connection is dead, and whether all are to be cut.
func (p *Proxy) spend(c *pair, size int) (n int, dead, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c.dead:
		p.counts.Swallowed += int64(size)
		return 0, true, false
	case p.budget < 0:
		return size, false, false
	case p.budget > int64(size):
		p.budget -= int64(size)
		return size, false, false
	}
	n = int(p.budget)
	p.budget = -1
	return n, false, true
}
