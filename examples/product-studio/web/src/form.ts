/** The product that is written, kept in this browser until it is saved. */

import { computed, reactive, ref, watch } from 'vue';
import type { NewProduct, Picture, Product } from './api';
import { length, LONGEST, oneLine, SHORTEST } from './characters';
import type { Finished } from './generation';
import { isRecord, load, store } from './storage';

/** What a title was given: the parts that generating replaces. */
export interface Content {
  description: string;
  picture: Picture | null;
  /** The title that the description and the picture were made for; null if they were not generated. */
  madeFor: string | null;
}

export interface Draft extends Content {
  title: string;
  /** The content before the last generation. */
  previous: Content | null;
  /** The saved product that this replaces. */
  editing: Product | null;
}

const STORED = 'studio-draft';
const STORED_ASIDE = 'studio-draft-aside';

const empty = (): Draft => ({ title: '', description: '', picture: null, madeFor: null, previous: null, editing: null });

const isPicture = (value: unknown): boolean =>
  value === null || (isRecord(value) && typeof value.picture_id === 'string' && typeof value.picture_url === 'string');

const isContent = (value: unknown): boolean =>
  isRecord(value) &&
  typeof value.description === 'string' &&
  isPicture(value.picture) &&
  (value.madeFor === null || typeof value.madeFor === 'string');

const isProduct = (value: unknown): boolean =>
  isRecord(value) &&
  typeof value.id === 'number' &&
  typeof value.title === 'string' &&
  typeof value.description === 'string' &&
  typeof value.created_at === 'string';

function isDraft(value: unknown): value is Draft {
  return (
    isRecord(value) &&
    typeof value.title === 'string' &&
    isContent(value) &&
    (value.previous === null || isContent(value.previous)) &&
    (value.editing === null || isProduct(value.editing))
  );
}

export function useForm() {
  const form = reactive<Draft>(load(STORED, isDraft) ?? empty());
  const pictureBroken = ref(false);
  watch(form, (draft) => store(STORED, draft), { deep: true });
  watch(
    () => form.picture?.picture_id,
    () => (pictureBroken.value = false),
  );

  const title = computed(() => oneLine(form.title));
  const characters = computed(() => length(title.value));
  const isTooLong = computed(() => characters.value > LONGEST);
  const canBeGenerated = computed(() => characters.value >= SHORTEST && !isTooLong.value);
  const isStale = computed(() => form.madeFor !== null && form.madeFor !== title.value);
  const isComplete = computed(() => characters.value > 0 && form.description.trim() !== '' && !pictureBroken.value);

  /** Text of a run, as it comes. */
  function write(text: string, title: string): void {
    form.description = text;
    form.madeFor = title;
  }

  function finish(result: Finished, title: string): void {
    form.description = result.description;
    form.madeFor = title;
    const { picture_id, picture_url } = result;
    if (picture_id && picture_url) form.picture = { picture_id, picture_url };
  }

  const content = (): Content => ({ description: form.description, picture: form.picture, madeFor: form.madeFor });

  /** Keeps what generating is about to replace. */
  function keepPrevious(): void {
    form.previous = form.description.trim() || form.picture ? content() : null;
  }

  /** Exchanges the content and the one before it. */
  function swapPrevious(): void {
    if (!form.previous) return;
    const current = content();
    Object.assign(form, form.previous, { previous: current });
  }

  function reset(): void {
    Object.assign(form, load(STORED_ASIDE, isDraft) ?? empty());
    store(STORED_ASIDE, null);
  }

  /** Opens a saved product. An unsaved one is put aside until this one is saved or left. */
  function edit(product: Product): void {
    if (form.title.trim() || form.description.trim() || form.picture) store(STORED_ASIDE, form);
    const { title, description, picture_id, picture_url } = product;
    const picture = picture_id && picture_url ? { picture_id, picture_url } : null;
    Object.assign(form, empty(), { title, description, picture, madeFor: title, editing: product });
  }

  const toSave = (): NewProduct => ({
    title: title.value,
    description: form.description,
    picture_id: form.picture?.picture_id ?? null,
  });

  return {
    form,
    pictureBroken,
    title,
    characters,
    isTooLong,
    canBeGenerated,
    isStale,
    isComplete,
    write,
    finish,
    keepPrevious,
    swapPrevious,
    reset,
    edit,
    toSave,
  };
}

export type Form = ReturnType<typeof useForm>;
