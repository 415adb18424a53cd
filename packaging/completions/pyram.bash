# bash completion for pyram                                                -*- shell-script -*-

_pyram() {
  local cur prev words cword
  _init_completion || return

  # Past Pyram's own options everything is PyPy's, and that begins with its first word.
  local i script=
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      --image) ((i++)) ;;
      --image=* | --toram | --jit | -X | -W | -m | -c) ;;
      -*) ;;
      *) script=${words[i]} ;;
    esac
  done
  if [[ $script ]]; then
    _filedir
    return
  fi

  case $prev in
    --image)
      _filedir sqfs
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
      return
      ;;
    -m)
      mapfile -t COMPREPLY < <(compgen -W 'venv pip ensurepip http.server django json.tool timeit
        unittest zipapp' -- "$cur")
      return
      ;;
    -c | -X | -W | --jit)
      return
      ;;
  esac

  if [[ $prev == --pyram-doctor ]]; then
    COMPREPLY=(--json)
    return
  fi
  if [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '--image --toram --pyram-help --pyram-version
      --pyram-doctor --help --version --jit -B -c -d -E -h -i -I -m -O -OO -q -s -S -u -v -V -W
      -x -X' -- "$cur")
    return
  fi
  _filedir '@(py|pyc|pyz|zip)'
} &&
  complete -F _pyram pyram
