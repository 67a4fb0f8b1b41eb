# ruff: noqa: E501 (programs on one line each)
"""JavaScript that reaches for what is not its own, and the program that lets it: `python node_attacks.py NODE FOLDER
LEAVE_OUT USER` runs them in confined Nodes and prints what got through, as JSON.

FOLDER is one that everybody may write to, with a file `secret` in it that everybody may read. USER is a number, and 0:
stay who you are. An attack gets through if it answers `{"leak": ...}`, if anything happened outside, or if it took more
memory or time than it may. Memory and time have other limits than the outside has, so that INWARD is left out with a
wall of those.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.adapters.sandbox import node_keeper
from headrace.adapters.sandbox.node_wire import NodePlan

MEMORY, PEAK = 224 << 20, 420 << 20  # bytes a Node may have beyond its start; bytes of any attack at most
ALONE = (
    "the raw binding of files",
    "the raw binding of spawn",
    "a trace of events",
)  # each ends its Node, or holds it up
GRACE, SECONDS, BRIEF = 60.0, 1.0, 0.2  # for what ends by itself; for what may end at the time limit, and for what must


def returns(expression: str) -> str:
    """An attack that gets through if the expression has a value."""
    return (
        f"function main() {{ try {{ return {{leak: String({expression}).slice(0, 200)}} }} "
        "catch (error) { return {refused: error.code || error.message} } }"
    )


def resolves(expression: str) -> str:
    return (
        f"async function main() {{ try {{ return {{leak: String(await ({expression})).slice(0, 200)}} }} "
        "catch (error) { return {refused: error.code || error.message} } }"
    )


def emits(target: str, event: str) -> str:
    return resolves(f"new Promise((done, fail) => {target}.on('error', fail).on('{event}', () => done('{event}')))")


def together(attacks: Mapping[str, str]) -> str:
    """A program that begins all attacks at once, and returns what came of each within a second."""
    begun = ", ".join(f"{json.dumps(name)}: () => {{ {code}; return main() }}" for name, code in attacks.items())
    return (
        f"async function main() {{ const outcome = {{}}; const all = Object.entries({{{begun}}}).map("
        "async ([name, attack]) => { try { outcome[name] = await attack() } catch (error) { outcome[name] = {} } }); "
        f"await Promise.race([Promise.all(all), new Promise((done) => setTimeout(done, {SECONDS * 1000:.0f}))]); "
        "return outcome }"
    )


def outward(secret: str, folder: str, port: int, victim: int) -> dict[str, str]:
    """Files, programs, processes, the network."""
    shared = f"{{path: '{secret}', folder: '{folder}'}}"
    worker = (
        "const {parentPort} = require('worker_threads'); "
        f"parentPort.postMessage(String(require('fs').readFileSync('{secret}')))"
    )
    return {
        "readFileSync": returns(f"require('fs').readFileSync('{secret}')"),
        "readFile of promises": resolves(f"require('fs').promises.readFile('{secret}')"),
        "createReadStream": emits(f"require('fs').createReadStream('{secret}')", "data"),
        "opendir": resolves(f"require('fs').promises.opendir('{folder}')"),
        "the raw binding of files": returns(f"process.binding('fs').open('{secret}', 0, 0, undefined, {{}})"),
        "require of a path": returns(f"require('{secret}')"),
        "import of a path": resolves(f"import('file://{secret}')"),
        "a file as a module": returns(f"require('module')._load('{secret}')"),
        "own environment": returns("require('fs').readFileSync('/proc/self/environ')"),
        "own memory": returns("require('fs').openSync('/proc/self/mem', 'r')"),
        "own memory, to write": returns("require('fs').openSync('/proc/self/mem', 'r+')"),
        "the parent's environment": returns("require('fs').readFileSync(`/proc/${process.ppid}/environ`)"),
        "the list of processes": returns("require('fs').readdirSync('/proc')"),
        "the root": returns("require('fs').readdirSync('/')"),
        "size of a file": returns(f"require('fs').statSync('{secret}').size"),
        "existence of a file": f"function main() {{ return require('fs').existsSync('{secret}') ? {{leak: 1}} : {{}} }}",
        "access": returns(f"String(require('fs').accessSync('{secret}'))"),
        "realpath": returns(f"require('fs').realpathSync('{folder}')"),
        "readlink": returns("require('fs').readlinkSync('/proc/self/exe')"),
        "write": returns(f"String(require('fs').writeFileSync('{folder}/x', '1'))"),
        "append": returns(f"String(require('fs').appendFileSync('{folder}/x', '1'))"),
        "mkdir": returns(f"String(require('fs').mkdirSync('{folder}/d'))"),
        "mkdtemp": returns(f"require('fs').mkdtempSync('{folder}/t')"),
        "symlink": returns(f"String(require('fs').symlinkSync('/etc/passwd', '{folder}/l'))"),
        "link": returns(f"String(require('fs').linkSync('{secret}', '{folder}/l'))"),
        "rename": returns(f"String(require('fs').renameSync('{secret}', '{folder}/l'))"),
        "unlink": returns(f"String(require('fs').unlinkSync('{secret}'))"),
        "truncate": returns(f"String(require('fs').truncateSync('{secret}'))"),
        "chmod": returns(f"String(require('fs').chmodSync('{secret}', 0o777))"),
        "utimes": returns(f"String(require('fs').utimesSync('{secret}', 1, 1))"),
        "copy": returns(f"String(require('fs').cpSync('{secret}', '{folder}/c'))"),
        "chdir": returns("String(process.chdir('/etc'))"),
        "other descriptors": (
            "function main() { const fs = require('fs'), found = []; for (let n = 4; n < 300; n++) "
            "try { const s = fs.fstatSync(n); if (s.isFile() || s.isDirectory() || s.isSocket()) found.push(n) } catch {}"
            " return found.length ? {leak: found} : {} }"
        ),
        "a report": returns(f"require('fs').existsSync(process.report.writeReport('{folder}/r.json')) || nothing"),
        "a heap snapshot": returns(f"require('v8').writeHeapSnapshot('{folder}/h')"),
        "a trace of events": returns("require('trace_events').createTracing({categories: ['node']}).enable(), nothing"),
        "WASI": resolves(
            "(async () => { const {WASI} = require('wasi'); "
            f"return new WASI({{version: 'preview1', preopens: {{'/': '{folder}'}}}}).start(nothing) }})()"
        ),
        "a worker that reads": resolves(
            "new Promise((done, fail) => { const {Worker} = require('worker_threads'); "
            f"const w = new Worker({json.dumps(worker)}, {{eval: true}}); w.on('message', done); w.on('error', fail) }})"
        ),
        "a worker with a file": emits(f"new (require('worker_threads').Worker)('{secret}')", "message"),
        "dlopen": returns("String(process.dlopen({exports: {}}, '/lib/x86_64-linux-gnu/libutil.so.1'))"),
        "setuid": returns("process.setuid(0), process.getuid() || process.setuid(1)"),
        "setgroups": returns("process.setgroups([0])"),
        "execSync": returns("require('child_process').execSync('id')"),
        "spawn": resolves(
            "new Promise((done, fail) => require('child_process').spawn('/bin/sh', ['-c', 'id'])"
            ".on('error', fail).on('exit', (code) => code === 0 ? done('ran') : fail(new Error(code))))"
        ),
        "the raw binding of spawn": returns(
            "process.binding('spawn_sync').spawn({file: '/bin/id', args: ['id'], stdio: []}).pid || nothing"
        ),
        "fork": resolves(
            "new Promise((done, fail) => { const c = require('child_process').fork('/x.js'); c.on('error', fail); "
            "c.on('spawn', () => done('spawned')) })"
        ),
        "cluster": resolves(
            "new Promise((done, fail) => { const c = require('cluster').fork(); c.on('error', fail); "
            "c.on('online', () => done('online')); setTimeout(() => fail(new Error('nothing')), 500) })"
        ),
        "a signal to another": returns(f"process.kill({victim}, 9)"),
        "a signal to the parent": returns("process.kill(process.ppid, 9)"),
        "a signal to the group": returns("process.kill(0, 9)"),
        "a signal to all": returns("process.kill(-1, 9)"),
        "the debugger by signal": returns("String(process._debugProcess(process.pid))"),
        "another's priority": returns(f"String(require('os').setPriority({victim}, 19))"),
        "connect": emits(f"require('net').connect({port}, '127.0.0.1')", "connect"),
        "connect over IPv6": emits(f"require('net').connect({port}, '::1')", "connect"),
        "the raw binding of TCP": returns(
            "(() => { const {TCP, TCPConnectWrap, constants} = process.binding('tcp_wrap'); "
            f"const e = new TCP(constants.SOCKET).connect(new TCPConnectWrap(), '127.0.0.1', {port}); "
            "if (e) throw new Error(e); return 'connected' })()"
        ),
        "fetch": resolves(f"fetch('http://127.0.0.1:{port}/').then((answer) => answer.text())"),
        "http": emits(f"require('http').get('http://127.0.0.1:{port}/')", "response"),
        "tls": emits(f"require('tls').connect({port}, '127.0.0.1')", "connect"),
        "a datagram": resolves(
            "new Promise((done, fail) => { const s = require('dgram').createSocket('udp4'); s.on('error', fail); "
            f"s.send('x', {port}, '127.0.0.1', (error) => error ? fail(error) : done('sent')) }})"
        ),
        "a name": resolves("require('dns').promises.lookup('localhost')"),
        "a name by own question": resolves("require('dns').promises.resolve('example.com')"),
        "listen": emits("require('net').createServer().listen(0)", "listening"),
        "a unix socket": emits(f"require('net').connect('{folder}/socket')", "connect"),
        "an abstract socket": emits("require('net').connect('\\0headrace-test')", "connect"),
        "a unix server": emits(f"require('net').createServer().listen('{folder}/server')", "listening"),
        "the inspector": returns("(require('inspector').open(0, '127.0.0.1'), require('inspector').url() || nothing)"),
        "a session of the inspector": resolves(
            "new Promise((done, fail) => { const {Session} = require('inspector'); const s = new Session(); s.connect(); "
            f"const expression = \"process.mainModule.require('fs').readFileSync('{secret}')+''\"; "
            "s.post('Runtime.evaluate', {expression}, (e, r) => e || r.exceptionDetails ? fail(new Error('x')) : done(r.result.value)) })"
        ),
        "all at once": f"const shared = {shared}; " + returns("require('fs').readFileSync(shared.path)"),
    }


# What they must end in: an answer (any), no answer, or the time limit.
INWARD: dict[str, tuple[str, set[str]]] = {
    "natives": (
        "function main() { require('v8').setFlagsFromString('--allow-natives-syntax'); return {v: eval('%DebugTrace()')} }",
        {"E", "R", "died"},
    ),
    "wasm memory": (
        "function main() { const m = []; try { for (;;) m.push(new WebAssembly.Memory({initial: 1000, maximum: 65536})) }"
        " catch (error) { return {n: m.length} } }",
        {"R", "died", "timeout"},
    ),
    "a forged frame": (
        "function main() { require('fs').writeSync(3, Buffer.from('R\\xff\\xff\\xff\\xff', 'latin1')); for (;;); }",
        {"forged"},
    ),
    "noise on descriptor 3": (
        "function main() { const b = Buffer.alloc(1 << 20, 'Z'); for (let i = 0; i < 64; i++) require('fs').writeSync(3, b) }",
        {"forged"},
    ),
    "a loop": ("function main() { for (;;); }", {"timeout"}),
    "a loop of promises": ("async function main() { for (;;) await 1 }", {"timeout"}),
    "a loop of ticks": (
        "function main() { const f = () => process.nextTick(f); f(); return new Promise(() => {}) }",
        {"timeout"},
    ),
    "a pattern": ("function main() { return {x: /^(a+)+$/.test('a'.repeat(40) + 'b')} }", {"timeout"}),
    "waiting for ever": (
        "function main() { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) }",
        {"timeout"},
    ),
    "never settling": ("function main() { return new Promise(() => {}) }", {"E"}),
    "the heap": (
        "function main() { const a = []; for (;;) a.push(new Array(1000).fill(Math.random())) }",
        {"died", "timeout"},
    ),
    "buffers": (
        "function main() { const a = []; try { for (;;) a.push(Buffer.alloc(16 << 20, 1)) } catch { return {n: a.length} } }",
        {"R", "died", "timeout"},
    ),
    "shared buffers": (
        "function main() { const a = []; try { for (;;) { const s = new SharedArrayBuffer(32 << 20); "
        "new Uint8Array(s).fill(1); a.push(s) } } catch { return {n: a.length} } }",
        {"R", "died", "timeout"},
    ),
    "a string": (
        "function main() { let s = 'x'; try { for (;;) s += s } catch { return {n: s.length} } }",
        {"R", "died", "timeout"},
    ),
    "strings in a list": (
        "function main() { const a = []; for (;;) a.push('x'.repeat(1e6) + a.length) }",
        {"died", "timeout"},
    ),
    "a map": ("function main() { const m = new Map(); for (let i = 0; ; i++) m.set(i, {i}) }", {"died", "timeout"}),
    "compression": (
        "function main() { const z = require('zlib'); const b = z.gzipSync(Buffer.alloc(1 << 26)); const a = []; "
        "try { for (;;) a.push(z.gunzipSync(b)) } catch { return {n: a.length} } }",
        {"R", "died", "timeout"},
    ),
    "recursion": ("function main() { const f = () => f() + 1; try { f() } catch (e) { return {e: e.name} } }", {"R"}),
    "a huge answer": ("function main() { return {x: 'a'.repeat(50e6)} }", {"E", "died", "timeout"}),
    "a deep answer": (
        "function main() { let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return {a} }",
        {"E", "died", "timeout"},
    ),
    "exit": ("function main() { process.exit(0) }", {"E"}),
    "exit at once": ("function main() { process.reallyExit(0) }", {"died"}),
    "abort": ("function main() { process.abort() }", {"died"}),
    "no more listeners": (
        "function main() { process.removeAllListeners(); process.exitCode = 0; throw new Error('x') }",
        {"died"},
    ),
    "builtins replaced": (
        "function main() { JSON.stringify = () => '{\"x\": 1}'; Buffer.from = () => null; Object.prototype.then = undefined; "
        "Array.prototype.push = () => { throw 1 }; return {ok: 1} }",
        {"R"},
    ),
    "writing to the terminal": ("function main() { process.stdout.write('x'.repeat(1e6)); return {ok: 1} }", {"R"}),
    "workers without end": (
        "async function main() { const {Worker} = require('worker_threads'); let n = 0; for (let i = 0; i < 100; i++) { "
        "try { const w = new Worker('setInterval(() => {}, 1000)', {eval: true}); await new Promise((done, fail) => { "
        "w.on('online', done); w.on('error', fail); w.on('exit', fail) }); n++ } catch { break } } return {n} }",
        {"R", "died", "timeout", "E"},
    ),
}


class Arena:
    """Runs attacks one after another behind one set of walls."""

    def __init__(self, node: str, leave_out: str) -> None:
        self.starter, preparation = node_keeper.prepare(NodePlan(node, leave_out=leave_out))
        assert preparation["supervised"] == (leave_out != "listener"), preparation
        self.data = preparation["data"]

    def run(self, code: str, seconds: float = GRACE) -> tuple[str, str, int]:
        """The sign of the answer, its text, and how much memory was used at most. Of threads: how many at once."""
        mine, theirs = socket.socketpair()
        pid = self.starter.start(theirs, data=self.data + MEMORY, heap=112, cpu_seconds=20)
        theirs.close()
        try:
            sign, text = self._converse(mine, code, seconds)
        finally:
            mine.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
        return sign, text, usage.ru_maxrss << 10

    def _converse(self, mine: socket.socket, code: str, seconds: float) -> tuple[str, str]:
        data, sent, end = bytearray(), False, time.monotonic() + GRACE
        while True:
            ready, _, _ = select.select([mine, self.starter.supervisor], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return "timeout" if sent else "did not start", ""
            if self.starter.supervisor in ready:
                self.starter.supervisor.attend()
            if mine not in ready:
                continue
            try:
                piece = mine.recv(1 << 20)
            except ConnectionError:
                piece = b""
            if not piece:
                return "died" if sent else "did not start", ""
            data += piece
            if not sent:
                assert data == b"r", data
                job = json.dumps({"code": code, "inputs": "{}", "most": 1 << 20}).encode()
                mine.sendall(len(job).to_bytes(4, "big") + job)
                data, sent, end = bytearray(), True, time.monotonic() + seconds
            elif len(data) >= 6:  # behind the sign that it has begun
                size = int.from_bytes(data[2:6], "big")
                if size > 1 << 20 or data[1:2] not in (b"R", b"E"):
                    return "forged", ""
                if len(data) - 6 >= size:
                    return data[1:2].decode(), data[6 : 6 + size].decode("utf-8", "replace")


def main(node: str, folder: str, leave_out: str, user: int) -> dict[str, Any]:
    secret = f"{folder}/secret"
    before = sorted(os.listdir(folder))
    with open(secret) as file:
        content = file.read()
    nobody = 65534 if os.geteuid() == 0 else None
    quiet = subprocess.DEVNULL
    victim = subprocess.Popen(["sleep", "100"], stdin=quiet, stdout=quiet, stderr=quiet, user=user or nobody)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{folder}/socket")
        unix.listen()
        before = sorted(os.listdir(folder))
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        arena = Arena(node, leave_out)
        through: dict[str, Any] = {}

        def outside() -> str:
            if select.select([server, unix], [], [], 0)[0]:
                return "connected"
            with open(secret) as file:
                same = file.read() == content
            if sorted(os.listdir(folder)) != before or not same:
                return "wrote"
            return "killed" if victim.poll() is not None else ""

        attacks = outward(secret, folder, server.getsockname()[1], victim.pid)

        def attack(names: Sequence[str]) -> None:
            """Runs attacks in one Node, and each half of them again in another where it is not sure what came of all.
            A Node that ends over one, or hangs, is fine: some of its own checks abort when a call is refused."""
            sign, text, peak = arena.run(together({name: attacks[name] for name in names}), 2 * SECONDS)
            outcome = json.loads(text) if sign == "R" else {}
            leaks = [name for name in names if "leak" in (outcome.get(name) or {})]
            effect = outside() or ("leak" if leaks else "")
            if len(names) > 1 and (effect or sign != "R" or peak > PEAK):
                middle = len(names) // 2
                attack(names[:middle])
                attack(names[middle:])
            elif effect or sign not in ("R", "E", "died", "timeout") or peak > PEAK:
                through[names[0]] = [effect, sign, text[:200], peak]

        attack([name for name in attacks if name not in ALONE])
        for name in ALONE:
            attack([name])
        inward = {} if leave_out else INWARD
        for name, (code, ends) in inward.items():
            seconds = BRIEF if ends == {"timeout"} else SECONDS if "timeout" in ends else GRACE
            sign, text, peak = arena.run(code, seconds)
            effect = outside()
            if effect or sign not in ends or peak > PEAK:
                through[name] = [effect, sign, text[:200], peak]
            if name.startswith("workers") and sign == "R" and json.loads(text)["n"] > 6:
                through[name] = [text]
    sound = arena.run("function main() { return {ok: 1} }")
    victim.kill()
    victim.wait()
    return {"through": through, "attacks": len(attacks) + len(inward), "sound": sound[:2], "uid": os.geteuid()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
