/** Where snapshots are found; nobody gets one without asking. */
export const SNAPSHOT_TAG = 'snapshot';

/**
 * A branch's name as it may stand in a version: letters, digits and hyphens, and no number that begins with 0.
 * @param {string} branch
 */
export function snapshotTag(branch) {
  return `branch-${branch.replace(/[^0-9A-Za-z]+/g, '-').replace(/^-+|-+$/g, '')}`;
}
