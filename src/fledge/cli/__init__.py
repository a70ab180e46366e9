"""The doors: one file per command."""
