/** Markdown as models write it, as a tree. What is not known here stays text; no HTML is read. */

export type Inline =
  | { kind: 'text' | 'code'; text: string }
  | { kind: 'strong' | 'em' | 'del'; children: Inline[] }
  | { kind: 'link'; url: string; children: Inline[] }
  | { kind: 'break' };

export type Block =
  | { kind: 'paragraph'; children: Inline[] }
  | { kind: 'heading'; level: number; children: Inline[] }
  | { kind: 'code'; text: string }
  | { kind: 'quote'; blocks: Block[] }
  | { kind: 'list'; start: number | null; items: Block[][] }
  | { kind: 'table'; head: Inline[][]; rows: Inline[][][] }
  | { kind: 'rule' };

const DEEPEST = 8; // nested blocks, or marks; what is deeper stays text

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const TABLE_LINE = /^ *\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?$/;
const isBlank = (line: string | undefined): boolean => !line?.trim();

export function blocksOf(text: string, depth = 0): Block[] {
  const lines = text.replaceAll('\r\n', '\n').split('\n');
  const blocks: Block[] = [];
  let at = 0;
  const take = (belongs: (line: string) => boolean): string[] => {
    const start = at;
    while (at < lines.length && belongs(lines[at]!)) at += 1;
    return lines.slice(start, at);
  };
  while (at < lines.length) {
    const line = lines[at]!;
    const fence = FENCE.exec(line)?.[1];
    const heading = HEADING.exec(line);
    if (isBlank(line)) at += 1;
    else if (fence) {
      at += 1;
      const code = take((next) => !(next.trimStart().startsWith(fence) && !next.trim().replaceAll(fence[0]!, '')));
      at += 1; // a fence that is not closed yet ends with the text
      blocks.push({ kind: 'code', text: code.join('\n') });
    } else if (heading) {
      at += 1;
      const title = heading[2]!.trimEnd().replace(/ #{1,6}$/, '');
      blocks.push({ kind: 'heading', level: heading[1]!.length, children: inlinesOf(title) });
    } else if (RULE.test(line)) {
      at += 1;
      blocks.push({ kind: 'rule' });
    } else if (depth < DEEPEST && QUOTE.test(line)) {
      const quoted = take((next) => QUOTE.test(next)).map((next) => next.replace(QUOTE, ''));
      blocks.push({ kind: 'quote', blocks: blocksOf(quoted.join('\n'), depth + 1) });
    } else if (depth < DEEPEST && ITEM.test(line)) blocks.push(list());
    else if (line.includes('|') && TABLE_LINE.test(lines[at + 1] ?? '')) {
      const [head, , ...rows] = take((next) => next.includes('|')).map(cellsOf);
      blocks.push({ kind: 'table', head: head!, rows });
    } else {
      const first = at;
      const text = take((next) => at === first || !(isBlank(next) || begins(next)));
      blocks.push({ kind: 'paragraph', children: inlinesOf(text.map((next) => next.trim()).join('\n')) });
    }
  }
  return blocks;

  function begins(line: string): boolean {
    const isNested = depth < DEEPEST && (QUOTE.test(line) || ITEM.test(line));
    return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || isNested;
  }

  /** The items from here on that are as far to the left as the first; what is further to the right belongs to them. */
  function list(): Block {
    const [, indent, mark] = ITEM.exec(lines[at]!)!;
    const isOrdered = /\d/.test(mark!);
    const items: Block[][] = [];
    for (;;) {
      const item = ITEM.exec(lines[at] ?? '');
      if (!item || item[1]!.length !== indent!.length || /\d/.test(item[2]!) !== isOrdered) break;
      const first = lines[at]!.slice(item[0].length);
      at += 1;
      const inside = (next: string): boolean => next.length - next.trimStart().length > indent!.length;
      const more = take((next) => inside(next) || (isBlank(next) && inside(lines[at + 1] ?? '')));
      const margin = Math.min(
        ...more.filter((next) => next.trim()).map((next) => next.length - next.trimStart().length),
      );
      items.push(blocksOf([first, ...more.map((next) => next.slice(margin))].join('\n'), depth + 1));
      let next = at;
      while (next < lines.length && isBlank(lines[next])) next += 1;
      if (ITEM.test(lines[next] ?? '')) at = next; // blank lines between items
    }
    return { kind: 'list', start: isOrdered ? Number.parseInt(mark!, 10) : null, items };
  }
}

function cellsOf(line: string): Inline[][] {
  const cells = line
    .trim()
    .replace(/^\|/, '')
    .replace(/\|$/, '')
    .split(/(?<!\\)\|/);
  return cells.map((cell) => inlinesOf(cell.trim().replaceAll('\\|', '|')));
}

// each part has a largest length, so that hostile text costs no more than its length
const INLINE = new RegExp(
  [
    /\\(?<escaped>[\\`*_{}[\]()#+\-.!|~>])/u,
    /(?<ticks>`{1,3})(?<code>[^`][\s\S]{0,2000}?)\k<ticks>(?!`)/u,
    /\*\*(?<strong>[^\s*][\s\S]{0,2000}?)\*\*/u,
    /(?<![\p{L}\p{N}])__(?<strong2>[^\s_][\s\S]{0,2000}?)__(?![\p{L}\p{N}])/u,
    /\*(?<em>[^\s*][^*]{0,2000}?)\*/u,
    /(?<![\p{L}\p{N}])_(?<em2>[^\s_][^_]{0,2000}?)_(?![\p{L}\p{N}])/u,
    /~~(?<del>[^\s~][^~]{0,2000}?)~~/u,
    /!?\[(?<label>[^[\]]{0,1000})\]\(\s{0,9}<?(?<url>(?:[^\s()<>]|\([^\s()<>]{0,200}\)){1,2000})>?(?:\s{1,9}"[^"]{0,500}")?\s{0,9}\)/u,
    /(?<plain>https?:\/\/[^\s<>"'`，。！？、）」』]{1,2000})/u,
    /(?<line>\n)/u,
  ]
    .map((part) => part.source)
    .join('|'),
  'gu',
);

/** Only addresses that a browser may open from here. */
function webAddress(url: string): string | null {
  return /^(?:https?:\/\/|mailto:)/i.test(url) && URL.canParse(url) ? url : null;
}

export function inlinesOf(text: string, depth = 0): Inline[] {
  if (depth > DEEPEST) return [{ kind: 'text', text }];
  const parts: Inline[] = [];
  const add = (plain: string): void => {
    const last = parts.at(-1);
    if (last?.kind === 'text') last.text += plain;
    else if (plain) parts.push({ kind: 'text', text: plain });
  };
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    add(text.slice(end, match.index));
    end = match.index + match[0].length;
    const { escaped, code, strong, strong2, em, em2, del, label, url, plain, line } = match.groups!;
    const inside = (content: string): Inline[] => inlinesOf(content, depth + 1);
    if (escaped) add(escaped);
    else if (code !== undefined) parts.push({ kind: 'code', text: code });
    else if (line) parts.push({ kind: 'break' });
    else if (strong ?? strong2) parts.push({ kind: 'strong', children: inside((strong ?? strong2)!) });
    else if (em ?? em2) parts.push({ kind: 'em', children: inside((em ?? em2)!) });
    else if (del) parts.push({ kind: 'del', children: inside(del) });
    else if (plain) {
      const address = plain.replace(/[.,;:!?)\]*_~]+$/, '');
      parts.push({ kind: 'link', url: address, children: [{ kind: 'text', text: address }] });
      add(plain.slice(address.length));
    } else {
      const address = webAddress(url!);
      if (address)
        parts.push({ kind: 'link', url: address, children: label ? inside(label) : [{ kind: 'text', text: address }] });
      else add(match[0]);
    }
  }
  add(text.slice(end));
  return parts;
}
