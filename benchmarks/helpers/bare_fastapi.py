"""What the service is measured against: FastAPI on uvicorn, as Headrace runs it, that reads the request and answers
as many bytes. `bare_fastapi.py BYTES` prints its port."""

from __future__ import annotations

import socket
import sys

import uvicorn
from fastapi import FastAPI, Request, Response

BODY = b'{"status":"succeeded","filler":"' + b"x" * (int(sys.argv[1]) - 34) + b'"}'
app = FastAPI()


@app.post("/run")
async def run(request: Request) -> Response:
    await request.body()
    return Response(BODY, media_type="application/json")


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")).run([listener])
