"""The bundle: evidence of a run in one file that another can check. Formats alone, no disk. docs/bundle.md."""
