mediaconnectctl completions fish | source
