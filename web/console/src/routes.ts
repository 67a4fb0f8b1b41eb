/** The pages, each loaded when it is first opened, and the places of the menu. A page gets its path's parameters. */

import { computed, defineAsyncComponent, type Component } from 'vue';
import type { IconName } from '@ui/icons';
import { current } from './router';
import { t } from './messages';

interface Route {
  path: string;
  page: Component;
  /** The place in the menu that is marked as the current one. */
  place: PlaceName;
  /** The menu shows only its icons, to leave room. */
  rail?: boolean;
}

const lazy = (load: () => Promise<{ default: Component }>) => defineAsyncComponent(load);

const routes: Route[] = [
  { path: '/apps', place: 'apps', page: lazy(() => import('./pages/apps/AppsPage.vue')) },
  { path: '/apps/new', place: 'apps', page: lazy(() => import('./pages/add/AddApp.vue')) },
  { path: '/apps/:id', place: 'apps', page: lazy(() => import('./pages/app/AppPage.vue')) },
  { path: '/apps/:id/versions', place: 'apps', page: lazy(() => import('./pages/versions/VersionsPage.vue')) },
  { path: '/apps/:id/versions/new', place: 'apps', page: lazy(() => import('./pages/versions/NewVersion.vue')) },
  { path: '/apps/:id/batches', place: 'apps', page: lazy(() => import('./pages/batches/BatchesPage.vue')) },
  { path: '/apps/:id/batches/:batch', place: 'apps', page: lazy(() => import('./pages/batches/BatchPage.vue')) },
  { path: '/runs', place: 'runs', page: lazy(() => import('./pages/runs/RunsPage.vue')) },
  { path: '/runs/:id', place: 'runs', rail: true, page: lazy(() => import('./pages/run/RunPage.vue')) },
  {
    path: '/runs/:id/compare',
    place: 'runs',
    rail: true,
    page: lazy(() => import('./pages/compare/CompareRuns.vue')),
  },
  { path: '/waiting', place: 'waiting', page: lazy(() => import('./pages/waiting/WaitingPage.vue')) },
  { path: '/triggers', place: 'triggers', page: lazy(() => import('./pages/triggers/TriggersPage.vue')) },
  { path: '/knowledge', place: 'knowledge', page: lazy(() => import('./pages/knowledge/KnowledgePage.vue')) },
  { path: '/knowledge/:id', place: 'knowledge', page: lazy(() => import('./pages/knowledge/DocumentsPage.vue')) },
  { path: '/knowledge/:id/search', place: 'knowledge', page: lazy(() => import('./pages/knowledge/SearchPage.vue')) },
  {
    path: '/knowledge/:id/documents/:document',
    place: 'knowledge',
    page: lazy(() => import('./pages/knowledge/ChunksPage.vue')),
  },
  { path: '/cost', place: 'cost', page: lazy(() => import('./pages/cost/CostPage.vue')) },
  { path: '/keys', place: 'keys', page: lazy(() => import('./pages/keys/KeysPage.vue')) },
];

type PlaceName = 'apps' | 'runs' | 'waiting' | 'triggers' | 'knowledge' | 'cost' | 'keys';

/** `key` after `g` leads there. */
export const places: { name: PlaceName; path: string; icon: IconName; key: string }[] = [
  { name: 'apps', path: '/apps', icon: 'apps', key: 'a' },
  { name: 'runs', path: '/runs', icon: 'runs', key: 'r' },
  { name: 'waiting', path: '/waiting', icon: 's-waiting', key: 'w' },
  { name: 'triggers', path: '/triggers', icon: 'retry', key: 't' },
  { name: 'knowledge', path: '/knowledge', icon: 'book', key: 'b' },
  { name: 'cost', path: '/cost', icon: 'chart', key: 'c' },
  { name: 'keys', path: '/keys', icon: 'key', key: 'k' },
];

export const placeName = (name: PlaceName): string => t.value.places[name];

function parametersOf(pattern: string, path: string): Record<string, string> | null {
  const expected = pattern.split('/');
  const parts = path.split('/');
  if (expected.length !== parts.length) return null;
  const parameters: Record<string, string> = {};
  for (const [index, name] of expected.entries()) {
    const part = parts[index]!;
    if (name.startsWith(':')) parameters[name.slice(1)] = part;
    else if (name !== part) return null;
  }
  return parameters;
}

/** The route of the address, or null where there is no such page. */
export const matched = computed(() => {
  const path = current.value.path === '/' ? '/apps' : current.value.path;
  for (const route of routes) {
    const parameters = parametersOf(route.path, path);
    if (parameters) return { route, parameters };
  }
  return null;
});
