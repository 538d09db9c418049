"""The errors that a user can cause and mend."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do. Printed as it is."""
