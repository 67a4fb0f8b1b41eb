import { ref, watchEffect } from 'vue';
import { recallOneOf, remember } from './memory';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

export const theme = ref<Theme>(recallOneOf('theme', THEMES) ?? 'system');

watchEffect(() => {
  if (theme.value === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  remember('theme', theme.value);
});
