"""Errors that a person at the command line can mend."""


class UsageError(Exception):
    """Something about the arguments or the machine is wrong; the message is one line and says the fix."""
