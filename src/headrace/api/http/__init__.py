"""HTTP below the dialects: bodies, parameters, responses, errors and streams."""
