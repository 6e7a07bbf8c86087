"""Nothing to do here: the plugin (harness/plugin) comes with the installed package, see pyproject.toml."""
