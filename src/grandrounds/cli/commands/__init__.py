"""The commands with their arguments and help, by what they are for."""
