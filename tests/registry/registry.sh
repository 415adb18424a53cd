# shellcheck shell=bash
# A registry of Debian's and small images, for the tests of pull and push. Sourced, with $work and
# $bin_directory set; `end_registry` belongs into the trap.

# free_port: one that nobody listens on now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_registry [tls]: sets $registry to HOST:PORT; by TLS with $work/tls.crt and tls.key. Somebody may take the port meanwhile: then another one.
start_registry() {
  local port try kind=${1-} tls=
  [ -z "$kind" ] || tls=", tls: {certificate: $work/tls.crt, key: $work/tls.key}"
  for try in 1 2 3 4 5; do
    port=$(free_port)
    cat >"$work/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"$tls}
YAML
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry_process=$!
    while kill -0 "$registry_process" 2>/dev/null; do
      if answers "$port"; then
        registry=127.0.0.1:$port
        return
      fi
      read -rt 0.05 <> <(:) || true
    done
    wait "$registry_process" || true
    echo "the registry did not start (try $try)"
  done
  cat "$work/registry.log"
  return 1
}

# answers PORT: whether something listens there.
answers() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

end_registry() {
  [ -z "${registry_process:-}" ] || { kill "$registry_process" 2>/dev/null; wait "$registry_process" 2>/dev/null; } || true
}

# signed IMAGE: signs it, by a key of the test's own.
signed() {
  [ -f "$work/key.pem" ] || {
    openssl genpkey -algorithm ed25519 -out "$work/key.pem"
    openssl pkey -in "$work/key.pem" -pubout -out "$work/key.pub"
  } 2>/dev/null
  "$bin_directory/pyram-image" sign "$1" --key "$work/key.pem" >/dev/null
}

# small_image FILE SEED BYTES [ARCHITECTURE]: an image of noise, whole, that says what processor it is for.
small_image() {
  local tree=$work/tree-$2
  mkdir -p "$tree/.pyram"
  python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(int(sys.argv[1])).randbytes(int(sys.argv[2])))' \
    "$2" "$3" >"$tree/noise"
  printf '{"format": 1, "time": 1700000000, "python": {"platform": "linux-%s"}, "files": {}, "packages": []}' \
    "${4:-x86_64}" >"$tree/.pyram/manifest.json"
  printf '{"spdxVersion": "SPDX-2.3"}' >"$tree/.pyram/sbom.spdx.json"
  mksquashfs "$tree" "$1" -quiet -no-progress -noappend -comp zstd >/dev/null
  signed "$1"
}

# version 1|2 FILE: two versions of a project, signed: one file of many has changed, one is new, and a large one has
# moved behind it.
version() {
  rm -rf "$work/tree"
  mkdir -p "$work/tree/.pyram" "$work/tree/lib"
  python3 - "$work/tree" "$1" <<'END'
import pathlib, random, sys
root, version = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for number in range(400):
    (root / f"lib/module_{number}.py").write_bytes(random.Random(number).randbytes(2000 + 37 * (number % 50)))
(root / "lib/large.so").write_bytes(random.Random(1000).randbytes(1500000))
if version == 2:
    with open(root / "lib/module_123.py", "ab") as file:
        file.write(b"one line more\n")
    (root / "lib/a_new_module.py").write_bytes(random.Random(2000).randbytes(5000))
(root / ".pyram/manifest.json").write_text('{"format": 1, "time": 1700000000, "python": {"platform": "linux-x86_64"}, '
                                           f'"files": {{}}, "packages": [], "version": {version}}}')
END
  printf 'lib/large.so -1\n' >"$work/sort"
  mksquashfs "$work/tree" "$2" -quiet -no-progress -noappend -comp zstd -b 262144 -all-time 1700000000 \
    -mkfs-time 1700000000 -sort "$work/sort" >/dev/null
  signed "$2"
}
