import { createApp } from 'vue';
import '@ui/styles/index.css';
import '@ui/icons';
import '@ui/theme';
import './studio.css';
import App from './App.vue';
import { chooseTab } from './storage';

void chooseTab().then(() => createApp(App).mount('#app'));
