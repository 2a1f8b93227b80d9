#!/bin/sh
# Makes .venv and installs requirement files into it; does nothing when both are there already.
#
#   infra/venv.sh requirements.txt infra/requirements.txt
#
# The interpreter is the first of PYTHON, python3.13, python3.12, python3.11 and python3 that runs (a shim of pyenv
# may exist and yet fail), is one of these versions and can make virtual environments.
set -eu
VENV=.venv

fail() {
    echo "stowage: $1" >&2
    exit 1
}

runs() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

can_make_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    bare=
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        runs "$candidate" || continue
        if can_make_venv "$candidate"; then
            echo "$candidate"
            return
        fi
        bare=$candidate
    done
    [ -z "$bare" ] || fail "$bare cannot make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv)"
    fail "no Python 3.11, 3.12 or 3.13 found; install one, or set PYTHON to its path"
}

# One line for a requirement file: what it says and which Python it was installed for.
fingerprint() {
    "$VENV/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest())' "$1"
}

stamp_of() { echo "$VENV/installed-$(echo "$1" | tr '/' '-')"; }

if ! runs "$VENV/bin/python" || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "stowage: creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" || fail "$python could not make $VENV"
fi

stale=
arguments=
for file in "$@"; do
    [ -f "$file" ] || fail "$file is missing"
    [ "$(cat "$(stamp_of "$file")" 2>/dev/null)" = "$(fingerprint "$file")" ] || stale=yes
    arguments="$arguments -r $file"
done
[ -n "$stale" ] || exit 0

echo "stowage: installing the packages of $*"
# shellcheck disable=SC2086  # the arguments are meant to be split
"$VENV/bin/python" -m pip install --disable-pip-version-check $arguments || fail "the packages could not be installed; see above"
for file in "$@"; do
    fingerprint "$file" >"$(stamp_of "$file")"
done
