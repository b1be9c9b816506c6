#!/bin/sh
# Makes sure that the tests and the demo can run: a C compiler for the race
# detector and the PostgreSQL server programs. Installs what is missing when it
# runs as root on Debian or Ubuntu; elsewhere it says what to type and fails.
set -eu

compiler="${CC:-$(go env CC 2>/dev/null || echo cc)}"

# A compiler without the C library's headers is as good as none.
have_compiler() {
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' |
		$compiler -x c -o /dev/null - >/dev/null 2>&1
}

# The places where internal/testenv looks. A server of one's own will do too.
have_postgres() {
	if [ -n "${SLIPWAY_TEST_DATABASE_URL:-}" ]; then
		return 0
	fi
	if command -v initdb >/dev/null && command -v postgres >/dev/null; then
		return 0
	fi
	for dir in /usr/lib/postgresql/*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
			return 0
		fi
	done
	return 1
}

missing() {
	have_compiler || printf 'a C compiler; '
	have_postgres || printf 'the PostgreSQL server; '
}

# Debian creates and starts a cluster when a server package is installed. The
# drop-in exists only while apt runs, so the machine keeps its own settings.
install_debian() {
	dropin=/etc/postgresql-common/createcluster.d/slipway.conf
	trap 'rm -f "$dropin"' EXIT
	trap 'exit 1' HUP INT TERM
	mkdir -p "${dropin%/*}"
	echo "create_main_cluster = false" >"$dropin"

	export DEBIAN_FRONTEND=noninteractive
	packages=""
	have_compiler || packages="$packages gcc libc6-dev"
	have_postgres || packages="$packages postgresql"
	apt-get update -q
	# Word splitting makes one argument of each package.
	# shellcheck disable=SC2086
	apt-get install -q -y --no-install-recommends $packages
}

hint() {
	if command -v apt-get >/dev/null; then
		echo "sudo make deps"
	elif command -v dnf >/dev/null; then
		echo "sudo dnf install gcc postgresql-server"
	elif command -v pacman >/dev/null; then
		echo "sudo pacman -S gcc postgresql"
	elif command -v apk >/dev/null; then
		echo "apk add gcc musl-dev postgresql"
	elif [ "$(uname -s)" = Darwin ]; then
		echo "xcode-select --install; brew install postgresql@17 and put its bin directory on PATH"
	else
		echo "install gcc or clang and the PostgreSQL server, with initdb and postgres on PATH"
	fi
}

want=$(missing)
if [ -z "$want" ]; then
	exit 0
fi
echo "deps: missing: ${want%; }"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
	install_debian
	want=$(missing)
	if [ -z "$want" ]; then
		exit 0
	fi
	echo "deps: still missing after the installation: ${want%; }" >&2
	exit 1
fi
echo "deps: to install it: $(hint)" >&2
exit 1
