"""The ends of a command that are no faults of it: errors that a user can mend, and being asked to stop."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do. Printed as it is."""


class Preempted(Exception):
    """The job was asked to stop (SIGTERM). What it has is saved, and the same command goes on."""
