# shellcheck shell=bash disable=SC2154
# What test scripts do with mounts of theirs. Sourced; needs `bin_directory`.

# unmount_below DIRECTORY: every mount in it, also those that are in use.
unmount_below() {
  awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo |
    while read -r directory; do "$bin_directory/pyram-mount" --unmount "$directory" || umount -l "$directory"; done
}
