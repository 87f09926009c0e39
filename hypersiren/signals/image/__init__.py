"""Images: read, write, filter, colour."""
