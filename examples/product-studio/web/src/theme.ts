import { ref, watchEffect } from 'vue';
import { remembered, remember } from './memory';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

export const theme = ref<Theme>(remembered('theme', THEMES) ?? 'auto');

watchEffect(() => {
  if (theme.value === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  remember('theme', theme.value);
});
