"""The `emulator` folder."""
