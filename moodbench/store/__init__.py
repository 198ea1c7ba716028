"""What happened, as plain Parquet and files: commit, read, nothing appended, locked or rewritten."""
