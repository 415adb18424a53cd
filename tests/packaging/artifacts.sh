# shellcheck shell=bash disable=SC2154
# A release of this build, made once for all tests that want a part of it. Sourced; needs
# `bin_directory` and `source_directory`.
#
#   make_release   sets `release`, the directory that packaging/release made, signed by the key `signer`, whose
#                  secret is in `signers` (for GNUPGHOME)
#
# It is made again when a program, the image, or what packaging/release reads is newer.

maintainer='The testers <test@pyram.invalid>'
homepage=https://pyram.invalid/

make_release() {
  local kept=$source_directory/build/test-release made
  release=$kept/files
  signers=$kept/gnupg
  mkdir -p "$kept"
  (
    flock 9
    made=$kept/complete
    if [ -f "$made" ] && [ -z "$(find "$bin_directory"/pyram{,-mount,-image,-bundle} "$source_directory"/packaging \
      "$source_directory"/docs "$source_directory"/{CHANGELOG,README}.md "${BASH_SOURCE[0]}" \
      "$source_directory/build/images/default.sqfs" -newer "$made" -type f -print -quit)" ]; then
      exit 0
    fi
    rm -rf "$made" "$release" "$signers"
    mkdir -m 700 "$signers"
    touch "$made.new" # Before anything is read.
    GNUPGHOME=$signers gpg --batch --quiet --passphrase '' --quick-gen-key 'Test <test@pyram.invalid>' ed25519 sign 0
    GNUPGHOME=$signers "$source_directory/packaging/release" --no-build --binary-dir "$(dirname "$bin_directory")" \
      --key "$(fingerprint_of "$signers")" --url http://release.invalid --output "$release" \
      --maintainer "$maintainer" --homepage "$homepage"
    GNUPGHOME=$signers gpgconf --kill gpg-agent
    mv "$made.new" "$made"
  ) 9>"$kept/lock" >"$kept/log" 2>&1 || { cat "$kept/log"; return 1; }
  signer=$(fingerprint_of "$signers")
}

fingerprint_of() { GNUPGHOME=$1 gpg --batch --list-keys --with-colons | awk -F: 'length($10) == 40 && !seen++ { print $10 }'; }

# sign_sums DIRECTORY: SHA256SUMS of a release that was changed, signed anew. Its files may be links to those of
# another.
sign_sums() {
  rm -f "$1"/SHA256SUMS*
  (cd "$1" && find . -maxdepth 1 -type f ! -name .sums -printf '%P\0' | sort -z | xargs -0 sha256sum >.sums && mv .sums SHA256SUMS)
  GNUPGHOME=$signers gpg --batch --quiet --yes --armor --output "$1/SHA256SUMS.asc" --detach-sign "$1/SHA256SUMS"
  GNUPGHOME=$signers gpgconf --kill gpg-agent
}
