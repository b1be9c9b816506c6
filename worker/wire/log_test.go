package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func TestGoldenLogFrame(t *testing.T) {
	const name = "testdata/log.hex"
	frame, err := wire.EncodeLog(nil, logFrame)
	if err != nil {
		t.Fatal(err)
	}
	got := hex.EncodeToString(frame) + "\n"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got  %swant %s", got, want)
	}
	back, err := wire.DecodeLog(frame)
	if err != nil || !reflect.DeepEqual(back, logFrame) {
		t.Errorf("DecodeLog = %+v, %v; want %+v", back, err, logFrame)
	}
	if &back.Data[0] != &frame[wire.LogHeader] {
		t.Error("DecodeLog copied the log bytes")
	}
	if cap(back.Data) != len(back.Data) {
		t.Error("appending to Data could write past the frame")
	}
}

func TestEncodeLogAppends(t *testing.T) {
	buf := make([]byte, 1, 1+wire.MaxLogFrame)
	buf[0] = 'x'
	frame := logFrame
	frame.Data = bytes.Repeat([]byte("y"), wire.MaxLogData)
	allocs := testing.AllocsPerRun(10, func() {
		out, err := wire.EncodeLog(buf, frame)
		if err != nil || len(out) != cap(buf) || out[0] != 'x' {
			t.Fatalf("%d bytes, %v", len(out), err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func TestLogFrameLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*wire.LogFrame)
		field  string
		kind   error
	}{
		{"no build", func(f *wire.LogFrame) { f.Build = queue.ID{} }, "build", wire.ErrMalformed},
		{"no epoch", func(f *wire.LogFrame) { f.Epoch = 0 }, "epoch", wire.ErrMalformed},
		{"large epoch", func(f *wire.LogFrame) { f.Epoch = math.MaxUint32 + 1 }, "epoch", wire.ErrMalformed},
		{"negative offset", func(f *wire.LogFrame) { f.Offset = -1 }, "offset", wire.ErrMalformed},
		{"end overflows", func(f *wire.LogFrame) { f.Offset = math.MaxInt64 }, "offset", wire.ErrMalformed},
		{"no data", func(f *wire.LogFrame) { f.Data = nil }, "data", wire.ErrMalformed},
		{"much data", func(f *wire.LogFrame) { f.Data = make([]byte, wire.MaxLogData+1) }, "data", wire.ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := logFrame
			tt.change(&f)
			out, err := wire.EncodeLog([]byte("kept"), f)
			e, ok := errors.AsType[*wire.FormatError](err)
			if !ok || e.Field != tt.field || !errors.Is(err, tt.kind) {
				t.Errorf("EncodeLog: %v, want %s to be %v", err, tt.field, tt.kind)
			}
			if string(out) != "kept" {
				t.Errorf("EncodeLog returned %q with its error", out)
			}
		})
	}
	f := logFrame
	f.Epoch, f.Offset, f.Data = wire.MaxEpoch, math.MaxInt64-wire.MaxLogData, make([]byte, wire.MaxLogData)
	frame, err := wire.EncodeLog(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := wire.DecodeLog(frame); err != nil || !reflect.DeepEqual(back, f) {
		t.Errorf("the largest frame does not come back: %v", err)
	}
	if _, err := wire.DecodeLog(append(frame, 0)); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("a byte more: %v, want ErrTooLarge", err)
	}
}

func TestDecodeLogRefuses(t *testing.T) {
	good, err := wire.EncodeLog(nil, logFrame)
	if err != nil {
		t.Fatal(err)
	}
	for n := range wire.LogHeader + 1 {
		if _, err := wire.DecodeLog(good[:n]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d bytes: %v, want ErrMalformed", n, err)
		}
	}
	for _, tt := range []struct {
		at   int
		set  byte
		kind error
		text string
	}{
		{0, 2, wire.ErrUnsupported, "kind"},
		{1, 1, wire.ErrUnsupported, "flags"},
		{8, 0x4c, wire.ErrMalformed, "build"},
		{22, 0x80, wire.ErrMalformed, "offset"},
	} {
		bad := bytes.Clone(good)
		bad[tt.at] = tt.set
		if _, err := wire.DecodeLog(bad); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("byte %d = %#x: %v, want %v about %s", tt.at, tt.set, err, tt.kind, tt.text)
		}
	}
}

func FuzzDecodeLog(f *testing.F) {
	frame, err := wire.EncodeLog(nil, logFrame)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(frame[:wire.LogHeader])
	f.Fuzz(func(t *testing.T, frame []byte) {
		l, err := wire.DecodeLog(frame)
		if err != nil {
			if _, ok := errors.AsType[*wire.FormatError](err); !ok {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if again, err := wire.EncodeLog(nil, l); err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("%x came back as %x, %v", frame, again, err)
		}
	})
}
