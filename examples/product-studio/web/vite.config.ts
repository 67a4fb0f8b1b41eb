import { fileURLToPath } from 'node:url';
import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [vue()],
  define: { __VUE_OPTIONS_API__: 'false' }, // this page uses the composition API alone
  // what the pages of this repository share: style sheet, languages, streams
  resolve: { alias: { '@ui': here('../../../web/ui') }, dedupe: ['vue'] },
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'], // the first with light-dark()
    // nothing inside the page itself: the Content-Security-Policy allows files of this server only
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { checks: { pluginTimings: false } }, // how long a slow machine took is not a warning
  },
  // `npm run dev`: the page from Vite, the API from `python -m product_studio`
  server: { proxy: { '/api': 'http://127.0.0.1:8050' }, fs: { allow: [here('../../..')] } },
});
