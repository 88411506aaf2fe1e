import { expect, it } from 'vitest';
import { BlockDevice } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';
import { settled } from './fixture.ts';

it('goes on with later promises after something in its surroundings has thrown', async () => {
  const world = new World();
  new Loopback(world).start();
  const dev = new BlockDevice({ device: 51712, poolRefs: 0, persistent: false }, world.surroundings);
  dev.connectSync();
  const { grants } = world;
  const reserve = grants.reserve.bind(grants);
  grants.reserve = () => {
    grants.reserve = reserve;
    throw new Error('no such luck');
  };
  const { signal } = new AbortController();
  expect(() => dev.write(0, { ...dev.allocBuffer(1) }, { signal })).toThrow('no such luck');
  expect(await settled(world, dev.read(0, 512))).toHaveLength(512);
  expect(await settled(world, dev.read(0, 512, { signal }))).toHaveLength(512);
});
