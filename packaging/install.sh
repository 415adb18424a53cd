#!/bin/sh
# Installs Pyram from a release, upgrades it, or removes it:
#
#   sh install.sh [--from DIRECTORY|URL] [--key FINGERPRINT|FILE] [--prefix DIRECTORY]
#   sh install.sh --remove [--prefix DIRECTORY]
#
#   --from    where the release lies; not needed when this script is run from there
#   --key     whose signature it has to have: the fingerprint of an OpenPGP key, or a file with the key
#   --prefix  ~/.local if it isn't given, /usr/local for root: PREFIX/bin/pyram, PREFIX/lib/pyram
#
# Needs no root, and of the system a POSIX shell, tar, gzip and sha256sum; for a URL curl, wget or apt. Where
# gpgv, gpg or sqv is installed it checks the release's signature. It says what it has checked.
set -eu

from=''
key=''
prefix=''
remove=''
work=''
say() { printf 'pyram: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
usage() { printf 'install.sh: %s; it takes --from DIRECTORY|URL, --key FINGERPRINT|FILE, --prefix DIRECTORY, --remove\n' "$1" >&2; exit 2; }

# ---- fetching

# fetch NAME: into $work. False where the release has no such file.
fetch() {
  : >"$work/said"
  case $from in
    http://* | https://*)
      if command -v curl >/dev/null; then
        curl -fsSL -o "$work/$1" "$from/$1" 2>"$work/said"
      elif command -v wget >/dev/null; then
        wget -q -O "$work/$1" "$from/$1" 2>"$work/said"
      elif [ -x /usr/lib/apt/apt-helper ]; then
        /usr/lib/apt/apt-helper download-file "$from/$1" "$work/$1" >/dev/null 2>"$work/said"
      else
        fail "cannot fetch $from: there is neither curl nor wget; install one, or copy the release here and give --from DIRECTORY"
      fi ;;
    *) [ -f "$from/$1" ] && cp -- "$from/$1" "$work/$1" ;;
  esac
}
must_fetch() {
  fetch "$1" || fail "cannot get $1 from $from: $(tail -n 1 "$work/said" | grep . || echo 'there is no such file')"
}

# ---- checking

# binary_key FILE: the key as gpgv wants it, whether FILE is text or not, in $work/key.
binary_key() {
  if grep -q '^-----BEGIN PGP PUBLIC KEY' "$1" 2>/dev/null; then
    awk '/^-----END/ || /^=....$/ { inside = 0 } inside; /^[ \t\r]*$/ { inside = 1 }' "$1" | base64 -d >"$work/key"
  else
    cat -- "$1" >"$work/key"
  fi
}

verifier() {
  for program in gpgv gpg sqv; do
    command -v "$program" && return 0
  done
  return 1
}

# signer: the fingerprint of the key in $work/key that signed SHA256SUMS; false for every other signature.
signer() {
  case $(verifier) in
    *gpgv) gpgv --homedir "$work" --status-fd 1 --keyring "$work/key" "$work/SHA256SUMS.asc" "$work/SHA256SUMS" >"$work/status" 2>"$work/said" ;;
    *gpg)
      gpg --homedir "$work" --batch --status-fd 1 --no-default-keyring --keyring "$work/key" --trust-model always \
        --verify "$work/SHA256SUMS.asc" "$work/SHA256SUMS" >"$work/status" 2>"$work/said" ;;
    *)
      sqv --keyring "$work/key" "$work/SHA256SUMS.asc" "$work/SHA256SUMS" >"$work/status" 2>"$work/said" &&
        tail -n 1 "$work/status"
      return ;;
  esac || return 1
  sed -n 's/^\[GNUPG:\] VALIDSIG .* \([0-9A-F]*\)$/\1/p' "$work/status" | grep .
}

upper() { printf '%s' "$1" | tr -d ' ' | tr '[:lower:]' '[:upper:]'; }

# Says who signed SHA256SUMS, and fails where that is not who it has to be.
check_signature() {
  known='' wanted=''
  if [ -n "$key" ] && [ -f "$key" ]; then
    known=$key
  elif [ -n "$key" ]; then
    wanted=$(upper "$key")
    case $wanted in *[!0-9A-F]*) fail "--key $key is neither a file nor a fingerprint" ;; esac
    # A short one can be made to measure.
    [ ${#wanted} -ge 40 ] || fail "--key takes the whole fingerprint of 40 digits, not $key"
  elif [ -f "$home/release-key.gpg" ]; then
    known=$home/release-key.gpg
  fi
  if ! fetch SHA256SUMS.asc; then
    [ -z "$known$wanted" ] || fail "the release in $from is not signed; nothing was installed"
    say 'not signed: only the checksums are verified, that is that nothing was damaged on its way'
    return
  fi
  if ! verifier >/dev/null; then
    [ -z "$known$wanted" ] || fail 'cannot check the signature: there is no gpgv, gpg or sqv; install one of them'
    say 'there is no gpgv, gpg or sqv: the signature is not verified, only the checksums are'
    return
  fi
  if [ -z "$known" ]; then
    must_fetch pyram-release-key.gpg
    known=$work/pyram-release-key.gpg
  fi
  binary_key "$known"
  who=$(signer) || fail "the signature of $from/SHA256SUMS is not valid, or of another key than $known; nothing was installed"
  [ -z "$wanted" ] || [ "$who" = "$wanted" ] || fail "signed by $who, not by $wanted; nothing was installed"
  if [ -n "$key" ]; then
    say "signed by $who, as --key wants it"
  elif [ "$known" = "$home/release-key.gpg" ]; then
    say "signed by $who, as what is installed"
  else
    say "signed by $who; the key came with the release, so compare this fingerprint with one from elsewhere, or give --key"
  fi
  cp "$work/key" "$work/release-key.gpg"
}

# ---- installing

# make_directory DIRECTORY: notes what --remove has to remove.
make_directory() {
  [ -d "$1" ] && return 0
  make_directory "$(dirname "$1")"
  mkdir "$1"
  printf '%s\n' "$1" >>"$work/made"
}

# check_place NAME: a link is never put in the place of what isn't ours.
check_place() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    case $(readlink "$1" || true) in
      */lib/pyram/*) ;;
      *) fail "$1 exists already and is not of this script's; move it away, or give another --prefix" ;;
    esac
  fi
}

put_link() { # FILE, of $home and of $prefix
  make_directory "$(dirname "$prefix/$1")"
  ln -sf "$(printf '%s' "$1" | sed 's#[^/]*/#../#g; s#[^/]*$##')lib/pyram/$1" "$prefix/$1"
}

links() { # TREE: what is linked from PREFIX to its place in the tree
  for file in bin/pyram bin/pyram-mount; do echo "$file"; done
  (cd "$1" && find share/man -type f)
}

install_release() {
  if [ -z "$from" ]; then
    from=$(dirname "$0")
    [ -f "$from/SHA256SUMS" ] || fail 'where is the release? give --from DIRECTORY or --from URL'
  fi
  from=${from%/}
  machine=$(uname -m)
  [ "$(uname -s)" = Linux ] || fail "Pyram runs on Linux, not on $(uname -s)"
  must_fetch SHA256SUMS
  archive=$(sed -n "s/^[0-9a-f]*[ *]*\(pyram-[^/]*-$machine\.tar\.gz\)$/\1/p" "$work/SHA256SUMS")
  [ -n "$archive" ] || fail "the release in $from has nothing for $machine; it has: $(sed -n 's/.*pyram-[^/]*-\([^-]*\)\.tar\.gz$/\1/p' "$work/SHA256SUMS" | tr '\n' ' ')"
  check_signature
  must_fetch "$archive"
  must_fetch install.sh
  (cd "$work" && grep -E "[ *]($archive|install\.sh)\$" SHA256SUMS | sha256sum -c >said 2>&1) ||
    fail "damaged or changed: $(sed -n 's/: FAILED.*//p' "$work/said" | tr '\n' ' ')does not have the checksum of SHA256SUMS; nothing was installed"
  say 'the checksums match'

  make_directory "$(dirname "$home")"
  new=$(dirname "$home")/.pyram-new.$$
  mkdir "$new"
  gzip -dc "$work/$archive" | tar -xf - -C "$new"
  tree=$(echo "$new"/pyram-*)
  "$tree/bin/pyram" --pyram-version >/dev/null || fail "cannot run what $archive has on this machine"
  cp "$work/install.sh" "$tree/install.sh"
  [ ! -f "$work/release-key.gpg" ] || cp "$work/release-key.gpg" "$tree/release-key.gpg"
  [ ! -f "$home/.made" ] || cp "$home/.made" "$tree/.made"
  links "$tree" | while read -r file; do check_place "$prefix/$file"; done
  replace "$tree"
  rm -rf "$new"
  new=''
  links "$home" | while read -r file; do put_link "$file"; done
  cat "$work/made" >>"$home/.made"
  say "installed $("$home/bin/pyram" --pyram-version) in $home"
  case :$PATH: in
    *":$prefix/bin:"*) say "try: pyram -c 'print(\"hello\")'" ;;
    *) say "$prefix/bin is not in PATH: run $prefix/bin/pyram, or add to ~/.profile: export PATH=\"$prefix/bin:\$PATH\"" ;;
  esac
}

# replace TREE: file by file, each by a rename, so that there is a whole pyram at every moment.
replace() {
  mkdir -p "$home"
  (cd "$1" && find . -type d) | while read -r directory; do mkdir -p "$home/$directory"; done
  (cd "$1" && find . -type f) | while read -r file; do mv -f "$1/$file" "$home/$file"; printf '%s\n' "$file"; done >"$work/now"
  (cd "$home" && find . -type f) | while read -r file; do
    grep -Fxq -e "$file" "$work/now" || rm -f "$home/$file"
  done
  # Links to manual pages that went.
  find "$prefix/share/man" -type l 2>/dev/null | while read -r link; do
    case $(readlink "$link") in */lib/pyram/*) [ -e "$link" ] || rm -f "$link" ;; esac
  done
}

# ---- removing

# Where pyram keeps mounts and what it unpacked: of this user.
runtime_directories() {
  for directory in "${XDG_RUNTIME_DIR:-/nonexistent}/pyram" "/run/user/$(id -u)/pyram" "/tmp/pyram-$(id -u)" \
    "/dev/shm/pyram-$(id -u)" "$([ "$(id -u)" = 0 ] && echo /run/pyram)"; do
    [ ! -d "$directory" ] || find "$directory" -maxdepth 0 -user "$(id -u)"
  done | sort -u
}

# Of all whose programs may run from what is removed.
all_runtime_directories() {
  runtime_directories
  [ "$(id -u)" != 0 ] || for directory in /run/user/[0-9]*/pyram /tmp/pyram-[0-9]* /dev/shm/pyram-[0-9]*; do
    [ ! -d "$directory" ] || printf '%s\n' "$directory"
  done
}

# Processes whose program lies below DIRECTORY, in whatever mount namespace they are.
processes_below() {
  for process in /proc/[0-9]*; do
    case $(readlink "$process/exe" 2>/dev/null || true) in "$1"/*) echo "${process#/proc/}" ;; esac
  done
}

# Waits for the end: it may be writing what is removed next.
end_process() {
  kill "$1" 2>/dev/null || return 0
  turns=0
  while kill -0 "$1" 2>/dev/null && [ "$turns" -lt 100 ]; do
    sleep 0.1 2>/dev/null || sleep 1
    turns=$((turns + 1))
  done
}

# Each image in a run-time directory is NAME-KEY; ours is called default.
images_of() { find "$1" -maxdepth 1 -name 'default-*' | sed -n 's#.*/\(default-[0-9a-f]\{16\}\).*#\1#p' | sort -u; }

our_mounts() {
  sed -n 's#^[0-9]* [0-9]* [^ ]* [^ ]* \([^ ]*\) .* - fuse\.pyram \([^ ]*\) .*#\2 \1#p' /proc/self/mountinfo |
    while read -r image point; do
      [ "$image" != "$home/share/pyram/images/default.sqfs" ] || printf '%s\n' "$point"
    done
}

remove_release() {
  [ -d "$home" ] || fail "there is no $home: nothing was installed there by this script; give its --prefix"
  busy=''
  for directory in $(all_runtime_directories | sort -u); do
    for image in $(images_of "$directory"); do
      for process in $(processes_below "$directory/$image") $(processes_below "$directory/$image.ns") $(processes_below "$directory/$image.ram"); do
        busy="$busy $process ($(cat "/proc/$process/comm" 2>/dev/null || true))"
      done
    done
  done
  [ -z "$busy" ] || fail "programs run from the image:$busy; end them first"
  # The daemons of this installation, with their mounts; also those in user namespaces.
  our_mounts | while read -r point; do "$home/bin/pyram-mount" --unmount "$point" 2>/dev/null || true; done
  for process in $(processes_below "$home"); do end_process "$process"; done
  point=$(our_mounts | sed -n 1p)
  [ -z "$point" ] || fail "the image is still mounted on $point; end what uses it, unmount it, and try again"
  for directory in $(runtime_directories); do
    for image in $(images_of "$directory"); do
      ! grep -q " $directory/$image " /proc/self/mountinfo || continue # Another installation's.
      rm -rf -- "$directory/$image.ram" "$directory/$image.ns"-* "$directory/$image.lock" "$directory/$image.pid"
      rmdir -- "$directory/$image" "$directory/$image.ns" 2>/dev/null || true
    done
    rmdir -- "$directory/by-image" "$directory" 2>/dev/null || true
  done
  for file in $(links "$home"); do
    case $(readlink "$prefix/$file" || true) in */lib/pyram/*) rm -f "$prefix/$file" ;; esac
  done
  sort -ru "$home/.made" >"$work/made"
  rm -rf "$home"
  while read -r directory; do rmdir "$directory" 2>/dev/null || true; done <"$work/made"
  say "removed from $prefix"
  images=${XDG_DATA_HOME:-${HOME:-}/.local/share}/pyram
  [ ! -d "$images" ] || say "$images has images of yours and stays"
}

main() {
  while [ $# -gt 0 ]; do
    case $1 in
      --from | --key | --prefix)
        [ $# -gt 1 ] || usage "$1 needs a value"
        case $1 in --from) from=$2 ;; --key) key=$2 ;; --prefix) prefix=$2 ;; esac
        shift ;;
      --remove) remove=yes ;;
      *) usage "unknown option $1" ;;
    esac
    shift
  done
  if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?"install.sh: HOME is not set; give --prefix"}/.local; fi
  fi
  case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
  home=$prefix/lib/pyram
  new=''
  umask 022
  work=$(mktemp -d)
  trap 'rm -rf "$work" ${new:+"$new"}' EXIT
  trap 'exit 130' INT TERM
  : >"$work/made"
  if [ -n "$remove" ]; then remove_release; else install_release; fi
}

# Called at the end: a script that came through a pipe and was cut off does nothing.
main "$@"
