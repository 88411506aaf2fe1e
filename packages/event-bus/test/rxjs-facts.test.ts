import { config, type Observable, observeOn, queueScheduler, Subject } from 'rxjs';
import { afterEach, expect, it } from 'vitest';

// What RxJS 7 does, and why the bus does not simply hand out a Subject.

/** The order in which listeners A and B hear 1 and 2, where A emits 2 on hearing 1. */
function heard(emit: (subject: Subject<number>, value: number) => void, stream: (subject: Subject<number>) => Observable<number>): string {
  const subject = new Subject<number>();
  const seen: string[] = [];
  stream(subject).subscribe((value) => {
    seen.push(`A${value}`);
    if (value === 1) emit(subject, 2);
  });
  stream(subject).subscribe((value) => seen.push(`B${value}`));
  emit(subject, 1);
  return seen.join(' ');
}

const plainly = (subject: Subject<number>, value: number): void => subject.next(value);
const asIs = (subject: Subject<number>): Observable<number> => subject;

it('delivers a nested emission on a plain subject out of order', () => {
  expect(heard(plainly, asIs)).toBe('A1 A2 B2 B1');
});

it('is not cured by observeOn, but by a queue at the emission', () => {
  expect(heard(plainly, (subject) => subject.pipe(observeOn(queueScheduler)))).not.toBe('A1 B1 A2 B2');
  const queued = (subject: Subject<number>, value: number): void => {
    queueScheduler.schedule(() => subject.next(value));
  };
  expect(heard(queued, asIs)).toBe('A1 B1 A2 B2');
});

afterEach(() => {
  config.onUnhandledError = null;
});

it('keeps what a subscriber throws from the emitter, and reports it through a host timer', async () => {
  const late = new Promise((resolve) => {
    config.onUnhandledError = resolve;
  });
  const subject = new Subject<number>();
  const seen: number[] = [];
  subject.subscribe(() => {
    throw new Error('thrown');
  });
  subject.subscribe((value) => seen.push(value));
  expect(() => subject.next(1)).not.toThrow();
  expect(seen).toEqual([1]);
  expect(await late).toEqual(new Error('thrown'));
});

it('ends the stream for everyone by error()', () => {
  const subject = new Subject<number>();
  const ends: string[] = [];
  for (const name of ['A', 'B']) subject.subscribe({ error: () => ends.push(name) });
  subject.error(new Error('over'));
  subject.next(1);
  expect(ends).toEqual(['A', 'B']);
  expect(subject.observed).toBe(false);
});
