"""JavaScript without Node.js: QuickJS, which only has the language itself.

Dify runs Node.js. Features that would be missing or different here raise an error that says so: those of Node.js
(`Buffer`, `URL`, timers, `require` ...), `Intl`, and everything that depends on a locale. The wording of errors
differs, too.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

NEEDS_NODE = "needs Node.js"

# Globals of Node.js 20 beyond the language: `Object.getOwnPropertyNames(globalThis)`, and those of CommonJS.
_GLOBALS = """
AbortController AbortSignal Blob BroadcastChannel Buffer ByteLengthQueuingStrategy CompressionStream
CountQueuingStrategy Crypto CryptoKey CustomEvent DecompressionStream Event EventTarget File FormData Headers Intl
MessageChannel MessageEvent MessagePort Performance PerformanceEntry PerformanceMark PerformanceMeasure
PerformanceObserver PerformanceObserverEntryList PerformanceResourceTiming ReadableByteStreamController
ReadableStream ReadableStreamBYOBReader ReadableStreamBYOBRequest ReadableStreamDefaultController
ReadableStreamDefaultReader Request Response SubtleCrypto TextDecoder TextDecoderStream TextEncoder
TextEncoderStream TransformStream TransformStreamDefaultController URL URLSearchParams WebAssembly WritableStream
WritableStreamDefaultController WritableStreamDefaultWriter __dirname __filename clearImmediate clearInterval
clearTimeout crypto exports fetch fs global module process require setImmediate setInterval setTimeout
structuredClone performance
"""
GLOBALS = frozenset(_GLOBALS.split())
# Methods whose result depends on a locale, and the prototypes that have them.
LOCALE_METHODS: dict[str, tuple[str, ...]] = {
    "toLocaleString": ("Number", "BigInt", "Date", "Array", "Object.getPrototypeOf(Int8Array)"),
    "toLocaleDateString": ("Date",),
    "toLocaleTimeString": ("Date",),
    "localeCompare": ("String",),
}
LOCALE_CASES = ("toLocaleLowerCase", "toLocaleUpperCase")  # with a locale as an argument

_PRELUDE = """
(() => {
  const raise = (name) => { throw new Error(`${name} %NEEDS%`); };
  for (const name of %GLOBALS%) {
    Object.defineProperty(globalThis, name, {
      configurable: true, enumerable: false,
      get: () => raise(name),
      set(value) { Object.defineProperty(globalThis, name, { value, writable: true, configurable: true }); },
    });
  }
  const method = (target, name, value) =>
    Object.defineProperty(target, name, { value, writable: true, configurable: true });
  for (const [name, owners] of %METHODS%) {
    for (const owner of owners) method(owner.prototype, name, { [name]() { raise(name); } }[name]);
  }
  for (const name of %CASES%) {
    const plain = String.prototype[name];
    method(String.prototype, name, { [name](...locales) {
      return locales.length && locales[0] !== undefined ? raise(`${name} of a locale`) : plain.call(this);
    } }[name]);
  }
  // Node.js names the time zone, which is UTC
  const { toString, toTimeString } = Date.prototype;
  const zoned = (text) => text.endsWith('+0000') ? `${text} (Coordinated Universal Time)` : text;
  method(Date.prototype, 'toString', { toString() { return zoned(toString.call(this)); } }.toString);
  method(Date.prototype, 'toTimeString', { toTimeString() { return zoned(toTimeString.call(this)); } }.toTimeString);
  const inner = Date;
  globalThis.Date = new Proxy(inner, { apply: () => new inner().toString() });
  method(Date.prototype, 'constructor', globalThis.Date);
  const quiet = ['log', 'info', 'warn', 'error', 'debug', 'trace', 'dir', 'table'];
  globalThis.console = Object.fromEntries(quiet.map((name) => [name, () => undefined]));
})();
"""
_CALL = """
(() => {
  const { stringify, parse } = JSON;
  return (text) => {
    const box = { state: "waiting", text: "" };
    const keep = (value) => { box.text = stringify(value) ?? "null"; box.state = "done"; };
    const fail = (error) => {
      box.text = error instanceof Error ? `${error.name}: ${error.message}\\n${error.stack}` : String(error);
      box.state = "failed";
    };
    const value = main(parse(text));
    if (value !== null && typeof value === "object" && typeof value.then === "function") {
      value.then(keep).catch(fail);
    } else {
      keep(value);
    }
    return box;
  };
})()
"""


class ScriptFailed(Exception):
    """The message is for the program's author."""


def run(code: str, inputs: Mapping[str, Any], memory: int) -> str:
    """The result of the program's `main`, or of its promise, as JSON. Memory in bytes. ScriptFailed."""
    # importing the package `quickjs` would start a thread, and a process with threads should not fork
    context = importlib.import_module("_quickjs").Context()
    context.set_memory_limit(memory)
    context.set_max_stack_size(1024 * 1024)
    try:
        context.eval(_prelude())
        context.eval(code)
        box = context.eval(_CALL)(json.dumps(inputs))
        while context.execute_pending_job():
            pass
        outcome: dict[str, str] = json.loads(box.json())
    except BaseException as error:
        raise ScriptFailed(_shown(str(error)) or type(error).__name__) from None
    if outcome["state"] != "done":
        raise ScriptFailed(_shown(outcome["text"]) or "main returned a promise that never settles")
    return outcome["text"]


def _prelude() -> str:
    owners = ", ".join(f"[{json.dumps(name)}, [{', '.join(of)}]]" for name, of in LOCALE_METHODS.items())
    replaced = {"%NEEDS%": NEEDS_NODE, "%GLOBALS%": json.dumps(sorted(GLOBALS)), "%METHODS%": f"[{owners}]"}
    replaced["%CASES%"] = json.dumps(LOCALE_CASES)
    text = _PRELUDE
    for mark, value in replaced.items():
        text = text.replace(mark, value)
    return text


def _shown(text: str) -> str:
    if text == "null":  # out of memory even for an error object
        return "InternalError: out of memory"
    return text.replace("<input>", "main.js").strip()
