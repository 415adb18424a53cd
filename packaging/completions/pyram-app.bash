# bash completion for pyram-app                                            -*- shell-script -*-

_pyram_app() {
  local cur prev words cword
  _init_completion || return

  local i command= place=0
  for ((i = 1; i < cword; i++)); do
    if [[ ${words[i]} != -* ]]; then
      if [[ $command ]]; then
        ((++place))
      else
        command=${words[i]}
      fi
    fi
  done

  case $prev in
    -n | --lines)
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
    # An option may be written as "-n,--lines", which _parse_help halves.
    mapfile -t COMPREPLY < <(compgen -W "$("$1" "$command" --help 2>/dev/null |
      grep -oE '^ +-[^ ]+' | tr -s ' ,' '\n\n' | sed 's/[={].*//')" -- "$cur")
    return
  fi
  if ((place == 0)); then
    # The sites that there are; a new one has a name that nobody can guess.
    [[ $command == install ]] ||
      mapfile -t COMPREPLY < <(compgen -W "$(cd /var/lib/pyram/apps 2>/dev/null && ls)" -- "$cur")
    return
  fi
  case $command in
    install | upgrade) _filedir sqfs ;;
  esac
} &&
  complete -F _pyram_app pyram-app
