# shellcheck shell=bash disable=SC2154
# Wheels from the package index, for test scripts. Sourced; needs `source_directory`, and `python`, the
# command that has pip.
#
# They are kept in build/test-wheels for the next run, as the distribution's packages are.

wheels=$source_directory/build/test-wheels

# have_wheel PATTERN [OPTION...] REQUIREMENT...: whether a wheel of that name (a pattern) is there. If
# not, pip downloads or builds the requirements. Fails if no package index can be reached.
have_wheel() {
  mkdir -p "$wheels"
  [ -z "$(find "$wheels" -maxdepth 1 -name "$1" -print -quit)" ] || return 0
  (
    flock 9 # Two tests may want the same wheel at once.
    timeout 300 "$python" -m pip wheel -q --disable-pip-version-check -w "$wheels" "${@:2}"
  ) 9>"$wheels.lock"
}

# install_wheels DIRECTORY [OPTION...] REQUIREMENT...: installs them, out of the kept wheels alone.
install_wheels() {
  "$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --no-index \
    --find-links "$wheels" --target "$@"
}
