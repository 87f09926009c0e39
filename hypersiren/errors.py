"""The one kind of error that is for a user."""


class UserError(ValueError):
    """Something a user can mend: a missing file, a wrong setting, a full disk. The message is one clear line."""
