import type { SchedulerLike, Subscription } from 'rxjs';

/** Named timers over a scheduler: setting one again moves it, and all stop together. */
export class Timers {
  private readonly scheduler: SchedulerLike;
  private readonly running: Map<string, Subscription> = new Map();

  constructor(scheduler: SchedulerLike) {
    this.scheduler = scheduler;
  }

  now(): number {
    return this.scheduler.now();
  }

  isSet(name: string): boolean {
    return this.running.has(name);
  }

  set(name: string, ticks: number, run: () => void): void {
    this.clear(name);
    const subscription = this.scheduler.schedule(() => {
      this.running.delete(name);
      run();
    }, ticks);
    // A scheduler without delay may have run it already.
    if (!subscription.closed) this.running.set(name, subscription);
  }

  clear(name: string): void {
    this.running.get(name)?.unsubscribe();
    this.running.delete(name);
  }

  clearAll(): void {
    for (const subscription of this.running.values()) subscription.unsubscribe();
    this.running.clear();
  }
}
