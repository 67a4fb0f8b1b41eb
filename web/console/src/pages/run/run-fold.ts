/** Folds the events of a run's stream into the state of its steps, its rounds and its text. */

import { isOpen, type Execution, type ExecutionStatus, type LogEntry, type RunStatus } from '../../model';

interface NodeData {
  id: string;
  node_id: string;
  node_type: string;
  title: string;
  predecessor_node_id?: string | null;
  iteration_id?: string | null;
  loop_id?: string | null;
  index?: number;
  status?: ExecutionStatus;
  created_at?: number;
  finished_at?: number;
  metadata?: { iteration_length?: number; loop_length?: number };
  execution_metadata?: { iteration_index?: number; loop_index?: number } | null;
}

export interface StreamEvent {
  event: string;
  data?: NodeData & Partial<Execution> & { text?: string; status?: string };
  answer?: string;
}

export interface Rounds {
  count: number; // as many as there will be, or have been
  current: number;
  failed: Set<number>;
}

export class RunFold {
  top = new Map<string, Execution>(); // by the node's id
  rounds = new Map<string, Rounds>();
  logs = new Map<string, LogEntry[]>(); // of agents, by the node's id
  text = '';
  status: RunStatus | null = null;
  /** Where a step inside a container has ended last, and how many have. */
  last: { container: string; round: number; count: number } | null = null;

  take(executions: Execution[]): void {
    this.top = new Map(executions.map((item) => [item.node_id, item]));
    for (const [id, execution] of this.top) {
      const { rounds } = execution;
      if (!rounds) continue;
      const running = execution.status === 'running';
      const count = running ? Math.max(rounds.count, this.rounds.get(id)?.count ?? 0) : rounds.count;
      const current = running ? rounds.count - 1 : rounds.count;
      this.rounds.set(id, { count, current, failed: new Set(rounds.failed) });
    }
  }

  /** True for the run's end. The stream of an app without a workflow of its own has only the events of its message. */
  apply({ event, data, answer }: StreamEvent): boolean {
    switch (event) {
      case 'workflow_started':
        this.status = 'running';
        this.text = '';
        break;
      case 'workflow_paused':
        this.status = 'paused';
        break;
      case 'workflow_finished':
      case 'message_end':
        return true;
      case 'error':
        return this.status === null;
      case 'text_chunk':
        this.text += data?.text ?? '';
        break;
      case 'message':
      case 'agent_message':
        this.text += answer ?? '';
        break;
      case 'agent_log':
        this.log(data as unknown as LogEntry & { node_id: string });
        break;
      case 'message_replace':
        this.text = answer ?? '';
        break;
      default:
        if (data) this.applyNode(event, data);
    }
    return false;
  }

  /** An entry comes when its step begins, and again when it has ended. */
  private log(entry: LogEntry & { node_id: string }): void {
    const entries = this.logs.get(entry.node_id) ?? [];
    const at = entries.findIndex((item) => item.id === entry.id);
    this.logs.set(entry.node_id, at < 0 ? [...entries, entry] : entries.with(at, entry));
  }

  private applyNode(event: string, data: NodeData & Partial<Execution>): void {
    const container = data.loop_id ?? data.iteration_id;
    if (event === 'iteration_next' || event === 'loop_next') this.next(data);
    else if (container) {
      if (event === 'node_finished') this.endInside(container, data);
    } else if (/_(started|finished|completed)$/.test(event)) {
      if (event.endsWith('_started')) this.start(data);
      else this.end(data);
    }
  }

  private start(data: NodeData & Partial<Execution>): void {
    const length = data.metadata?.iteration_length ?? data.metadata?.loop_length;
    if (length !== undefined) {
      const known = this.rounds.get(data.node_id);
      this.rounds.set(data.node_id, {
        current: -1,
        failed: new Set(),
        ...known,
        count: Math.max(length, known?.count ?? 0),
      });
    }
    if (this.top.has(data.node_id)) return;
    this.top.set(data.node_id, {
      id: data.id,
      node_id: data.node_id,
      node_type: data.node_type,
      title: data.title,
      predecessor_node_id: data.predecessor_node_id ?? null,
      iteration_id: null,
      iteration_index: null,
      loop_id: null,
      loop_index: null,
      status: 'running',
      inputs: data.inputs ?? null,
      process_data: null,
      outputs: null,
      error: null,
      error_type: null,
      attempts: [],
      reused: false,
      usage: null,
      started_at_ms: Date.now(),
      finished_at_ms: null,
      elapsed_time: null,
    });
  }

  private end(data: NodeData & Partial<Execution>): void {
    const known = this.top.get(data.node_id);
    if (!known || !isOpen(known.status)) return;
    const { status = 'succeeded', inputs = null, process_data = null, outputs = null, error = null } = data;
    const elapsed_time = data.elapsed_time ?? null;
    const finished_at_ms = elapsed_time === null ? Date.now() : known.started_at_ms + elapsed_time * 1000;
    const ended = { status, inputs, process_data, outputs, error, elapsed_time, finished_at_ms };
    this.top.set(data.node_id, { ...known, ...ended });
    const rounds = this.rounds.get(data.node_id);
    if (rounds) rounds.current = rounds.count;
  }

  private next(data: NodeData): void {
    const rounds = this.rounds.get(data.node_id) ?? { count: 0, current: -1, failed: new Set<number>() };
    const round = data.index ?? 0;
    rounds.current = Math.max(rounds.current, round);
    rounds.count = Math.max(rounds.count, round + 1); // `current` is beyond the last round once all have ended
    this.rounds.set(data.node_id, rounds);
  }

  private endInside(container: string, data: NodeData): void {
    const round = data.execution_metadata?.loop_index ?? data.execution_metadata?.iteration_index ?? 0;
    if (data.status === 'failed') this.rounds.get(container)?.failed.add(round);
    this.last = { container, round, count: (this.last?.count ?? 0) + 1 };
  }
}
