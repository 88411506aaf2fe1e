import { Errno } from './constants.ts';
import { sizedTarget } from './sized-target.ts';
import type { Done, NbdTarget, ZeroOptions } from './types.ts';

/** Bytes zeroed by one write where a range's ends are not aligned. */
interface Span {
  /** The aligned range that covers the request. */
  readonly from: number;
  readonly to: number;
  /** The largest aligned range inside it; empty when `innerTo <= innerFrom`. */
  readonly innerFrom: number;
  readonly innerTo: number;
}

/**
 * Serves requests of any offset and length from a target that knows only multiples of `granule` bytes. A read reads what covers
 * it. A write with a ragged end reads that granule, changes it and writes it back; it waits for the writes before it and holds
 * back those after it, so that no other write is lost in between. Aligned writes pass untouched.
 */
export function alignedTarget(inner: NbdTarget, granule: number): NbdTarget {
  const isAligned = (offset: number, bytes: number): boolean => offset % granule === 0 && bytes % granule === 0;
  const spanOf = (offset: number, bytes: number): Span => ({
    from: offset - (offset % granule),
    to: Math.ceil((offset + bytes) / granule) * granule,
    innerFrom: Math.ceil(offset / granule) * granule,
    innerTo: Math.floor((offset + bytes) / granule) * granule,
  });

  let changing = 0;
  let exclusive = false;
  const waiting: { readonly alone: boolean; readonly work: (done: Done) => void; readonly done: Done }[] = [];
  let scheduling = false;

  /** Does `work`, whose end comes once: also where the target throws, or nothing after it would have its turn. */
  function attempt(work: (done: Done) => void, end: Done): void {
    let over = false;
    const once: Done = (errno) => {
      if (over) return;
      over = true;
      end(errno);
    };
    try {
      work(once);
    } catch (error) {
      once(Errno.EIO);
      throw error;
    }
  }

  /** Runs what may run: any number of aligned changes together, a ragged one alone, in the order they came. */
  function schedule(): void {
    if (scheduling) return;
    scheduling = true;
    const thrown: unknown[] = [];
    for (let next = waiting[0]; next !== undefined && !exclusive && !(next.alone && changing > 0); next = waiting[0]) {
      waiting.shift();
      changing += 1;
      exclusive = next.alone;
      const { done, work } = next;
      try {
        attempt(work, (errno) => {
          changing -= 1;
          exclusive = false;
          done(errno);
          schedule();
        });
      } catch (error) {
        thrown.push(error);
      }
    }
    scheduling = false;
    if (waiting.length > 0 && changing > 0) inner.kick?.();
    if (thrown.length > 0) throw thrown[0];
  }

  function change(alone: boolean, done: Done, work: (done: Done) => void): void {
    if (!alone && !exclusive && waiting.length === 0) {
      changing += 1;
      attempt(work, (errno) => {
        changing -= 1;
        done(errno);
        if (waiting.length > 0) schedule();
      });
      return;
    }
    waiting.push({ alone, done, work });
    schedule();
  }

  /** Reads the covering range, lets `edit` change it, writes it back. */
  function rewrite(span: Span, fua: boolean, edit: (bytes: Uint8Array) => void, done: Done): void {
    const whole = new Uint8Array(span.to - span.from);
    inner.read(span.from, whole, (errno) => {
      if (errno !== 0) {
        done(errno);
        return;
      }
      edit(whole);
      attempt((end) => inner.write?.(span.from, whole, fua, end), done);
      inner.kick?.();
    });
    inner.kick?.();
  }

  return sizedTarget(inner, {
    readonly: inner.readonly === true,
    blockBytes: { minimum: 1, preferred: Math.max(4096, inner.blockBytes?.preferred ?? granule) },
    multiConn: inner.multiConn === true,
    fastZeroes: inner.fastZeroes === true,
    read(offset, bytes, done) {
      if (isAligned(offset, bytes.length)) {
        inner.read(offset, bytes, done);
        return;
      }
      const { from, to } = spanOf(offset, bytes.length);
      const whole = new Uint8Array(to - from);
      inner.read(from, whole, (errno) => {
        if (errno === 0) bytes.set(whole.subarray(offset - from, offset - from + bytes.length));
        done(errno);
      });
    },
    ...(inner.write && {
      write(offset: number, source: Uint8Array, fua: boolean, done: Done) {
        if (isAligned(offset, source.length)) change(false, done, (end) => inner.write?.(offset, source, fua, end));
        else {
          const span = spanOf(offset, source.length);
          change(true, done, (end) => rewrite(span, fua, (whole) => whole.set(source, offset - span.from), end));
        }
      },
    }),
    ...(inner.flush && { flush: (done: Done) => inner.flush?.(done) }),
    ...(inner.trim && {
      // A hint: the granules that are wholly inside go, the ragged ends stay.
      trim(offset: number, bytes: number, fua: boolean, done: Done) {
        const { innerFrom, innerTo } = spanOf(offset, bytes);
        if (innerTo <= innerFrom) done(0);
        else change(false, done, (end) => inner.trim?.(innerFrom, innerTo - innerFrom, fua, end));
      },
    }),
    ...(inner.writeZeroes && {
      writeZeroes(offset: number, bytes: number, options: ZeroOptions, done: Done) {
        if (isAligned(offset, bytes)) {
          change(false, done, (end) => inner.writeZeroes?.(offset, bytes, options, end));
          return;
        }
        const span = spanOf(offset, bytes);
        const head = { from: offset, to: Math.min(span.innerFrom, offset + bytes) };
        const tail = { from: Math.max(span.innerTo, offset), to: offset + bytes };
        change(true, done, (end) => {
          const zero = (edge: { from: number; to: number }, next: Done): void => {
            if (edge.to <= edge.from) next(0);
            else {
              const cover = spanOf(edge.from, edge.to - edge.from);
              rewrite(cover, options.fua, (whole) => whole.fill(0, edge.from - cover.from, edge.to - cover.from), next);
            }
          };
          zero(head, (errno) => {
            if (errno !== 0 || span.innerTo < span.innerFrom) {
              end(errno);
              return;
            }
            zero(tail, (after) => {
              if (after !== 0 || span.innerTo === span.innerFrom) end(after);
              else {
                inner.writeZeroes?.(span.innerFrom, span.innerTo - span.innerFrom, options, end);
                inner.kick?.();
              }
            });
          });
        });
      },
    }),
    ...(inner.extents && {
      extents(offset: number, bytes: number, add: (bytes: number, flags: number) => boolean) {
        if (isAligned(offset, bytes)) {
          inner.extents?.(offset, bytes, add);
          return;
        }
        const { from, to } = spanOf(offset, bytes);
        let skip = offset - from;
        inner.extents?.(from, to - from, (length, flags) => {
          const rest = length - skip;
          skip = Math.max(0, -rest);
          return rest <= 0 ? true : add(rest, flags);
        });
      },
    }),
    ...(inner.takeBuffer && {
      takeBuffer: (bytes: number) => inner.takeBuffer?.(bytes),
      giveBuffer: (buffer: Uint8Array) => inner.giveBuffer?.(buffer),
    }),
    ...(inner.kick && { kick: () => inner.kick?.() }),
  });
}
