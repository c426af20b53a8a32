# bash reads this at the first TAB after the command's name.
. <(mediaconnectctl completions bash)
