import { describe, expect, it } from 'vitest';
import { BLKREQ, type BlkReq, BlockDevice, blkDev, ERRNO, OP } from '../src/index.ts';
import { World } from '../src/testing.ts';
import { connected, pair, settled } from './fixture.ts';

const QUEUES = 2;
const noQueues = [-1, QUEUES, 2 ** 32, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 'length', null, {}];
const noFunctions = [undefined, null, 0, 'f', {}];
const noObjects = [null, 0, 'o'];
const noSignals = [null, 1, 'signal', {}, { aborted: true }];
const noBytes = [undefined, null, 'bytes', {}, [], { gfns: null, bytes: 4096 }, { gfns: [1] }, new Uint16Array(256)];
const refusal = (argument: string) => ({
  refusal: expect.objectContaining({ code: 'bad-argument', argument, allowed: expect.any(String) }),
});

type Loose = (...args: unknown[]) => unknown;
const setup = () => connected({ queues: QUEUES }, { maxQueues: QUEUES, flush: true, discard: true });

describe('arguments of a Device that mean nothing', () => {
  const calls: [name: string, argument: string, values: readonly unknown[]][] = [
    ...['poolFigures', 'plug', 'unplug', 'poll', 'unconsumed', 'hasRoom', 'mask', 'unmask'].map((name): [string, string, unknown[]] => [
      name,
      'queue',
      noQueues,
    ]),
    ['isHeld', 'gfn', [-1, 0.5, Number.NaN, 2 ** 53, '1', undefined]],
    ...['onState', 'onRoom', 'onCompletion'].map((name): [string, string, unknown[]] => [name, 'listener', noFunctions]),
    ['setUpcall', 'handler', noFunctions.filter((one) => one !== null)],
    ['setQueues', 'queues', [0, -1, QUEUES + 1, 0.5, Number.NaN, '1', undefined]],
    ['waitFor', 'condition', noFunctions],
    ['resume', 'cancelled', [null, 1, 'yes', {}]],
    ['allocBuffer', 'pages', [0, -1, 0.5, Number.NaN, 2 ** 32, '1', undefined]],
  ];
  it.each(calls)('are refused by %s with the name of `%s`', (name, argument, values) => {
    const { world, dev } = setup();
    const { device } = dev;
    for (const value of values) {
      // Left out is what a default is for.
      expect(() => (device[name as 'poll'] as Loose).call(device, value), String(value)).toThrow(
        expect.objectContaining(refusal(argument)),
      );
    }
    expect(device.submit(OP.READ, 0, [world.page()], 0, 8, 1)).toBe(0);
    world.time.settle();
    expect([device.state, device.busy, device.queueCount]).toEqual(['connected', 0, QUEUES]);
  });

  it('are answered by submit and submitTo with -EINVAL, connected or not', () => {
    for (const { world, dev } of [setup(), pair({ queues: QUEUES })]) {
      const { device } = dev;
      const gfns = [world.page()];
      const free = device.poolFigures();
      const submit = device.submit.bind(device) as Loose;
      const submitTo = device.submitTo.bind(device) as Loose;
      const sink = (): void => undefined;
      for (const queue of noQueues) {
        expect(submit(OP.READ, 0, gfns, 0, 8, 1, queue)).toBe(ERRNO.EINVAL);
        expect(submitTo(queue, OP.READ, 0, gfns, null, 0, 8, 1, sink)).toBe(ERRNO.EINVAL);
      }
      if (device.state === 'connected') {
        for (const buffer of [undefined, 0, 'gfns', {}, [undefined], [null], ['1'], [{}]]) {
          for (const count of [8, 800]) {
            for (const op of [OP.READ, OP.WRITE, OP.WRITE_FUA]) expect(submit(op, 0, buffer, 0, count, 1)).toBe(ERRNO.EINVAL);
          }
        }
        for (const bytes of noBytes) expect(submitTo(0, OP.READ, 0, null, bytes, 0, 8, 1, sink)).toBe(ERRNO.EINVAL);
        for (const done of noFunctions) expect(submitTo(0, OP.READ, 0, gfns, null, 0, 8, 1, done)).toBe(ERRNO.EINVAL);
        for (const bad of [undefined, null, '0', {}, Number.NaN]) {
          expect(submit(bad, 0, gfns, 0, 8, 1)).toBe(ERRNO.EINVAL);
          expect(submit(OP.READ, bad, gfns, 0, 8, 1)).toBe(ERRNO.EINVAL);
          expect(submit(OP.READ, 0, gfns, bad, 8, 1)).toBe(ERRNO.EINVAL);
          expect(submit(OP.READ, 0, gfns, 0, bad, 1)).toBe(ERRNO.EINVAL);
        }
      }
      expect(device.busy).toBe(0);
      expect(device.poolFigures()).toEqual(free);
    }
  });
});

describe('arguments of a BlockDevice that mean nothing', () => {
  const ok = new Uint8Array(512);
  const waits: [name: string, args: unknown[]][] = [
    ['connect', []],
    ['close', []],
    ['flush', []],
    ['read', [0, 512]],
    ['write', [0, ok]],
    ['discard', [0, 8]],
    ['writeZeroes', [0, 8]],
    ['writeRange', [0, [ok]]],
  ];
  const cases: [what: string, argument: string, name: string, calls: unknown[][]][] = [
    ...waits.map(([name, args]): [string, string, string, unknown[][]] => [
      'a signal',
      'signal',
      name,
      noSignals.map((signal) => [...args, { signal }]),
    ]),
    ...waits.map(([name, args]): [string, string, string, unknown[][]] => [
      'options',
      'options',
      name,
      noObjects.map((options) => [...args, options]),
    ]),
    ['bytes', 'bytes', 'read', [...noBytes, -512, 0.5, Number.NaN, 2 ** 40].map((what) => [0, what])],
    ['bytes', 'bytes', 'write', [...noBytes, 512].map((data) => [0, data])],
    ['a sector', 'sector', 'read', [-1, 0.5, Number.NaN, '0', null, undefined].map((sector) => [sector, 512])],
    ['a flag', 'fua', 'write', [null, 1, 'yes'].map((fua) => [0, ok, { fua }])],
    ['a flag', 'secure', 'discard', [null, 1, 'yes'].map((secure) => [0, 8, { secure }])],
    ['a length', 'sectors', 'discard', [-8, 0.5, Number.NaN, '8', undefined].map((sectors) => [0, sectors])],
    ['a length', 'sectors', 'writeZeroes', [-8, 0.5, Number.NaN, '8', undefined].map((sectors) => [0, sectors])],
    ['pieces', 'pieces', 'writeRange', [undefined, null, 1, {}].map((pieces) => [0, pieces])],
    ['a piece', 'bytes', 'writeRange', noBytes.map((piece) => [0, [piece]])],
  ];
  it.each(cases)('%s (`%s`) are a rejection of %s', async (_what, argument, name, calls) => {
    const { world, dev } = setup();
    for (const args of calls) {
      await expect(settled(world, (dev[name as 'read'] as Loose).apply(dev, args) as Promise<unknown>)).rejects.toMatchObject(
        refusal(argument),
      );
    }
    expect([dev.state, dev.device.busy]).toEqual(['connected', 0]);
  });

  it('are refused by the constructor', () => {
    for (const options of [undefined, ...noObjects]) {
      expect(() => new BlockDevice(options as never, new World().surroundings)).toThrow(expect.objectContaining(refusal('options')));
    }
  });

  it('are refused by its buffers', () => {
    const buffer = setup().dev.allocBuffer(2);
    for (const i of [-1, 2, 0.5, Number.NaN]) expect(() => buffer.frame(i)).toThrow(expect.objectContaining(refusal('i')));
    for (const bytes of [undefined, null, 'bytes', {}, []] as never[]) {
      expect(() => buffer.write(bytes)).toThrow(expect.objectContaining(refusal('bytes')));
      expect(() => buffer.read(bytes)).toThrow(expect.objectContaining(refusal('into')));
    }
    for (const at of [-1, 4097 + 4096, 0.5, Number.NaN]) {
      expect(() => buffer.write(ok, at)).toThrow(expect.objectContaining(refusal('at')));
    }
  });
});

it('refuses what means nothing to a driver of uk_blkdev', () => {
  const { world, dev } = pair({ queues: QUEUES }, { maxQueues: QUEUES });
  const unconfigured = blkDev(dev.device);
  for (const conf of noObjects as never[]) {
    expect(() => unconfigured.configure(conf)).toThrow(expect.objectContaining(refusal('conf')));
  }
  for (const nbQueues of [0, 3, 0.5, Number.NaN]) {
    expect(() => unconfigured.configure({ nbQueues })).toThrow(expect.objectContaining(refusal('nbQueues')));
  }
  const configured = unconfigured.configure({ nbQueues: 1 });
  for (const conf of [...noObjects, { callback: 1 }, { callback: null }] as never[]) {
    expect(configured.queueConfigure(0, 0, conf)).toBe(ERRNO.EINVAL);
  }
  expect(configured.queueConfigure(0, 0, {})).toBe(0);
  const running = configured.start();
  const request: BlkReq = { operation: BLKREQ.READ, startSector: 0, nbSectors: 8, gfns: [world.page()], offset: 0, state: 0, result: 0 };
  const requests = [...noObjects, { ...request, cb: 1 }, { ...request, gfns: undefined }, { ...request, nbSectors: Number.NaN }] as never[];
  for (const req of requests) {
    expect(running.submitOne(0, req)).toBe(ERRNO.EINVAL);
    expect(running.syncIo(0, req)).toBe(ERRNO.EINVAL);
  }
  for (const queue of [-1, 1, 0.5, Number.NaN]) {
    expect(running.submitOne(queue, request)).toBe(ERRNO.EINVAL);
    expect(running.queueGetInfo(queue)).toBe(ERRNO.EINVAL);
    expect(running.intrEnable(queue)).toBe(ERRNO.EINVAL);
    expect(running.intrDisable(queue)).toBe(ERRNO.EINVAL);
    expect(() => running.finishReqs(queue)).toThrow(expect.objectContaining(refusal('queue')));
  }
  expect(running.syncIo(0, request)).toBe(0);
});
