"""The command `prefrec`: one file per subcommand, which parses arguments, makes one call and prints."""
