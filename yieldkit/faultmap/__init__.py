"""The `faultmap` folder."""
