#!/bin/sh
# Writes internal/testenv/pgxmock.mod and .sum: go.mod and go.sum as they are,
# with pgx taken back to the newest version that pgxmock compiles with, and
# pgxmock itself. With -check it writes nothing and fails when they differ.
set -eu
cd "$(dirname "$0")/../.."

pgx=github.com/jackc/pgx/v5@v5.10.0
pgxmock=github.com/pashagolub/pgxmock/v4@v4.9.0
dir=internal/testenv

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp go.mod "$work/pgxmock.mod"
cp go.sum "$work/pgxmock.sum"
go mod edit -require="$pgx" -require="$pgxmock" "$work/pgxmock.mod"
# Adds the sums of these two; all others are in go.sum.
go mod download -modfile="$work/pgxmock.mod" "$pgx" "$pgxmock"

if [ "${1:-}" = -check ]; then
	for file in pgxmock.mod pgxmock.sum; do
		if ! diff -u "$dir/$file" "$work/$file"; then
			echo "$dir/$file does not follow go.mod; run: make pgxmock-mod" >&2
			exit 1
		fi
	done
	exit 0
fi
cp "$work/pgxmock.mod" "$work/pgxmock.sum" "$dir/"
