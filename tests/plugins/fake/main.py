"""A plugin in plain Python, which does what a call's parameters say: well or badly."""

import base64
import json
import os
import sys
import threading
import urllib.parse
import urllib.request

lock = threading.Lock()
checks: list[int] = []  # of the parent
waiting: list[str] = []  # sessions that wait for `release`
replies: dict[str, list] = {}
replied = threading.Condition()


def write(text: str) -> None:
    with lock:
        sys.stdout.write(text)
        sys.stdout.flush()


def session(id_: str, type_: str, data: object) -> None:
    message = {"event": "session", "session_id": id_, "data": {"type": type_, "data": data}}
    write(json.dumps(message) + "\n\n")


def message(id_: str, type_: str, content: dict, meta: dict | None = None) -> None:
    session(id_, "stream", {"type": type_, "message": content, "meta": meta})


def text(id_: str, content: object) -> None:
    message(id_, "text", {"text": content if isinstance(content, str) else json.dumps(content)})


def end(id_: str) -> None:
    session(id_, "end", {})


def call_back(id_: str, type_: str, request: object, call: str) -> list:
    """What the host answers to a call back."""
    replies[call] = []
    session(id_, "invoke", {"type": type_, "backwards_request_id": call, "request": request})
    answers = []
    with replied:
        while True:
            replied.wait_for(lambda: replies[call])
            answer = replies[call].pop(0)
            if answer["event"] != "response":
                return answers if answer["event"] == "end" else [*answers, {"error": answer["message"]}]
            answers.append(answer["data"])


def in_thread(id_: str, command: dict) -> None:
    match command["do"]:
        case "call back":
            numbers = range(command.get("times", 1))
            answers = [call_back(id_, command["type"], command["request"], f"{id_}-{number}") for number in numbers]
            text(id_, answers[0] if len(answers) == 1 else len(answers))
        case "fetch":
            files = command["files"] if isinstance(command["files"], list) else [command["files"]]
            for file in files:
                with urllib.request.urlopen(file["url"]) as response:
                    text(id_, {"size": len(response.read()), "type": response.headers["Content-Type"], **file})
        case "upload":
            request = {"filename": command["filename"], "mimetype": command["mimetype"]}
            (answer,) = call_back(id_, "upload_file", request, id_)
            body = (
                '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
                + command["content"]
                + "\r\n--b--\r\n"
            )
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            posted = urllib.request.Request(answer["url"], body.encode(), headers)
            with urllib.request.urlopen(posted) as response:
                text(id_, {"status": response.status, **json.loads(response.read())})
    end(id_)


def chunk(id_: str, content: object, *, calls: list | None = None, **delta: object) -> None:
    said = {"role": "assistant", "content": content, "tool_calls": calls or []}
    session(id_, "stream", {"model": "m", "prompt_messages": [], "delta": {"index": 0, "message": said, **delta}})


USAGE = {
    "prompt_tokens": 7,
    "prompt_unit_price": "2",
    "prompt_price_unit": "0.001",
    "prompt_price": "0.014",
    "completion_tokens": 3,
    "completion_unit_price": "4",
    "completion_price_unit": "0.001",
    "completion_price": "0.012",
    "total_tokens": 10,
    "total_price": "0.026",
    "currency": "RMB",
    "latency": 0.5,
}


def serve_model(id_: str, data: dict) -> None:
    match data["action"]:
        case "invoke_llm":
            settings = data["model_parameters"]
            if "error" in settings:
                session(id_, "error", settings["error"])
            elif "rounds" in settings:  # what is answered after so many results of tools
                results = sum(message["role"] == "tool" for message in data["prompt_messages"])
                for said in settings["rounds"][results]:
                    chunk(id_, **said)
            elif "chunks" in settings:
                for said in settings["chunks"]:
                    chunk(id_, **said)
            elif "results" in settings:
                for result in settings["results"]:
                    session(id_, "stream", result)
            else:
                dump = json.dumps(data)
                chunk(id_, dump[:10])
                chunk(id_, dump[10:])
                chunk(id_, "", usage=USAGE, finish_reason="stop")
        case "invoke_text_embedding":
            usage = {"tokens": 4, "total_tokens": 4, "total_price": "0.004", "currency": "USD", "latency": 0.1}
            vectors = [[float(len(text))] for text in data["texts"]]
            session(id_, "stream", {"model": data["model"], "embeddings": vectors, "usage": usage})
        case "invoke_rerank":
            docs = [{"index": index, "text": text, "score": 1.0} for index, text in enumerate(data["docs"])]
            session(id_, "stream", {"model": data["model"], "docs": docs[: data["top_n"]]})
        case "invoke_moderation":
            session(id_, "stream", {"result": "bad" in data["text"]})
        case "invoke_speech2text":
            session(id_, "stream", {"result": f" {data['model']} heard {bytes.fromhex(data['file']).decode()} "})
        case "invoke_tts":
            for said in (data["content_text"], data["voice"]):
                session(id_, "stream", {"result": said.encode().hex(), "mime_type": "audio/x-test"})
    end(id_)


def respond(id_: str, status: int, content: object) -> None:
    body = json.dumps(content).encode().hex()
    session(id_, "stream", {"status": status, "headers": {"X-Fake": "yes"}, "result": body})


def chat(id_: str, app: dict, query: str) -> None:
    """Responds with what an app answers."""
    respond(id_, 200, call_back(id_, "app", {**app, "query": query, "inputs": {}, "response_mode": "blocking"}, id_))
    end(id_)


def serve_endpoint(id_: str, data: dict) -> None:
    """Responds with what the query says; without one, with what came."""
    head, _, body = bytes.fromhex(data["raw_http_request"]).partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(line.split(" ")[1]).query)
    if "results" in query:
        for result in json.loads(query["results"][0]):
            session(id_, "stream", result)
    elif "fail" in query:
        session(id_, "error", {"error_type": "ValueError", "message": f"no luck with {data['settings']['token']}"})
    elif "chat" in query:
        threading.Thread(target=chat, args=(id_, data["settings"]["app"], query["chat"][0]), daemon=True).start()
        return None
    elif "hold" in query:
        session(id_, "stream", {"status": 200, "headers": {}, "result": b"held".hex()})
        return waiting.append(id_)
    else:
        echo = {"line": line, "headers": headers, "body": body.decode(), "settings": data["settings"]}
        respond(id_, 201, echo)
    end(id_)


def change_subscription(id_: str, data: dict) -> None:
    """The answer is among the parameters of the subscription."""
    answer = data["subscription"]["parameters"].get(data["action"])
    if answer is None:
        answer = {"success": True, "properties": {"secret": "made", "request": data}, "expires_at": 2_000_000_000}
    if "error" in answer:
        session(id_, "error", {"error_type": "SubscriptionError", "message": answer["error"]})
    elif "crash" in answer:
        os._exit(3)
    else:
        session(id_, "stream", {"subscription": answer})
    end(id_)


def serve_trigger(id_: str, data: dict) -> None:
    """A request whose body is the answer to it."""
    if "raw_http_request" not in data:
        return change_subscription(id_, data)
    answer = json.loads(bytes.fromhex(data["raw_http_request"]).partition(b"\r\n\r\n")[2])
    if "error" in answer:
        session(id_, "error", {"error_type": "TriggerValidationError", "message": answer["error"]})
    elif answer:
        session(id_, "stream", answer if data["action"] == "dispatch_trigger_event" else {"variables": data, **answer})
    end(id_)


def serve(id_: str, data: dict) -> None:
    if data["type"] == "trigger":
        return serve_trigger(id_, data)
    if data["type"] == "endpoint":
        return serve_endpoint(id_, data)
    if data["type"] == "model" and "tool_parameters" not in data:
        return serve_model(id_, data)
    if data["action"] == "get_tool_runtime_parameters":
        session(id_, "stream", {"parameters": [{"name": "extra", "type": "number", "form": "llm", "required": True}]})
        return end(id_)
    parameters = data["agent_strategy_params"] if data["type"] == "agent_strategy" else data["tool_parameters"]
    match parameters.get("do"):
        case "request":
            text(id_, data)
        case "checks":
            text(id_, len(checks))
        case "process":
            text(
                id_, {"pid": os.getpid(), "parent": os.getppid(), "folder": os.getcwd(), "variables": dict(os.environ)}
            )
        case "open":
            try:
                with open(parameters["path"], parameters.get("mode", "rb")) as file:
                    text(id_, f"opened {file.name}")
            except OSError as error:
                text(id_, type(error).__name__)
        case "allocate":
            try:
                text(id_, len(bytearray(parameters["size"])))
            except MemoryError:
                text(id_, "MemoryError")
        case "start":
            import subprocess

            command = [sys.executable, "-c", "import time; time.sleep(600)"]
            text(id_, subprocess.Popen(command, start_new_session=parameters["session"]).pid)
        case "umask":
            text(id_, oct(os.umask(0o077)))
        case "fail":
            traceback = f"Traceback with {data.get('credentials')}"
            error = {"error_type": "ValueError", "message": parameters["message"], "args": {"traceback": traceback}}
            session(id_, "error", error)
        case "crash":
            sys.stderr.write(f"the last words {data['credentials']}\n")
            os._exit(parameters.get("code", 3))
        case "signal":
            os.kill(os.getpid(), parameters["number"])
        case "garbage":
            write('no JSON at all\n[1]\n"text"\n{"event": "news"}\n{"event": "session"}\n{broken\n\x00\xff\n')
            write('{"event": "session", "session_id": "unknown", "data": {"type": "stream", "data": {}}}\n')
            write('{"event": "log", "data": {"level": "INFO", "message": "from the logger"}}\n')
            write('{"event": "error", "data": {"error": "a line I cannot parse"}}\n')
            sys.stderr.write("printed\n")
            text(id_, "after garbage")
        case "long":
            text(id_, "x" * parameters["size"])
        case "many":
            for _ in range(parameters["count"]):
                text(id_, "x" * parameters.get("size", 1))
        case "parts":
            line = json.dumps(
                {"event": "session", "session_id": id_, "data": {"type": "stream", "data": TEXT}}, ensure_ascii=False
            )
            for byte in line.encode():
                with lock:
                    os.write(1, bytes([byte]))
            write("\n\n")
        case "messages":
            for type_, content, meta in parameters["messages"]:
                message(id_, type_, content, meta)
        case "call back without end":
            for number in range(parameters["count"]):
                session(id_, "invoke", {"type": "storage", "backwards_request_id": str(number), "request": {}})
        case "stream":
            session(id_, "stream", parameters["data"])
        case "blob":
            content, total = base64.b64decode(parameters["content"]), parameters.get("total")
            pieces = [content[at : at + 8192] for at in range(0, len(content), 8192)]
            for number, piece in enumerate([*pieces, b""]):
                is_end = number == len(pieces)
                if is_end and parameters.get("cut"):
                    break
                chunk = {"id": "b", "sequence": number, "total_length": len(content) if total is None else total}
                chunk |= {"blob": base64.b64encode(piece).decode(), "end": is_end}
                message(id_, "blob_chunk", chunk, parameters.get("meta"))
        case "unknown type":
            return session(id_, "sing", {})
        case "hold":
            text(id_, "held")
            return waiting.append(id_)
        case "release":
            for other in waiting:
                text(other, "released")
                end(other)
            text(id_, len(waiting))
            waiting.clear()
        case "never, then at once":  # the first call never ends
            marker = os.path.join(os.environ["HOME"], "called")
            if not os.path.exists(marker):
                return open(marker, "w").close()
            text(id_, "done")
        case "no end":
            return None
        case "close stdout":
            os.close(1)
            return None
        case "call back" | "fetch" | "upload":
            return threading.Thread(target=in_thread, args=(id_, parameters), daemon=True).start()
        case _:
            text(id_, parameters)
    end(id_)


TEXT = {"type": "text", "message": {"text": "in pieces: é 漢 🎉"}}


def start() -> None:
    """As the file `start` says, if there is one."""
    try:
        with open("start") as file:
            how, _, argument = file.read().partition(" ")
    except FileNotFoundError:
        return
    if how == "fail":
        sys.exit(f"ImportError: {argument}")
    if how == "hang":
        threading.Event().wait()
    if how == "fail-times":  # as often as this, counted in its home
        path = os.path.join(os.environ["HOME"], "starts")
        with open(path, "a+") as file:
            file.write("x")
            file.seek(0)
            if len(file.read()) <= int(argument):
                sys.exit("not this time")


def watch_parent() -> None:
    """The SDK ends as soon as its parent is the first process of the system."""
    while not done.wait(0.02):
        if os.getppid() == 1:
            os._exit(255)
        checks.append(os.getppid())


done = threading.Event()
start()
threading.Thread(target=watch_parent, daemon=True).start()
write(json.dumps({"name": "fake", "version": "0.0.1"}) + "\n\n")
write('{"event": "heartbeat", "session_id": null, "data": {}}\n\n')
while True:
    for line in sys.stdin:
        frame = json.loads(line)
        if frame["event"] == "request":
            serve(frame["session_id"], frame["data"])
        else:
            with replied:
                # nobody may wait for it: "call back without end" reads no answer
                replies.setdefault(frame["data"]["backwards_request_id"], []).append(frame["data"])
                replied.notify_all()
    # like the SDK: the end of stdin does not end it
