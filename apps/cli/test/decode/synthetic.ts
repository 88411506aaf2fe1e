import {
  BackRing,
  BLKIF_OP,
  BlockRequest,
  BlockResponse,
  encodeXsMessage,
  FrontRing,
  GTF,
  type MemoryPage,
  pagesOfBytes,
  SharedRing,
  StoreRing,
  setGrantStatus,
  writeGrantV2FullPage,
  writeGrantV2SubPage,
  writeGrantV2Transitive,
  writeIndirectSegment,
  XS_TYPE,
} from '@paravirt/xen-abi';

export type Files = Map<string, Uint8Array | string>;

/** What a simulated request is of; `slow` ones are left unanswered while later ones are answered. */
interface Wanted {
  readonly sector: number;
  readonly write?: boolean;
  readonly segments: number;
}

const GUEST = 9;
const FRAME_OF = (ref: number): number => 0x1_0000_0000 + ref;

/**
 * A guest with a version 2 table of three frames, two disks, two queues each, two pages a ring, persistent grants, and on
 * the first queue a request that was overtaken: built with the codecs, as a frontend and a backend would have left it.
 */
class SyntheticGuest {
  readonly files: Files = new Map();
  private readonly frames: MemoryPage[] = pagesOfBytes(new Uint8Array(3 * 4096));
  private readonly status: MemoryPage = pagesOfBytes(new Uint8Array(4096))[0]!;
  private readonly active = new Map<number, string>();
  private readonly store: string[] = [];
  private nextRef = 8;

  /** `hdr` false: a persistent grant whose header the frontend cleared while the backend still maps it. */
  grant(ref: number, options: { mapped?: boolean; hdr?: boolean; pin?: string } = {}): number {
    const { mapped = true, hdr = true, pin = '0x00000001' } = options;
    const page = this.frames[ref >>> 8]!;
    writeGrantV2FullPage(page.views, page.offset + (ref & 255) * 16, hdr ? GTF.permit_access : 0, 0, FRAME_OF(ref));
    setGrantStatus(this.status.views, this.status.offset + ref * 2, mapped ? GTF.reading | GTF.writing : 0);
    if (mapped) this.active.set(ref, pin);
    return ref;
  }

  take(options: Parameters<SyntheticGuest['grant']>[1] = {}): number {
    return this.grant(this.nextRef++, options);
  }

  private node(path: string, value: string): void {
    this.store.push(`${path} = "${value}"   (n0,r${GUEST})`);
  }

  disk(vbd: number, queues: number): FrontQueue[] {
    const back = `/local/domain/0/backend/vbd/${GUEST}/${vbd}`;
    const front = `/local/domain/${GUEST}/device/vbd/${vbd}`;
    const backKeys = {
      frontend: front,
      'frontend-id': GUEST,
      state: 4,
      dev: `xvd${vbd === 51712 ? 'a' : 'b'}`,
      'feature-max-indirect-segments': 256,
      'multi-queue-max-queues': 4,
      'max-ring-page-order': 4,
      sectors: 1 << 21,
    };
    for (const [key, value] of Object.entries(backKeys)) this.node(`${back}/${key}`, String(value));
    const frontKeys = {
      backend: back,
      'backend-id': 0,
      state: 4,
      'virtual-device': vbd,
      protocol: 'x86_64-abi',
      'ring-page-order': 1,
      'multi-queue-num-queues': queues,
      'feature-persistent': 1,
    };
    for (const [key, value] of Object.entries(frontKeys)) this.node(`${front}/${key}`, String(value));
    return Array.from({ length: queues }, (_, queue) => {
      const refs = [this.take(), this.take()];
      for (const [page, ref] of refs.entries()) this.node(`${front}/queue-${queue}/ring-ref${page}`, String(ref));
      this.node(`${front}/queue-${queue}/event-channel`, String(10 + queue));
      return new FrontQueue(this, vbd, queue, refs);
    });
  }

  /** Entries of the other two arms, and the store's page. */
  extras(): void {
    const page = this.frames[2]!;
    writeGrantV2SubPage(page.views, page.offset + 250 * 16, GTF.permit_access | GTF.sub_page, 0, 77, 512, 1024);
    writeGrantV2Transitive(page.views, page.offset + 251 * 16, GTF.transitive, 0, 4, 19);
    const store = new Uint8Array(4096);
    const requests = new StoreRing(pagesOfBytes(store)[0]!, 'requests');
    for (let i = 0; i < 100; i++) {
      const message = encodeXsMessage({ type: XS_TYPE.READ, reqId: i, txId: 0, payload: new TextEncoder().encode(`device/vbd/${i}\0`) });
      requests.write(message);
      if (i < 99) requests.read(new Uint8Array(message.length));
    }
    this.files.set('xenstore-ring.bin', store);
  }

  finish(): Files {
    for (const [i, frame] of this.frames.entries()) {
      this.files.set(`grant-frame-${i}.bin`, frame.views.u8.slice(frame.offset, frame.offset + 4096));
    }
    this.files.set('status-frame-0.bin', this.status.views.u8.slice(0, 4096));
    this.files.set('xenstore-ls.txt', `${this.store.join('\n')}\n`);
    const lines = [...this.active].map(([ref, pin]) => {
      const frame = FRAME_OF(ref).toString(16);
      return `(XEN) [0x${ref.toString(16).padStart(3, '0')}]      0 0x${frame} ${pin}          0 0x${frame} 0x18`;
    });
    const head = [`(XEN) grant-table for remote d${GUEST} (v2)`, '(XEN)   3 frames (64 max), 0 maptrack frames (1024 max)'];
    this.files.set('gnttab-debugkey.txt', [...head, ...lines, '(XEN) gnttab_usage_print_all ] done', ''].join('\n'));
    return this.files;
  }
}

/** One queue's ring with both of its ends. */
class FrontQueue {
  readonly shared: SharedRing;
  readonly refs: readonly number[];
  private readonly guest: SyntheticGuest;
  private readonly vbd: number;
  private readonly file: string;
  private readonly bytes: Uint8Array = new Uint8Array(8192);
  private readonly front: FrontRing;
  private readonly back: BackRing;
  private readonly freeIds: number[] = [];
  private readonly taken = new Map<number, { id: number; operation: number }>();

  constructor(guest: SyntheticGuest, vbd: number, queue: number, refs: readonly number[]) {
    this.guest = guest;
    this.vbd = vbd;
    this.refs = refs;
    this.file = `vbd-${vbd}-queue-${queue}.bin`;
    this.shared = new SharedRing('x86_64', pagesOfBytes(this.bytes));
    this.shared.init();
    this.front = new FrontRing(this.shared);
    this.back = new BackRing(this.shared);
    for (let id = this.shared.entries - 1; id >= 0; id--) this.freeIds.push(id);
    guest.files.set(this.file, this.bytes);
  }

  private issue(fill: (request: BlockRequest) => void): number {
    const request = new BlockRequest();
    const index = this.front.reqProdPvt;
    request.idLo = this.freeIds.pop()!;
    request.handle = this.vbd;
    fill(request);
    this.front.putRequest(request);
    this.front.push();
    this.back.getRequest(request);
    this.back.finalCheck();
    const operation = request.operation === BLKIF_OP.INDIRECT ? request.indirectOp : request.operation;
    this.taken.set(index, { id: request.idLo, operation });
    return index;
  }

  /** A direct request on fresh persistent grants. @returns its index. */
  direct(
    { sector, write = false, segments }: Wanted,
    refs = Array.from({ length: segments }, () => this.guest.take({ hdr: false })),
  ): number {
    return this.issue((request) => {
      request.operation = write ? BLKIF_OP.WRITE : BLKIF_OP.READ;
      request.setSector(sector);
      request.nrSegments = segments;
      for (let i = 0; i < segments; i++) request.setSegment(i, refs[i]!, 0, 7);
    });
  }

  indirect({ sector, write = false, segments }: Wanted): { index: number; page: number; refs: number[] } {
    const page = this.guest.take({ mapped: false });
    const refs = Array.from({ length: segments }, () => this.guest.take({ hdr: false }));
    const bytes = new Uint8Array(4096);
    for (const [i, ref] of refs.entries()) writeIndirectSegment(pagesOfBytes(bytes)[0]!, i, ref, 0, 7);
    this.guest.files.set(`indirect-ref-${page}.bin`, bytes);
    const index = this.issue((request) => {
      request.operation = BLKIF_OP.INDIRECT;
      request.indirectOp = write ? BLKIF_OP.WRITE : BLKIF_OP.READ;
      request.setSector(sector);
      request.nrSegments = segments;
      request.indirectGrefs[0] = page;
    });
    return { index, page, refs };
  }

  flush(): number {
    return this.issue((request) => {
      request.operation = BLKIF_OP.FLUSH_DISKCACHE;
      request.setSectorHalves(0xffff_ffff, 0xffff_ffff);
    });
  }

  answer(index: number, status = 0): void {
    const { id, operation } = this.taken.get(index)!;
    this.back.putResponse(id, 0, operation, status);
    this.back.push();
    this.front.getResponse(new BlockResponse());
    this.front.finalCheck();
    this.freeIds.push(id);
  }
}

/** The whole guest of the tests, with what a reader should find. */
export function syntheticGuest(): { files: Files; hidden: object; refs: { ring: readonly number[]; page: number } } {
  const guest = new SyntheticGuest();
  guest.grant(0, { pin: '0x00000002' });
  guest.grant(1, { pin: '0x00000002' });
  const [first, second] = guest.disk(51712, 2);
  const [third] = guest.disk(51728, 2);
  for (let i = 0; i < 70; i++) {
    const refs = [600];
    guest.grant(600, { hdr: false });
    first!.answer(first!.direct({ sector: 8 * i, segments: 1 }, refs), i === 69 ? -1 : 0);
  }
  const slow = guest.take({ hdr: false });
  const slowAt = first!.direct({ sector: 4096, segments: 2 }, [slow, guest.take({ hdr: false })]);
  const big = first!.indirect({ sector: 8192, write: true, segments: 40 });
  const quick = first!.direct({ sector: 64, segments: 1 });
  first!.answer(quick);
  first!.direct({ sector: 72, write: true, segments: 11 });
  first!.flush();
  second!.indirect({ sector: 65536, segments: 256 });
  third!.answer(third!.flush(), -2);
  guest.extras();
  return {
    files: guest.finish(),
    hidden: {
      ring: 'vbd-51712-queue-0.bin',
      index: slowAt,
      slot: slowAt % 64,
      id: 0,
      residualSector: '4096',
      residualGrefs: [slow, slow + 1],
    },
    refs: { ring: first!.refs, page: big.page },
  };
}
