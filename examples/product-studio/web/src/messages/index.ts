/** All that the page says, in the chosen language. */

import { messages } from '@ui/language';
import { en } from './en';
import { hans } from './hans';
import { hant } from './hant';

export type { Advice } from './en';

export const t = messages({ en, 'zh-Hant': hant, 'zh-Hans': hans });
