"""The `pillion` command. Each subcommand imports what it needs when it runs, so that `pillion lint` never loads a server."""
