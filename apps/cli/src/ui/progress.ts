import type { Output } from '../context.ts';

export interface Progress {
  /** `fraction` of the whole, where it is not told by `done`. */
  update(done: number, note?: string, fraction?: number): void;
  /** Takes the bar off the terminal and gives the cursor back. Safe to call twice. */
  stop(): void;
}

const nothing: Progress = { update() {}, stop() {} };

/** A bar on stderr with rate and estimated end; nothing at all where stderr is no terminal. `total` 0: not known. */
export async function progressBar(output: Output, title: string, total: number, unit: (done: number) => string): Promise<Progress> {
  if (output.isTTY !== true) return nothing;
  const { SingleBar, Presets } = (await import('cli-progress')).default;
  const bar = new SingleBar(
    {
      format:
        total > 0
          ? `${title} [{bar}] {percentage}% {shown} {rate}/s {note} eta {eta_formatted}`
          : `${title} {shown} {rate}/s {note} {duration_formatted}`,
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      etaBuffer: 40,
      fps: 10,
      barsize: 30,
    },
    Presets.shades_classic,
  );
  bar.start(Math.max(total, 1), 0, { shown: unit(0), rate: unit(0), note: '' });
  const began = performance.now();
  let stopped = false;
  return {
    update(done, note = '', fraction) {
      if (stopped) return;
      const seconds = (performance.now() - began) / 1e3;
      const at = fraction === undefined ? done : fraction * total;
      bar.update(total > 0 ? Math.min(at, total) : 0, { shown: unit(done), rate: unit(done / Math.max(seconds, 0.001)), note });
    },
    stop() {
      if (!stopped) bar.stop();
      stopped = true;
    },
  };
}
