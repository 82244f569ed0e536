"""The command `prefrec`: a file a subcommand, arguments in, one call, words out."""
