/** Icons of 16 by 16 in outline. They are put into the page once, as symbols that each <Icon> refers to. */

const icons = {
  alert: '<path d="M8 2 1.8 13h12.4zM8 6.5v3M8 11.4v.01"/>',
  apps: '<rect x="2" y="2" width="5" height="5" rx="1"/><rect x="9" y="2" width="5" height="5" rx="1"/><rect x="2" y="9" width="5" height="5" rx="1"/><rect x="9" y="9" width="5" height="5" rx="1"/>',
  book: '<path d="M8 4C6.5 2.8 4.5 2.5 2 2.5v10c2.5 0 4.5.3 6 1.5 1.5-1.2 3.5-1.5 6-1.5v-10c-2.5 0-4.5.3-6 1.5zm0 0v10"/>',
  chart: '<path d="M2 14h12M4 11V8M8 11V3M12 11V6"/>',
  chat: '<path d="M3 3h10a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H8l-3 3v-3H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1z"/>',
  check: '<path d="m3.5 8.5 3 3 6-7"/>',
  chev: '<path d="m6 4 4 4-4 4"/>',
  clip: '<path d="m12.5 7-5 5a2.8 2.8 0 0 1-4-4l5.5-5.5a1.9 1.9 0 0 1 2.7 2.7L6.4 10.5"/>',
  code: '<path d="m5.5 4.5-3 3.5 3 3.5M10.5 4.5l3 3.5-3 3.5"/>',
  copy: '<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/><path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2"/>',
  dn: '<path d="M5.5 8.5 8 13.5c1 0 1.6-.7 1.4-1.7L9 9.5h3.5l-1-6H5.5zM5.5 8.5H3v-5h2.5"/>',
  down: '<path d="m4 6 4 4 4-4"/>',
  down2: '<path d="M8 2v8m-3-3 3 3 3-3M3 13h10"/>',
  drop: '<path d="M8 10V2m-3 3 3-3 3 3M3 10v3h10v-3"/>',
  edit: '<path d="M3 13l.6-2.8L11 2.8l2.2 2.2-7.4 7.4zM9.5 4.3l2.2 2.2"/>',
  end: '<circle cx="8" cy="8" r="5.5"/><rect x="6" y="6" width="4" height="4" rx=".5"/>',
  globe: '<circle cx="8" cy="8" r="6"/><path d="M2 8h12M8 2c2 2 2.5 4 2.5 6S10 12 8 14c-2-2-2.5-4-2.5-6S6 4 8 2z"/>',
  'http-request': '<path d="M2 5.5h11m-3-3 3 3-3 3M14 10.5H3m3-3-3 3 3 3"/>',
  'if-else': '<circle cx="3.5" cy="8" r="1.5"/><path d="M5 8h2c2 0 1.5-4 4-4h2.5M7 8c2 0 1.5 4 4 4h2.5"/>',
  image:
    '<rect x="2" y="3" width="12" height="10" rx="1.5"/><circle cx="5.5" cy="6.3" r="1"/><path d="m3 12 4-4 2.5 2.5L11 9l3 3"/>',
  iteration: '<path d="M4 5h7a2.5 2.5 0 0 1 0 5H5m0-0 2 2m-2-2 2-2"/><path d="M4 5l2-2M4 5l2 2"/>',
  key: '<circle cx="5.5" cy="8" r="3"/><path d="M8.5 8H14v2.5M11.5 8v2"/>',
  left: '<path d="m10 4-4 4 4 4"/>',
  llm: '<path d="M8 2l1.5 4.5L14 8l-4.5 1.5L8 14l-1.5-4.5L2 8l4.5-1.5z"/>',
  minus: '<path d="M3 8h10"/>',
  person: '<circle cx="8" cy="5" r="2.5"/><path d="M3 13.5c0-3 2-4.5 5-4.5s5 1.5 5 4.5"/>',
  play: '<path d="M5 3v10l8-5z"/>',
  plus: '<path d="M8 3v10M3 8h10"/>',
  retry: '<path d="M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3"/>',
  runs: '<path d="M2 4h7M2 8h12M2 12h5"/><circle cx="12" cy="4" r="1.6"/>',
  's-done': '<circle cx="8" cy="8" r="6"/><path d="m5.5 8.2 1.8 1.8 3.2-3.8"/>',
  's-failed': '<circle cx="8" cy="8" r="6"/><path d="m6 6 4 4m0-4-4 4"/>',
  's-partial-succeeded': '<path d="M13.5 8A5.5 5.5 0 1 1 11.8 4M13.5 2v3h-3"/><path d="M8 5.5v3M8 10.5v.01"/>',
  's-queued': '<circle cx="8" cy="8" r="6" stroke-dasharray="2.2 2.5"/>',
  's-running': '<g class="spin"><circle cx="8" cy="8" r="6" opacity=".25"/><path d="M8 2a6 6 0 0 1 6 6"/></g>',
  's-skipped': '<circle cx="8" cy="8" r="6" opacity=".5"/><path d="M5.5 8h5"/>',
  's-stopped': '<circle cx="8" cy="8" r="6"/><rect x="6" y="6" width="4" height="4"/>',
  's-succeeded': '<circle cx="8" cy="8" r="6"/><path d="m5.5 8.2 1.8 1.8 3.2-3.8"/>',
  's-unmet': '<circle cx="8" cy="8" r="6" stroke-dasharray="2.2 2.5"/>',
  's-waiting': '<circle cx="8" cy="8" r="6"/><path d="M6.3 5.5v5M9.7 5.5v5"/>',
  search: '<circle cx="7" cy="7" r="4.5"/><path d="m10.5 10.5 3.5 3.5"/>',
  send: '<path d="M8 13V3M4 7l4-4 4 4"/>',
  start: '<path d="M3 3v10M6 8h7m-3-3 3 3-3 3"/>',
  states: '<rect x="2" y="3" width="12" height="10" rx="1.5"/><path d="M2 6h12"/>',
  stop: '<rect x="4" y="4" width="8" height="8" rx="1"/>',
  sun: '<circle cx="8" cy="8" r="3"/><path d="M8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7"/>',
  sync: '<path d="M2.5 8A5.5 5.5 0 0 1 12 4.2L13.5 6M13.5 8A5.5 5.5 0 0 1 4 11.8L2.5 10M13.5 2.5V6H10M2.5 13.5V10H6"/>',
  'template-transform':
    '<path d="M5 2.5c-1.5 0-2 .8-2 2v2L2 8l1 1.5v2c0 1.2.5 2 2 2M11 2.5c1.5 0 2 .8 2 2v2L14 8l-1 1.5v2c0 1.2-.5 2-2 2M8 6v4"/>',
  tilde: '<path d="M3 9c2-4 4 2 6-1 1-1.5 2-1.5 4-.5"/>',
  tool: '<circle cx="8" cy="8" r="2.2"/><path d="M8 2v2M8 12v2M2 8h2M12 8h2M3.8 3.8l1.4 1.4M10.8 10.8l1.4 1.4M3.8 12.2l1.4-1.4M10.8 5.2l1.4-1.4"/>',
  trash: '<path d="M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5 5 13h6l.5-8.5"/>',
  undo: '<path d="M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H7"/>',
  up: '<path d="M5.5 7.5 8 2.5c1 0 1.6.7 1.4 1.7L9 6.5h3.5l-1 6H5.5zM5.5 7.5H3v5h2.5"/>',
  'variable-aggregator': '<path d="M2.5 3.5c3 0 3 4.5 6 4.5M2.5 12.5c3 0 3-4.5 6-4.5H13.5m-2.5-2.5L13.5 8 11 10.5"/>',
  x: '<path d="m4 4 8 8m0-8-8 8"/>',
};

export type IconName = keyof typeof icons;

const symbols = Object.entries(icons).map(
  ([name, shape]) => `<symbol id="i-${name}" viewBox="0 0 16 16">${shape}</symbol>`,
);
const sprite = document.createElement('div');
sprite.hidden = true;
sprite.innerHTML = `<svg>${symbols.join('')}</svg>`;
document.body.prepend(sprite);
