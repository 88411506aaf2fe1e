// Run by text, in the folder of a user: imports the entries named in its arguments, and throws when that changes the language's own
// objects, the global names or what the process listens to.
const [, peersText = '[]', ...specifiers] = process.argv;
/** @type {string[]} */
const peers = JSON.parse(peersText);
for (const peer of ['rxjs', ...peers]) await import(peer).catch(() => {}); // what a peer does is not the package's doing

/** @typedef {Record<string, PropertyDescriptor>} Descriptors */
const keysOf = (/** @type {object} */ object) => Reflect.ownKeys(object).map(String).sort().join();
const before = intrinsics();
const globals = Object.getOwnPropertyNames(globalThis).join();
const listeners = process.eventNames().map(String).sort().join();

for (const specifier of specifiers) {
  try {
    await import(specifier);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (peers.some((peer) => message.includes(`'${peer}'`))) continue; // an entry for those who have the optional peer
    throw new Error(`${specifier} cannot be imported: ${message}`, { cause: error });
  }
  for (const [object, { path, keys, own }] of before) {
    const now = /** @type {Descriptors} */ (Object.getOwnPropertyDescriptors(object));
    if (keysOf(now) !== keys) changed(specifier, path);
    for (const [key, was] of Object.entries(own))
      if (!Object.is(was.value, now[key]?.value) || was.get !== now[key]?.get) changed(specifier, `${path}.${key}`);
  }
  if (Object.getOwnPropertyNames(globalThis).join() !== globals) changed(specifier, 'the global names');
  if (process.eventNames().map(String).sort().join() !== listeners) changed(specifier, 'what the process listens to');
}

/** @param {string} specifier @param {string} what */
function changed(specifier, what) {
  throw new Error(`importing ${specifier} changes ${what}, and the package says that it has no side effects`);
}

/** Every object of the language that a program could change, with what it holds. */
function intrinsics() {
  /** @type {Map<object, { path: string, keys: string, own: Descriptors }>} */
  const seen = new Map();
  const visit = (/** @type {unknown} */ value, /** @type {string} */ path) => {
    if (value === null || (typeof value !== 'object' && typeof value !== 'function') || seen.has(value) || path.split('.').length > 3)
      return;
    const own = /** @type {Descriptors} */ (Object.getOwnPropertyDescriptors(value));
    seen.set(value, { path, keys: keysOf(own), own });
    for (const [key, descriptor] of Object.entries(own)) visit(descriptor.value, `${path}.${key}`);
  };
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    if (name === 'process') continue;
    const value = Object.getOwnPropertyDescriptor(globalThis, name)?.value;
    if (typeof value === 'function') visit(value, name);
  }
  return seen;
}
