package wire_test

import (
	"errors"
	"fmt"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func ExampleDecode() {
	m, err := wire.Decode([]byte(`{"t":"cancel","d":{"build":"0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f","epoch":2,"reason":"superseded","grace":10000}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	switch m := m.(type) {
	case *wire.Cancel:
		fmt.Println("cancel", m.Build, "attempt", m.Epoch, "within", m.Grace.Duration(), "because", m.Reason)
	case *wire.Unknown:
		// A newer peer; what it lets be ignored is ignored.
	}
	// Output: cancel 0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f attempt 2 within 10s because superseded
}

func ExampleEncode() {
	id, _ := queue.ParseID("0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f")
	data, err := wire.Encode(&wire.Start{Ref: wire.Ref{Build: id, Epoch: 2}, Lease: wire.MillisOf(wire.DefaultLease)})
	fmt.Println(string(data), err)

	_, err = wire.Encode(&wire.Start{Ref: wire.Ref{Build: id}})
	fmt.Println(err, errors.Is(err, wire.ErrMalformed))
	// Output:
	// {"t":"start","d":{"build":"0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f","epoch":2,"lease":30000}} <nil>
	// wire: start: epoch: must be from 1 to 4294967295 true
}

func ExampleEncodeLog() {
	id, _ := queue.ParseID("0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f")
	buf := make([]byte, 0, wire.MaxLogFrame) // used again for every frame
	frame, err := wire.EncodeLog(buf, wire.LogFrame{Ref: wire.Ref{Build: id, Epoch: 2}, Offset: 512, Data: []byte("hello\n")})
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := wire.DecodeLog(frame)
	fmt.Printf("%d bytes: %q at %d, %v\n", len(frame), got.Data, got.Offset, err)
	// Output: 36 bytes: "hello\n" at 512, <nil>
}

func ExampleCloseCode_Retry() {
	for _, code := range []wire.CloseCode{wire.CloseGoingAway, wire.CloseInternal, wire.CloseReplaced, wire.CloseUnauthorized} {
		fmt.Printf("%d %s: %s\n", int(code), code, code.Retry())
	}
	// Output:
	// 1001 going away: soon
	// 1011 internal error: backoff
	// 4409 replaced by a newer connection: backoff
	// 4401 unauthorized: never
}
