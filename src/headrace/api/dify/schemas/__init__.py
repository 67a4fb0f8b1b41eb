"""The JSON of Dify's API, declared once: the functions that build a response are annotated with these shapes, and
`/openapi.json` is written from them."""
