/** The saved products. Each change can be undone from the toast that announces it. */

import { reactive, readonly } from 'vue';
import { toast } from '@ui/toast';
import { addProduct, deleteProduct, products as fetchProducts, putProduct, type NewProduct, type Product } from './api';
import { t } from './messages';

const state = reactive({ items: [] as Product[], total: 0, hasMore: false, isLoading: true, hasFailed: false });

export const products = readonly(state);

export async function loadMore(): Promise<void> {
  state.isLoading = true;
  state.hasFailed = false;
  try {
    const page = await fetchProducts(state.items.at(-1)?.id);
    page.products.forEach(insert); // one may have been added in the meantime
    state.total = page.total;
    state.hasMore = page.has_more;
  } catch (error) {
    console.error('The saved products could not be loaded.', error);
    state.hasFailed = true;
  } finally {
    state.isLoading = false;
  }
}

/** Newest first, each once. */
function insert(product: Product): void {
  const index = state.items.findIndex((item) => item.id <= product.id);
  if (index < 0) state.items.push(product);
  else state.items.splice(index, state.items[index]?.id === product.id ? 1 : 0, product);
}

export async function add(product: NewProduct): Promise<void> {
  const added = await addProduct(product);
  insert(added);
  state.total += 1;
  toast(t.value.saved(added.title));
}

export async function replace(before: Product, product: NewProduct): Promise<void> {
  const changed = await putProduct(before.id, product);
  insert(changed);
  toast(t.value.saved(changed.title), { label: t.value.undo, run: () => void restore(before, 0) });
}

export async function remove(product: Product): Promise<void> {
  try {
    await deleteProduct(product.id);
  } catch (error) {
    console.error('A product could not be deleted.', error);
    return toast(t.value.deleteFailed(product.title));
  }
  const index = state.items.findIndex((item) => item.id === product.id);
  if (index >= 0) state.items.splice(index, 1);
  state.total -= 1;
  toast(t.value.deleted(product.title), { label: t.value.undo, run: () => void restore(product, 1) });
}

async function restore(product: Product, count: number): Promise<void> {
  try {
    insert(await putProduct(product.id, product));
    state.total += count;
  } catch (error) {
    console.error('A change could not be undone.', error);
    toast(t.value.undoFailed);
  }
}
