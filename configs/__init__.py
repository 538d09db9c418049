"""A file for each experiment, of what differs from `cmav.config`. The package `cmav.configs` is this folder."""
