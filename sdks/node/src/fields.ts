export type Values = Readonly<Record<string, unknown>>;

/** What a server sent beyond the declared fields. */
export interface Fields {
  /** Unknown fields are kept. */
  readonly [field: string]: unknown;
}
