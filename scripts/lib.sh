# shellcheck shell=bash
# What the scripts share: words to the person who runs them, and the packages they need. Sourced, never run.

PATH=$PATH:/usr/sbin:/sbin

# One line of what happens now; bold on a terminal.
say() {
    if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi
}

warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    warn "$*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

need_root() {
    [ "$(id -u)" -eq 0 ] || die "this needs root: it makes network namespaces and loads an XDP program. Try: sudo $0"
}

# A service that must not start with the next boot.
disable_service() {
    if [ -d /run/systemd/system ]; then systemctl --quiet disable "$1" 2>/dev/null || true; fi
}

# Installs with apt what is missing. Each word is COMMAND=PACKAGE, or PACKAGE alone for what brings no command.
# Services that a package brings (nginx, node_exporter, ldirectord, vsftpd) are neither started now nor enabled.
install_missing() {
    local word packages=()
    for word in "$@"; do
        case $word in
        *=*) have "${word%%=*}" || packages+=("${word#*=}") ;;
        *) dpkg-query -W -f '${Status}' "$word" 2>/dev/null | grep -q 'ok installed' || packages+=("$word") ;;
        esac
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    have apt-get || die "please install these first (no apt-get here to do it): ${packages[*]}"
    [ "$(id -u)" -eq 0 ] || die "please install these first, or run as root: apt-get install ${packages[*]}"
    say "Installing: ${packages[*]}"
    local log policy=/usr/sbin/policy-rc.d made_policy=
    log=$(mktemp)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made_policy=yes
    fi
    local status=0
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    } </dev/null >"$log" 2>&1 || status=$?
    [ -z "$made_policy" ] || rm -f "$policy"
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get failed; its last lines stand above"
    fi
    rm -f "$log"
    local package
    for package in "${packages[@]}"; do
        case $package in
        nginx*) disable_service nginx ;;
        prometheus-node-exporter | ldirectord | vsftpd) disable_service "$package" ;;
        esac
    done
}

# What `cargo build` needs beside Rust.
# shellcheck disable=SC2034 # used where this is sourced
BUILD_PACKAGES=(gcc=gcc make=make pkg-config=pkg-config m4=m4 clang=clang libc6-dev libelf-dev zlib1g-dev libbpf-dev)
# What the lab needs.
# shellcheck disable=SC2034
LAB_PACKAGES=(ip=iproute2 nginx=nginx-light curl=curl ethtool=ethtool /usr/bin/python3=python3)
# What the tests in network namespaces need beside the lab.
# shellcheck disable=SC2034
TEST_PACKAGES=(iperf3=iperf3 dnsmasq=dnsmasq-base dig=bind9-dnsutils socat=socat setpriv=util-linux unshare=util-linux
    iptables=iptables ping=iputils-ping vsftpd=vsftpd
    shellcheck=shellcheck tshark=tshark prometheus-node-exporter=prometheus-node-exporter ldirectord=ldirectord
    valgrind=valgrind libnet-inet6glue-perl)

# The person behind sudo: Rust is most often theirs, and so should be what it builds.
if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] && [ "$(id -u)" -eq 0 ]; then
    builder=$SUDO_USER
    builder_home=$(getent passwd "$builder" | cut -d: -f6)
else
    builder=
    builder_home=${HOME:-/root}
fi

find_cargo() {
    have cargo || PATH=$PATH:$builder_home/.cargo/bin
    have cargo || die "Rust is missing. Install it as https://rustup.rs says (Debian 13, Ubuntu 24.04: apt install rustup," \
        "then rustup default stable), and run this again."
}

# cargo, as the person behind sudo where there is one.
run_cargo() {
    if [ -n "$builder" ]; then
        runuser -u "$builder" -- env HOME="$builder_home" PATH="$PATH" cargo "$@"
    else
        cargo "$@"
    fi
}
