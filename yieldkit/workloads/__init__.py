"""The `workloads` folder."""
