"""The `headway` command: one file a subcommand, flags made from the settings' own types."""
