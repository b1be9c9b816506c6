// Package bytesize is for flags that are numbers of bytes.
package bytesize

import (
	"fmt"
	"strconv"
	"strings"
)

// A Size is a [flag.Value]: a number of bytes above zero, such as 500MiB, 4GiB or 1024.
type Size int64

// units are what a size may be given in, from the largest on.
var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String implements [flag.Value]: in the largest unit of which it is a multiple.
func (v *Size) String() string {
	for _, unit := range units {
		if n := int64(*v); n != 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return "0B"
}

// Set implements [flag.Value].
func (v *Size) Set(text string) error {
	number, factor := text, int64(1)
	for _, unit := range units {
		if n, ok := strings.CutSuffix(text, unit.name); ok {
			number, factor = n, unit.bytes
			break
		}
	}
	const most = 1 << 50
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > most/factor {
		return fmt.Errorf("must be a size above zero, such as 500MiB, 4GiB or a number of bytes")
	}
	*v = Size(n * factor)
	return nil
}
