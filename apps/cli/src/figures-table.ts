import type { Figures } from './compose.ts';
import type { Output } from './context.ts';
import { grouped, table } from './ui/table.ts';

const labels: Readonly<Record<keyof Figures, string>> = {
  requests: 'requests on the ring',
  segments: 'segments (pages shared)',
  grantsNew: 'grants, new',
  grantsFromPool: 'grants, from the pool',
  doorbellsSent: 'doorbells sent',
  doorbellsMerged: 'doorbells merged',
  maps: 'pages mapped',
  unmaps: 'pages unmapped',
  persistentHits: 'pages found mapped',
  steps: 'steps of the machine',
};

/** What moved, as a table. */
export function figuresTable(output: Output, env: Readonly<Partial<Record<string, string>>>, figures: Figures): string {
  const rows = Object.entries(labels).map(([key, label]) => [label, grouped(figures[key as keyof Figures])]);
  return table(output, env, ['what moved', 'count'], rows);
}
