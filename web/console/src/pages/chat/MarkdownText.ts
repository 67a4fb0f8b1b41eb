/** Markdown as elements of the page. They are made one by one, so that no HTML of a model can get in. */

import { defineComponent, h, type VNode } from 'vue';
import { blocksOf, type Block, type Inline } from './markdown';

type Child = VNode | string;

function inline(part: Inline): Child {
  switch (part.kind) {
    case 'text':
      return part.text;
    case 'break':
      return h('br');
    case 'code':
      return h('code', part.text);
    case 'link':
      return h('a', { href: part.url, target: '_blank', rel: 'noreferrer' }, part.children.map(inline));
    default:
      return h(part.kind, part.children.map(inline));
  }
}

function block(item: Block): VNode {
  switch (item.kind) {
    case 'paragraph':
      return h('p', item.children.map(inline));
    case 'heading': // the page has a heading of the first level
      return h(`h${Math.min(6, item.level + 1)}`, item.children.map(inline));
    case 'code':
      return h('pre', { class: 'pre', tabindex: 0 }, h('code', item.text));
    case 'quote':
      return h('blockquote', item.blocks.map(block));
    case 'rule':
      return h('hr');
    case 'list': {
      const items = item.items.map((blocks) => h('li', blocks.map(block)));
      return item.start === null ? h('ul', items) : h('ol', { start: item.start }, items);
    }
    case 'table': {
      const row = (cells: Inline[][], tag: string) =>
        h(
          'tr',
          cells.map((cell) => h(tag, cell.map(inline))),
        );
      const table = [
        h('thead', [row(item.head, 'th')]),
        h(
          'tbody',
          item.rows.map((cells) => row(cells, 'td')),
        ),
      ];
      return h('div', { class: 'scroll', tabindex: 0 }, h('table', table));
    }
  }
}

export default defineComponent({
  props: { text: { type: String, required: true } },
  setup: (props) => () => h('div', { class: 'md' }, blocksOf(props.text).map(block)),
});
