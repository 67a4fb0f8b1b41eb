import { createApp } from 'vue';
import '@ui/styles/index.css';
import './styles/shell.css';
import './styles/lists.css';
import App from './App.vue';
import { start } from './session';

// the server has another build now: the page that was open refers to files that are gone
addEventListener('vite:preloadError', () => location.reload());

void start();
createApp(App).mount('#app');
