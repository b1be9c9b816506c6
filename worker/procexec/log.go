package procexec

import (
	"fmt"
	"io"
)

// A buildLog passes a build's output on. It remembers whether the last line is still open, so that a notice begins a line of
// its own. It is not safe for concurrent use.
type buildLog struct {
	w    io.Writer
	open bool
}

// write passes p on. That a [worker.Job]'s Log failed is not the build's concern: the output goes on being taken from it.
func (l *buildLog) write(p []byte) {
	if len(p) > 0 {
		l.open = p[len(p)-1] != '\n'
		_, _ = l.w.Write(p)
	}
}

// notice adds a line that begins with "slipway: ".
func (l *buildLog) notice(format string, args ...any) {
	var b []byte
	if l.open {
		b = append(b, '\n')
	}
	b = append(b, "slipway: "...)
	b = fmt.Appendf(b, format, args...)
	l.write(append(b, '\n'))
}
