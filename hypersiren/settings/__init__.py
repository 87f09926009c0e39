"""Settings: sections, YAML, flags, their description."""
