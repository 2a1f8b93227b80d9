#!/bin/sh
# Installs the Debian packages that tests want, where they are missing and may be installed. Where they may not be,
# the tests that want them say so.
set -eu
missing=
for command in curl; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "stowage: missing:$missing; install them, or the tests that need them fail" >&2
    exit 0
fi
echo "stowage: installing$missing"
apt-get update -qq
# shellcheck disable=SC2086  # the names are meant to be split
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
