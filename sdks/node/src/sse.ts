/** What stands between two blank lines of an event stream. */
export interface Block {
  /** The `event` field. */
  readonly event: string | null;
  /** The `data` lines, joined; null where there were none. */
  readonly data: string | null;
  /** The `id` field; null where there was none. */
  readonly id: string | null;
}

const LARGEST = 256 * 1024 * 1024; // characters of one line or block: beyond it nothing sensible comes

/** Splits the bytes of an event stream into blocks, however they are cut into pieces. */
export class SseParser {
  readonly #decoder = new TextDecoder('utf-8'); // takes a BOM away
  #rest: string[] = [];
  #restSize = 0;
  #afterReturn = false;
  #event: string | null = null;
  #data: string[] = [];
  #dataSize = 0;
  #id: string | null = null;

  /** The blocks that these bytes complete. RangeError where one is larger than can be held. */
  feed(bytes: Uint8Array): Block[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (this.#afterReturn && text) {
      this.#afterReturn = false;
      if (text.startsWith('\n')) text = text.slice(1);
    }
    const blocks: Block[] = [];
    const ends = /\r\n|\n|\r/g;
    let from = 0;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      let line = text.slice(from, end.index);
      if (this.#rest.length) {
        line = this.#rest.join('') + line;
        this.#rest = [];
        this.#restSize = 0;
      }
      from = ends.lastIndex;
      if (end[0] === '\r' && from === text.length) this.#afterReturn = true;
      const block = this.#line(line);
      if (block) blocks.push(block);
    }
    if (from < text.length) {
      this.#rest.push(text.slice(from));
      this.#restSize += text.length - from;
      if (this.#restSize > LARGEST) throw new RangeError('a line of the stream is too long');
    }
    return blocks;
  }

  #line(line: string): Block | null {
    if (line === '') return this.#end();
    const colon = line.indexOf(':');
    if (colon === 0) return null; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (name === 'data') {
      this.#data.push(value);
      this.#dataSize += value.length;
      if (this.#dataSize > LARGEST) throw new RangeError('an event of the stream is too large');
    } else if (name === 'event') this.#event = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #end(): Block | null {
    const data = this.#data.length ? this.#data.join('\n') : null;
    const block: Block = { event: this.#event, data, id: this.#id };
    this.#event = this.#id = null;
    this.#data = [];
    this.#dataSize = 0;
    return block.event === null && block.data === null && block.id === null ? null : block;
  }
}
