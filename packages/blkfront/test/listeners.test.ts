import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, settled } from './fixture.ts';

describe('those who listen to a device', () => {
  it('are each told of every completion from their coming to their going, in whatever order they come and go', () => {
    const steps = fc.array(fc.record({ kind: fc.constantFrom('come', 'go', 'request'), which: fc.nat(7) }), { maxLength: 60 });
    fc.assert(
      fc.property(steps, (all) => {
        const { world, dev } = connected();
        const gfns = [world.page()];
        const listeners: { told: number; due: number; on: boolean; end: { unsubscribe(): void } }[] = [];
        for (const { kind, which } of all) {
          const one = listeners[which % Math.max(1, listeners.length)];
          if (kind === 'come') {
            const mine = { told: 0, due: 0, on: true, end: dev.device.onCompletion(() => mine.told++) };
            listeners.push(mine);
          } else if (kind === 'go' && one !== undefined) {
            one.on = false;
            one.end.unsubscribe();
          } else if (kind === 'request') {
            dev.device.submit(OP.READ, 0, gfns, 0, 8, 1);
            world.time.settle();
            for (const listener of listeners) if (listener.on) listener.due++;
          }
          expect(listeners.map(({ told }) => told)).toEqual(listeners.map(({ due }) => due));
        }
      }),
    );
  });

  it('leave nothing behind, however many came and went with their times overlapping', async () => {
    const { world, dev } = connected();
    let last = dev.completions.subscribe();
    for (let i = 0; i < 100_000; i++) {
      const next = dev.completions.subscribe();
      last.unsubscribe();
      last = next;
    }
    await settled(world, dev.read(0, 512));
    last.unsubscribe();
    await settled(world, dev.read(0, 512));
  });

  it('may go inside the call, take others with them, and come again, and each subscription ends alone', () => {
    const { world, dev } = connected();
    const { device } = dev;
    const calls: string[] = [];
    const twice = (): void => void calls.push('twice');
    const subscribe = [device.onState.bind(device), device.onRoom.bind(device), device.onCompletion.bind(device)] as const;
    const happen = [
      (): void => {
        device.suspend();
      },
      (): void => {
        device.resume(true);
      },
      (): void => {
        device.submit(OP.READ, 0, [world.page()], 0, 8, 1);
        world.time.settle();
      },
    ];
    subscribe.forEach((on, i) => {
      calls.length = 0;
      let late: { unsubscribe(): void } | undefined;
      const first = on(() => {
        calls.push('first');
        first.unsubscribe();
        second.unsubscribe();
        late = on(() => void calls.push('late'));
      });
      const second = on(() => void calls.push('second'));
      const one = on(twice);
      const other = on(twice);
      one.unsubscribe();
      one.unsubscribe();
      happen[i]!();
      expect(calls).toEqual(['first', 'twice']);
      other.unsubscribe();
      late?.unsubscribe();
    });
  });
});
