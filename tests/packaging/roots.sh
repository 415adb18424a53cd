# shellcheck shell=bash disable=SC2154,SC2016,SC2046
# Fresh Debian roots for tests of packages. Sourced; needs root.
#
#   unpack_root SUITE sets `root` to a new root of Debian 11 (bullseye), 12 (bookworm) or 13 (trixie),
#                     as debootstrap's minbase makes it
#   mount_in_root     mounts /proc, /dev and /run in it
#   make_root SUITE   both, and a user, name resolution and this machine's network; not for bullseye
#   in_root CMD...    runs CMD in it as root, with a clean environment
#   as_user CMD...    the same as the plain user `user` (uid 61234)
#   remove_root       unmounts and removes it
#
# What debootstrap made is kept in build/cache/roots: it is the same every time, and slow.

cache=$source_directory/build/cache/roots
root=''

skip() { echo "SKIPPED: $*"; exit 77; }

[ "$(id -u)" = 0 ] || skip "root is needed to make a root file system"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

mirror() {
  if [ -n "${PYRAM_DEBIAN_MIRROR:-}" ]; then
    echo "$PYRAM_DEBIAN_MIRROR"
    return
  fi
  local sites
  sites=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep '/debian$' || true)
  echo "${sites:-http://deb.debian.org/debian}" | sed -n 1p
}

# What pyram-image is linked with. Debian 13 has other names for what has 64 bits for times.
libraries_of() {
  if [ "$1" = bookworm ]; then
    echo libssl3 libarchive13 libfsverity0 libcurl4
  else
    echo libssl3t64 libarchive13t64 libfsverity0 libcurl4t64
  fi
}

# What debootstrap makes of SUITE, with everything a test installs later, which then needs no network.
fill_root() {
  local suite=$1 directory=$2
  if [ "$suite" = bullseye ]; then
    debootstrap --variant=minbase --include=libjemalloc2,faketime "$suite" "$directory" "$(mirror)"
    return
  fi
  debootstrap --variant=minbase "$suite" "$directory" "$(mirror)" &&
    cp /etc/resolv.conf "$directory/etc/" &&
    chroot "$directory" apt-get -q -o Acquire::Retries=5 update &&
    chroot "$directory" apt-get -qy -o Acquire::Retries=5 install --download-only fuse3 squashfs-tools \
      debian-archive-keyring ca-certificates $(libraries_of "$suite")
}

# The file in which a suite's root is kept: another one when what goes into it changes.
archive_of() { echo "$cache/$1-$(declare -f fill_root libraries_of | cksum | cut -d' ' -f1).tar"; }

# Two tests may want the same root at once.
cached_root() {
  local suite=$1 archive directory
  archive=$(archive_of "$suite")
  mkdir -p "$cache"
  (
    flock 9
    [ -f "$archive" ] && exit 0
    directory=$(mktemp -d "$cache/$suite.XXXXXX")
    if fill_root "$suite" "$directory" >"$directory.log" 2>&1 && tar -C "$directory" -cf "$archive.part" .; then
      rm -f "$cache/$suite.tar" "$cache/$suite"-*.tar
      mv "$archive.part" "$archive"
    else
      tail -5 "$directory.log"
    fi
    rm -rf --one-file-system "$directory" "$directory.log" "$archive.part"
    [ -f "$archive" ]
  ) 9>"$cache/$suite.tar.lock"
}

# A new root of SUITE as debootstrap made it.
unpack_root() {
  cached_root "$1" || skip "debootstrap could not make a root of $1 (see above)"
  root=$(mktemp -d "$cache/test-$1.XXXXXX")
  tar -C "$root" -xf "$(archive_of "$1")"
  chmod 755 "$root"
}

make_root() {
  unpack_root "$1"
  mount_in_root
  use_machines_network
  chroot "$root" useradd -K UID_MAX=65000 --uid 61234 --create-home --shell /bin/bash user
  chmod 755 "$root/home/user"
  echo server >"$root/etc/hostname"
  echo '127.0.0.1 localhost server' >"$root/etc/hosts"
  # The reader answers yes.
  echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/90yes"
}

# How this machine gets at pip's index and whom it trusts is the root's way too.
use_machines_network() {
  mkdir -p "$root/usr/local/share/ca-certificates"
  cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
  [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
  env | grep -E '^(PIP_INDEX_URL|https?_proxy)=' >>"$root/etc/environment" || true
}

mount_in_root() {
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
}

in_root() {
  chroot "$root" env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

as_user() {
  chroot --userspec=61234:61234 --groups=61234 "$root" env -i HOME=/home/user LC_ALL=C.UTF-8 \
    PATH=/usr/local/bin:/usr/bin:/bin "$@"
}

# Mounts below the root, deepest first.
mounts_in_root() { awk -v root="$root/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | sort -r; }

# A daemon that serves a mount of the root ends when its mount goes.
remove_root() {
  local directory
  [ -n "$root" ] || return 0
  mounts_in_root | while read -r directory; do
    umount "$directory" 2>/dev/null || umount -l "$directory"
  done
  rm -rf --one-file-system "$root"
  root=''
}

# Boots the root's own systemd, in a container that shares this machine's network. From then on
# in_root and as_user run inside. Needs systemd and dbus in the root. Debian 13's runs on control groups of
# version 1, which this machine may have, only when it is told to.
machine=''
boot_root() {
  umount -l "$root/run" "$root/dev" "$root/proc"
  rm -f "$root/etc/machine-id"
  touch "$root/etc/machine-id"
  systemd-nspawn --quiet --hostname=server --register=no --keep-unit --directory="$root" --boot --console=pipe \
    --bind=/dev/fuse --capability=all --system-call-filter='@mount' \
    SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 </dev/null >"$root/console" 2>&1 &
  nspawn=$!
  in_root() {
    nsenter -t "$machine" -a env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      USER=root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
  }
  as_user() {
    nsenter -t "$machine" -a setpriv --reuid 61234 --regid 61234 --clear-groups env -i \
      HOME=/home/user USER=user LC_ALL=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin "$@"
  }
  # The container's first process is a child of nspawn's; its manager answers once it is up.
  until machine=$(pgrep -P "$nspawn" -x systemd) && has_booted; do
    kill -0 "$nspawn" 2>/dev/null || { cat "$root/console"; return 1; }
  done
}
# Waits for the end of the boot, once there is a manager to ask.
has_booted() {
  case $(in_root systemctl --wait is-system-running 2>/dev/null) in
    running | degraded) return 0 ;;
    *) return 1 ;;
  esac
}

halt_root() {
  [ -n "$machine" ] || return 0
  kill -s SIGRTMIN+4 "$machine" 2>/dev/null || true
  wait "$nspawn" || true
  machine=''
}
