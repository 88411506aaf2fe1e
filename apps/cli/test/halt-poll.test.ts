import { describe, expect, it } from 'vitest';
import { PollChoice } from '../src/serve/halt-poll.ts';

/** A client that takes `sleepMs` for a batch when the server sleeps and `pollMs` when it polls. Returns the share of batches polled for. */
function drive(
  choice: PollChoice,
  batches: number,
  costs: { sleepMs: number; pollMs: number },
  requests = 1,
  from = 0,
): { polled: number; now: number } {
  let now = from;
  let polled = 0;
  for (let batch = 0; batch < batches; batch += 1) {
    now += choice.polling ? costs.pollMs : costs.sleepMs;
    if (choice.polling) polled += 1;
    choice.came(now, requests);
  }
  return { polled: polled / batches, now };
}

describe('the choice between polling and sleep', () => {
  it('is to poll where that is quicker, but for trials', () => {
    const { polled } = drive(new PollChoice(), 20_000, { sleepMs: 0.08, pollMs: 0.04 });
    expect(polled).toBeGreaterThan(0.95);
    expect(polled).toBeLessThan(1);
  });

  it('is to sleep where polling is slower, or hardly quicker', () => {
    expect(drive(new PollChoice(), 20_000, { sleepMs: 0.03, pollMs: 0.06 }).polled).toBeLessThan(0.05);
    expect(drive(new PollChoice(), 20_000, { sleepMs: 0.04, pollMs: 0.038 }).polled).toBeLessThan(0.05);
  });

  it('is to sleep with a client that takes its time, without ever a trial', () => {
    expect(drive(new PollChoice(), 20_000, { sleepMs: 1, pollMs: 1 }).polled).toBe(0);
  });

  it('is tried with a client that is slow only for being woken', () => {
    const choice = new PollChoice();
    let now = 0;
    let polled = 0;
    for (let batch = 0; batch < 20_000; batch += 1) {
      now += choice.polling ? 0.04 : batch % 3 === 0 ? 0.25 : 0.12;
      if (choice.polling) polled += 1;
      choice.came(now, 1);
    }
    expect(polled / 20_000).toBeGreaterThan(0.95);
  });

  it('follows when the machine changes', () => {
    const choice = new PollChoice();
    const { now } = drive(choice, 20_000, { sleepMs: 0.08, pollMs: 0.04 });
    expect(choice.polling).toBe(true);
    const later = drive(choice, 20_000, { sleepMs: 0.03, pollMs: 0.06 }, 1, now);
    expect(later.polled).toBeLessThan(0.25);
    expect(drive(choice, 20_000, { sleepMs: 0.08, pollMs: 0.04 }, 1, later.now).polled).toBeGreaterThan(0.75);
  });

  it('is given up within a few batches when the client slows down', () => {
    const choice = new PollChoice();
    const { now } = drive(choice, 20_000, { sleepMs: 0.08, pollMs: 0.04 });
    expect(drive(choice, 1000, { sleepMs: 5, pollMs: 5 }, 1, now).polled).toBeLessThanOrEqual(0.016);
    expect(choice.polling).toBe(false);
  });

  it('goes by requests, not by batches: what polls takes them in smaller ones', () => {
    const choice = new PollChoice();
    let now = 0;
    let polled = 0;
    for (let batch = 0; batch < 20_000; batch += 1) {
      // Batches come twice as often when polled for, with a quarter of the requests.
      now += choice.polling ? 0.05 : 0.1;
      if (choice.polling) polled += 1;
      choice.came(now, choice.polling ? 4 : 16);
    }
    expect(polled / 20_000).toBeLessThan(0.05);
  });
});
