import { fileURLToPath } from 'node:url';
import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const SHARED = /web\/(ui|console\/src\/(components|[\w-]+\.ts))/;

export default defineConfig({
  plugins: [vue()],
  base: '/console/',
  define: { __VUE_OPTIONS_API__: 'false' }, // this page uses the composition API alone
  resolve: { alias: { '@ui': here('../ui') }, dedupe: ['vue'] },
  build: {
    outDir: here('../../src/headrace/api/console/static'),
    emptyOutDir: true,
    target: ['chrome123', 'firefox128', 'safari17.5'], // the first with light-dark()
    // nothing inside the page itself: the Content-Security-Policy allows files of this server only
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      checks: { pluginTimings: false }, // how long a slow machine took is not a warning
      // what pages share is in one file: many small ones compress badly, and each is a request
      output: { codeSplitting: { groups: [{ name: 'shared', minShareCount: 2, test: SHARED }] } },
    },
  },
  // `npm run dev`: the page from Vite, the API from `headrace serve`
  server: { proxy: { '/api': 'http://127.0.0.1:8040' } },
});
