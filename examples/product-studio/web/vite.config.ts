import tailwindcss from '@tailwindcss/vite';
import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [vue(), tailwindcss()],
  // nothing inside the page itself: the Content-Security-Policy allows files of this server only
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  // `npm run dev`: the page from Vite, the API from `python -m product_studio`
  server: { proxy: { '/api': 'http://127.0.0.1:8050' } },
});
