"""Tasks: questions put to a field. A task never learns where the field's weights came from."""
