import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ChangesetError, changesetComplaint, forgottenChangesets, pendingChangesets } from './changesets.mjs';
import { copyCheckout } from './checkout.mjs';
import { gitIn } from './git.mjs';
import { checkTarball } from './package-checks.mjs';
import { publishedPackages } from './packages.mjs';
import { addUser, loopbackRegistry, startRegistry } from './registry.mjs';
import { CommandError, run } from './run.mjs';
import { SNAPSHOT_TAG, snapshotTag } from './snapshot.mjs';
import { strangerEnv, tryPackage } from './stranger.mjs';

const MINUTE = 60_000;
/** The programs of the repository that this file is in: pnpm must run before anything is installed in the copy. */
const tools = join(fileURLToPath(import.meta.url), '..', '..', '..', '..', 'node_modules', '.bin');
const installed = join(fileURLToPath(import.meta.url), '..', '..', 'node_modules');

/** The rehearsal found what would go wrong in a release; `problems` says each. */
export class ReleaseError extends Error {
  /** @override */
  name = 'ReleaseError';
  /** @param {readonly string[]} problems */
  constructor(problems) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/**
 * The whole release, on a copy of the checkout and against a registry on loopback: changesets, versions, build, pack, checks of what was
 * packed, publish, and then every package alone in an empty folder.
 * @param {{ root: string, registry?: string, snapshot?: string, only?: readonly string[], keep?: boolean, log?: (line: string) => void }} options
 *   registry: one that is already up, on loopback; snapshot: rehearse the snapshot of a branch of this name; only: names of packages to try at the end
 * @returns {Promise<{ published: string[], changelogs: Record<string, string> }>} changelogs: of each package, as versioned
 * @throws {ReleaseError} for what a maintainer must mend
 */
export async function releaseDryRun({ root, registry, snapshot, only, keep = false, log = () => {} }) {
  const own = registry === undefined ? undefined : loopbackRegistry(registry);
  const scratch = mkdtempSync(join(tmpdir(), 'paravirt-release-'));
  const started = Date.now();
  const say = (/** @type {string} */ line) => log(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}`);
  /** @type {(() => Promise<void>)[]} */
  const ends = [];
  try {
    const copy = join(scratch, 'checkout');
    const { git, env: gitEnv } = gitIn(scratch);
    say('copying the checkout');
    await copyCheckout(root, copy, git);

    const forgotten = await forgottenChangesets(copy, git);
    if (forgotten.length > 0) throw new ReleaseError(changesetComplaint(forgotten));

    // Up beside the installation, which takes longer.
    const starting =
      own === undefined
        ? startRegistry({ folder: join(scratch, 'registry'), scope: '@paravirt' })
        : addUser(own).then((token) => ({ url: own, token, stop: async () => {} }));
    starting.catch(() => {});
    ends.push(
      async () =>
        void (await starting.then(
          (up) => up.stop(),
          () => {},
        )),
    );

    const bin = join(copy, 'node_modules', '.bin');
    /** @type {NodeJS.ProcessEnv} */
    const env = { ...gitEnv, CI: 'true', PATH: bin + delimiter + tools + delimiter + process.env['PATH'] };
    for (const name of Object.keys(env)) if (/^(VITEST|NODE_ENV$|NODE_OPTIONS$|PARAVIRT_)/.test(name)) delete env[name];
    const at = { cwd: copy, env };
    say('installing');
    const locked = existsSync(join(copy, 'pnpm-lock.yaml'));
    const workspaces = ['--filter', '.', '--filter', './packages/*', '--filter', './apps/*'];
    await run('pnpm', ['install', locked ? '--frozen-lockfile' : '--no-frozen-lockfile', '--prefer-offline', ...workspaces], {
      ...at,
      timeoutMs: 5 * MINUTE,
    });

    const pending = pendingChangesets(copy);
    if (pending.size > 0) {
      say(`changeset version: ${[...pending].join(', ')}`);
      await run('changeset', ['version', ...(snapshot === undefined ? [] : ['--snapshot', snapshotTag(snapshot)])], {
        ...at,
        timeoutMs: MINUTE,
      });
      if (locked)
        await run('pnpm', ['install', '--lockfile-only', '--no-frozen-lockfile', '--prefer-offline'], { ...at, timeoutMs: 3 * MINUTE });
      await git(copy, 'add', '--all');
      await git(copy, 'commit', '--quiet', '-m', 'Version packages');
    } else say('no changeset is pending: the versions stand');

    const packages = publishedPackages(copy);
    const missing = (only ?? []).filter((name) => !packages.some((pkg) => pkg.name === name));
    if (missing.length > 0) throw new ReleaseError(missing.map((name) => `no package is named ${name}`));
    say('building');
    const groups = ['--filter', './packages/*', '--filter', './apps/*'];
    await run('pnpm', ['--recursive', ...groups, 'run', 'build'], { ...at, timeoutMs: 5 * MINUTE });

    say('packing and checking what was packed');
    // Packing needs one program of ours; its own installation, many times what the packages need, is not repeated.
    if (existsSync(join(copy, 'tools', 'release'))) symlinkSync(installed, join(copy, 'tools', 'release', 'node_modules'), 'dir');
    const tarballs = join(scratch, 'tarballs');
    mkdirSync(tarballs);
    /** @type {string[]} */
    const problems = [];
    const toPack = [...packages];
    await inParallel(async () => {
      for (let pkg = toPack.shift(); pkg !== undefined; pkg = toPack.shift()) {
        const { name, folder } = pkg;
        try {
          const tarball = join(tarballs, `${name.replace('@', '').replace('/', '-')}.tgz`);
          await run('pnpm', ['pack', '--out', tarball], { cwd: join(copy, folder), env, timeoutMs: MINUTE });
          for (const problem of await checkTarball(tarball, join(scratch, 'unpacked', folder))) problems.push(`${name}: ${problem}`);
        } catch (error) {
          if (!(error instanceof CommandError)) throw error;
          problems.push(`${name}: ${error.message}`);
        }
      }
    });
    if (problems.length > 0) throw new ReleaseError(problems);

    const up = await starting;
    loopbackRegistry(up.url);
    say(`publishing to ${up.url}`);
    const stranger = strangerEnv(scratch, up);
    const publisher = { ...env, ...Object.fromEntries(Object.entries(stranger).filter(([name]) => /^npm_config_|^no_proxy$/i.test(name))) };
    await run('changeset', ['publish', '--no-git-tag', ...(snapshot === undefined ? [] : ['--tag', SNAPSHOT_TAG])], {
      cwd: copy,
      env: publisher,
      timeoutMs: 5 * MINUTE,
    });
    const published = [];
    /** @type {Record<string, string>} */
    const changelogs = {};
    for (const { name, folder, manifest } of packages) {
      const changelog = join(copy, folder, 'CHANGELOG.md');
      if (existsSync(changelog)) changelogs[name] = readFileSync(changelog, 'utf8');
      const response = await fetch(`${up.url}${name.replace('/', '%2f')}`, { signal: AbortSignal.timeout(30_000) });
      const document = /** @type {{ versions?: object, 'dist-tags'?: Record<string, string> }} */ (
        response.ok ? await response.json() : {}
      );
      const versions = Object.keys(document.versions ?? {});
      const tag = snapshot === undefined ? 'latest' : SNAPSHOT_TAG;
      if (document['dist-tags']?.[tag] !== manifest.version)
        problems.push(`${name}@${manifest.version} is not what the tag "${tag}" names`);
      if (versions.includes(manifest.version)) published.push(`${name}@${manifest.version}`);
      else
        problems.push(
          `${name}@${manifest.version} was not published: the registry answers ${response.status} with versions [${versions.join(', ')}]`,
        );
    }
    if (problems.length > 0) throw new ReleaseError(problems);

    if (snapshot !== undefined) return { published, changelogs }; // who installs one names it
    const folders = join(scratch, 'strangers');
    mkdirSync(folders);
    const queue = packages.filter(({ name }) => only === undefined || only.includes(name));
    await inParallel(async () => {
      for (let pkg = queue.shift(); pkg !== undefined; pkg = queue.shift()) {
        const { name, folder, manifest } = pkg;
        const bin = typeof manifest.bin === 'object' ? Object.keys(manifest.bin)[0] : undefined;
        try {
          await tryPackage({
            name,
            folder: join(folders, folder.replace('/', '-')),
            readme: join(copy, folder),
            env: stranger,
            ...(bin === undefined ? {} : { bin }),
          });
          say(`${name}@${manifest.version} installs alone and its example runs`);
        } catch (error) {
          problems.push(`${name}, installed alone: ${error instanceof Error ? error.message : error}`);
        }
      }
    });
    if (problems.length > 0) throw new ReleaseError(problems);
    say('the release would do');
    return { published, changelogs };
  } catch (error) {
    if (error instanceof CommandError || error instanceof ChangesetError) throw new ReleaseError([error.message]);
    throw error;
  } finally {
    for (const end of ends) await end();
    if (keep) log(`kept: ${scratch}`);
    else rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Two at a time: a release machine has two cores at least. @param {() => Promise<void>} work */
async function inParallel(work) {
  await Promise.all([work(), work()]);
}
