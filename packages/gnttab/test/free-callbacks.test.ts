import type { Gref } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import type { FreeCallback, GrantTable } from '../src/index.ts';
import { tableFixture } from '../src/testing.ts';

function fullTable(maxFrames = 1): { table: GrantTable; calls: string[]; callback(name: string, then?: () => void): FreeCallback } {
  const { table } = tableFixture({ maxFrames, record: false });
  table.allocGrantReferenceSeq(504);
  const calls: string[] = [];
  return {
    table,
    calls,
    callback: (name, then = () => {}) => ({
      notify: () => {
        calls.push(name);
        then();
      },
    }),
  };
}

describe('free callbacks', () => {
  it('fire at once when enough is free already, and only once', () => {
    const { table, calls, callback } = fullTable();
    table.freeGrantReferenceSeq(8 as Gref, 3);
    table.requestFreeCallback(callback('a'), 3);
    expect(calls).toEqual(['a']);
    table.freeGrantReference(11 as Gref);
    expect(calls).toEqual(['a']);
  });

  it('wait until their own count is free', () => {
    const { table, calls, callback } = fullTable();
    table.requestFreeCallback(callback('two'), 2);
    table.requestFreeCallback(callback('one'), 1);
    table.freeGrantReference(8 as Gref);
    expect(calls).toEqual(['one']);
    table.freeGrantReference(9 as Gref);
    expect(calls).toEqual(['one', 'two']);
  });

  it('stand in reversed order after each check that they stay through', () => {
    const { table, callback } = fullTable();
    const [a, b, c] = [callback('a'), callback('b'), callback('c')];
    table.requestFreeCallback(a, 100);
    expect(table.waitingCallbacks()).toEqual([a]);
    table.requestFreeCallback(b, 100);
    expect(table.waitingCallbacks()).toEqual([a, b]);
    table.requestFreeCallback(c, 100);
    expect(table.waitingCallbacks()).toEqual([b, a, c]);
    table.freeGrantReference(8 as Gref);
    expect(table.waitingCallbacks()).toEqual([c, a, b]);
  });

  it('keep their old count when requested again while waiting', () => {
    const { table, calls, callback } = fullTable();
    const a = callback('a');
    table.requestFreeCallback(a, 5);
    table.requestFreeCallback(a, 1);
    table.freeGrantReferenceSeq(8 as Gref, 4);
    expect(calls).toEqual([]);
    table.freeGrantReference(12 as Gref);
    expect(calls).toEqual(['a']);
  });

  it('can be cancelled, and requested again', () => {
    const { table, calls, callback } = fullTable();
    const a = callback('a');
    table.requestFreeCallback(a, 1);
    expect(table.cancelFreeCallback(a)).toBe(true);
    expect(table.cancelFreeCallback(a)).toBe(false);
    table.freeGrantReference(8 as Gref);
    expect(calls).toEqual([]);
    table.requestFreeCallback(a, 1);
    expect(calls).toEqual(['a']);
  });

  it('may request themselves again, take references and cancel others while they are called', () => {
    const { table, calls, callback } = fullTable();
    let taken: Gref | undefined;
    const other = callback('other');
    const again: FreeCallback = callback('again', () => {
      taken ??= table.allocGrantReference();
      table.cancelFreeCallback(other);
      if (calls.length < 2) table.requestFreeCallback(again, 3);
    });
    table.requestFreeCallback(again, 1);
    table.requestFreeCallback(other, 9);
    table.freeGrantReference(8 as Gref);
    expect([taken, table.free, calls]).toEqual([8, 0, ['again']]);
    table.freeGrantReferenceSeq(9 as Gref, 3);
    expect(calls).toEqual(['again', 'again']);
    expect(table.waitingCallbacks()).not.toContain(other);
  });

  it('that fire because the table grows are called after the growing call has what it asked for', () => {
    const { table, calls, callback } = fullTable(2);
    let stolen: Gref | undefined;
    table.requestFreeCallback(
      callback('greedy', () => {
        stolen = table.allocGrantReference();
      }),
      400,
    );
    const list = table.allocGrantReferences(500);
    expect(calls).toEqual(['greedy']);
    expect(list.length).toBe(500);
    expect(list.head).toBe(512);
    expect(stolen).toBe(1012);
  });

  it('tell a fact with the count that was waited for', () => {
    const { table, facts } = tableFixture();
    const callback = { notify: () => {} };
    table.requestFreeCallback(callback, 7);
    expect(facts).toEqual([{ type: 'gnttab:free-callback', data: { owner: 1, count: 7, free: 504, callback } }]);
  });

  it.each([-1, 65_536, 0.5])('refuse a count of %s', (count) => {
    const { table } = tableFixture();
    expect(() => table.requestFreeCallback({ notify: () => {} }, count)).toThrow(
      `count is ${count}; allowed is a whole number from 0 to 65535`,
    );
    expect(table.waitingCallbacks()).toEqual([]);
  });

  it('refuse what cannot be called', () => {
    const { table } = tableFixture();
    expect(() => table.requestFreeCallback({} as never, 1)).toThrow('allowed is an object with a function notify');
    expect(table.waitingCallbacks()).toEqual([]);
  });
});
