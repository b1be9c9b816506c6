package testenv

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// errNoBinaries says what to type on a machine without PostgreSQL.
var errNoBinaries = errors.New("no PostgreSQL server on this machine (looked for initdb and postgres on PATH and in /usr/lib/postgresql/*/bin): " +
	"run `make deps` or `apt-get install postgresql`, or set " + EnvDatabaseURL + " to the URL of a server")

// binaryDir returns the directory that holds initdb and postgres: the one on
// PATH, else the newest version under /usr/lib/postgresql.
func binaryDir() (string, error) {
	return findBinaries(os.Getenv("PATH"), "/usr/lib/postgresql")
}

func findBinaries(path, versions string) (string, error) {
	dirs := filepath.SplitList(path)
	packaged, err := filepath.Glob(filepath.Join(versions, "*", "bin"))
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	slices.SortFunc(packaged, func(a, b string) int {
		return cmp.Compare(majorVersion(b), majorVersion(a))
	})
	for _, dir := range append(dirs, packaged...) {
		if filepath.IsAbs(dir) && isProgram(filepath.Join(dir, "initdb")) && isProgram(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errNoBinaries
}

// majorVersion reads 15 from /usr/lib/postgresql/15/bin; 9.6 counts as 9.6.
func majorVersion(binDir string) float64 {
	v, err := strconv.ParseFloat(filepath.Base(filepath.Dir(binDir)), 64)
	if err != nil {
		return 0
	}
	return v
}

func isProgram(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// serverCredential returns the user the server must run as, or nil when the
// calling user will do.
func serverCredential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}
