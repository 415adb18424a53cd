# Prints what zsh offers at the end of a line: offers.zsh DIRECTORY-OF-COMPLETIONS LINE
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= PROMPT_EOL_MARK= LISTMAX=1000; fpath=($1 \$fpath); stty rows 1000 columns 200"
zpty -w shell "autoload -U compinit && compinit -u -D; zstyle ':completion:*' list-separator '#'"
# One key does it all: zsh shows nothing while more keys wait to be read.
zpty -w shell "offer() { zle list-choices; zle -R; zle -I; print FIN''ISHED }; zle -N offer"
zpty -w shell "bindkey '^I' offer; print START''ED"
zpty -r -m shell line '*STARTED*'
zpty -w -n shell "$2"$'\t'
zpty -r -m shell line '*FINISHED*'
print -r -- "${line//$'\r'/}"
zpty -d shell
