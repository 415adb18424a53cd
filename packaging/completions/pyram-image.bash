# bash completion for pyram-image                                          -*- shell-script -*-

_pyram_image() {
  local cur prev words cword
  _init_completion || return

  local i command=
  for ((i = 1; i < cword; i++)); do
    if [[ ${words[i]} != -* ]]; then
      command=${words[i]}
      break
    fi
  done

  case $prev in
    --from)
      mapfile -t COMPREPLY < <(compgen -W 'debian:trixie debian:sid tar: dir:' -- "$cur")
      [[ ${COMPREPLY[*]-} == *: ]] && compopt -o nospace
      __ltrim_colon_completions "$cur"
      return
      ;;
    --arch)
      mapfile -t COMPREPLY < <(compgen -W 'amd64 arm64' -- "$cur")
      return
      ;;
    -o | --output | --wheel | -r | --requirement | --rules | --train | --key | --sign | --script | --urls | --ca-file)
      _filedir
      return
      ;;
    --cache-dir | --work-dir | --find-links)
      _filedir -d
      return
      ;;
    --level | --block-size | --mirror | --with | --keep | --strip | --index-url | --app | --settings | --env | --name | \
      --digest | --timeout | --retries | --rate)
      return
      ;;
  esac

  if [[ ! $command ]]; then
    # The commands are what stands below "Subcommands:" in the help.
    mapfile -t COMPREPLY < <(compgen -W "--help --version $("$1" --help 2>/dev/null |
      awk '/^S[Uu][Bb][Cc][Oo][Mm][Mm][Aa][Nn][Dd][Ss]:/ { on = 1; next } on && NF { print $1 }')" -- "$cur")
    return
  fi
  if [[ $cur == -* ]]; then
    # An option may be written as "-o,--output", which _parse_help halves.
    mapfile -t COMPREPLY < <(compgen -W "$("$1" "$command" --help 2>/dev/null |
      grep -oE '^ +-[^ ]+' | tr -s ' ,' '\n\n' | sed 's/[={].*//')" -- "$cur")
    return
  fi
  case $command in
    info | diff | verify | sign | blocks | train | bundle | install | remove | outdated)
      # Not with compgen -W, which expands its words: a file may have any name.
      local directory image
      for directory in "${XDG_DATA_HOME:-$HOME/.local/share}" /usr/local/share /usr/share; do
        for image in "$directory"/pyram/images/*.sqfs; do
          [[ -e $image ]] || continue
          image=${image##*/}
          printf -v image %q "${image%.sqfs}"
          [[ $image == "$cur"* ]] && COMPREPLY+=("$image")
        done
      done
      ;;
  esac
  [[ $command == remove || $command == list ]] || _filedir
} &&
  complete -F _pyram_image pyram-image
