# Prints what zsh offers at the end of a line: offers.zsh FOLDER-OF-COMPLETIONS LINE
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= PROMPT_EOL_MARK= LISTMAX=1000; fpath=($1 \$fpath); stty rows 1000 columns 200"
zpty -w shell "autoload -U compinit && compinit -u -D; zstyle ':completion:*' list-separator '#'"
zpty -w shell "bindkey '^I' list-choices; print START''ED"
zpty -r -m shell line '*STARTED*'
zpty -w -n shell "$2"$'\t'$'\C-u'"print FIN''ISHED"$'\n'
zpty -r -m shell line '*FINISHED*'
print -r -- "${line//$'\r'/}"
zpty -d shell
