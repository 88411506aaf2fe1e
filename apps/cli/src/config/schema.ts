import * as v from 'valibot';

const text = v.string();
const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const device = {
  queues: v.optional(v.pipe(whole, v.minValue(1), v.maxValue(64))),
  ringPages: v.optional(v.picklist([1, 2, 4, 8, 16])),
  indirect: v.optional(v.pipe(whole, v.minValue(11), v.maxValue(256))),
  persistent: v.optional(v.boolean()),
  pool: v.optional(v.union([whole, v.literal('full')])),
  abi: v.optional(v.picklist(['x86_64', 'x86_32', 'arm', 'arm64'])),
  untrusted: v.optional(v.boolean()),
};
const disk = { disk: v.optional(text), filter: v.optional(v.array(text)), seed: v.optional(v.union([whole, text])) };
const plugin = v.optional(v.array(text));

/** What `hvsim.config.{ts,js,json}` may hold: for each command the flags it is to have where the command line does not give them. */
export const configSchema = v.strictObject({
  plugin,
  cp: v.optional(v.strictObject(device)),
  demo: v.optional(v.strictObject(device)),
  run: v.optional(
    v.strictObject({
      ...disk,
      ...device,
      wall: v.optional(v.boolean()),
      serviceTime: v.optional(text),
      outputFormat: v.optional(v.picklist(['normal', 'json', 'json+', 'terse'])),
      output: v.optional(text),
      driver: v.optional(text),
    }),
  ),
  serve: v.optional(
    v.strictObject({
      ...disk,
      ...device,
      export: v.optional(v.array(text)),
      socket: v.optional(text),
      listen: v.optional(text),
      control: v.optional(text),
      writeIolog: v.optional(text),
      poll: v.optional(v.boolean()),
      driver: v.optional(text),
    }),
  ),
});

/** A configuration file's content; `satisfies HvsimConfig` checks one that is written in TypeScript. */
export type HvsimConfig = v.InferOutput<typeof configSchema>;
