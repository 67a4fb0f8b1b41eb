/** The forms of runs that wait for a person's input. */

import type { Fields } from './fields.js';

/** A field of a form. `type`: paragraph, select, file or file-list. */
export interface FormInput extends Fields {
  readonly type: string;
  readonly output_variable_name: string;
  readonly default?: Readonly<Record<string, unknown>> | null;
  /** The options of a select are its `value`. */
  readonly option_source?: { readonly type: string; readonly value: readonly string[] };
  readonly allowed_file_types?: readonly string[];
  readonly allowed_file_extensions?: readonly string[];
  readonly allowed_file_upload_methods?: readonly string[];
  readonly number_limits?: number;
}

/** A button of a form. */
export interface FormAction extends Fields {
  readonly id: string;
  readonly title: string;
  readonly button_style?: string;
}

/** The form of a run that waits for a person's input. */
export interface HumanInputForm extends Fields {
  readonly form_content: string;
  readonly inputs: readonly FormInput[];
  readonly user_actions: readonly FormAction[];
  readonly resolved_default_values?: Readonly<Record<string, unknown>>;
  readonly expiration_time?: number;
}

/** A form that a node waits for. `form_token` is null if the form is delivered by e-mail only. */
export interface HumanInputRequiredData extends Fields {
  readonly form_id: string;
  readonly node_id: string;
  readonly node_title: string;
  readonly form_content: string;
  readonly inputs: readonly FormInput[];
  readonly actions: readonly FormAction[];
  readonly form_token: string | null;
  readonly display_in_ui?: boolean;
  readonly resolved_default_values?: Readonly<Record<string, unknown>>;
  readonly expiration_time?: number;
}

/** Why a run has paused. For a form, `TYPE` is human_input_required. */
export interface PauseReason extends HumanInputRequiredData {
  readonly TYPE: string;
}

/** A form that has been submitted. `rendered_content` is its text with the submitted values. */
export interface FormFilledData extends Fields {
  readonly node_id: string;
  readonly node_title: string;
  readonly rendered_content: string;
  readonly action_id: string;
  readonly action_text: string;
  readonly submitted_data?: Readonly<Record<string, unknown>> | null;
}

/** A form whose time is over. */
export interface FormTimeoutData extends Fields {
  readonly node_id: string;
  readonly node_title: string;
  readonly expiration_time: number;
}
