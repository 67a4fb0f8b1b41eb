/** Three languages. Each component has its own messages; a key that one language lacks is a type error. */

import { computed, ref, watchEffect, type ComputedRef } from 'vue';
import { recallOneOf, remember } from './memory';

export const LANGUAGES = ['en', 'zh-Hant', 'zh-Hans'] as const;
export type Language = (typeof LANGUAGES)[number];

export const LANGUAGE_NAMES: Record<Language, string> = { en: 'English', 'zh-Hant': '繁體中文', 'zh-Hans': '简体中文' };

/** The first of the browser's languages that there is here, else English. */
export function preferred(tags: readonly string[]): Language {
  for (const tag of tags) {
    const { language, script } = new Intl.Locale(tag).maximize();
    if (language === 'zh') return script === 'Hant' ? 'zh-Hant' : 'zh-Hans';
    if (language === 'en') return 'en';
  }
  return 'en';
}

const chosen = recallOneOf('language', LANGUAGES);
export const language = ref<Language>(chosen ?? preferred(navigator.languages));

/** Only a choice is remembered: until there is one, the page follows the browser. */
export function choose(value: Language): void {
  language.value = value;
  remember('language', value);
}

watchEffect(() => (document.documentElement.lang = language.value));

export function messages<M>(all: { en: M } & Record<Exclude<Language, 'en'>, NoInfer<M>>): ComputedRef<M> {
  return computed(() => all[language.value]);
}
