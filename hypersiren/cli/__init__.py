"""The `hypersiren` command, one file a subcommand; the only room that prints."""
