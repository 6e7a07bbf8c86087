"""From a record to a verdict, and nothing else."""
