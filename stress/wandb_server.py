"""A server on this machine that Weights & Biases takes for its own, and that can be made to misbehave."""

from __future__ import annotations

import gzip
import http.server
import json
import threading

GOOD, HANGS = "good", "hangs"


class Server(http.server.ThreadingHTTPServer):
    """As much of a server of Weights & Biases as a run and `wandb sync` ask for; it keeps what it is told.

    mood: GOOD, HANGS, or the HTTP status that every question is answered with.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.run, self.config, self.artifacts, self.lines, self.files = {}, {}, {}, {}, {}
        self.mood: str | int = GOOD
        self.closed = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, operation, given):
        if operation == "UpsertBucket":
            self.run |= {key: value for key, value in given.items() if value is not None}
            self.config |= {key: entry["value"] for key, entry in json.loads(given["config"] or "{}").items()}
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": given["name"], "displayName": given["displayName"], "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": "{}", "historyLineCount": 0}, "inserted": True}}
        if operation == "CreateArtifact":
            self.artifacts[given["input"]["artifactTypeName"]] = given["input"]["digest"]
            there = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": there}}
        if operation == "CreateRunFiles":
            places = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": places}}
        if operation == "Viewer":
            user = {"id": "me", "entity": "me", "username": "me", "email": "", "flags": "{}"}
            return {"viewer": {**user, "teams": {"edges": []}}}
        return {"serverInfo": {"features": []}, "project": None}

    def handle_error(self, request, client_address):
        pass  # clients leave connections open until they end


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.body()
        if self.refused():
            return None
        if self.path == "/graphql":
            asked = json.loads(body)
            return self.reply({"data": self.server.answer(asked["operationName"], asked.get("variables"))})
        if self.path.endswith("/file_stream"):
            for name, part in json.loads(body).get("files", {}).items():
                self.server.lines.setdefault(name, []).extend(json.loads(line) for line in part["content"])
        return self.reply({})

    def do_PUT(self):
        if self.refused():
            return
        self.server.files[self.path.removeprefix("/upload/")] = self.body()
        self.reply({})

    def refused(self):
        """Whether the server is in no mood to answer; if so it has said so, or has said nothing for a long time."""
        if self.server.mood == GOOD:
            return False
        if self.server.mood == HANGS:
            self.server.closed.wait(600)
            self.close_connection = True
        else:
            self.reply({}, int(self.server.mood))
        return True

    def body(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def reply(self, answer, status=200):
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass
