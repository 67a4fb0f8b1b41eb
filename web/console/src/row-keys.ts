/** j and k move the focus along the rows of a page's table; Enter then opens the row's link as anywhere else. */

import { useKeys } from './keyboard';

const links = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>('#main td a.t')];

export function useRowKeys(): void {
  const move = (by: number) => () => {
    const rows = links();
    const row = document.activeElement?.closest('tr');
    const at = rows.findIndex((link) => link.closest('tr') === row);
    const next = rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: 'nearest' });
  };
  useKeys({ j: move(1), k: move(-1) });
}
