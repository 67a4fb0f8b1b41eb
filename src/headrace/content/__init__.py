"""What bytes and texts are: types of files, encodings of text, JSON that is not quite JSON."""
