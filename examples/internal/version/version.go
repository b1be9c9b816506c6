package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// An Info describes a program.
type Info struct {
	Version string `json:"version"` // of the module, or "devel"
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Current returns what the running program was built from.
func Current() Info {
	info := Info{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" && build.Main.Version != "(devel)" {
		info.Version = build.Main.Version
	}
	return info
}

// Line returns one line for people: "slipway-agent devel go1.26.0 linux/amd64".
func (i Info) Line(program string) string {
	return fmt.Sprintf("%s %s %s %s/%s", program, i.Version, i.Go, i.OS, i.Arch)
}
