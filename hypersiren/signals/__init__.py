"""Images, sounds and videos, one or a set of them: read, write, measure."""
