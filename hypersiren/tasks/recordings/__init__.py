"""Tasks on recordings: audio, video."""
