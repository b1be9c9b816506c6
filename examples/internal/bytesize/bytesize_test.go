package bytesize_test

import (
	"testing"

	"github.com/slipway-build/slipway/examples/internal/bytesize"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		bytes int64
		shown string
	}{
		"1": {1, "1B"}, "1B": {1, "1B"}, "1024": {1 << 10, "1KiB"}, "1500KiB": {1500 << 10, "1500KiB"}, "2048MiB": {2 << 30, "2GiB"},
		"1048576GiB": {1 << 50, "1048576GiB"},
	} {
		var size bytesize.Size
		if err := size.Set(text); err != nil || int64(size) != want.bytes || size.String() != want.shown {
			t.Errorf("%s is %d, shown as %s: %v", text, int64(size), size.String(), err)
		}
	}
	for _, text := range []string{"", "0", "-1", "1.5GiB", "1 GiB", "1GB", "GiB", "1048577GiB", "99999999999999999999"} {
		size := bytesize.Size(7)
		if err := size.Set(text); err == nil || size != 7 {
			t.Errorf("%q is accepted as %d", text, int64(size))
		}
	}
	if zero := bytesize.Size(0); zero.String() != "0B" {
		t.Errorf("zero is shown as %s", zero.String())
	}
}
