# bash completion for pyram-mount                                          -*- shell-script -*-

_pyram_mount() {
  local cur prev words cword
  _init_completion || return

  case $prev in
    --prefetch)
      mapfile -t COMPREPLY < <(compgen -W 'none hot all' -- "$cur")
      return
      ;;
    --format)
      mapfile -t COMPREPLY < <(compgen -W 'text json prometheus' -- "$cur")
      return
      ;;
    -o)
      local before=
      [[ $cur == *,* ]] && before=${cur%,*},
      mapfile -t COMPREPLY < <(compgen -P "$before" -W 'allow_other allow_root offset= subdir= dev suid timeout= fetch_timeout=
        uid= gid= notify_pipe= nonempty noexec nosupervisor noconfine noresend ro' -- "${cur##*,}")
      [[ ${COMPREPLY[*]-} == *= ]] && compopt -o nospace
      return
      ;;
    --threads | --cache-size | --idle-timeout | --ready-fd)
      return
      ;;
  esac

  if [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$("$1" --help 2>/dev/null |
      grep -oE "^ +-[^ ]+" | tr -s " ," "\n\n" | sed "s/[={].*//")" -- "$cur")
    [[ ${COMPREPLY[*]-} == *= ]] && compopt -o nospace
    return
  fi
  case " ${words[*]} " in
    *' --status '* | *' --unmount '* | *' --reload '*)
      # Not with compgen -W, which expands its words: other users choose the names of mount points.
      local directory type quoted
      while read -r _ directory type _; do
        [[ $type == fuse.pyram ]] || continue
        printf -v directory %b "${directory//\\/\\0}" # The kernel writes a blank as \040.
        printf -v quoted %q "$directory"
        [[ $directory == "$cur"* || $quoted == "$cur"* ]] && COMPREPLY+=("$quoted")
      done </proc/mounts
      ;;
    *) _filedir ;;
  esac
} &&
  complete -F _pyram_mount pyram-mount
