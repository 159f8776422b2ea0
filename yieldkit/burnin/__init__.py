"""The `burnin` folder."""
