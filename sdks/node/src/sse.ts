/** The fields between two blank lines of an event stream. */
export interface Block {
  /** The `event` field. */
  readonly event: string | null;
  /** The `data` lines, joined; null if there were none. */
  readonly data: string | null;
  /** The `id` field; null if there was none. */
  readonly id: string | null;
}

const MAX_SIZE = 256 * 1024 * 1024; // characters of one line or block

/** Parses the bytes of an event stream into blocks; the chunks may be split anywhere. */
export class SseParser {
  readonly #decoder = new TextDecoder('utf-8'); // removes a BOM
  #buffer: string[] = [];
  #bufferSize = 0;
  #endsWithCr = false;
  #event: string | null = null;
  #data: string[] = [];
  #dataSize = 0;
  #id: string | null = null;

  /** The blocks that these bytes complete. RangeError if one is too large. */
  feed(bytes: Uint8Array): Block[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#endsWithCr && text) {
      this.#endsWithCr = false;
      if (text.startsWith('\n')) text = text.slice(1);
    }
    const blocks: Block[] = [];
    const lineEnds = /\r\n|\n|\r/g;
    let from = 0;
    for (let end = lineEnds.exec(text); end; end = lineEnds.exec(text)) {
      let line = text.slice(from, end.index);
      if (this.#buffer.length) {
        line = this.#buffer.join('') + line;
        this.#buffer = [];
        this.#bufferSize = 0;
      }
      from = lineEnds.lastIndex;
      if (end[0] === '\r' && from === text.length) this.#endsWithCr = true;
      const block = this.#parseLine(line);
      if (block) blocks.push(block);
    }
    if (from < text.length) {
      this.#buffer.push(text.slice(from));
      this.#bufferSize += text.length - from;
      if (this.#bufferSize > MAX_SIZE) throw new RangeError('a line of the stream is too long');
    }
    return blocks;
  }

  #parseLine(line: string): Block | null {
    if (line === '') return this.#endBlock();
    const colon = line.indexOf(':');
    if (colon === 0) return null; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (name === 'data') {
      this.#data.push(value);
      this.#dataSize += value.length;
      if (this.#dataSize > MAX_SIZE) throw new RangeError('an event of the stream is too large');
    } else if (name === 'event') this.#event = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #endBlock(): Block | null {
    const data = this.#data.length ? this.#data.join('\n') : null;
    const block: Block = { event: this.#event, data, id: this.#id };
    this.#event = this.#id = null;
    this.#data = [];
    this.#dataSize = 0;
    return block.event === null && block.data === null && block.id === null ? null : block;
  }
}
