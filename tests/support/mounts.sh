# shellcheck shell=bash disable=SC2154
# What test scripts do with mounts of theirs. Sourced; needs `bin_directory`.

# unmount_below DIRECTORY: every mount in it, also those that are in use.
unmount_below() {
  awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo |
    while read -r directory; do "$bin_directory/pyram-mount" --unmount "$directory" || umount -l "$directory"; done
}

# own_namespace SCRIPT ARGUMENT...: starts the script anew in a mount namespace of its own, once: there it may mount
# over directories of the system (/etc/pyram) while other tests run. Only in the one that tests/run made.
own_namespace() {
  [ -n "${PYRAM_TEST_NAMESPACE:-}" ] && [ "$(id -u)" = 0 ] && [ "${PYRAM_TEST_NAMESPACE_OF:-}" != "$1" ] || return 0
  exec env PYRAM_TEST_NAMESPACE_OF="$1" unshare --mount --propagation private "$@"
}
