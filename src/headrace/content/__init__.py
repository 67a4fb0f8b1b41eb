"""Types of files, encodings of text, and JSON that is not quite valid."""
