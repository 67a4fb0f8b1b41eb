"""The HTTP API: Dify's Service API, the asynchronous API, OpenAI's chat completions."""
