"""The command `prefrec`: one file for each subcommand, which parses arguments, makes one call and prints."""
