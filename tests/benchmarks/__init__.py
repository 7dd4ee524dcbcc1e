"""What a user waits for, measured: `python -m tests.benchmarks [NAME …]`."""
