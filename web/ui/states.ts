import { messages } from './language';

/** States of runs and of steps. `done` is a step's success, `unmet` a step that the run has not reached. */
export const STATES = [
  'queued',
  'running',
  'waiting',
  'succeeded',
  'done',
  'partial-succeeded',
  'retried',
  'failed',
  'stopped',
  'skipped',
  'unmet',
] as const;
export type State = (typeof STATES)[number];

export const stateWords = messages<Record<State, string>>({
  en: {
    queued: 'Queued',
    running: 'Running',
    waiting: 'Waiting',
    succeeded: 'Succeeded',
    done: 'Done',
    'partial-succeeded': 'Partly succeeded',
    retried: 'Tried again',
    failed: 'Failed',
    stopped: 'Stopped',
    skipped: 'Skipped',
    unmet: 'Not reached',
  },
  'zh-Hant': {
    queued: '排隊中',
    running: '執行中',
    waiting: '等待中',
    succeeded: '成功',
    done: '完成',
    'partial-succeeded': '部分成功',
    retried: '已重試',
    failed: '失敗',
    stopped: '已停止',
    skipped: '已略過',
    unmet: '未執行',
  },
  'zh-Hans': {
    queued: '排队中',
    running: '运行中',
    waiting: '等待中',
    succeeded: '成功',
    done: '完成',
    'partial-succeeded': '部分成功',
    retried: '已重试',
    failed: '失败',
    stopped: '已停止',
    skipped: '已跳过',
    unmet: '未执行',
  },
});
