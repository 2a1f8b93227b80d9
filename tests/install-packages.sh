#!/bin/sh
# Installs the Debian packages that tests want, where they are missing and may be installed. Where they may not be,
# the tests that want them say so.
set -eu
missing=
for command in curl npm chromium; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
[ -x /usr/lib/postgresql/15/bin/postgres ] || missing="$missing postgresql-15"
[ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
[ -x /usr/sbin/vsftpd ] || missing="$missing vsftpd"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "stowage: missing:$missing; install them, or the tests that need them fail" >&2
    exit 0
fi
echo "stowage: installing$missing"
apt-get update -qq
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" ||
        echo "stowage: could not install $1; the tests that need it fail" >&2
}
# Tests start servers of their own: installed here, none is to start now or when the machine does.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
disable() {
    if command -v systemctl >/dev/null 2>&1; then systemctl disable --quiet "$1" >/dev/null 2>&1 || true; fi
}
for package in $missing; do
    # Installed alone, PostgreSQL would make a cluster and start it on port 5432. Tests start their own.
    if [ "$package" = postgresql-15 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        install postgresql-common
        sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf || true
    fi
    install "$package"
    case "$package" in
    openssh-server) disable ssh ;;
    vsftpd) disable vsftpd ;;
    esac
done
