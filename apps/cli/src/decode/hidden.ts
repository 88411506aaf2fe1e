import { GNTTAB, type RequestResidue } from '@paravirt/xen-abi';
import type { CaptureFiles } from './files.ts';
import type { GrantTable } from './grant-table.ts';
import { type DecodedRing, isAnswered, referencesOf, wide } from './rings.ts';
import type { HiddenReport } from './types.ts';

interface Candidate {
  readonly residue: RequestResidue;
  readonly indirect: boolean;
  readonly grefs: readonly number[];
  /** A page behind one of its references was captured: such pages are captured of outstanding requests only. */
  readonly captured: boolean;
}

/** Every reference that a ring, or a request known to be in flight, holds. */
export function referencesInUse(rings: readonly DecodedRing[]): Set<number> {
  const used = new Set<number>();
  for (const { report } of rings) {
    for (const ref of report.refs) used.add(ref);
    for (const request of report.requests) {
      if (!isAnswered(request)) for (const gref of referencesOf(request)) used.add(gref);
    }
  }
  return used;
}

/** The leading references that can still be this request's own. */
function leading(grefs: readonly number[], may: (gref: number) => boolean): number[] {
  const own: number[] = [];
  for (const gref of grefs) {
    if (gref < GNTTAB.NR_RESERVED_ENTRIES || own.includes(gref) || !may(gref)) break;
    own.push(gref);
  }
  return own;
}

/**
 * What a residue can be of: references that are granted, that no other request in flight and no later residue names, and, for
 * data, that the backend maps. Null when it cannot be of a request in flight.
 */
function candidateOf(
  ring: DecodedRing,
  residue: RequestResidue,
  table: GrantTable,
  files: CaptureFiles,
  taken: ReadonlySet<number>,
): Candidate | null {
  const free = (gref: number): boolean => table.granted(gref) && !taken.has(gref);
  const first = residue.segments[0]!;
  const handles = new Set(ring.window.requests.map(({ request }) => request.handle));
  const handle = handles.has(residue.handle) || (residue.handle !== 0 && residue.handle === ((ring.report.vbd ?? 0) & 0xffff));
  // An indirect request has its handle where a direct one has its first reference.
  if (handle && first.gref === residue.handle && !free(first.gref)) {
    const grefs = leading(residue.indirectGrefs, free);
    const captured = grefs.length > 0 && files.has(`indirect-ref-${grefs[0]}.bin`);
    return grefs.length > 0 ? { residue, indirect: true, grefs, captured } : null;
  }
  const grefs = leading(
    residue.segments.filter(({ firstSect, lastSect }) => firstSect <= lastSect && lastSect <= 7).map(({ gref }) => gref),
    (gref) => free(gref) && table.mapped(gref),
  );
  const captured = grefs.some((gref) => files.has(`data-ref-${gref}.bin`));
  return grefs.length > 0 ? { residue, indirect: false, grefs, captured } : null;
}

/**
 * The ids that no request of the window has and that lie below the highest seen, with the index of their last answer: a
 * frontend numbers its requests by its own slots, so a hole is an id that is free or that a hidden request has.
 */
function missingIds(ring: DecodedRing): { id: number; answered: number }[] {
  const { requests, responses, slots } = ring.report;
  const held = new Set(requests.filter((request) => !isAnswered(request)).map(({ id }) => id));
  const ids = [...requests, ...responses].map(({ id }) => id).filter((id): id is number => typeof id === 'number' && id < slots);
  const missing: { id: number; answered: number }[] = [];
  for (let id = 0; id <= Math.max(-1, ...ids); id++) {
    if (!held.has(id)) missing.push({ id, answered: responses.findLastIndex((response) => response.id === id) });
  }
  return missing.sort((a, b) => a.answered - b.answered || a.id - b.id);
}

/**
 * Finds the requests in flight that lie under responses. Each answered request of the window was answered out of turn, so
 * as many older ones are still unanswered; which residues are theirs follows from the grant table. The newest come first:
 * answers are seldom far out of order.
 */
export function findHidden(ring: DecodedRing, rings: readonly DecodedRing[], table: GrantTable, files: CaptureFiles): HiddenReport[] {
  const wanted = ring.report.requests.filter(isAnswered).length;
  if (wanted === 0) return [];
  const taken = referencesInUse(rings);
  const candidates: Candidate[] = [];
  for (const residue of ring.window.residues.toReversed()) {
    const candidate = candidateOf(ring, residue, table, files, taken);
    if (candidate) candidates.push(candidate);
    // An older request that names this reference was answered before it was used again. Only the first is surely this
    // request's own: what follows may be left of still older ones.
    if (candidate) for (const gref of candidate.grefs.slice(0, 1)) taken.add(gref);
    else if (residue.sectorHi !== 0xffff_ffff) taken.add(residue.segments[0]!.gref);
  }
  const chosen = candidates
    .sort((a, b) => Number(b.captured) - Number(a.captured))
    .slice(0, wanted)
    .sort((a, b) => ring.window.residues.indexOf(a.residue) - ring.window.residues.indexOf(b.residue));
  const missing = missingIds(ring);
  return chosen.map(({ residue, indirect, grefs }): HiddenReport => {
    const place = ring.window.residues.indexOf(residue);
    // An id answered after the request was made cannot be its own.
    const at = missing.findIndex(({ answered }) => answered < place);
    const id = at === -1 ? null : missing.splice(at, 1)[0]!.id;
    return {
      ...(rings.length > 1 ? { ring: ring.report.file } : {}),
      index: residue.index,
      slot: residue.slot,
      id,
      residualSector: wide(residue.sectorHi, residue.sectorLo),
      residualIndirect: indirect,
      ...(grefs.length === 1 ? { residualGref: grefs[0]! } : {}),
      residualGrefs: grefs,
    };
  });
}
