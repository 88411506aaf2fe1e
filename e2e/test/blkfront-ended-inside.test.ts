import { OP } from '@paravirt/blkfront';
import { expect, it } from 'vitest';
import { Stack } from './blkfront-stack.ts';

it.each(['destroy', 'throw'] as const)(
  'answers each request once where the first that fails for want of pages makes its owner %s',
  (way) => {
    const stack = new Stack({ guestPages: 256 });
    const { dev, guest } = stack;
    dev.connectSync();
    const { device } = dev;
    const done: number[] = [];
    device.onDone = (cookie) => {
      done.push(cookie);
      if (done.length > 1) return;
      if (way === 'destroy') device.destroy();
      else throw new Error('heard enough');
    };
    const page = stack.page();
    device.plug();
    for (let i = 0; i < 3; i++) expect(device.submit(OP.READ, i * 8, [page], 0, 8, i)).toBe(0);
    // The next connection finds no page for what it is to copy.
    device.onState((state) => {
      if (state === 'initialised') while (guest.pages.alloc() !== undefined);
    });
    device.suspend();
    device.resume();
    const thrown: string[] = [];
    for (let i = 0; i < 20; i++) {
      try {
        stack.run(10_000);
      } catch (error) {
        thrown.push(String(error));
      }
    }
    expect(done.sort()).toEqual([0, 1, 2]);
    expect(thrown).toEqual(way === 'throw' ? ['Error: heard enough'] : []);
  },
);
