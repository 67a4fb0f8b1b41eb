"""The JSON of the asynchronous API: every request and response, with an example of each."""
